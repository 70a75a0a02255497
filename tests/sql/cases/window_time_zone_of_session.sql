-- title: Days of a time with zone are those of the session's zone
-- data: orders rows=1000 seed=3 gap_ms=7200000
SET 'table.local-time-zone' = 'America/New_York';
CREATE TABLE instants (
  id BIGINT, at_time AS TO_TIMESTAMP_LTZ(1767225600000 + id * 7200000, 3), WATERMARK FOR at_time AS at_time
) WITH ('connector' = 'filesystem', 'path' = '${DATA}/orders.json', 'format' = 'json');
SELECT window_start, window_end, COUNT(*) AS ids
FROM TABLE(TUMBLE(TABLE instants, DESCRIPTOR(at_time), INTERVAL '1' DAY))
GROUP BY window_start, window_end;
