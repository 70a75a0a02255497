-- title: A cross join
-- data: orders rows=60 seed=3
-- data: customers rows=20 seed=2
SELECT o.id, c.id AS customer FROM orders AS o CROSS JOIN customers AS c;
