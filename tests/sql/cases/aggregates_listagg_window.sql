-- title: LISTAGG and COLLECT in windows
-- data: readings rows=1000 seed=5
SELECT window_start, sensor, LISTAGG(status) AS joined, COLLECT(status) AS kinds, LISTAGG(CAST(seq AS STRING), '-') AS seqs
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(readingTime), INTERVAL '20' SECOND))
GROUP BY window_start, window_end, sensor;
