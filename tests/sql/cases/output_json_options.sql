-- title: Rows written as JSON with times in the ISO form and plain decimals
-- data: orders rows=200 seed=3
-- result: written
CREATE TABLE written (
  id BIGINT, amount DECIMAL(32, 10), orderTime TIMESTAMP(3), zoned TIMESTAMP_LTZ(3), note STRING
) WITH ('connector' = 'filesystem', 'path' = '${OUT}/written', 'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601', 'json.encode.decimal-as-plain-number' = 'true');
INSERT INTO written
SELECT id, CAST(amount AS DECIMAL(32, 10)) / 100000000, orderTime, CAST(orderTime AS TIMESTAMP_LTZ(3)), note FROM orders;
