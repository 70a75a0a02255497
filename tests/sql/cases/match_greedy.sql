-- title: The greedy twin takes as much as it can
-- data: readings rows=3000 seed=5 disorder_ms=900
SELECT * FROM readings MATCH_RECOGNIZE (
  PARTITION BY sensor
  ORDER BY readingTime
  MEASURES A.seq AS begins, COUNT(B.seq) AS between_, C.seq AS ends
  ONE ROW PER MATCH
  AFTER MATCH SKIP PAST LAST ROW
  PATTERN (A B* C)
  DEFINE
    A AS A.status = 'fail',
    B AS B.pressure > 300,
    C AS C.pressure < 600
);
