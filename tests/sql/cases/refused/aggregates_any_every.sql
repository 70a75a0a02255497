-- title: Approximate distinct counts in a stream
-- data: scalars rows=100 seed=1
SELECT APPROX_COUNT_DISTINCT(a) AS n FROM scalars;
