-- title: Auctions of a window with their seller, if he came in it
-- data: nexmark events=10000 seed=17 disorder_ms=3000
SELECT p.id, a.id AS auction, a.window_start, a.window_end
FROM (SELECT * FROM TABLE(TUMBLE(TABLE person, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))) AS p
RIGHT JOIN (SELECT * FROM TABLE(TUMBLE(TABLE auction, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))) AS a
ON p.id = a.seller AND p.window_start = a.window_start AND p.window_end = a.window_end;
