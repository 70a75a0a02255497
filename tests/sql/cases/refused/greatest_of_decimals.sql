-- title: GREATEST of decimals of two scales stops Flink where one is NULL
-- data: scalars rows=300 seed=1
SELECT id, GREATEST(n, m) AS greatest_decimal FROM scalars;
