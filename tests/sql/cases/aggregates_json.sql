-- title: JSON_OBJECTAGG and JSON_ARRAYAGG
-- data: scalars rows=100 seed=1
SELECT grp, JSON_ARRAYAGG(j) AS arr, JSON_ARRAYAGG(j NULL ON NULL) AS arr_null,
  JSON_OBJECTAGG(KEY CAST(id AS STRING) VALUE a) AS obj
FROM scalars WHERE id < 12 GROUP BY grp;
