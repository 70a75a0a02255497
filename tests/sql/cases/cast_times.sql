-- title: CAST between dates, times and timestamps, and to texts
-- data: scalars rows=300 seed=1
SELECT id,
  CAST(ts AS DATE) AS ts_date,
  CAST(ts AS TIMESTAMP(0)) AS ts_seconds,
  CAST(micro AS TIMESTAMP(3)) AS micro_millis,
  CAST(`day` AS TIMESTAMP(3)) AS day_ts,
  CAST(clock AS TIME(0)) AS clock_,
  CAST(ts AS TIMESTAMP_LTZ(3)) AS ts_ltz,
  CAST(zoned AS TIMESTAMP(3)) AS ltz_ts,
  CAST(zoned AS DATE) AS ltz_date,
  CAST(ts AS STRING) AS ts_text,
  CAST(micro AS STRING) AS micro_text,
  CAST(`day` AS STRING) AS day_text,
  CAST(clock AS STRING) AS clock_text,
  CAST(zoned AS STRING) AS zoned_text,
  CAST(CAST(ts AS TIMESTAMP(0)) AS STRING) AS seconds_text,
  CAST(list AS STRING) AS array_text,
  CAST(ROW(p, a) AS STRING) AS row_text,
  CAST(MAP['k', p] AS STRING) AS map_text,
  TYPEOF(ts) AS type_ts,
  TYPEOF(n / 3) AS type_decimal,
  TYPEOF(list) AS type_array
FROM scalars;
