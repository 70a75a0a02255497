-- title: Nexmark 20: the bids for the auctions of one category, with the auction
-- data: nexmark events=10000 seed=7 disorder_ms=3000
SELECT auction, bidder, price, channel, url, b.`dateTime`, b.extra, itemName, description, initialBid, reserve,
  a.`dateTime`, expires, seller, category, a.extra
FROM bid AS b INNER JOIN auction AS a ON b.auction = a.id
WHERE a.category = 10;
