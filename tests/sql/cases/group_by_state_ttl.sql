-- title: A time-to-live of state that nothing reaches
-- data: orders rows=1000 seed=3
SET 'table.exec.state.ttl' = '1 h';
SELECT currency, COUNT(*) AS n FROM orders GROUP BY currency;
