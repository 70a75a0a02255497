-- title: Aggregates of all rows
-- data: orders rows=2000 seed=3
SELECT COUNT(*) AS n, SUM(quantity) AS total, MAX(note) AS greatest, MIN(note) AS least FROM orders;
