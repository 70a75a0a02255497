-- title: Sums that do not fit wrap around
-- data: scalars rows=500 seed=1
SELECT SUM(tiny) AS s1, SUM(small) AS s2, SUM(i) AS s4, SUM(l) AS s8, AVG(l) AS a8 FROM scalars;
