-- title: A regular full join, with a condition besides the key
-- data: orders rows=500 seed=3
-- data: customers rows=80 seed=2
SELECT o.id, c.id AS customer, c.level FROM orders AS o FULL OUTER JOIN customers AS c
ON o.customer = c.id AND o.quantity < 20;
