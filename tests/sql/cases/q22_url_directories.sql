-- title: Nexmark 22: the parts of each bid's url
-- data: nexmark events=5000 seed=7 disorder_ms=3000
SELECT auction, bidder, price, channel,
  SPLIT_INDEX(url, '/', 3) AS dir1, SPLIT_INDEX(url, '/', 4) AS dir2, SPLIT_INDEX(url, '/', 5) AS dir3
FROM bid;
