-- title: EMIT CHANGES is another language's
-- data: orders rows=10 seed=3
SELECT id FROM orders EMIT CHANGES;
