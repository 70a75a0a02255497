-- title: The arguments of TUMBLE by their names
-- data: nexmark events=10000 seed=11 disorder_ms=4000
SELECT window_start, window_end, COUNT(*) AS bids
FROM TABLE(TUMBLE(DATA => TABLE bid, TIMECOL => DESCRIPTOR(`dateTime`), SIZE => INTERVAL '10' SECOND))
GROUP BY window_start, window_end;
