-- title: A window over columns that are already called window_start, which Flink does not take
-- data: nexmark events=20000 seed=11 disorder_ms=4000
CREATE TEMPORARY VIEW tens AS
SELECT window_start, window_end, window_time AS rowtime, channel, COUNT(*) AS bids, MAX(price) AS most
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
GROUP BY window_start, window_end, window_time, channel;
SELECT window_start, window_end, channel, SUM(bids) AS bids, MAX(most) AS most, COUNT(*) AS tens
FROM TABLE(TUMBLE(TABLE tens, DESCRIPTOR(rowtime), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end, channel;
