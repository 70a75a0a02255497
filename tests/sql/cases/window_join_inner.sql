-- title: Persons and auctions of the same window
-- data: nexmark events=10000 seed=17 disorder_ms=3000
SELECT p.id, p.name, a.id AS auction, p.window_start, p.window_end
FROM (SELECT * FROM TABLE(TUMBLE(TABLE person, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))) AS p
JOIN (SELECT * FROM TABLE(TUMBLE(TABLE auction, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))) AS a
ON p.id = a.seller AND p.window_start = a.window_start AND p.window_end = a.window_end;
