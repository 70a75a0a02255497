-- title: Aggregates of no rows at all
-- data: orders rows=100 seed=3
-- empty: a stream of no rows has no first result
SELECT COUNT(*) AS n, SUM(quantity) AS total FROM orders WHERE id < 0;
