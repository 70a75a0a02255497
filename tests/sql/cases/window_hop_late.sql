-- title: A late row still counts in those hopping windows that are open
-- data: nexmark events=20000 seed=13 disorder_ms=4000 late_ratio=0.02 late_ms=5000
SELECT window_start, window_end, COUNT(*) AS bids, SUM(price) AS total
FROM TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '5' SECOND, INTERVAL '20' SECOND))
GROUP BY window_start, window_end;
