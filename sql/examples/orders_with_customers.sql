-- Orders with what is known of their customers: a join with a reference table, a CSV file that is read again when it
-- changes. Totals by country and hour. (On Flink it needs a connector that can be looked up, such as 'jdbc': its
-- 'filesystem' cannot.)
--
--   cd sql/examples && streamkit sql run orders_with_customers.sql --json

CREATE TABLE orders (
  id BIGINT,
  customer INT,
  amount DECIMAL(10, 2),
  ordered_at TIMESTAMP(3),
  looked_at AS PROCTIME(),
  WATERMARK FOR ordered_at AS ordered_at - INTERVAL '1' MINUTE
) WITH (
  'connector' = 'filesystem',
  'path' = 'data/orders.json',
  'format' = 'json'
);

CREATE TABLE customers (
  id INT,
  name STRING,
  country STRING
) WITH (
  'connector' = 'filesystem',
  'path' = 'data/customers.csv',
  'format' = 'csv'
);

CREATE VIEW known AS
SELECT o.id, o.amount, o.ordered_at, COALESCE(c.country, 'unknown') AS country
FROM orders AS o
LEFT JOIN customers FOR SYSTEM_TIME AS OF o.looked_at AS c ON o.customer = c.id;

SELECT window_start, country, COUNT(*) AS orders, SUM(amount) AS amount
FROM TABLE(TUMBLE(TABLE known, DESCRIPTOR(ordered_at), INTERVAL '1' HOUR))
GROUP BY window_start, window_end, country;
