-- title: A regular join on two keys, with NULL in them
-- data: orders rows=2000 seed=3
-- data: customers rows=50 seed=2
SELECT o.id, o.amount, c.name, c.level FROM orders AS o JOIN customers AS c ON o.customer = c.id;
