-- title: Aggregates over a range of time; rows of one time share a value
-- data: readings rows=2000 seed=5 disorder_ms=900
SELECT seq, sensor, COUNT(*) OVER w AS n, SUM(pressure) OVER w AS total, AVG(pressure) OVER w AS mean,
  MIN(temperature) OVER w AS least, MAX(temperature) OVER w AS most
FROM readings
WINDOW w AS (PARTITION BY sensor ORDER BY readingTime RANGE BETWEEN INTERVAL '5' SECOND PRECEDING AND CURRENT ROW);
