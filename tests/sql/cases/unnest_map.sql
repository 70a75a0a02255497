-- title: CROSS JOIN UNNEST of a map
-- data: orders rows=500 seed=3
SELECT id, k, v FROM orders CROSS JOIN UNNEST(attributes) AS t (k, v);
