"""SQL over live streams: Flink's language, planned here, run on DuckDB.

Read in the order of a script's way: `language` (text to tree), `types` and `expressions` (tree to exact DuckDB
expressions), `tables` (what is read and written), `plan` (queries to operators), `runtime` (ticks of records through
operators, state, checkpoints).
"""
