-- title: TRY_CAST of texts to numbers
-- data: scalars rows=400 seed=1
SELECT id, `number`,
  TRY_CAST(`number` AS TINYINT) AS as_tiny,
  TRY_CAST(`number` AS SMALLINT) AS as_small,
  TRY_CAST(`number` AS INT) AS as_int,
  TRY_CAST(`number` AS BIGINT) AS as_big,
  TRY_CAST(`number` AS FLOAT) AS as_float,
  TRY_CAST(`number` AS DOUBLE) AS as_double,
  TRY_CAST(`number` AS DECIMAL(10, 2)) AS as_decimal,
  TRY_CAST(`number` AS BOOLEAN) AS as_boolean
FROM scalars;
