-- title: No SQL at all
-- data: orders rows=10 seed=3
SELECT id FROM WHERE orders;
