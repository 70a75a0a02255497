CREATE TABLE orders (
  id BIGINT,
  customer INT,
  currency STRING,
  amount DECIMAL(12, 2),
  quantity INT,
  note STRING,
  tags ARRAY<STRING>,
  items ARRAY<ROW<sku STRING, quantity INT, price DOUBLE>>,
  address ROW<city STRING, geo ROW<lat DOUBLE, lon DOUBLE>>,
  attributes MAP<STRING, STRING>,
  orderTime TIMESTAMP(3),
  WATERMARK FOR orderTime AS orderTime - INTERVAL '2' SECOND
) WITH ('connector' = 'filesystem', 'path' = '${DATA}/orders.json', 'format' = 'json');
