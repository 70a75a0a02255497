-- title: Windows that grow by two seconds up to ten
-- data: nexmark events=10000 seed=11 disorder_ms=4000
SELECT window_start, window_end, COUNT(*) AS bids, SUM(price) AS total, COUNT(DISTINCT bidder) AS bidders
FROM TABLE(CUMULATE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
GROUP BY window_start, window_end;
