-- title: The functions of now agree, and have their types
-- data: scalars rows=10 seed=1
SELECT id, NOW() >= TIMESTAMP '2020-01-01 00:00:00' AS now_, CURRENT_TIMESTAMP > zoned AS later,
  CURRENT_DATE > DATE '2020-01-01' AS today, LOCALTIMESTAMP > ts AS local_, CURRENT_ROW_TIMESTAMP() > zoned AS row_,
  TYPEOF(NOW()) AS type_now, TYPEOF(LOCALTIMESTAMP) AS type_local, TYPEOF(CURRENT_TIME) AS type_time,
  TYPEOF(UNIX_TIMESTAMP()) AS type_unix
FROM scalars;
