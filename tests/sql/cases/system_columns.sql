-- title: A projection of a table with a column that its data does not have
-- data: orders rows=100 seed=3
CREATE TABLE wider (id BIGINT, missing STRING, currency STRING)
WITH ('connector' = 'filesystem', 'path' = '${DATA}/orders.json', 'format' = 'json');
SELECT * FROM wider;
