-- title: NOT IN of a query that has a NULL answers nothing
-- data: orders rows=200 seed=3
-- empty: no value is unequal to NULL
SELECT id FROM orders WHERE quantity NOT IN (SELECT customer FROM orders WHERE id < 100);
