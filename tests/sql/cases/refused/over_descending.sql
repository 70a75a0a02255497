-- title: OVER by descending time, which Flink does not take
-- data: readings rows=500 seed=5
SELECT seq, SUM(pressure) OVER (PARTITION BY sensor ORDER BY readingTime DESC) AS total FROM readings;
