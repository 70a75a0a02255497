-- title: The first and the last value of a window
-- data: readings rows=2000 seed=5
SELECT window_start, sensor, FIRST_VALUE(seq) AS first_seq, LAST_VALUE(status) AS last_status
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(readingTime), INTERVAL '30' SECOND))
GROUP BY window_start, window_end, sensor;
