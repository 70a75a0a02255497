-- title: A rollup of windows
-- data: readings rows=3000 seed=5 disorder_ms=900
SELECT window_start, window_end, sensor, status, COUNT(*) AS readings, SUM(pressure) AS total
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(readingTime), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end, ROLLUP (sensor, status);
