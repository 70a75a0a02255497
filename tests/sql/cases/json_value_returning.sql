-- title: JSON_VALUE with a type
-- data: scalars rows=300 seed=1
SELECT id, JSON_VALUE(doc, '$.a' RETURNING INTEGER NULL ON EMPTY DEFAULT -1 ON ERROR) AS value_int,
  JSON_VALUE(doc, '$.b' RETURNING STRING DEFAULT 'none' ON EMPTY) AS value_text
FROM scalars WHERE doc NOT LIKE '%"7"%';
