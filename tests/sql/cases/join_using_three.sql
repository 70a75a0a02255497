-- title: Three tables
-- data: orders rows=1000 seed=3
-- data: customers rows=50 seed=2
-- data: products rows=100 seed=2
SELECT o.id, c.name, p.name AS product FROM orders AS o JOIN customers AS c ON o.customer = c.id
JOIN products AS p ON p.id = o.quantity;
