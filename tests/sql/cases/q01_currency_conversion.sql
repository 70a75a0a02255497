-- title: Nexmark 1: every bid in another currency
-- data: nexmark events=5000 seed=7 disorder_ms=3000
SELECT auction, bidder, 0.908 * price AS price, `dateTime`, extra FROM bid;
