-- title: Numbers in other bases and as texts
-- data: scalars rows=300 seed=1
SELECT id,
  BIN(p) AS bin_,
  HEX(p) AS hex_,
  HEX(a) AS hex_text,
  CAST(x AS STRING) AS double_text,
  CAST(f AS STRING) AS float_text,
  CAST(n AS STRING) AS decimal_text,
  CAST(m AS STRING) AS wide_text,
  CAST(l AS STRING) AS big_text,
  CAST(yes AS STRING) AS boolean_text,
  CAST(p AS VARCHAR(2)) AS cut_text,
  CAST(p AS CHAR(6)) AS padded_text,
  CAST(1.0E7 AS STRING) AS ten_million,
  CAST(CAST(1.0E-3 AS DOUBLE) AS STRING) AS thousandth,
  CAST(CAST(123456789.125 AS DOUBLE) AS STRING) AS large_double,
  CAST(CAST(100 AS DECIMAL(5, 2)) AS STRING) AS hundred
FROM scalars;
