-- title: Literals and their types
SELECT 1 AS i, 2147483648 AS l, 1.50 AS n, 1.5E0 AS d, 'it''s' AS s, U&'\00fc' AS u, TRUE AS b, CAST(NULL AS INT) AS z,
  DATE '2026-01-31' AS dt, TIME '01:02:03' AS t, TIMESTAMP '2026-01-31 01:02:03' AS ts, TIMESTAMP '2026-01-31 01:02:03.456789' AS ts6,
  INTERVAL '1' DAY AS day_, INTERVAL '13' MONTH AS months_, ARRAY[1, 2] AS arr, MAP['a', 1] AS m, ROW(1, 'x') AS r, X'00ff' AS bytes_,
  0.1 + 0.2 AS decimals, 0.1E0 + 0.2E0 AS doubles, 10 / 4 AS quotient;
