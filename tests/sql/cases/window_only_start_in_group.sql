-- title: Grouping by the start of a window alone
-- data: nexmark events=5000 seed=11 disorder_ms=4000
SELECT window_start, COUNT(*) AS bids
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
GROUP BY window_start;
