-- title: CSV with a null literal and another column type
-- data: products rows=100 seed=2
CREATE TABLE others (id STRING, name STRING, weight STRING) WITH (
  'connector' = 'filesystem', 'path' = '${DATA}/products.csv', 'format' = 'csv', 'csv.null-literal' = 'plain7',
  'csv.ignore-parse-errors' = 'true');
SELECT id, name, weight FROM others;
