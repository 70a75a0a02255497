-- title: A text in the place of a number
-- data: orders rows=10 seed=3
SELECT id + note FROM orders;
