-- title: VALUES as a table
SELECT * FROM (VALUES (1, 'a', 1.50), (2, CAST(NULL AS STRING), -3.25), (3, 'ü', 0.00)) AS t (id, name, n);
