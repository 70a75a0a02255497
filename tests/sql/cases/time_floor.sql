-- title: FLOOR and CEIL of times
-- data: scalars rows=300 seed=1
SELECT id,
  FLOOR(ts TO YEAR) AS floor_year,
  FLOOR(ts TO QUARTER) AS floor_quarter,
  FLOOR(ts TO MONTH) AS floor_month,
  FLOOR(ts TO WEEK) AS floor_week,
  FLOOR(ts TO DAY) AS floor_day,
  FLOOR(ts TO HOUR) AS floor_hour,
  FLOOR(ts TO MINUTE) AS floor_minute,
  FLOOR(ts TO SECOND) AS floor_second,
  FLOOR(ts TO MILLISECOND) AS floor_millisecond,
  CEIL(ts TO YEAR) AS ceil_year,
  CEIL(ts TO MONTH) AS ceil_month,
  CEIL(ts TO WEEK) AS ceil_week,
  CEIL(ts TO DAY) AS ceil_day,
  CEIL(ts TO HOUR) AS ceil_hour,
  CEIL(ts TO MINUTE) AS ceil_minute,
  FLOOR(`day` TO MONTH) AS date_month,
  CEIL(`day` TO YEAR) AS date_year,
  FLOOR(clock TO HOUR) AS clock_hour,
  FLOOR(zoned TO DAY) AS zoned_day
FROM scalars;
