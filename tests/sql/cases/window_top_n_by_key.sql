-- title: The two dearest bids of each channel and window, straight from the rows
-- data: nexmark events=10000 seed=11 disorder_ms=4000
SELECT window_start, window_end, channel, auction, price, place
FROM (
  SELECT *, ROW_NUMBER() OVER (
    PARTITION BY window_start, window_end, channel ORDER BY price DESC, `dateTime`, extra) AS place
  FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '20' SECOND))
)
WHERE place <= 2;
