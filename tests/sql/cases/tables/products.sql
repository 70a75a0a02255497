CREATE TABLE products (
  id BIGINT,
  name STRING,
  weight DECIMAL(10, 3)
) WITH ('connector' = 'filesystem', 'path' = '${DATA}/products.csv', 'format' = 'csv',
  'csv.null-literal' = '');
