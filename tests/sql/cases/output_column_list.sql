-- title: INSERT INTO some columns, the others are NULL
-- data: orders rows=100 seed=3
-- result: written
CREATE TABLE written (id BIGINT, note STRING, amount DECIMAL(12, 2))
WITH ('connector' = 'filesystem', 'path' = '${OUT}/written', 'format' = 'csv');
INSERT INTO written (amount, id) SELECT amount, id FROM orders;
