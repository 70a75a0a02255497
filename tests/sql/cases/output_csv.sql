-- title: Rows written as CSV
-- data: orders rows=200 seed=3
-- result: written
CREATE TABLE written (
  id BIGINT, note STRING, amount DECIMAL(12, 2), half DOUBLE, orderTime TIMESTAMP(3), `day` DATE, yes BOOLEAN
) WITH ('connector' = 'filesystem', 'path' = '${OUT}/written', 'format' = 'csv');
INSERT INTO written
SELECT id, note, amount, amount / 2.0E0, orderTime, CAST(orderTime AS DATE), quantity > 50 FROM orders;
