-- title: ORDER BY with LIMIT and OFFSET
-- data: orders rows=1000 seed=3
SELECT id, amount FROM orders ORDER BY amount DESC, id LIMIT 10 OFFSET 2;
