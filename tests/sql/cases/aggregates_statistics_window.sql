-- title: Deviation and variance in windows
-- data: readings rows=2000 seed=5 disorder_ms=900
SELECT window_start, sensor, STDDEV_POP(temperature) AS sp, STDDEV_SAMP(temperature) AS ss, VAR_SAMP(temperature) AS vs
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(readingTime), INTERVAL '30' SECOND))
GROUP BY window_start, window_end, sensor;
