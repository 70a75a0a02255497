"""The rows of sessions, each with the session it is in, when that has closed: SESSION without an aggregate.

Which rows are late, and how sessions are found, is as under an aggregate (`sessions`); Flink's
`UnalignedWindowTableFunctionOperator`. A row without a time is left out, as by the other window functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from streamkit_sql.errors import NotSupported
from streamkit_sql.plan.nodes import NUMBER, Changes, Windowed
from streamkit_sql.runtime.operator import Counts, Input, Tick
from streamkit_sql.runtime.partials import END, START, instant_of, instant_sql
from streamkit_sql.runtime.sessions import Sessions
from streamkit_sql.types import quoted

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa


class KeptRows:
    """What `Sessions` keeps: rows as they are. See `partials.Partials`, whose texts these are in place of."""

    is_raw = True
    is_by_key = False

    def __init__(self, node: Windowed, input: Input) -> None:
        assert node.window is not None
        added = {node.window.start, node.window.end, node.window.time_column}
        kept = [column for column in input.columns if column.name not in added]
        self.columns = [*((quoted(column.name), column.type.duckdb) for column in kept), (NUMBER, "BIGINT")]
        self._names = [name for name, _ in self.columns]
        texts = {
            node.window.start: instant_sql(START),
            node.window.end: instant_sql(END),
            node.window.time_column: instant_of(f"({END} - 1)", node.spec.zone),
        }
        self._cells = [f"{texts.get(each.name, quoted(each.name))} AS {quoted(each.name)}" for each in node.columns]

    def of_rows(self, places: Sequence[str], source: str) -> str:
        return f"SELECT {', '.join([*places, *self._names])} FROM {source}"

    def compacted(self, places: Sequence[str], source: str) -> str:
        return self.of_rows(places, source)

    def results(self, source: str) -> str:
        """By the sessions' ends and starts, then as they came."""
        return f"SELECT {', '.join(self._cells)} FROM {source} ORDER BY {END}, {START}, {NUMBER}"


class SessionRowsOperator:
    """Rows with `window_start`, `window_end` and `window_time`, once, when the session has closed."""

    def __init__(self, name: str, node: Windowed, input: Input) -> None:
        if input.changes is Changes.UPDATES:
            raise NotSupported("a window over a relation whose rows change is not supported.")
        timed = replace(input, sql=f"SELECT * FROM ({input.sql}) WHERE {node.time.sql} IS NOT NULL")
        self.name = name
        self.inputs: Sequence[Input] = (timed,)
        self.counts = Counts()
        self._state = Sessions(name, node, timed, self.counts, KeptRows(node, input))

    def open(self, database: duckdb.DuckDBPyConnection) -> None:
        self._state.open(database)

    def step(self, tick: Tick) -> pa.Table | None:
        rows = self._state.step(tick)
        return rows if rows is not None and rows.num_rows else None
