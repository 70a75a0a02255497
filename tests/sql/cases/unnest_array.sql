-- title: CROSS JOIN UNNEST of an array
-- data: orders rows=500 seed=3
SELECT id, tag FROM orders CROSS JOIN UNNEST(tags) AS t (tag);
