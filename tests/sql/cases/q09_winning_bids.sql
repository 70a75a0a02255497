-- title: Nexmark 9: the winning bid of each auction
-- data: nexmark events=20000 seed=7 disorder_ms=3000
-- key: id
-- note: Flink 2.3 calls a first of several order columns append-only and takes nothing back (FLINK-40368)
SELECT id, itemName, description, initialBid, reserve, `dateTime`, expires, seller, category, extra, auction, bidder,
  price, bid_time, bid_extra
FROM (
  SELECT a.*, b.auction, b.bidder, b.price, b.`dateTime` AS bid_time, b.extra AS bid_extra,
    ROW_NUMBER() OVER (PARTITION BY a.id ORDER BY b.price DESC, b.`dateTime` ASC, b.extra ASC) AS rownum
  FROM auction AS a, bid AS b
  WHERE a.id = b.auction AND b.`dateTime` BETWEEN a.`dateTime` AND a.expires
)
WHERE rownum <= 1;
