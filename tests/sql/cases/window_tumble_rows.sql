-- title: A window function alone adds three columns to every row
-- data: nexmark events=3000 seed=11 disorder_ms=4000
SELECT * FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND));
