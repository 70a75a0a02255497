-- title: Nexmark 10: every bid to files by day and minute
-- data: nexmark events=2000 seed=7
-- result: bids_by_minute
CREATE TABLE bids_by_minute (
  auction BIGINT, bidder BIGINT, price BIGINT, `dateTime` TIMESTAMP(3), extra STRING, dt STRING, hm STRING
) PARTITIONED BY (dt, hm) WITH (
  'connector' = 'filesystem', 'path' = '${OUT}/bids_by_minute', 'format' = 'csv',
  'sink.partition-commit.policy.kind' = 'success-file'
);
INSERT INTO bids_by_minute
SELECT auction, bidder, price, `dateTime`, extra, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd'),
  DATE_FORMAT(`dateTime`, 'HH:mm')
FROM bid;
