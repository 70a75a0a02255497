-- title: Times with zone in another session zone
-- data: scalars rows=300 seed=1
SET 'table.local-time-zone' = 'Europe/Berlin';
SELECT id, zoned,
  CAST(zoned AS TIMESTAMP(3)) AS local_,
  CAST(ts AS TIMESTAMP_LTZ(3)) AS instant_,
  CAST(zoned AS STRING) AS text_,
  DATE_FORMAT(zoned, 'yyyy-MM-dd HH:mm') AS formatted,
  HOUR(zoned) AS hour_,
  FROM_UNIXTIME(k) AS from_seconds,
  zoned > ts AS compared
FROM scalars;
