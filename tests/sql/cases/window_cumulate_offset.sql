-- title: Windows that grow, with an offset
-- data: nexmark events=10000 seed=11 disorder_ms=4000
SELECT channel, window_start, window_end, MAX(price) AS most
FROM TABLE(CUMULATE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '5' SECOND, INTERVAL '20' SECOND, INTERVAL '1' SECOND))
GROUP BY channel, window_start, window_end;
