-- title: A column that is neither grouped nor aggregated
-- data: orders rows=10 seed=3
SELECT id, currency, COUNT(*) FROM orders GROUP BY currency;
