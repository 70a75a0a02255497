-- title: Sessions over all rows together
-- data: readings rows=4000 seed=5 disorder_ms=900
SELECT window_start, window_end, COUNT(*) AS readings
FROM TABLE(SESSION(TABLE readings, DESCRIPTOR(readingTime), INTERVAL '2' SECOND))
GROUP BY window_start, window_end;
