-- title: An aggregate function in Python over the rows before each
-- data: readings rows=500 seed=5
CREATE TEMPORARY FUNCTION spread AS 'functions.spread' LANGUAGE PYTHON;
SELECT seq, sensor, spread(temperature) OVER (
    PARTITION BY sensor ORDER BY readingTime ROWS BETWEEN 4 PRECEDING AND CURRENT ROW) AS spread
FROM readings WHERE temperature IS NOT NULL;
