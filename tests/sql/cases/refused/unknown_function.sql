-- title: A function that is not there
-- data: orders rows=10 seed=3
SELECT id, FROBNICATE(id) FROM orders;
