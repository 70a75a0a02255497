-- title: The second to fourth of each window, without their rank
-- data: nexmark events=10000 seed=11 disorder_ms=4000
SELECT window_start, window_end, auction, price
FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY price DESC, `dateTime`, extra) AS place
  FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
)
WHERE place >= 2 AND place <= 4;
