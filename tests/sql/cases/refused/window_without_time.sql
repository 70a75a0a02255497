-- title: A window over a column that is no time attribute, which Flink does not take
-- data: nexmark events=2000 seed=11
SELECT window_start, window_end, COUNT(*) AS bids
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(price), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end;
