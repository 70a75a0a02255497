-- title: Windows over a time with zone
-- data: orders rows=2000 seed=3 disorder_ms=1500
CREATE TABLE instants (
  id BIGINT, orderTime TIMESTAMP(3), at_time AS CAST(orderTime AS TIMESTAMP_LTZ(3)),
  WATERMARK FOR at_time AS at_time - INTERVAL '2' SECOND
) WITH ('connector' = 'filesystem', 'path' = '${DATA}/orders.json', 'format' = 'json');
SELECT window_start, window_end, window_time, COUNT(*) AS ids
FROM TABLE(TUMBLE(TABLE instants, DESCRIPTOR(at_time), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end, window_time;
