-- title: Texts: length, case, parts
-- data: scalars rows=400 seed=1
SELECT id,
  CHAR_LENGTH(a) AS length_,
  CHARACTER_LENGTH(b) AS length_b,
  UPPER(a) AS upper_,
  LOWER(a) AS lower_,
  INITCAP(a) AS initcap_,
  SUBSTRING(a, 2) AS from_two,
  SUBSTRING(a FROM 2 FOR 3) AS two_three,
  SUBSTRING(a, 0) AS from_zero,
  SUBSTRING(a, -3) AS last_three,
  SUBSTRING(a, -3, 2) AS last_three_two,
  SUBSTRING(a, 3, 100) AS far
FROM scalars;
