-- title: An aggregate function in Python over a window's column
-- data: readings rows=2000 seed=5
CREATE TEMPORARY FUNCTION spread AS 'functions.spread' LANGUAGE PYTHON;
SELECT sensor, TUMBLE_START(readingTime, INTERVAL '1' MINUTE) AS opens, spread(temperature) AS spread
FROM readings WHERE temperature IS NOT NULL
GROUP BY sensor, TUMBLE(readingTime, INTERVAL '1' MINUTE);
