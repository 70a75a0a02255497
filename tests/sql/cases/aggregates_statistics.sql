-- title: Deviation and variance
-- data: scalars rows=500 seed=1
SELECT grp, STDDEV_POP(x) AS sp, STDDEV_SAMP(x) AS ss, VAR_POP(x) AS vp, VAR_SAMP(x) AS vs, VARIANCE(x) AS v, STDDEV(x) AS s,
  STDDEV_POP(y) AS spy, VAR_SAMP(p) AS vsp, STDDEV_POP(p) AS spp, VAR_POP(n) AS vpn
FROM (SELECT * FROM scalars WHERE x < 1000) GROUP BY grp;
