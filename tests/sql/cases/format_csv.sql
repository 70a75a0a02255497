-- title: CSV with quotes, empty and missing values
-- data: products rows=400 seed=2
SELECT id, name, weight, CHAR_LENGTH(name) AS length FROM products;
