-- title: NOT IN of a query, with NULL on the left
-- data: orders rows=1000 seed=3
-- data: customers rows=50 seed=2
SELECT id, customer FROM orders WHERE customer NOT IN (SELECT id FROM customers WHERE level = 'gold');
