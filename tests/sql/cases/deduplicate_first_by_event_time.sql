-- title: The first row of each key
-- data: orders rows=2000 seed=3
SELECT id, customer, amount FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY customer ORDER BY orderTime ASC) AS place FROM orders
) WHERE place = 1;
