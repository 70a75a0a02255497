-- title: EXCEPT
-- data: orders rows=500 seed=3
SELECT customer FROM orders WHERE currency = 'EUR' EXCEPT SELECT customer FROM orders WHERE currency = 'USD';
