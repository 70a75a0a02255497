-- title: Division by zero of decimals
-- data: scalars rows=300 seed=1
SELECT id, n / CAST(0 AS DECIMAL(10, 2)) AS quotient FROM scalars WHERE n IS NOT NULL;
