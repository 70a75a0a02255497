-- title: A value of the wrong type is an error
-- data: orders rows=100 seed=3
CREATE TABLE wrong (id BIGINT, currency INT)
WITH ('connector' = 'filesystem', 'path' = '${DATA}/orders.json', 'format' = 'json');
SELECT * FROM wrong;
