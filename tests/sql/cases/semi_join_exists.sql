-- title: EXISTS of a correlated query
-- data: orders rows=1000 seed=3
-- data: customers rows=50 seed=2
SELECT id, customer FROM orders AS o
WHERE EXISTS (SELECT 1 FROM customers AS c WHERE c.id = o.customer AND c.level = 'silver');
