-- title: An aggregate function in Python over rows that change
-- data: readings rows=200 seed=5
CREATE TEMPORARY FUNCTION path AS 'functions.path' LANGUAGE PYTHON;
CREATE TEMPORARY FUNCTION in_order AS 'functions.in_order' LANGUAGE PYTHON;
SELECT n, in_order(path(sensor)) AS sensors
FROM (SELECT sensor, COUNT(*) AS n FROM readings GROUP BY sensor)
GROUP BY n;
