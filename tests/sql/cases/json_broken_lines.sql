-- title: Lines that are no JSON are left out where errors are ignored
-- data: lines rows=100 seed=3
CREATE TABLE broken (line STRING)
WITH ('connector' = 'filesystem', 'path' = '${DATA}/lines.txt', 'format' = 'json', 'json.ignore-parse-errors' = 'true');
SELECT line, COUNT(*) AS n FROM broken GROUP BY line;
