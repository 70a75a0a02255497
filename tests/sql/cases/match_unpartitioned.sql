-- title: A pattern over all rows
-- data: orders rows=2000 seed=3 disorder_ms=1500
SELECT * FROM orders MATCH_RECOGNIZE (
  ORDER BY orderTime
  MEASURES A.id AS first_id, B.id AS second_id, B.amount - A.amount AS more
  ONE ROW PER MATCH
  AFTER MATCH SKIP PAST LAST ROW
  PATTERN (A B)
  DEFINE A AS A.amount > 90000, B AS B.amount > A.amount
);
