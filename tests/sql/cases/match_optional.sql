-- title: An optional variable
-- data: readings rows=3000 seed=5 disorder_ms=900
SELECT * FROM readings MATCH_RECOGNIZE (
  PARTITION BY sensor
  ORDER BY readingTime
  MEASURES A.seq AS begins, B.seq AS maybe, C.seq AS ends
  ONE ROW PER MATCH
  AFTER MATCH SKIP PAST LAST ROW
  PATTERN (A B? C)
  DEFINE
    A AS A.status = 'warn',
    B AS B.status = 'warn',
    C AS C.status = 'ok'
);
