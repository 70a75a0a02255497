-- title: The number of each row in its partition, by time
-- data: orders rows=1000 seed=3
SELECT id, customer, ROW_NUMBER() OVER (PARTITION BY customer ORDER BY orderTime) AS place FROM orders;
