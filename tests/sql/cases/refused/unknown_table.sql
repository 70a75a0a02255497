-- title: A table that is not there
-- data: orders rows=10 seed=3
SELECT id FROM nowhere;
