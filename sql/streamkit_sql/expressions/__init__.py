"""Trees to exact DuckDB expressions: what they are typed as, and which text computes Flink's value in DuckDB."""
