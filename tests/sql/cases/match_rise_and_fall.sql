-- title: A rise of one row or more and then a fall
-- data: readings rows=3000 seed=5 disorder_ms=900
SELECT * FROM readings MATCH_RECOGNIZE (
  PARTITION BY sensor
  ORDER BY readingTime, seq
  MEASURES
    A.seq AS begins, LAST(UP.seq) AS top, DOWN.seq AS ends, COUNT(UP.seq) AS ups, MAX(UP.temperature) AS hottest,
    FIRST(UP.temperature) AS first_up, AVG(UP.temperature) AS mean
  ONE ROW PER MATCH
  AFTER MATCH SKIP PAST LAST ROW
  PATTERN (A UP+ DOWN)
  DEFINE
    UP AS UP.temperature > LAST(UP.temperature, 1) OR (LAST(UP.temperature, 1) IS NULL AND UP.temperature > A.temperature),
    DOWN AS DOWN.temperature < LAST(UP.temperature)
);
