-- title: The time of day of a timestamp before 1970 is negative in Flink, and cannot be read
-- data: scalars rows=300 seed=1
SELECT id, CAST(ts AS TIME) AS ts_time FROM scalars WHERE ts < TIMESTAMP '1970-01-01 00:00:00';
