-- title: IN of a query
-- data: orders rows=1000 seed=3
-- data: customers rows=50 seed=2
SELECT id, customer FROM orders WHERE customer IN (SELECT id FROM customers WHERE level = 'gold');
