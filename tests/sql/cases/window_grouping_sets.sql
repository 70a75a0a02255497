-- title: Grouping sets of windows
-- data: nexmark events=10000 seed=11 disorder_ms=4000
SELECT window_start, window_end, channel, MOD(auction, 5) AS a, COUNT(*) AS bids, GROUPING(channel) AS g,
  GROUPING_ID(channel, MOD(auction, 5)) AS gid
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '20' SECOND))
GROUP BY window_start, window_end, GROUPING SETS ((channel, MOD(auction, 5)), (channel), ());
