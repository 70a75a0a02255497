-- title: CROSS JOIN UNNEST of an array of rows, NULL rows among them
-- data: orders rows=500 seed=3
SELECT id, sku, q, price FROM orders CROSS JOIN UNNEST(items) AS t (sku, q, price);
