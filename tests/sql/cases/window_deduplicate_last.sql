-- title: The last bid of each bidder and window
-- data: nexmark events=10000 seed=11 gap_ms=10
SELECT window_start, window_end, bidder, auction, price, `dateTime`
FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end, bidder ORDER BY `dateTime` DESC) AS place
  FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
)
WHERE place = 1;
