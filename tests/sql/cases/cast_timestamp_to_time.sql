-- title: The time of day of a timestamp
-- data: scalars rows=300 seed=1
SELECT id, CAST(ts AS TIME) AS ts_time, CAST(zoned AS TIME) AS zoned_time FROM scalars
WHERE ts >= TIMESTAMP '1970-01-01 00:00:00';
