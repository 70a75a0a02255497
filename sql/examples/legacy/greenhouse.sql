-- Readings beside the mean of the last ten minutes and of the last rows, and those that stray from it.
CREATE OR REPLACE STREAM "MEANS" (
    "bed"       VARCHAR(12),
    "humidity"  DOUBLE,
    "ten_min"   DOUBLE,
    "four_rows" DOUBLE);

CREATE OR REPLACE STREAM "STRAYS" ("bed" VARCHAR(12), "humidity" DOUBLE, "seen" TIMESTAMP);

CREATE OR REPLACE PUMP "TO_MEANS" AS
INSERT INTO "MEANS"
SELECT STREAM "bed", "humidity", AVG("humidity") OVER RECENTLY, AVG("humidity") OVER SHORTLY
FROM SOURCE_SQL_STREAM_001
WINDOW
    RECENTLY AS (PARTITION BY "bed" RANGE INTERVAL '10' MINUTE PRECEDING),
    SHORTLY AS (PARTITION BY "bed" ROWS 3 PRECEDING);

CREATE OR REPLACE PUMP "TO_STRAYS" AS
INSERT INTO "STRAYS"
SELECT STREAM "bed", "humidity", ROWTIME FROM "MEANS" WHERE ABS("humidity" - "ten_min") > 15;
