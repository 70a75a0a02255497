-- title: The three least orders of each currency with their rank, NULL among them
-- data: orders rows=2000 seed=3
SELECT id, currency, amount, place FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY currency ORDER BY amount ASC, id) AS place FROM orders
) WHERE place <= 3;
