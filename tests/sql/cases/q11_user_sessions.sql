-- title: Nexmark 11: bids of each bidder in a session that ends after ten quiet seconds
-- data: nexmark events=20000 seed=7 disorder_ms=3000
SELECT bidder, COUNT(*) AS bids, window_start, window_end
FROM TABLE(SESSION(TABLE bid PARTITION BY bidder, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
GROUP BY bidder, window_start, window_end;
