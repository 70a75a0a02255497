-- title: The same answer in small batches
-- data: orders rows=2000 seed=3
SET 'table.exec.mini-batch.enabled' = 'true';
SET 'table.exec.mini-batch.allow-latency' = '1 s';
SET 'table.exec.mini-batch.size' = '500';
SELECT currency, COUNT(DISTINCT customer) AS customers, SUM(amount) AS total FROM orders GROUP BY currency;
