-- title: A query in the place of a value
-- data: orders rows=500 seed=3
SELECT id, quantity FROM orders WHERE quantity > (SELECT AVG(quantity) FROM orders);
