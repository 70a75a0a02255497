-- title: The older hopping window in GROUP BY
-- data: nexmark events=10000 seed=11 disorder_ms=4000
SELECT HOP_START(`dateTime`, INTERVAL '5' SECOND, INTERVAL '10' SECOND) AS opens,
  HOP_END(`dateTime`, INTERVAL '5' SECOND, INTERVAL '10' SECOND) AS closes, COUNT(*) AS bids, MAX(price) AS most
FROM bid
GROUP BY HOP(`dateTime`, INTERVAL '5' SECOND, INTERVAL '10' SECOND);
