"""Operators over rows that have their window already: they keep rows and answer when a window closes.

A row whose window is closed when it comes (`end - 1 <= $wm`) is late, left out and counted, as in Flink's
`SyncStateWindowRankProcessor` and `WindowJoinHelper`. Results are in the order of the windows' ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from streamkit_sql.errors import NotSupported, ValueProblem
from streamkit_sql.expressions.bound import Bound, Column
from streamkit_sql.plan.nodes import NUMBER, WATERMARK, Changes, Ordering, WindowJoin, WindowRank
from streamkit_sql.runtime.duck import table_of
from streamkit_sql.runtime.operator import NO_WATERMARK_MS, Counts, Input, Tick
from streamkit_sql.runtime.partials import END
from streamkit_sql.types import quoted

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from streamkit_sql.expressions.bound import TimeAttribute

RANKED_ROWS_MIN: Final = 500_000
"""Rows kept for a rank below which leaving out what cannot be among the first is not worth a pass."""


def ordering_sql(ordering: Iterable[Ordering]) -> list[str]:
    return [
        f"{each.expression.sql} {'DESC' if each.descending else 'ASC'} NULLS {'FIRST' if each.nulls_first else 'LAST'}"
        for each in ordering
    ]


class KeptRows:
    """The rows of open windows of one input, in a table: its columns that are read again, `$n` and the window's end."""

    def __init__(self, name: str, input: Input, end: Bound, time: TimeAttribute, read: Iterable[str]) -> None:
        if input.changes is Changes.UPDATES:
            raise NotSupported("a window over a relation whose rows change is not supported.")
        wanted = set(read)
        self.table = quoted(name)
        self.columns: list[Column] = [column for column in input.columns if column.name in wanted]
        self._names = [quoted(column.name) for column in self.columns]
        self._input = input
        self._end_sql = end.sql
        self._is_event = time == "event"
        self.rows = 0
        self.counts: Counts | None = None
        """Who is given late rows."""
        self.least_end_ms: int | None = None

    def open(self, database: duckdb.DuckDBPyConnection) -> None:
        self._database = database
        columns = [(quoted(column.name), column.type.duckdb) for column in self.columns]
        texts = ", ".join(f"{name} {of}" for name, of in [*columns, (NUMBER, "BIGINT"), (END, "BIGINT")])
        database.execute(f"CREATE TABLE IF NOT EXISTS {self.table} ({texts})")
        self._look()

    def take(self, closed_ms: int, keep: str = "") -> int:
        """Puts this tick's rows into the table; how many were late. `keep` (a QUALIFY) may leave out more."""
        if not self._input.has_rows:
            return 0
        ended = f"(SELECT *, epoch_ms({self._end_sql}) AS {END} FROM ({self._input.sql}))"
        late = f"{END} - 1 <= {WATERMARK}" if self._is_event else f"{END} <= {closed_ms}"
        asked = f"SELECT count(*), count({END}), min({END}), count(*) FILTER ({late}) FROM {ended}"
        rows, ended_rows, least_ms, late_rows = self._database.execute(asked).fetchall()[0]
        if ended_rows < rows:
            raise ValueProblem("the end of a window is NULL.")
        if late_rows < rows:
            open_rows = f"(SELECT * FROM {ended} WHERE NOT ({late}))" if late_rows else ended
            chosen = f"SELECT {', '.join([*self._names, NUMBER, END])} FROM {open_rows} {keep}"
            self.rows += self._database.execute(f"INSERT INTO {self.table} {chosen}").fetchall()[0][0]
            # With late rows this is only a lower bound: a close that finds nothing looks again.
            self.least_end_ms = least_ms if self.least_end_ms is None else min(self.least_end_ms, least_ms)
        if late_rows and self.counts is not None:
            names = [quoted(column.name) for column in self._input.columns]
            self.counts.keep_late(self._database, f"SELECT * FROM {ended} WHERE {late}", names)
        return int(late_rows)

    def drop(self, limit_ms: int) -> None:
        """Forgets closed windows."""
        left = self._database.execute(f"SELECT count(*) FROM {self.table} WHERE {END} > {limit_ms}").fetchall()[0][0]
        if left < self.rows:
            self.keep_only(f"WHERE {END} > {limit_ms}")
        else:
            self._look()

    def keep_only(self, condition: str) -> None:
        """Writes the table anew: deleted rows would stay in memory while the transaction is open."""
        self._database.execute(f"CREATE OR REPLACE TABLE {self.table} AS SELECT * FROM {self.table} {condition}")
        self._look()

    def _look(self) -> None:
        asked = f"SELECT count(*), min({END}) FROM {self.table}"
        self.rows, self.least_end_ms = self._database.execute(asked).fetchall()[0]


