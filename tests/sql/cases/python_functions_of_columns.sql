-- title: A scalar function over a column at once, in a filter too
-- data: readings rows=2000 seed=5
CREATE TEMPORARY FUNCTION fahrenheit AS 'functions.fahrenheit' LANGUAGE PYTHON;
SELECT seq, sensor, fahrenheit(temperature) AS warmth
FROM readings WHERE temperature IS NOT NULL AND fahrenheit(temperature) > 70;
