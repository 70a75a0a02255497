-- title: A hop whose size is no multiple of its step, which Flink does not take
-- data: nexmark events=2000 seed=11
SELECT window_start, window_end, COUNT(*) AS bids
FROM TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '3' SECOND, INTERVAL '10' SECOND))
GROUP BY window_start, window_end;
