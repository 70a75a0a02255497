-- title: RANK in the place of ROW_NUMBER
-- data: orders rows=500 seed=3
SELECT id, currency, place FROM (
  SELECT *, RANK() OVER (PARTITION BY currency ORDER BY quantity DESC) AS place FROM orders
) WHERE place <= 3;
