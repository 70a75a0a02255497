-- title: An updating GROUP BY with many aggregates
-- data: orders rows=2000 seed=3
SELECT currency, COUNT(*) AS n, COUNT(quantity) AS quantities, SUM(amount) AS total, AVG(amount) AS mean,
  MIN(amount) AS least, MAX(orderTime) AS latest, COUNT(DISTINCT customer) AS customers, SUM(DISTINCT quantity) AS distinct_total
FROM orders GROUP BY currency;
