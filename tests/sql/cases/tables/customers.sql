CREATE TABLE customers (
  id INT,
  name STRING,
  level STRING
) WITH ('connector' = 'filesystem', 'path' = '${DATA}/customers.csv', 'format' = 'csv');
