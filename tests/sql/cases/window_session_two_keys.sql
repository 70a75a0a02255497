-- title: Sessions by two keys, arguments by name
-- data: readings rows=4000 seed=5 disorder_ms=900
SELECT sensor, status, window_start, window_end, COUNT(*) AS readings, COUNT(DISTINCT pressure) AS pressures
FROM TABLE(SESSION(DATA => TABLE readings PARTITION BY (sensor, status), TIMECOL => DESCRIPTOR(readingTime),
  GAP => INTERVAL '4' SECOND))
GROUP BY sensor, status, window_start, window_end;
