-- title: Stars, aliases, and a column of two names
-- data: orders rows=100 seed=3
SELECT o.*, o.id AS again, o.quantity + 1 AS more FROM orders AS o WHERE o.id < 50;
