-- title: Computed columns, one of a nested field
-- data: orders rows=500 seed=3
CREATE TABLE computed (
  id BIGINT, quantity INT, amount DECIMAL(12, 2), address ROW<city STRING>, orderTime TIMESTAMP(3),
  `each` AS amount / NULLIF(quantity, 0),
  town AS UPPER(address.city),
  `hour` AS FLOOR(orderTime TO HOUR),
  at_time AS orderTime + INTERVAL '1' HOUR,
  WATERMARK FOR at_time AS at_time - INTERVAL '1' SECOND
) WITH ('connector' = 'filesystem', 'path' = '${DATA}/orders.json', 'format' = 'json');
SELECT id, `each`, town, `hour`, at_time FROM computed;
