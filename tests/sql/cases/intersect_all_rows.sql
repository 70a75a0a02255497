-- title: INTERSECT ALL
-- data: orders rows=500 seed=3
SELECT customer FROM orders WHERE currency = 'EUR' INTERSECT ALL SELECT customer FROM orders WHERE currency = 'USD';
