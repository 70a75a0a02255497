-- title: The two greatest of each session's rows
-- data: readings rows=2000 seed=6 disorder_ms=2500
SELECT seq, sensor, window_start, window_end, place
FROM (
  SELECT seq, sensor, window_start, window_end,
    ROW_NUMBER() OVER (PARTITION BY window_start, window_end, sensor ORDER BY seq DESC) AS place
  FROM TABLE(SESSION(TABLE readings PARTITION BY sensor, DESCRIPTOR(readingTime), INTERVAL '2' SECOND))
) WHERE place <= 2;
