-- title: Order and equality of texts
-- data: scalars rows=400 seed=1
SELECT id, a = b AS equal_, a <> b AS unequal, a < b AS less, a >= 'a' AS from_a, a BETWEEN 'a' AND 'n' AS between_,
  GREATEST(a, b) AS greatest_, LEAST(a, b) AS least_, a = 'abc ' AS trailing_, a IN ('abc', 'ABC', '') AS in_
FROM scalars;
