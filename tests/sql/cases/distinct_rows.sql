-- title: DISTINCT rows, NULL as one value
-- data: orders rows=1000 seed=3
SELECT DISTINCT currency, note FROM orders;
