-- title: JSON_OBJECT, JSON_ARRAY, JSON_STRING and JSON_QUOTE
-- data: scalars rows=300 seed=1
SELECT id,
  JSON_OBJECT('id' VALUE id, 'a' VALUE a) AS object_,
  JSON_OBJECT(KEY 'p' VALUE p ABSENT ON NULL) AS object_absent,
  JSON_OBJECT('x' VALUE x, 'n' VALUE n, 'yes' VALUE yes, 'ts' VALUE CAST(ts AS STRING)) AS object_types,
  JSON_OBJECT('in' VALUE JSON_OBJECT('j' VALUE j)) AS nested,
  JSON_ARRAY(id, a, p) AS array_,
  JSON_ARRAY(p, a NULL ON NULL) AS array_null,
  JSON_STRING(a) AS string_,
  JSON_STRING(list) AS string_of_array,
  JSON_QUOTE(a) AS quoted,
  JSON_UNQUOTE(JSON_QUOTE(a)) AS unquoted
FROM scalars;
