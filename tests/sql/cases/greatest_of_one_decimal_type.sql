-- title: GREATEST of decimals of one scale
-- data: scalars rows=300 seed=1
SELECT id, GREATEST(CAST(n AS DECIMAL(20, 6)), m) AS greatest_, LEAST(n, CAST(m AS DECIMAL(10, 2))) AS least_ FROM scalars;
