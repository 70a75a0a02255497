-- title: An empty number in a CSV file without a null literal stops Flink
-- data: products rows=100 seed=2
CREATE TABLE others (id BIGINT, name STRING, weight DECIMAL(10, 3))
WITH ('connector' = 'filesystem', 'path' = '${DATA}/products.csv', 'format' = 'csv');
SELECT id, name, weight FROM others;
