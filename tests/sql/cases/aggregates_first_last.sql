-- title: The first and the last value, NULL left out
-- data: readings rows=2000 seed=5
SELECT sensor, FIRST_VALUE(seq) AS first_seq, LAST_VALUE(seq) AS last_seq, FIRST_VALUE(status) AS first_status,
  LAST_VALUE(pressure) AS last_pressure
FROM readings GROUP BY sensor;
