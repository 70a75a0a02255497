-- title: WITH, used twice
-- data: orders rows=500 seed=3
WITH counted AS (SELECT currency, COUNT(*) AS n FROM orders GROUP BY currency)
SELECT l.currency, l.n, r.n AS other FROM counted AS l JOIN counted AS r ON l.n < r.n;
