-- title: Texts as bytes and back
-- data: scalars rows=300 seed=1
SELECT id,
  CAST(a AS BYTES) AS bytes_,
  CAST(CAST(a AS BYTES) AS STRING) AS back,
  ENCODE(a, 'UTF-8') AS encoded,
  DECODE(ENCODE(a, 'UTF-16BE'), 'UTF-16BE') AS decoded,
  UNHEX(HEX(a)) AS unhexed,
  CAST(a AS BINARY(4)) AS fixed_bytes,
  X'0aff' AS literal_bytes
FROM scalars;
