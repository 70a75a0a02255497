-- title: The older window functions in GROUP BY
-- data: nexmark events=10000 seed=11 disorder_ms=4000
SELECT TUMBLE_START(`dateTime`, INTERVAL '10' SECOND) AS opens, TUMBLE_END(`dateTime`, INTERVAL '10' SECOND) AS closes,
  TUMBLE_ROWTIME(`dateTime`, INTERVAL '10' SECOND) AS rowtime, channel, COUNT(*) AS bids
FROM bid
GROUP BY TUMBLE(`dateTime`, INTERVAL '10' SECOND), channel;
