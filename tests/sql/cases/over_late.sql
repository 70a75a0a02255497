-- title: Late rows are left out of OVER
-- data: readings rows=3000 seed=5 disorder_ms=900 late_ratio=0.03 late_ms=3000
SELECT seq, sensor, COUNT(*) OVER (PARTITION BY sensor ORDER BY readingTime
  RANGE BETWEEN INTERVAL '10' SECOND PRECEDING AND CURRENT ROW) AS n
FROM readings;
