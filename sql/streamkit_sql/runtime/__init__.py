"""Ticks of rows through operators: state in DuckDB, results in Arrow, one transaction from checkpoint to checkpoint."""
