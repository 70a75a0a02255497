-- title: RANK and DENSE_RANK by time
-- data: readings rows=1000 seed=5
SELECT seq, RANK() OVER (PARTITION BY sensor ORDER BY readingTime) AS r FROM readings;
