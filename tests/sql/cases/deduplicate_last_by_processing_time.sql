-- title: The last row of each key as it comes
-- data: orders rows=2000 seed=3 disorder_ms=5000
SELECT id, customer FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY customer ORDER BY PROCTIME() DESC) AS place FROM orders
) WHERE place = 1;
