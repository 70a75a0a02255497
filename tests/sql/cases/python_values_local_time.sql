-- title: TIMESTAMP_LTZ in Python, in a session's zone
-- data: readings rows=20 seed=5
SET 'table.local-time-zone' = 'Asia/Tokyo';
CREATE TEMPORARY FUNCTION described AS 'functions.described' LANGUAGE PYTHON;
SELECT seq, described(TO_TIMESTAMP_LTZ(seq * 1000000000, 3)) AS described
FROM readings;
