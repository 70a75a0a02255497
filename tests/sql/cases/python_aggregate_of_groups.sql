-- title: An aggregate function in Python over all that came, and over counts that change
-- data: readings rows=200 seed=5
CREATE TEMPORARY FUNCTION path AS 'functions.path' LANGUAGE PYTHON;
SELECT path(seq) AS numbers, path(DISTINCT sensor) AS sensors, COUNT(*) AS n
FROM readings;
