-- title: Nexmark 12, by event time: bids of each bidder in ten seconds
-- data: nexmark events=20000 seed=7 disorder_ms=3000
SELECT bidder, COUNT(*) AS bids, window_start, window_end
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
GROUP BY bidder, window_start, window_end;
