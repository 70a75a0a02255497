-- title: More letters of DATE_FORMAT
-- data: scalars rows=300 seed=1
SELECT id,
  DATE_FORMAT(ts, 'QQQ') AS quarter_,
  DATE_FORMAT(ts, 'e') AS day_of_week,
  DATE_FORMAT(ts, 'w') AS week_,
  DATE_FORMAT(ts, 'k') AS hour_k,
  DATE_FORMAT(ts, 'uuuu') AS year_u,
  DATE_FORMAT(ts, 'YYYY') AS week_year,
  DATE_FORMAT(ts, 'n') AS nano_,
  DATE_FORMAT(ts, 'G') AS era_
FROM scalars;
