-- title: COLLECT makes a multiset, LISTAGG a text, ARRAY_AGG an array
-- data: scalars rows=300 seed=1
SELECT grp, COLLECT(j) AS js, COLLECT(DISTINCT a) AS texts, LISTAGG(`number`) AS joined, LISTAGG(`pattern`, ' / ') AS slashed,
  LISTAGG(DISTINCT a) AS distinct_joined, ARRAY_AGG(j) AS arr, ARRAY_AGG(DISTINCT j) AS distinct_arr
FROM scalars GROUP BY grp;
