-- title: Disorder three times the watermark's bound
-- data: nexmark events=20000 seed=13 disorder_ms=12000
SELECT window_start, window_end, auction, COUNT(*) AS bids
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '5' SECOND))
GROUP BY window_start, window_end, auction;
