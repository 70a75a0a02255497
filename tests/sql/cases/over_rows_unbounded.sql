-- title: Aggregates over everything so far, by rows, without a partition
-- data: orders rows=1000 seed=3
SELECT id, SUM(amount) OVER (ORDER BY orderTime ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total
FROM orders;
