-- title: TO_TIMESTAMP_LTZ of texts
-- data: scalars rows=300 seed=1
SELECT id, whenText, TO_TIMESTAMP_LTZ(whenText) AS of_text,
  TO_TIMESTAMP_LTZ('2026-01-31 08:09:10', 'yyyy-MM-dd HH:mm:ss', 'Asia/Tokyo') AS in_tokyo
FROM scalars WHERE whenText IN ('2026-01-31 08:09:10', '2026-01-31 08:09:10.123', '1969-12-31 23:59:59.999', '2024-02-29') OR whenText IS NULL;
