-- title: Many aggregates of ten seconds, of rows out of order within the bound
-- data: nexmark events=20000 seed=11 disorder_ms=4000
SELECT channel, window_start, window_end, COUNT(*) AS bids, SUM(price) AS total, AVG(price) AS mean, MIN(price) AS least,
  MAX(price) AS most, COUNT(DISTINCT bidder) AS bidders
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
GROUP BY channel, window_start, window_end;
