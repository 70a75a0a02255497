-- title: Precision and scale of SUM and AVG of decimals
-- data: orders rows=1000 seed=3
SELECT SUM(amount) AS total, AVG(amount) AS mean, SUM(amount * quantity) AS weighted, AVG(CAST(amount AS DECIMAL(38, 2))) AS wide,
  SUM(CAST(amount AS DECIMAL(38, 10))) AS wider, MAX(amount) - MIN(amount) AS spread
FROM orders;
