-- title: HAVING and FILTER in windows, and a WHERE on the window's bounds
-- data: nexmark events=10000 seed=11 disorder_ms=4000
SELECT window_start, window_end, channel, COUNT(*) FILTER (WHERE price > 100000) AS dear, COUNT(DISTINCT auction)
  FILTER (WHERE price < 1000) AS cheap
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
WHERE channel LIKE '%oo%'
GROUP BY window_start, window_end, channel
HAVING COUNT(*) > 50 AND window_start >= TIMESTAMP '2026-01-01 00:00:20';
