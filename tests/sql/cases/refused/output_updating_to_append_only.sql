-- title: An updating result cannot be appended to files
-- data: orders rows=100 seed=3
-- result: written
CREATE TABLE written (currency STRING, n BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}/written', 'format' = 'json');
INSERT INTO written SELECT currency, COUNT(*) FROM orders GROUP BY currency;
