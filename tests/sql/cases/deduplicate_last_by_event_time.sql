-- title: The last row of each key, in rows out of order
-- data: orders rows=2000 seed=3 disorder_ms=5000
SELECT customer, currency, orderTime FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY customer, currency ORDER BY orderTime DESC) AS place FROM orders
) WHERE place = 1;
