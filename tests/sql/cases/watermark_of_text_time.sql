-- title: A time attribute made of a text in the ISO form
-- data: orders rows=500 seed=3
CREATE TABLE texts (
  id BIGINT, orderTime STRING,
  at_time AS TO_TIMESTAMP(REPLACE(orderTime, 'T', ' '), 'yyyy-MM-dd HH:mm:ss.SSS'),
  WATERMARK FOR at_time AS at_time - INTERVAL '5' SECOND
) WITH ('connector' = 'filesystem', 'path' = '${DATA}/orders.json', 'format' = 'json');
SELECT window_start, COUNT(*) AS n
FROM TABLE(TUMBLE(TABLE texts, DESCRIPTOR(at_time), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end;
