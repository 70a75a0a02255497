-- title: NULL into a column that takes none
-- data: orders rows=100 seed=3
-- result: written
CREATE TABLE written (id BIGINT, currency STRING NOT NULL)
WITH ('connector' = 'filesystem', 'path' = '${OUT}/written', 'format' = 'json');
INSERT INTO written SELECT id, currency FROM orders;
