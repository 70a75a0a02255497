-- title: Windows of a day that begin at eight hours before midnight
-- data: nexmark events=10000 seed=11 gap_ms=60000
SELECT window_start, window_end, COUNT(*) AS bids
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '1' DAY, INTERVAL '-8' HOUR))
GROUP BY window_start, window_end;
