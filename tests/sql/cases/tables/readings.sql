CREATE TABLE readings (
  seq BIGINT,
  sensor STRING,
  temperature DOUBLE,
  pressure INT,
  status STRING,
  readingTime TIMESTAMP(3),
  WATERMARK FOR readingTime AS readingTime - INTERVAL '1' SECOND
) WITH ('connector' = 'filesystem', 'path' = '${DATA}/readings.json', 'format' = 'json');
