-- title: A column that is not there
-- data: orders rows=10 seed=3
SELECT id, nothing FROM orders;
