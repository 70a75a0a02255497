-- title: The row after, in a stream
-- data: orders rows=1000 seed=3
SELECT id, customer, LEAD(quantity) OVER (PARTITION BY customer ORDER BY orderTime) AS later FROM orders;
