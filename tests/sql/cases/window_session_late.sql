-- title: Late rows join a session that is open, and are left out otherwise
-- data: readings rows=4000 seed=5 disorder_ms=900 late_ratio=0.03 late_ms=3000
SELECT sensor, window_start, window_end, COUNT(*) AS readings
FROM TABLE(SESSION(TABLE readings PARTITION BY sensor, DESCRIPTOR(readingTime), INTERVAL '5' SECOND))
GROUP BY sensor, window_start, window_end;
