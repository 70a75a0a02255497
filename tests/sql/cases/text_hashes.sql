-- title: Hashes and encodings
-- data: scalars rows=200 seed=1
SELECT id,
  MD5(a) AS md5_,
  SHA1(a) AS sha1_,
  SHA224(a) AS sha224_,
  SHA256(a) AS sha256_,
  SHA384(a) AS sha384_,
  SHA512(a) AS sha512_,
  SHA2(a, 256) AS sha2_,
  TO_BASE64(a) AS base64_,
  FROM_BASE64(TO_BASE64(a)) AS base64_back,
  HEX(a) AS hex_,
  PARSE_URL(a, 'HOST') AS url_host,
  PARSE_URL(a, 'QUERY', 'a') AS url_query,
  URL_ENCODE(a) AS url_encoded,
  URL_DECODE(URL_ENCODE(a)) AS url_decoded,
  STR_TO_MAP(a, '&', '=') AS pairs
FROM scalars;
