-- title: Rows later than the watermark's bound are left out of windows that were closed
-- data: nexmark events=20000 seed=13 disorder_ms=4000 late_ratio=0.02 late_ms=9000
SELECT window_start, window_end, COUNT(*) AS bids, SUM(price) AS total
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
GROUP BY window_start, window_end;
