-- title: What JSON values become in columns of other types
-- data: scalars rows=200 seed=1
CREATE TABLE others (
  id STRING, i DOUBLE, x DECIMAL(20, 8), n STRING, f DECIMAL(6, 1), yes STRING, ts STRING, p BIGINT, list STRING,
  `day` STRING
) WITH ('connector' = 'filesystem', 'path' = '${DATA}/scalars.json', 'format' = 'json');
SELECT * FROM others;
