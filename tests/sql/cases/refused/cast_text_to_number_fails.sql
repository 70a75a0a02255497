-- title: CAST of a text that is no number stops Flink
-- data: scalars rows=100 seed=1
SELECT id, CAST(`number` AS INT) AS as_int FROM scalars;
