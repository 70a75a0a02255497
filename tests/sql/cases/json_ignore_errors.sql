-- title: A value of the wrong type is NULL where errors are ignored
-- data: orders rows=200 seed=3
CREATE TABLE wrong (id BIGINT, currency INT, note DOUBLE, quantity SMALLINT, amount INT, tags STRING, address STRING)
WITH ('connector' = 'filesystem', 'path' = '${DATA}/orders.json', 'format' = 'json', 'json.ignore-parse-errors' = 'true');
SELECT * FROM wrong;
