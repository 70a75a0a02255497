-- title: TO_TIMESTAMP, TO_TIMESTAMP_LTZ and TO_DATE
-- data: scalars rows=400 seed=1
SELECT id, whenText,
  TO_TIMESTAMP(whenText) AS usual,
  TO_TIMESTAMP(whenText, 'yyyy-MM-dd') AS of_days,
  TO_TIMESTAMP(whenText, 'yyyy-MM-dd HH:mm:ss.SSS') AS of_millis,
  TO_TIMESTAMP('31/01/2026 05:06', 'dd/MM/yyyy HH:mm') AS literal,
  TO_DATE(whenText) AS date_,
  TO_DATE('31/01/2026', 'dd/MM/yyyy') AS date_other,
  TO_TIMESTAMP_LTZ(l / 1000000, 0) AS of_seconds,
  TO_TIMESTAMP_LTZ(k, 3) AS of_epoch_millis,
  TO_TIMESTAMP_LTZ(k) AS of_default
FROM scalars WHERE l BETWEEN -100000000000000 AND 100000000000000 OR l IS NULL;
