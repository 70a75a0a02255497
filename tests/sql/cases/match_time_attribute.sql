-- title: Windows of what a pattern answers
-- data: readings rows=3000 seed=5 disorder_ms=900
CREATE TEMPORARY VIEW found AS
SELECT * FROM readings MATCH_RECOGNIZE (
  PARTITION BY sensor
  ORDER BY readingTime
  MEASURES MATCH_ROWTIME() AS at_time, A.seq AS begins
  ONE ROW PER MATCH
  AFTER MATCH SKIP PAST LAST ROW
  PATTERN (A B)
  DEFINE A AS A.status = 'ok', B AS B.status = 'warn'
);
SELECT window_start, window_end, COUNT(*) AS n
FROM TABLE(TUMBLE(TABLE found, DESCRIPTOR(at_time), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end;
