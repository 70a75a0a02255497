-- title: Nexmark 12: bids of each bidder in ten seconds of processing time, summed over the windows so that it repeats
-- empty: windows of processing time that are open at the end of the input never close
-- data: nexmark events=20000 seed=7 disorder_ms=3000
CREATE TEMPORARY VIEW arriving AS SELECT bidder, PROCTIME() AS p_time FROM bid;
SELECT bidder, SUM(bids) AS bids
FROM (
  SELECT bidder, COUNT(*) AS bids, window_start, window_end
  FROM TABLE(TUMBLE(TABLE arriving, DESCRIPTOR(p_time), INTERVAL '10' SECOND))
  GROUP BY bidder, window_start, window_end
)
GROUP BY bidder;
