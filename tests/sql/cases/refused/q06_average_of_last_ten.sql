-- title: Nexmark 6: the mean of a seller's last ten winning bids, which Flink does not take
-- data: nexmark events=5000 seed=7 disorder_ms=3000
SELECT won.seller, AVG(won.final) OVER (
  PARTITION BY won.seller ORDER BY won.`dateTime` ROWS BETWEEN 10 PRECEDING AND CURRENT ROW
)
FROM (
  SELECT MAX(b.price) AS final, a.seller, b.`dateTime`
  FROM auction AS a, bid AS b
  WHERE a.id = b.auction AND b.`dateTime` BETWEEN a.`dateTime` AND a.expires
  GROUP BY a.id, a.seller, b.`dateTime`
) AS won;
