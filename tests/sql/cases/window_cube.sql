-- title: A cube of windows
-- data: readings rows=3000 seed=5 disorder_ms=900
SELECT window_start, window_end, sensor, status, COUNT(*) AS readings, MAX(temperature) AS most
FROM TABLE(HOP(TABLE readings, DESCRIPTOR(readingTime), INTERVAL '1' MINUTE, INTERVAL '2' MINUTE))
GROUP BY window_start, window_end, CUBE (sensor, status);
