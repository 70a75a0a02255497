-- title: JSON_VALUE of a text returning INTEGER stops Flink, whatever it says of errors
-- data: scalars rows=300 seed=1
SELECT id, JSON_VALUE(doc, '$.a' RETURNING INTEGER NULL ON EMPTY DEFAULT -1 ON ERROR) AS value_int FROM scalars;
