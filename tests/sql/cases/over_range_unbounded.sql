-- title: Aggregates over everything so far, by time
-- data: readings rows=2000 seed=5 disorder_ms=900
SELECT seq, sensor, COUNT(*) OVER w AS n, SUM(pressure) OVER w AS total, MAX(pressure) OVER w AS most
FROM readings
WINDOW w AS (PARTITION BY sensor ORDER BY readingTime RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW);
