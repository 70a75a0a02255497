-- title: Division by zero of doubles does not
-- data: scalars rows=300 seed=1
SELECT id, x / CAST(0 AS DOUBLE) AS quotient FROM scalars;
