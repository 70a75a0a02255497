-- title: A greedy loop that also takes what should end the pattern never ends: Flink does not go back
-- data: readings rows=3000 seed=5 disorder_ms=900
-- empty: every row that is C is B as well
SELECT * FROM readings MATCH_RECOGNIZE (
  PARTITION BY sensor
  ORDER BY readingTime
  MEASURES A.seq AS begins, COUNT(B.seq) AS between_, C.seq AS ends
  ONE ROW PER MATCH
  AFTER MATCH SKIP PAST LAST ROW
  PATTERN (A B* C)
  DEFINE
    A AS A.status = 'fail',
    B AS B.status <> 'fail',
    C AS C.status = 'ok'
);
