-- title: Bids within two seconds after their auction was opened
-- data: nexmark events=10000 seed=17 disorder_ms=3000
SELECT a.id, b.bidder, b.price, a.`dateTime` AS opened, b.`dateTime` AS bid_time
FROM auction AS a JOIN bid AS b
ON a.id = b.auction AND b.`dateTime` BETWEEN a.`dateTime` AND a.`dateTime` + INTERVAL '2' SECOND;
