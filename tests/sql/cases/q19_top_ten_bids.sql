-- title: Nexmark 19: the ten highest bids of each auction, with their rank
-- data: nexmark events=20000 seed=7 disorder_ms=3000
SELECT *
FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price DESC, `dateTime`, extra) AS rank_number FROM bid
)
WHERE rank_number <= 10;
