-- title: HAVING over an updating GROUP BY
-- data: orders rows=2000 seed=3
SELECT customer, COUNT(*) AS n, AVG(quantity) AS mean FROM orders GROUP BY customer
HAVING COUNT(*) > 30 AND AVG(quantity) IS NOT NULL;
