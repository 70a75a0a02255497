-- title: CREATE TABLE LIKE
-- data: orders rows=200 seed=3
CREATE TABLE base_ (id BIGINT, orderTime TIMESTAMP(3))
WITH ('connector' = 'filesystem', 'path' = '${DATA}/orders.json', 'format' = 'json');
CREATE TABLE derived (WATERMARK FOR orderTime AS orderTime) LIKE base_;
SELECT window_start, COUNT(*) AS n
FROM TABLE(TUMBLE(TABLE derived, DESCRIPTOR(orderTime), INTERVAL '10' SECOND)) GROUP BY window_start, window_end;
