-- title: Nexmark 7: the highest bids of every ten seconds
-- data: nexmark events=20000 seed=7 disorder_ms=3000
SELECT b.auction, b.price, b.bidder, b.`dateTime`, b.extra
FROM bid AS b
JOIN (
  SELECT MAX(price) AS highest, window_end AS closes
  FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
  GROUP BY window_start, window_end
) AS w
ON b.price = w.highest
WHERE b.`dateTime` BETWEEN w.closes - INTERVAL '10' SECOND AND w.closes;
