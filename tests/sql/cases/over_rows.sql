-- title: Aggregates over the last rows
-- data: readings rows=2000 seed=5 gap_ms=900
SELECT seq, sensor, COUNT(pressure) OVER w AS n, SUM(pressure) OVER w AS total, AVG(temperature) OVER w AS mean,
  COUNT(*) OVER w AS rows_
FROM (SELECT * FROM readings WHERE MOD(seq, 2) = 0)
WINDOW w AS (PARTITION BY sensor, status ORDER BY readingTime ROWS BETWEEN 3 PRECEDING AND CURRENT ROW);
