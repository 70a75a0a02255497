-- title: Windows of the night in which an hour comes twice
-- data: orders rows=200 seed=3
SET 'table.local-time-zone' = 'America/New_York';
CREATE TABLE instants (
  id BIGINT, at_time AS TO_TIMESTAMP_LTZ(1793487600000 + id * 600000, 3), WATERMARK FOR at_time AS at_time
) WITH ('connector' = 'filesystem', 'path' = '${DATA}/orders.json', 'format' = 'json');
SELECT window_start, window_end, window_time, COUNT(*) AS ids, MIN(id) AS first_id
FROM TABLE(HOP(TABLE instants, DESCRIPTOR(at_time), INTERVAL '30' MINUTE, INTERVAL '2' HOUR))
GROUP BY window_start, window_end, window_time;
