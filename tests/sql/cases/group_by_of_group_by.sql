-- title: An aggregate of an updating aggregate
-- data: orders rows=2000 seed=3
SELECT n, COUNT(*) AS customers FROM (SELECT customer, COUNT(*) AS n FROM orders GROUP BY customer) GROUP BY n;
