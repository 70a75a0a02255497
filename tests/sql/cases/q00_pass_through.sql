-- title: Nexmark 0: every bid as it is
-- data: nexmark events=5000 seed=7 disorder_ms=3000
SELECT auction, bidder, price, `dateTime`, extra FROM bid;
