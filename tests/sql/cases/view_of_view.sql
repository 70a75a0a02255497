-- title: A view of a view with named columns
-- data: orders rows=500 seed=3
CREATE TEMPORARY VIEW paid (number_, money) AS SELECT id, amount FROM orders WHERE amount > 0;
CREATE TEMPORARY VIEW dear AS SELECT * FROM paid WHERE money > 50000;
SELECT number_, money FROM dear;
