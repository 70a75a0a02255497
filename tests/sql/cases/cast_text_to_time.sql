-- title: TRY_CAST of texts to dates and times
-- data: scalars rows=400 seed=1
SELECT id, whenText,
  TRY_CAST(whenText AS DATE) AS as_date,
  TRY_CAST(whenText AS TIME) AS as_time,
  TRY_CAST(whenText AS TIMESTAMP(3)) AS as_ts,
  TRY_CAST(whenText AS TIMESTAMP) AS as_ts6,
  TRY_CAST(whenText AS TIMESTAMP(0)) AS as_ts0,
  TRY_CAST(whenText AS TIMESTAMP_LTZ(3)) AS as_ltz
FROM scalars;
