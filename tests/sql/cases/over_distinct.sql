-- title: COUNT DISTINCT over rows
-- data: readings rows=1000 seed=5 gap_ms=700
SELECT seq, COUNT(DISTINCT status) OVER (PARTITION BY sensor ORDER BY readingTime
  RANGE BETWEEN INTERVAL '20' SECOND PRECEDING AND CURRENT ROW) AS kinds FROM readings;
