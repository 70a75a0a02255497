-- title: Auctions with the bids of one second around their opening, if any
-- data: nexmark events=5000 seed=17 disorder_ms=3000
SELECT a.id, b.bidder, b.price
FROM auction AS a LEFT JOIN bid AS b
ON a.id = b.auction AND b.`dateTime` >= a.`dateTime` - INTERVAL '1' SECOND
  AND b.`dateTime` < a.`dateTime` + INTERVAL '1' SECOND AND b.price > 10000;
