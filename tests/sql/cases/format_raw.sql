-- title: Lines as they are
-- data: lines rows=200 seed=3
SELECT line, COUNT(*) AS n FROM `lines` GROUP BY line;
