-- title: GROUP BY TUMBLE and SESSION of a time with zone
-- data: orders rows=500 seed=3
SET 'table.local-time-zone' = 'America/New_York';
CREATE TABLE instants (
  id BIGINT, at_time AS TO_TIMESTAMP_LTZ(1772924400000 + id * 600000, 3), WATERMARK FOR at_time AS at_time
) WITH ('connector' = 'filesystem', 'path' = '${DATA}/orders.json', 'format' = 'json');
SELECT TUMBLE_START(at_time, INTERVAL '1' DAY) AS since, TUMBLE_END(at_time, INTERVAL '1' DAY) AS until,
  TUMBLE_ROWTIME(at_time, INTERVAL '1' DAY) AS at_end, COUNT(*) AS ids
FROM instants GROUP BY TUMBLE(at_time, INTERVAL '1' DAY);
