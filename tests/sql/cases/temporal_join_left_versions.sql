-- title: Orders in rates of a table with versions, those before the first too
-- data: orders rows=2000 seed=3 disorder_ms=1500
-- data: rates rows=200 seed=4
CREATE TABLE versions (
  currency STRING, rate DECIMAL(12, 4), rateTime TIMESTAMP(3),
  WATERMARK FOR rateTime AS rateTime, PRIMARY KEY (currency) NOT ENFORCED
) WITH ('connector' = 'filesystem', 'path' = '${DATA}/rates.json', 'format' = 'json');
SELECT o.id, o.currency, r.rate, r.rateTime
FROM orders AS o LEFT JOIN versions FOR SYSTEM_TIME AS OF o.orderTime AS r ON o.currency = r.currency AND r.rate > 1;
