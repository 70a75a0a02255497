-- title: Percentiles
-- data: scalars rows=300 seed=1
SELECT grp, PERCENTILE(p, 0.5) AS median, PERCENTILE(p, ARRAY[0.1, 0.9]) AS tails, PERCENTILE(y, 0.25) AS y25
FROM scalars GROUP BY grp;
