-- title: ORDER BY time
-- data: orders rows=1000 seed=3 disorder_ms=1500
SELECT id, orderTime FROM orders ORDER BY orderTime;
