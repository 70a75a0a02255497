-- title: The five customers with the most orders, of an updating count
-- data: orders rows=2000 seed=3
SELECT customer, n, place FROM (
  SELECT *, ROW_NUMBER() OVER (ORDER BY n DESC, customer) AS place
  FROM (SELECT customer, COUNT(*) AS n FROM orders GROUP BY customer)
) WHERE place <= 5;
