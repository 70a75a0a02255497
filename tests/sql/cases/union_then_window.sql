-- title: Windows over a union of two tables
-- data: nexmark events=10000 seed=11 disorder_ms=3000
CREATE TEMPORARY VIEW both_ AS
SELECT id AS person, `dateTime` FROM person UNION ALL SELECT seller, `dateTime` FROM auction;
SELECT window_start, COUNT(*) AS n, COUNT(DISTINCT person) AS persons
FROM TABLE(TUMBLE(TABLE both_, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
GROUP BY window_start, window_end;
