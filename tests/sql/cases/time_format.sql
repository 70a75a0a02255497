-- title: DATE_FORMAT patterns
-- data: scalars rows=300 seed=1
SELECT id,
  DATE_FORMAT(ts, 'yyyy-MM-dd HH:mm:ss') AS usual,
  DATE_FORMAT(ts, 'yyyy-MM-dd HH:mm:ss.SSS') AS millis,
  DATE_FORMAT(ts, 'yyyyMMdd') AS packed,
  DATE_FORMAT(ts, 'yy/M/d H:m:s') AS short,
  DATE_FORMAT(ts, 'hh:mm a') AS twelve,
  DATE_FORMAT(ts, 'EEE, dd MMM yyyy') AS names,
  DATE_FORMAT(ts, 'EEEE MMMM') AS long_names,
  DATE_FORMAT(ts, 'D') AS day_of_year,
  DATE_FORMAT(ts, 'yyyy-MM-dd''T''HH:mm:ss''Z''') AS quoted,
  DATE_FORMAT(micro, 'ss.SSSSSS') AS micros,
  DATE_FORMAT(zoned, 'yyyy-MM-dd HH:mm') AS of_zoned,
  DATE_FORMAT(whenText, 'yyyy') AS of_text
FROM scalars;
