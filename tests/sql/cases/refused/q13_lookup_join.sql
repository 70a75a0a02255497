-- title: Nexmark 13: bids with their side input, as a lookup join over files, which Flink does not offer
-- data: nexmark events=5000 seed=7 disorder_ms=3000
-- data: products rows=400 seed=2
CREATE TEMPORARY VIEW arriving AS SELECT *, PROCTIME() AS p_time FROM bid;
SELECT b.auction, b.bidder, b.price, b.`dateTime`, s.name
FROM arriving AS b JOIN products FOR SYSTEM_TIME AS OF b.p_time AS s ON MOD(b.auction, 400) = s.id;
