-- title: Tumbling windows of hopping windows
-- data: nexmark events=20000 seed=11 disorder_ms=4000
CREATE TEMPORARY VIEW hops AS
SELECT window_time AS rowtime, auction, COUNT(*) AS bids
FROM TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '5' SECOND, INTERVAL '10' SECOND))
GROUP BY window_start, window_end, window_time, auction;
SELECT window_start, window_end, MAX(bids) AS most, COUNT(*) AS hops
FROM TABLE(TUMBLE(TABLE hops, DESCRIPTOR(rowtime), INTERVAL '20' SECOND))
GROUP BY window_start, window_end;
