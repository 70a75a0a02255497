-- title: Nexmark 3: who sells in some states and one category
-- data: nexmark events=20000 seed=7 disorder_ms=3000
SELECT p.name, p.city, p.state, a.id
FROM auction AS a INNER JOIN person AS p ON a.seller = p.id
WHERE a.category = 10 AND (p.state = 'OR' OR p.state = 'ID' OR p.state = 'CA');
