-- title: Windows of what OVER answers
-- data: readings rows=3000 seed=5 disorder_ms=900
CREATE TEMPORARY VIEW busy AS
SELECT readingTime, COUNT(*) OVER (PARTITION BY sensor ORDER BY readingTime
  RANGE BETWEEN INTERVAL '5' SECOND PRECEDING AND CURRENT ROW) AS n
FROM readings;
SELECT window_start, window_end, MAX(n) AS most
FROM TABLE(TUMBLE(TABLE busy, DESCRIPTOR(readingTime), INTERVAL '30' SECOND))
GROUP BY window_start, window_end;
