-- title: Hopping windows with an offset, by name
-- data: nexmark events=10000 seed=11 disorder_ms=4000
SELECT window_start, window_end, COUNT(*) AS bids
FROM TABLE(HOP(DATA => TABLE bid, TIMECOL => DESCRIPTOR(`dateTime`), SLIDE => INTERVAL '5' SECOND,
  SIZE => INTERVAL '15' SECOND, `OFFSET` => INTERVAL '1' SECOND))
GROUP BY window_start, window_end;
