-- title: A join of two aggregates of hopping windows
-- data: nexmark events=10000 seed=17 disorder_ms=3000
SELECT b.window_start, b.window_end, b.bids, a.auctions
FROM (
  SELECT window_start, window_end, COUNT(*) AS bids
  FROM TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '5' SECOND, INTERVAL '10' SECOND))
  GROUP BY window_start, window_end
) AS b
JOIN (
  SELECT window_start, window_end, COUNT(*) AS auctions
  FROM TABLE(HOP(TABLE auction, DESCRIPTOR(`dateTime`), INTERVAL '5' SECOND, INTERVAL '10' SECOND))
  GROUP BY window_start, window_end
) AS a
ON b.window_start = a.window_start AND b.window_end = a.window_end;
