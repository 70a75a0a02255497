-- title: A time attribute made of epoch milliseconds
-- data: orders rows=500 seed=3
CREATE TABLE numbered (
  id BIGINT,
  at_time AS TO_TIMESTAMP_LTZ(1767225600000 + id * 1000, 3),
  WATERMARK FOR at_time AS at_time
) WITH ('connector' = 'filesystem', 'path' = '${DATA}/orders.json', 'format' = 'json');
SELECT window_start, window_end, COUNT(*) AS n
FROM TABLE(TUMBLE(TABLE numbered, DESCRIPTOR(at_time), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end;
