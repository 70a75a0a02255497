-- title: Names in backticks, with spaces, and that are words of the language
-- data: orders rows=100 seed=3
SELECT id AS `select`, quantity AS `a name`, `currency` AS `ümlaut`, amount AS `Amount` FROM orders AS `order`;
