-- title: An aggregate of an aggregate in the same window
-- data: nexmark events=20000 seed=11 disorder_ms=4000
SELECT window_start, window_end, MAX(bids) AS most, AVG(bids) AS mean, COUNT(*) AS auctions
FROM (
  SELECT window_start, window_end, auction, COUNT(*) AS bids
  FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
  GROUP BY window_start, window_end, auction
)
GROUP BY window_start, window_end;
