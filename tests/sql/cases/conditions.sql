-- title: CASE, COALESCE, NULLIF, IF and the greatest and least
-- data: scalars rows=300 seed=1
SELECT id,
  CASE WHEN p > 100 THEN 'big' WHEN p > 0 THEN 'small' END AS searched,
  CASE j WHEN 1 THEN 'one' WHEN 2 THEN 'two' ELSE 'many' END AS simple,
  CASE WHEN yes THEN p ELSE x END AS mixed_types,
  CASE WHEN yes THEN n ELSE m END AS mixed_decimals,
  CASE WHEN yes THEN 1 ELSE k END AS mixed_integers,
  COALESCE(p, j, -1) AS coalesced,
  COALESCE(a, b) AS coalesced_text,
  COALESCE(p, k) AS coalesced_types,
  NULLIF(p, 0) AS nullif_,
  NULLIF(a, '') AS nullif_text,
  IFNULL(a, 'none') AS ifnull_,
  IFNULL(p, 0) AS ifnull_int,
  IF(yes, 'y', 'n') AS if_,
  IF(p > j, p, j) AS if_greater,
  GREATEST(p, j) AS greatest_,
  LEAST(p, j, 0) AS least_,
  IS_ALPHA(a) AS alpha,
  IS_DIGIT(`number`) AS digit,
  IS_DECIMAL(`number`) AS decimal_
FROM scalars;
