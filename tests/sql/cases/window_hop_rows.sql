-- title: A hopping window function alone gives every row once a window
-- data: nexmark events=2000 seed=11 disorder_ms=4000
SELECT auction, price, window_start, window_end, window_time
FROM TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '5' SECOND, INTERVAL '10' SECOND));
