-- How many people pass each gate per minute. A gate may report late: grouped by both times, what comes late is a second
-- row for its minute, to be added to the first.
CREATE OR REPLACE STREAM "PASSAGES" (
    "gate"   VARCHAR(8),
    "minute" TIMESTAMP,
    "people" BIGINT);

CREATE OR REPLACE PUMP "COUNT_PASSAGES" AS
INSERT INTO "PASSAGES"
SELECT STREAM GATE, FLOOR(PASSED_AT TO MINUTE), COUNT(*)
FROM SOURCE_SQL_STREAM_001
WHERE DIRECTION <> 'out'
GROUP BY GATE,
         FLOOR(PASSED_AT TO MINUTE),
         STEP(SOURCE_SQL_STREAM_001.ROWTIME BY INTERVAL '60' SECOND);
