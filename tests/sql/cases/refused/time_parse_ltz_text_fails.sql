-- title: TO_TIMESTAMP_LTZ of a text that is no time stops Flink
-- data: scalars rows=300 seed=1
SELECT id, TO_TIMESTAMP_LTZ(whenText) AS of_text FROM scalars;
