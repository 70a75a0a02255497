-- title: AFTER MATCH SKIP TO FIRST of a variable
-- data: readings rows=3000 seed=5 disorder_ms=900
SELECT * FROM readings MATCH_RECOGNIZE (
  PARTITION BY sensor
  ORDER BY readingTime
  MEASURES A.seq AS begins, FIRST(B.seq) AS first_b, C.seq AS ends
  ONE ROW PER MATCH
  AFTER MATCH SKIP TO FIRST B
  PATTERN (A B+ C)
  DEFINE
    A AS A.pressure <= 500,
    B AS B.pressure > 500,
    C AS C.pressure <= 500
);
