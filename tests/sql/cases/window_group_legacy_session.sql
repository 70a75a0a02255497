-- title: The older session window in GROUP BY
-- data: readings rows=3000 seed=5 disorder_ms=900
SELECT sensor, SESSION_START(readingTime, INTERVAL '3' SECOND) AS opens,
  SESSION_END(readingTime, INTERVAL '3' SECOND) AS closes, COUNT(*) AS readings
FROM readings
GROUP BY SESSION(readingTime, INTERVAL '3' SECOND), sensor;
