-- title: TO_DATE by a pattern that the text does not fit
-- data: scalars rows=300 seed=1
SELECT id, TO_TIMESTAMP(whenText, 'dd/MM/yyyy') AS of_pattern FROM scalars;
