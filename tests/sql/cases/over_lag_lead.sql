-- title: The row before, and the one before that with a default
-- data: orders rows=1000 seed=3
SELECT id, customer, LAG(quantity) OVER w AS before, LAG(quantity, 2, -1) OVER w AS before_that,
  FIRST_VALUE(id) OVER w AS first_id, LAST_VALUE(id) OVER w AS last_id
FROM orders
WINDOW w AS (PARTITION BY customer ORDER BY orderTime);
