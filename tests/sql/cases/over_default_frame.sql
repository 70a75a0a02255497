-- title: OVER with an order and no frame
-- data: readings rows=1000 seed=5 disorder_ms=900
SELECT seq, SUM(pressure) OVER (PARTITION BY sensor ORDER BY readingTime) AS total FROM readings;
