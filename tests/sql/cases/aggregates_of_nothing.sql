-- title: Aggregates of NULL alone
-- data: scalars rows=100 seed=1
SELECT COUNT(z) AS n, SUM(z) AS s, AVG(z) AS a, MIN(z) AS least, MAX(z) AS most, STDDEV_POP(z) AS d
FROM (SELECT CAST(NULL AS INT) AS z FROM scalars);
