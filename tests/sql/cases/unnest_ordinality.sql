-- title: UNNEST with the place of each element
-- data: orders rows=500 seed=3
SELECT id, tag, place FROM orders CROSS JOIN UNNEST(tags) WITH ORDINALITY AS t (tag, place);
