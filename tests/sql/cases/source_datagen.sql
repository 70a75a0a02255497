-- title: A source that generates a sequence
CREATE TABLE generated (n BIGINT, k INT) WITH (
  'connector' = 'datagen', 'number-of-rows' = '500',
  'fields.n.kind' = 'sequence', 'fields.n.start' = '1', 'fields.n.end' = '500',
  'fields.k.kind' = 'sequence', 'fields.k.start' = '-250', 'fields.k.end' = '1000');
SELECT n, k, n * k AS product FROM generated;