class _AtClose:
    """What both operators do in a tick."""

    def __init__(self, name: str, inputs: Sequence[Input], time: TimeAttribute) -> None:
        self.name = name
        self.inputs: Sequence[Input] = tuple(inputs)
        self.counts = Counts()
        self._is_event = time == "event"
        self._kept: tuple[KeptRows, ...] = ()
        self._closed_ms = NO_WATERMARK_MS

    def open(self, database: duckdb.DuckDBPyConnection) -> None:
        self._database = database
        for kept in self._kept:
            kept.counts = self.counts
            kept.open(database)

    def step(self, tick: Tick) -> pa.Table | None:
        for kept in self._kept:
            self._take(kept)
        limit_ms = tick.watermark_ms + 1 if self._is_event else tick.arrived_ms
        ends = [kept.least_end_ms for kept in self._kept if kept.least_end_ms is not None]
        self._closed_ms = limit_ms
        if not ends or limit_ms < min(ends):
            return None
        rows = table_of(self._database, self._closing(limit_ms))
        for kept in self._kept:
            kept.drop(limit_ms)
        return rows if rows.num_rows else None

    def _take(self, kept: KeptRows) -> None:
        self.counts.late_rows += kept.take(self._closed_ms)

    def _closing(self, limit_ms: int) -> str:
        raise NotImplementedError


class WindowRankOperator(_AtClose):
    """The first rows of each window and partition, when the window closes; ties by arrival."""

    def __init__(self, name: str, node: WindowRank, input: Input) -> None:
        super().__init__(name, (input,), node.time_kind)
        assert 1 <= node.first <= node.last
        bounds = [node.end, *node.partition, *(each.expression for each in node.ordering)]
        output = {column.name for column in node.columns if column.name != node.number}
        read = output.union(*(bound.columns for bound in bounds))
        self._rows = KeptRows(f"{name}_rows", input, node.end, node.time_kind, read)
        self._kept = (self._rows,)
        self._node = node
        partition = ", ".join([END, *(bound.sql for bound in node.partition)])
        order = ", ".join([*ordering_sql(node.ordering), NUMBER])
        self._number = f"row_number() OVER (PARTITION BY {partition} ORDER BY {order})"
        self._asked_rows = RANKED_ROWS_MIN

    def _take(self, kept: KeptRows) -> None:
        # What is not among the first of a tick cannot be among the first of the window.
        keep = f"QUALIFY {self._number} <= {self._node.last}"
        self.counts.late_rows += kept.take(self._closed_ms, keep)
        if kept.rows >= self._asked_rows:
            kept.keep_only(keep)
            self._asked_rows = RANKED_ROWS_MIN + 3 * kept.rows

    def _closing(self, limit_ms: int) -> str:
        node = self._node
        cells = [
            f'"$$number" AS {quoted(column.name)}' if column.name == node.number else quoted(column.name)
            for column in node.columns
        ]
        ranked = f'SELECT *, {self._number} AS "$$number" FROM {self._rows.table} WHERE {END} <= {limit_ms}'
        chosen = f'"$$number" BETWEEN {node.first} AND {node.last}'
        order = ", ".join([END, *(bound.sql for bound in node.partition), '"$$number"'])
        # The rank may have the name of an input's column: what orders is computed inside.
        return f"SELECT {', '.join(cells)} FROM (SELECT * FROM ({ranked}) WHERE {chosen} ORDER BY {order})"


_JOINS: Final = {
    "INNER": "JOIN",
    "LEFT": "LEFT JOIN",
    "RIGHT": "RIGHT JOIN",
    "FULL": "FULL JOIN",
    "SEMI": "SEMI JOIN",
    "ANTI": "ANTI JOIN",
}


class WindowJoinOperator(_AtClose):
    """Joined rows of a window when it closes, in the order of the left rows' arrival, then the right ones'."""

    def __init__(self, name: str, node: WindowJoin, left: Input, right: Input) -> None:
        super().__init__(name, (left, right), node.time_kind)
        output = {column.name for column in node.columns}
        residual = frozenset() if node.residual is None else node.residual.columns
        read = output.union(residual, *(bound.columns for bound in (*node.left_keys, *node.right_keys)))
        self._left = KeptRows(f"{name}_left", left, node.left_end, node.time_kind, read)
        self._right = KeptRows(f"{name}_right", right, node.right_end, node.time_kind, read)
        self._kept = (self._left, self._right)
        self._node = node

    def _side(self, kept: KeptRows, side: str, limit_ms: int) -> str:
        names = [quoted(column.name) for column in kept.columns]
        hidden = [f'{NUMBER} AS "$$n{side}"', f'{END} AS "$$e{side}"']
        return f"(SELECT {', '.join([*names, *hidden])} FROM {kept.table} WHERE {END} <= {limit_ms})"

    def _closing(self, limit_ms: int) -> str:
        node = self._node
        equal = ['"$$e0" = "$$e1"']
        equal += [f"{left.sql} = {right.sql}" for left, right in zip(node.left_keys, node.right_keys, strict=True)]
        if node.residual is not None:
            equal.append(node.residual.sql)
        is_one_sided = node.kind in ("SEMI", "ANTI")
        order = '"$$e0", "$$n0"' if is_one_sided else 'coalesce("$$e0", "$$e1"), "$$n0" NULLS LAST, "$$n1" NULLS LAST'
        left, right = self._side(self._left, "0", limit_ms), self._side(self._right, "1", limit_ms)
        return (
            f"SELECT {', '.join(quoted(column.name) for column in node.columns)}"
            f" FROM {left} {_JOINS[node.kind]} {right} ON {' AND '.join(equal)} ORDER BY {order}"
        )
