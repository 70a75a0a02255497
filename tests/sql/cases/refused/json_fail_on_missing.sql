-- title: A missing field is an error where the format says so
-- data: orders rows=100 seed=3
CREATE TABLE wider (id BIGINT, missing STRING, currency STRING)
WITH ('connector' = 'filesystem', 'path' = '${DATA}/orders.json', 'format' = 'json', 'json.fail-on-missing-field' = 'true');
SELECT * FROM wider;
