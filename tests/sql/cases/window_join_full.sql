-- title: Persons and auctions of a window, those without the other too
-- data: nexmark events=10000 seed=17 disorder_ms=3000
SELECT p.id, a.id AS auction, COALESCE(p.window_start, a.window_start) AS opens
FROM (SELECT * FROM TABLE(TUMBLE(TABLE person, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))) AS p
FULL JOIN (SELECT * FROM TABLE(TUMBLE(TABLE auction, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))) AS a
ON p.id = a.seller AND p.window_start = a.window_start AND p.window_end = a.window_end;
