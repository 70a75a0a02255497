-- title: Values of maps and functions of maps
-- data: orders rows=500 seed=3
SELECT id, attributes,
  attributes['x'] AS x,
  CARDINALITY(attributes) AS n,
  MAP_KEYS(MAP['k', id]) AS ks,
  MAP_VALUES(MAP['k', id]) AS vs,
  MAP['a', id, 'b', id + 1] AS made,
  MAP_FROM_ARRAYS(ARRAY['p', 'q'], ARRAY[1, 2]) AS from_arrays,
  MAP_UNION(attributes, MAP['x', 'new']) AS united,
  CARDINALITY(MAP_ENTRIES(attributes)) AS entries,
  STR_TO_MAP('a=1,b=2') AS parsed
FROM orders;
