-- title: A time attribute that is NULL stops Flink
-- data: scalars rows=100 seed=1
CREATE TABLE times (
  id INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts
) WITH ('connector' = 'filesystem', 'path' = '${DATA}/scalars.json', 'format' = 'json');
SELECT window_start, COUNT(*) AS n
FROM TABLE(TUMBLE(TABLE times, DESCRIPTOR(ts), INTERVAL '1' DAY)) GROUP BY window_start, window_end;
