-- title: Sessions of each sensor
-- data: readings rows=4000 seed=5 disorder_ms=900
SELECT sensor, window_start, window_end, COUNT(*) AS readings, AVG(temperature) AS mean, MIN(pressure) AS least
FROM TABLE(SESSION(TABLE readings PARTITION BY sensor, DESCRIPTOR(readingTime), INTERVAL '3' SECOND))
GROUP BY sensor, window_start, window_end;
