-- title: Sums of what was matched so far decide
-- data: readings rows=3000 seed=5 disorder_ms=900
SELECT * FROM readings MATCH_RECOGNIZE (
  PARTITION BY sensor
  ORDER BY readingTime
  MEASURES FIRST(A.seq) AS begins, LAST(A.seq) AS ends, SUM(A.pressure) AS total, MIN(A.pressure) AS least, B.seq AS after_
  ONE ROW PER MATCH
  AFTER MATCH SKIP PAST LAST ROW
  PATTERN (A+ B)
  DEFINE
    A AS SUM(A.pressure) < 1500
);
