-- title: Nexmark 2: the bids for some auctions
-- data: nexmark events=20000 seed=7 disorder_ms=3000
SELECT auction, price FROM bid WHERE MOD(auction, 123) = 0;
