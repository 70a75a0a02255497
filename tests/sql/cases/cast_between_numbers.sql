-- title: CAST between numbers, those that do not fit among them
-- data: scalars rows=300 seed=1
SELECT id,
  CAST(i AS TINYINT) AS int_tiny,
  CAST(i AS SMALLINT) AS int_small,
  CAST(l AS INT) AS big_int,
  CAST(l AS DOUBLE) AS big_double,
  CAST(l AS FLOAT) AS big_float,
  CAST(x AS INT) AS double_int,
  CAST(x AS BIGINT) AS double_big,
  CAST(x AS TINYINT) AS double_tiny,
  CAST(f AS INT) AS float_int,
  CAST(n AS INT) AS decimal_int,
  CAST(n AS BIGINT) AS decimal_big,
  CAST(n AS DOUBLE) AS decimal_double,
  CAST(m AS FLOAT) AS wide_float,
  CAST(i AS BOOLEAN) AS int_boolean,
  CAST(yes AS INT) AS boolean_int,
  CAST(yes AS DOUBLE) AS boolean_double,
  CAST(l AS DECIMAL(10, 0)) AS big_decimal,
  CAST(i AS DECIMAL(12, 2)) AS int_decimal,
  CAST(yes AS DECIMAL(3, 1)) AS boolean_decimal
FROM scalars;
