-- title: PREV in the place of LAST, and bounded repetition
-- data: readings rows=3000 seed=5 disorder_ms=900
SELECT * FROM readings MATCH_RECOGNIZE (
  PARTITION BY sensor
  ORDER BY readingTime
  MEASURES FIRST(B.seq) AS begins, LAST(B.seq) AS ends, B.readingTime AS at_time
  ONE ROW PER MATCH
  AFTER MATCH SKIP TO NEXT ROW
  PATTERN (A B{2,3} C)
  DEFINE
    A AS A.status = 'ok',
    B AS B.status = 'warn',
    C AS C.status = 'ok'
);
