-- title: An updating cube
-- data: orders rows=1000 seed=3
SELECT currency, note, SUM(quantity) AS total FROM orders GROUP BY CUBE (currency, note);
