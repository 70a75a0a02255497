-- title: A window of months, which Flink does not take
-- data: nexmark events=2000 seed=11
SELECT window_start, window_end, COUNT(*) AS bids
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '1' MONTH))
GROUP BY window_start, window_end;
