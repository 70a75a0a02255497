-- title: Windows of ten seconds that begin three seconds after the full ten
-- data: nexmark events=10000 seed=11 disorder_ms=4000
SELECT window_start, window_end, COUNT(*) AS bids, SUM(price) AS total
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND, INTERVAL '3' SECOND))
GROUP BY window_start, window_end;
