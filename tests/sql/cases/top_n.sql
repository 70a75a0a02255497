-- title: The three greatest orders of each currency, without their rank
-- data: orders rows=2000 seed=3
SELECT id, currency, amount FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY currency ORDER BY amount DESC, id) AS place FROM orders
) WHERE place <= 3;
