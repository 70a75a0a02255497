-- title: Hopping windows, each row in five
-- data: nexmark events=10000 seed=11 disorder_ms=4000
SELECT channel, window_start, window_end, COUNT(*) AS bids, SUM(price) AS total, AVG(price) AS mean, MIN(price) AS least,
  MAX(price) AS most, COUNT(DISTINCT auction) AS auctions
FROM TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
GROUP BY channel, window_start, window_end;
