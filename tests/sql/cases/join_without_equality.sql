-- title: A join on an inequality alone
-- data: orders rows=300 seed=3
-- data: customers rows=20 seed=2
SELECT o.id, c.id AS customer FROM orders AS o JOIN customers AS c ON o.customer < c.id AND o.quantity > 90;
