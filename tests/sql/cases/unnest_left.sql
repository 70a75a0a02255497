-- title: LEFT JOIN UNNEST keeps rows without elements
-- data: orders rows=500 seed=3
SELECT id, tag FROM orders LEFT JOIN UNNEST(tags) AS t (tag) ON TRUE;
