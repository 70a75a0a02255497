-- title: VALUES as a query
VALUES (1, 'a'), (2, 'bc');
