-- title: OVER with rows that follow, which Flink does not take
-- data: readings rows=500 seed=5
SELECT seq, SUM(pressure) OVER (PARTITION BY sensor ORDER BY readingTime
  ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) AS total FROM readings;
