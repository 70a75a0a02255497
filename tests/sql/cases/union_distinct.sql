-- title: UNION
-- data: orders rows=500 seed=3
SELECT currency FROM orders UNION SELECT note FROM orders;
