-- title: FILTER of aggregates
-- data: orders rows=2000 seed=3
SELECT currency, COUNT(*) FILTER (WHERE quantity > 50) AS many, SUM(quantity) FILTER (WHERE note = 'gift') AS gifts,
  COUNT(DISTINCT customer) FILTER (WHERE amount < 0) AS debtors
FROM orders GROUP BY currency;
