-- title: The three auctions with the most bids of each window
-- data: nexmark events=20000 seed=11 disorder_ms=4000
SELECT *
FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY bids DESC, auction) AS place
  FROM (
    SELECT window_start, window_end, auction, COUNT(*) AS bids, SUM(price) AS total
    FROM TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '5' SECOND, INTERVAL '10' SECOND))
    GROUP BY window_start, window_end, auction
  )
)
WHERE place <= 3;
