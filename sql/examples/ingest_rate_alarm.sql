-- An alarm for each source whose records of the last minute, looked at every ten seconds, are less than half of those of
-- the minute before: six windows before. A source that is silent for a whole minute has no window of it.
--
--   cd sql/examples && streamkit sql run ingest_rate_alarm.sql --json

CREATE TABLE ingested (
  source STRING,
  size_bytes INT,
  arrived_at TIMESTAMP(3),
  WATERMARK FOR arrived_at AS arrived_at
) WITH (
  'connector' = 'filesystem',
  'path' = 'data/ingested.json',
  'format' = 'json'
);

CREATE VIEW rates AS
SELECT source, window_start, window_end, COUNT(*) AS records, SUM(size_bytes) AS size_bytes, window_time AS until
FROM TABLE(HOP(TABLE ingested, DESCRIPTOR(arrived_at), INTERVAL '10' SECOND, INTERVAL '1' MINUTE))
GROUP BY source, window_start, window_end, window_time;

SELECT source, window_end AS at_time, before_records, records FROM (
  SELECT source, window_end, records, LAG(records, 6) OVER (PARTITION BY source ORDER BY until) AS before_records
  FROM rates)
WHERE records * 2 < before_records;
