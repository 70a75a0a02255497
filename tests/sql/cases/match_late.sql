-- title: Late rows take no part in a pattern
-- data: readings rows=3000 seed=5 disorder_ms=900 late_ratio=0.03 late_ms=3000
SELECT * FROM readings MATCH_RECOGNIZE (
  PARTITION BY sensor
  ORDER BY readingTime, seq
  MEASURES A.seq AS begins, B.seq AS ends
  ONE ROW PER MATCH
  AFTER MATCH SKIP PAST LAST ROW
  PATTERN (A B)
  DEFINE A AS A.status = 'ok', B AS B.status = 'ok'
);
