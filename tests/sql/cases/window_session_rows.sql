-- title: A session window function alone
-- data: readings rows=1000 seed=5 disorder_ms=900
SELECT seq, sensor, window_start, window_end
FROM TABLE(SESSION(TABLE readings PARTITION BY sensor, DESCRIPTOR(readingTime), INTERVAL '3' SECOND));
