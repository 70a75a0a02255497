-- title: A pattern that must end within three seconds
-- data: readings rows=3000 seed=5 disorder_ms=900
SELECT * FROM readings MATCH_RECOGNIZE (
  PARTITION BY sensor
  ORDER BY readingTime
  MEASURES A.seq AS begins, B.seq AS ends
  ONE ROW PER MATCH
  AFTER MATCH SKIP PAST LAST ROW
  PATTERN (A X* B) WITHIN INTERVAL '3' SECOND
  DEFINE
    A AS A.status = 'warn',
    X AS X.status = 'ok',
    B AS B.status = 'fail'
);
