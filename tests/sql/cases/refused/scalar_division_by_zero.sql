-- title: Integer division by zero stops Flink
-- data: scalars rows=300 seed=1
SELECT id, p / j AS quotient FROM scalars;
