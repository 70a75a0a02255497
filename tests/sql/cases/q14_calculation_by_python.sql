-- title: Nexmark 14: the count of a letter by a scalar function in Python
-- data: nexmark events=5000 seed=7 disorder_ms=3000 gap_ms=20000
CREATE TEMPORARY FUNCTION count_char AS 'functions.count_char' LANGUAGE PYTHON;
SELECT auction, bidder, 0.908 * price AS price, `dateTime`, extra, count_char(extra, 'c') AS c_counts
FROM bid
WHERE 0.908 * price > 1000000 AND 0.908 * price < 50000000;
