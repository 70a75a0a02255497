-- title: The types of SUM, AVG, MIN, MAX and COUNT
-- data: scalars rows=500 seed=1
SELECT grp,
  SUM(tiny) AS sum_tiny, SUM(small) AS sum_small, SUM(p) AS sum_int, SUM(k) AS sum_big, SUM(x) AS sum_double,
  SUM(f) AS sum_float, SUM(n) AS sum_decimal, SUM(m) AS sum_wide,
  AVG(tiny) AS avg_tiny, AVG(small) AS avg_small, AVG(p) AS avg_int, AVG(k) AS avg_big, AVG(x) AS avg_double,
  AVG(f) AS avg_float, AVG(n) AS avg_decimal, AVG(m) AS avg_wide,
  MIN(a) AS min_text, MAX(a) AS max_text, MIN(ts) AS min_ts, MAX(`day`) AS max_day, MIN(clock) AS min_clock,
  MAX(zoned) AS max_zoned, MIN(yes) AS min_yes, MAX(n) AS max_n, COUNT(doc) AS docs, COUNT(DISTINCT a) AS texts
FROM scalars GROUP BY grp;
