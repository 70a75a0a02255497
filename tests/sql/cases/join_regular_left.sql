-- title: A regular left join, which takes rows back
-- data: orders rows=2000 seed=3
-- data: customers rows=50 seed=2
SELECT o.id, o.amount, c.name FROM orders AS o LEFT JOIN customers AS c ON o.customer = c.id AND c.level <> 'none';
