-- title: WHERE keeps what is true, not what is unknown
-- data: scalars rows=300 seed=1
SELECT id, p, j FROM scalars WHERE NOT (p > j AND yes) AND (j <> 7 OR a LIKE '%a%');
