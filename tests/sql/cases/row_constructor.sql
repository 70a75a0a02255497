-- title: Rows that are made in a query
-- data: orders rows=300 seed=3
SELECT id, ROW(id, currency, ROW(amount, tags)) AS made, (id, note) AS short FROM orders;
