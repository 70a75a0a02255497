"""Rows that a Python function made, kept for the tick they are of: what reads them reads them more than once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from streamkit_sql.runtime.operator import Counts, Input, Tick
from streamkit_sql.types import quoted
from streamkit_sql.user_functions.bound import PREFIX

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_CALL: Final = f'"{PREFIX}'


def calls_python(sql: str) -> bool:
    """Whether the text calls a function of a user's."""
    return _CALL in sql


class OnceOperator:
    """Runs its input's text once in a tick. `kept` is to be read in the input's place; the operator gives no rows."""

    def __init__(self, name: str, input: Input) -> None:
        self.name = name
        self.inputs: Sequence[Input] = (input,)
        self.counts = Counts()
        self._table = quoted(f"{name}_rows")
        self._input = input
        self._is_empty = False
        self.kept = replace(input, sql=f"SELECT * FROM {self._table}")

    def open(self, database: duckdb.DuckDBPyConnection) -> None:
        self._database = database
        self._is_empty = False

    def step(self, tick: Tick) -> pa.Table | None:
        has_rows = self._input.has_rows
        if has_rows or not self._is_empty:
            where = "" if has_rows else " WHERE false"
            rows = f"SELECT * FROM ({self._input.sql}){where}"
            self._database.execute(f"CREATE OR REPLACE TEMP TABLE {self._table} AS {rows}")
        self._is_empty = not has_rows
        return None
