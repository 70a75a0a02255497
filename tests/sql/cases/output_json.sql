-- title: Rows written as JSON
-- data: orders rows=200 seed=3
-- result: written
CREATE TABLE written (
  id BIGINT, currency STRING, amount DECIMAL(12, 2), half DOUBLE, tags ARRAY<STRING>, address ROW<city STRING, geo ROW<lat DOUBLE, lon DOUBLE>>,
  attributes MAP<STRING, STRING>, orderTime TIMESTAMP(3), zoned TIMESTAMP_LTZ(3), `day` DATE, clock TIME(0), yes BOOLEAN, f FLOAT
) WITH ('connector' = 'filesystem', 'path' = '${OUT}/written', 'format' = 'json');
INSERT INTO written
SELECT id, currency, amount, amount / 2.0E0, tags, address,
  CASE WHEN CARDINALITY(attributes) < 2 THEN attributes END, orderTime, CAST(orderTime AS TIMESTAMP_LTZ(3)),
  CAST(orderTime AS DATE), CAST(orderTime AS TIME), quantity > 50, CAST(amount AS FLOAT)
FROM orders;
