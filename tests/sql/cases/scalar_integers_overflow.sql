-- title: Integers that overflow wrap around
-- data: scalars rows=300 seed=1
SELECT id,
  i + i AS plus_int,
  i * 3 AS times_int,
  i - 2147483647 AS minus_int,
  l + l AS plus_big,
  l * 3 AS times_big,
  -l AS negated,
  -i AS negated_int,
  tiny + CAST(100 AS TINYINT) AS plus_tiny,
  small * CAST(2 AS SMALLINT) AS times_small,
  ABS(l) AS abs_big,
  i / -1 AS by_minus_one
FROM scalars;
