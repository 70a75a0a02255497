-- title: Persons who opened an auction in the same window (IN)
-- data: nexmark events=10000 seed=17 disorder_ms=3000
SELECT p.id, p.window_start
FROM (SELECT * FROM TABLE(TUMBLE(TABLE person, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))) AS p
WHERE p.id IN (
  SELECT a.seller
  FROM (SELECT * FROM TABLE(TUMBLE(TABLE auction, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))) AS a
  WHERE p.window_start = a.window_start AND p.window_end = a.window_end
);
