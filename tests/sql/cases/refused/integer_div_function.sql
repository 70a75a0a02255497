-- title: DIV is no function of Flink
-- data: scalars rows=10 seed=1
SELECT DIV(p, 2) AS quotient FROM scalars;
