-- title: Sessions of all rows together, without an aggregate
-- data: readings rows=1000 seed=5 disorder_ms=900
SELECT seq, sensor, window_start, window_end, window_time
FROM TABLE(SESSION(TABLE readings, DESCRIPTOR(readingTime), INTERVAL '0.150' SECOND));
