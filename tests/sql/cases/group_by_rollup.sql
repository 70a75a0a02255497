-- title: An updating rollup
-- data: orders rows=1000 seed=3
SELECT currency, note, COUNT(*) AS n, GROUPING(currency) AS g1, GROUPING(note) AS g2
FROM orders GROUP BY ROLLUP (currency, note);
