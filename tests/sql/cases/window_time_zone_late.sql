-- title: Late rows of windows in another zone, and windows of windows
-- data: orders rows=2000 seed=3 disorder_ms=1500
SET 'table.local-time-zone' = 'Asia/Kolkata';
CREATE TABLE instants (
  id BIGINT, currency STRING, orderTime TIMESTAMP(3),
  at_time AS CAST(orderTime AS TIMESTAMP_LTZ(3)), WATERMARK FOR at_time AS at_time - INTERVAL '0.3' SECOND
) WITH ('connector' = 'filesystem', 'path' = '${DATA}/orders.json', 'format' = 'json');
CREATE TEMPORARY VIEW seconds AS
SELECT window_start AS since, window_end AS until, window_time AS at_end, currency, COUNT(*) AS ids
FROM TABLE(TUMBLE(TABLE instants, DESCRIPTOR(at_time), INTERVAL '1' SECOND))
GROUP BY window_start, window_end, window_time, currency;
SELECT window_start, window_end, currency, SUM(ids) AS ids, COUNT(*) AS parts
FROM TABLE(TUMBLE(TABLE seconds, DESCRIPTOR(at_end), INTERVAL '10' SECOND))
GROUP BY window_start, window_end, currency;
