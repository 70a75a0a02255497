-- title: UNION ALL
-- data: orders rows=500 seed=3
SELECT id, currency FROM orders WHERE quantity > 50 UNION ALL SELECT id, note FROM orders WHERE quantity > 80;
