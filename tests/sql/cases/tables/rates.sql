CREATE TABLE rates (
  currency STRING,
  rate DECIMAL(12, 4),
  rateTime TIMESTAMP(3),
  WATERMARK FOR rateTime AS rateTime
) WITH ('connector' = 'filesystem', 'path' = '${DATA}/rates.json', 'format' = 'json');
