-- title: AFTER MATCH SKIP TO LAST of a variable
-- data: readings rows=3000 seed=5 disorder_ms=900
SELECT * FROM readings MATCH_RECOGNIZE (
  PARTITION BY sensor
  ORDER BY readingTime
  MEASURES A.seq AS begins, LAST(B.seq) AS last_b, C.seq AS ends
  ONE ROW PER MATCH
  AFTER MATCH SKIP TO LAST B
  PATTERN (A B+ C)
  DEFINE
    B AS B.pressure > 500,
    C AS C.pressure <= 500
);
