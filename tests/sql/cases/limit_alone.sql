-- title: LIMIT without an order
-- data: orders rows=100 seed=3
SELECT COUNT(*) AS n FROM (SELECT id FROM orders LIMIT 7);
