-- title: Two outputs in one statement set
-- data: nexmark events=5000 seed=7 disorder_ms=3000
-- result: counts, dear
CREATE TABLE counts (window_start TIMESTAMP(3), bids BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}/counts', 'format' = 'json');
CREATE TABLE dear (auction BIGINT, price BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}/dear', 'format' = 'csv');
EXECUTE STATEMENT SET
BEGIN
  INSERT INTO counts
  SELECT window_start, COUNT(*)
  FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND)) GROUP BY window_start, window_end;
  INSERT INTO dear SELECT auction, price FROM bid WHERE price > 50000000;
END;
