-- title: Bids with an auction that was opened a second ago at most, if any
-- data: nexmark events=5000 seed=17 disorder_ms=3000
SELECT a.id, b.auction, b.bidder, b.price
FROM auction AS a RIGHT JOIN bid AS b
ON a.id = b.auction AND a.`dateTime` BETWEEN b.`dateTime` - INTERVAL '1' SECOND AND b.`dateTime`;
