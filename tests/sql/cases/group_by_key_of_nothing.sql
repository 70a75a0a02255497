-- title: Aggregates by key of no rows at all
-- data: orders rows=100 seed=3
-- empty: there is no key
SELECT currency, COUNT(*) AS n FROM orders WHERE id < 0 GROUP BY currency;
