-- title: Outputs that keep nothing
-- data: orders rows=100 seed=3
-- result: written
-- empty: a black hole has no files
CREATE TABLE written (id BIGINT) WITH ('connector' = 'blackhole');
INSERT INTO written SELECT id FROM orders;
