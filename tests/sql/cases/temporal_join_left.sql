-- title: Each order in the rate of a view that keeps the last, those without a rate too
-- data: orders rows=2000 seed=3 disorder_ms=1500
-- data: rates rows=200 seed=4
CREATE TEMPORARY VIEW latest AS
SELECT currency, rate, rateTime
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY currency ORDER BY rateTime DESC) AS place FROM rates)
WHERE place = 1;
SELECT o.id, o.currency, o.amount, r.rate, r.rateTime
FROM orders AS o LEFT JOIN latest FOR SYSTEM_TIME AS OF o.orderTime AS r ON o.currency = r.currency;
