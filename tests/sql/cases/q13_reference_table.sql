-- title: Nexmark 13: bids with a reference table, as a regular join
-- data: nexmark events=5000 seed=7 disorder_ms=3000
-- data: products rows=400 seed=2
SELECT b.auction, b.bidder, b.price, b.`dateTime`, s.name
FROM bid AS b JOIN products AS s ON MOD(b.auction, 400) = s.id;
