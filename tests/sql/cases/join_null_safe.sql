-- title: A join in which NULL equals NULL
-- data: orders rows=120 seed=3
SELECT l.id, r.id AS other FROM orders AS l JOIN orders AS r
ON l.currency IS NOT DISTINCT FROM r.currency AND l.quantity = r.quantity;
