-- title: Nexmark 4: the mean winning bid of each category
-- data: nexmark events=20000 seed=7 disorder_ms=3000
SELECT won.category, AVG(won.final)
FROM (
  SELECT MAX(b.price) AS final, a.category
  FROM auction AS a, bid AS b
  WHERE a.id = b.auction AND b.`dateTime` BETWEEN a.`dateTime` AND a.expires
  GROUP BY a.id, a.category
) AS won
GROUP BY won.category;
