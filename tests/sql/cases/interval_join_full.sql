-- title: Auctions and bids of the same second, and those alone
-- data: nexmark events=5000 seed=17 disorder_ms=3000
SELECT a.id, b.auction, b.bidder, b.price
FROM auction AS a FULL JOIN bid AS b
ON a.id = b.auction AND a.`dateTime` BETWEEN b.`dateTime` - INTERVAL '1' SECOND AND b.`dateTime`;
