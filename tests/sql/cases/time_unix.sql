-- title: UNIX_TIMESTAMP and FROM_UNIXTIME
-- data: scalars rows=300 seed=1
SELECT id,
  UNIX_TIMESTAMP(CAST(ts AS STRING)) AS of_text,
  UNIX_TIMESTAMP(DATE_FORMAT(ts, 'yyyy-MM-dd HH:mm:ss')) AS of_usual,
  UNIX_TIMESTAMP(DATE_FORMAT(ts, 'yyyyMMdd'), 'yyyyMMdd') AS of_packed,
  FROM_UNIXTIME(k) AS from_seconds,
  FROM_UNIXTIME(p, 'yyyy/MM/dd HH-mm-ss') AS from_pattern,
  CONVERT_TZ('2026-07-01 12:00:00', 'UTC', 'America/Los_Angeles') AS converted,
  TO_TIMESTAMP(FROM_UNIXTIME(k)) AS back
FROM scalars;
