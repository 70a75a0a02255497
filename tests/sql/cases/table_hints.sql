-- title: Options in a hint
-- data: lines rows=100 seed=3
CREATE TABLE hinted (line STRING) WITH ('connector' = 'filesystem', 'path' = '${DATA}/lines.txt', 'format' = 'json');
SELECT COUNT(*) AS n FROM hinted /*+ OPTIONS('format' = 'raw') */;
