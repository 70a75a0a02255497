-- title: What values of each type are in Python, and values of each type from Python
-- data: readings rows=40 seed=5
CREATE TEMPORARY FUNCTION described AS 'functions.described' LANGUAGE PYTHON;
CREATE TEMPORARY FUNCTION as_decimal AS 'functions.as_decimal' LANGUAGE PYTHON;
CREATE TEMPORARY FUNCTION next_day AS 'functions.next_day' LANGUAGE PYTHON;
CREATE TEMPORARY FUNCTION pair AS 'functions.pair' LANGUAGE PYTHON;
CREATE TEMPORARY FUNCTION letters AS 'functions.letters' LANGUAGE PYTHON;
CREATE TEMPORARY FUNCTION lengths AS 'functions.lengths' LANGUAGE PYTHON;
SELECT seq, described(seq) AS s1, described(sensor) AS s2, described(temperature) AS s3,
    described(CAST(readingTime AS TIMESTAMP(3))) AS s4, described(CAST(readingTime AS DATE)) AS s5,
    described(CAST(seq AS DECIMAL(10, 2))) AS s6, described(seq > 5) AS s7,
    described(CAST(CAST(seq AS STRING) AS BYTES)) AS s8, described(CAST(seq AS TINYINT)) AS s9,
    described(CAST(readingTime AS TIME)) AS s10,
    described(ARRAY[seq, 1]) AS s11, described(MAP[sensor, seq]) AS s12,
    described(CAST(ROW(seq, sensor) AS ROW<a BIGINT, b STRING>)) AS s13,
    as_decimal(CONCAT(CAST(seq AS STRING), '.25')) AS d1, as_decimal(CONCAT(CAST(seq AS STRING), '.35')) AS d2,
    next_day(CAST(readingTime AS TIMESTAMP(3))) AS t1, pair(seq, sensor) AS r1, letters(sensor) AS a1,
    lengths(sensor) AS m1
FROM readings;
