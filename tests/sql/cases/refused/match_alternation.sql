-- title: Alternation in a pattern, which Flink does not take
-- data: readings rows=100 seed=5
SELECT * FROM readings MATCH_RECOGNIZE (
  PARTITION BY sensor ORDER BY readingTime
  MEASURES A.seq AS begins
  ONE ROW PER MATCH
  PATTERN (A (B | C)) DEFINE A AS A.status = 'ok', B AS B.status = 'warn', C AS C.status = 'fail'
);
