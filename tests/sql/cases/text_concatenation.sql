-- title: CONCAT and || give NULL of NULL, CONCAT_WS leaves NULL out
-- data: scalars rows=400 seed=1
SELECT id,
  CONCAT(a, b) AS concat_,
  CONCAT(a, '-', b, '-', `number`) AS concat_many,
  a || b AS pipes,
  a || '-' AS pipe_literal,
  CONCAT_WS('-', a, b, `number`) AS concat_ws_,
  CONCAT_WS(a, 'x', b) AS concat_ws_null_separator,
  CONCAT_WS(',', CAST(NULL AS STRING), CAST(NULL AS STRING)) AS concat_ws_of_nulls,
  CONCAT('p=', CAST(p AS STRING)) AS of_number
FROM scalars;
