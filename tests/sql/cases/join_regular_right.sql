-- title: A regular right join
-- data: orders rows=300 seed=3
-- data: customers rows=50 seed=2
SELECT o.id, c.id AS customer, c.name FROM orders AS o RIGHT JOIN customers AS c ON o.customer = c.id AND o.quantity > 80;
