-- title: Integer division truncates, modulo takes the left sign, and the types of mixed arithmetic
-- data: scalars rows=300 seed=1
SELECT id,
  p / NULLIF(j, 0) AS div_int,
  p / NULLIF(k, 0) AS div_int_big,
  tiny / NULLIF(small, 0) AS div_tiny_small,
  MOD(p, NULLIF(j, 0)) AS mod_int,
  p % NULLIF(j, 0) AS percent_,
  MOD(l, NULLIF(k, 0)) AS mod_big,
  p + j AS plus_int,
  p - k AS minus_big,
  p * j AS times_int,
  -p AS negated,
  +p AS same,
  tiny + tiny AS tiny_plus,
  tiny * small AS tiny_times,
  p / 2.0 AS by_decimal,
  p / CAST(2 AS DOUBLE) AS by_double,
  p * 1.5 AS times_decimal,
  p / 2 AS halves,
  -7 / 2 AS minus_seven,
  ABS(p) AS abs_int,
  SIGN(p) AS sign_int
FROM scalars;
