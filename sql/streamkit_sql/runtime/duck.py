"""The DuckDB connection a query runs on, set up so that results repeat themselves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa


def connect(
    path: Path | None = None, *, threads: int = 1, memory_bytes_max: int = 512 << 20
) -> duckdb.DuckDBPyConnection:
    """In memory without `path`; with it, state spills and survives."""
    import duckdb

    database = duckdb.connect(":memory:" if path is None else str(path))
    for setting in (
        f"SET threads = {threads}",
        f"SET memory_limit = '{memory_bytes_max}B'",
        "SET TimeZone = 'UTC'",
        "SET preserve_insertion_order = true",
        "SET default_null_order = 'nulls_first'",
        "SET autoinstall_known_extensions = false",
        "SET autoload_known_extensions = false",
    ):
        database.execute(setting)
    return database


def table_of(database: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    """The result as Arrow. The connection is free again when it returns."""
    return database.sql(sql).to_arrow_table()  # `execute` would copy the rows once more
