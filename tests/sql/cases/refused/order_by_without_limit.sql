-- title: ORDER BY of no time and without LIMIT, which Flink does not take
-- data: orders rows=100 seed=3
SELECT id, amount FROM orders ORDER BY amount;
