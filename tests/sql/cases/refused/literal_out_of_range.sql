-- title: A literal that no type holds
SELECT 1e400 AS odd;
