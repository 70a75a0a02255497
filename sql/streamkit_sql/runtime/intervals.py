"""Joins of rows whose times are close: `left + lower <= right <= left + upper`.

A pair comes out when the second of both comes. A row waits for partners until the watermark has passed the last time a
partner can have; a row of an outer side that found none comes out alone then.

**Late** (`TimeIntervalJoin`). No row is refused: one behind the watermark meets those that wait. But it only waits
itself if the watermark, when it comes, has not reached the last time of its partners. Rows that wait are removed at
once when their time is over; Flink's timers let some wait longer (up to half the interval's size), so that rows which
are later than that may still meet them there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from streamkit_sql.errors import NotSupported
from streamkit_sql.expressions.bound import Bound
from streamkit_sql.plan.nodes import ARRIVED, NUMBER, WATERMARK, Changes, IntervalJoin
from streamkit_sql.runtime.changes import StateTable
from streamkit_sql.runtime.duck import table_of
from streamkit_sql.runtime.operator import Counts, Input, Tick
from streamkit_sql.types import quoted

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_SIDES: Final = ("LEFT", "RIGHT")


class _Side:
    """The rows of one side that wait. Hidden columns: `$$n` arrival, `$$i` a number, `$$t` time, `$$w` the watermark
    when they came, `$$k` keys; each with the side's number. `found` has the numbers of an outer side's rows that met a
    partner: beside the rows, as DuckDB 2.0.0 crashes when rows of a transaction are updated and others deleted."""

    def __init__(
        self,
        name: str,
        number: int,
        input: Input,
        node: IntervalJoin,
        read: set[str],
        keys: Sequence[Bound],
        time: Bound,
    ) -> None:
        if input.changes is Changes.UPDATES:
            raise NotSupported("an interval join of a relation whose rows change is not supported.")
        self.number = number
        self.input = input
        self.reach_ms = node.upper_ms if number == 0 else -node.lower_ms
        self.is_outer = node.kind in (_SIDES[number], "FULL")
        self.n, self.i, self.t, self.w = (f'"$${each}{number}"' for each in "nitw")
        self.columns = [(quoted(each.name), each.type.duckdb) for each in input.columns if each.name in read]
        self.names = [each for each, _ in self.columns]
        self.keys = [f'"$$k{number}_{index}"' for index in range(len(keys))]
        is_event = node.time_kind == "event"
        self._texts = [bound.sql for bound in keys]
        self._time = f"epoch_ms({time.sql if is_event else ARRIVED})"
        self._before = WATERMARK if is_event else f"epoch_ms({ARRIVED})"
        hidden = [(self.n, "BIGINT"), (self.i, "BIGINT"), (self.t, "BIGINT"), (self.w, "BIGINT")]
        types = [(key, bound.type.duckdb) for key, bound in zip(self.keys, keys, strict=True)]
        self.table = StateTable(f"{name}_{_SIDES[number].lower()}", [*self.columns, *types, *hidden])
        self.found = StateTable(f"{name}_{_SIDES[number].lower()}_found", [(self.i, "BIGINT")])
        self.new = quoted(f"{name}_{_SIDES[number].lower()}_new")
        self.has_new = False
        self._next = 0
        self.least_ms: int | None = None

    def open(self, database: duckdb.DuckDBPyConnection) -> None:
        self._database = database
        self.table.open(database)
        self.found.open(database)
        self._next = self.table.one(f"SELECT coalesce(max({self.i}) + 1, 0) FROM {self.table.sql}")
        self.look()

    def look(self) -> None:
        self.least_ms = self._database.execute(f"SELECT min({self.t}) FROM {self.table.sql}").fetchall()[0][0]

    def take(self) -> None:
        """The tick's rows as a table beside those that wait."""
        self.has_new = self.input.has_rows
        if not self.has_new:
            return
        place = f"{self._next} + row_number() OVER (ORDER BY {NUMBER}) - 1 AS {self.i}"
        keys = [f"{text} AS {key}" for text, key in zip(self._texts, self.keys, strict=True)]
        hidden = [f"{NUMBER} AS {self.n}", place, f"{self._time} AS {self.t}", f"{self._before} AS {self.w}"]
        cells = ", ".join([*self.names, *keys, *hidden])
        self._database.execute(f"CREATE OR REPLACE TEMP TABLE {self.new} AS SELECT {cells} FROM ({self.input.sql})")
        count = self.table.one(f"SELECT count(*) FROM {self.new}")
        self._next += count
        self.has_new = count > 0

    @property
    def waits(self) -> str:
        """Whether a row that comes waits for partners."""
        return f"{self.w} < {self.t} + {self.reach_ms}"

    def keep(self, clock_ms: int) -> None:
        """New rows wait, those whose time is over as well until `done` takes them out."""
        if self.has_new:
            over = "" if self.is_outer else f" WHERE {self.waits} AND {self.t} + {self.reach_ms} >= {clock_ms}"
            self.table.add(f"SELECT * FROM {self.new}{over}")
            self.look()

    def is_over(self, clock_ms: int) -> str:
        return f"({self.t} + {self.reach_ms} < {clock_ms} OR NOT ({self.waits}))"


class IntervalJoinOperator:
    """Pairs of a tick come in the order in which their second row came, rows without partner after them by time."""

    def __init__(self, name: str, node: IntervalJoin, left: Input, right: Input) -> None:
        self.name = name
        self.inputs: Sequence[Input] = (left, right)
        self.counts = Counts()
        self._node = node
        read = {column.name for column in node.columns}
        read |= node.residual.columns if node.residual is not None else set()
        self._left = _Side(name, 0, left, node, read, node.left_keys, node.left_time)
        self._right = _Side(name, 1, right, node, read, node.right_keys, node.right_time)
        self._pairs = quoted(f"{name}_pairs")

    def open(self, database: duckdb.DuckDBPyConnection) -> None:
        self._database = database
        self._left.open(database)
        self._right.open(database)

    def step(self, tick: Tick) -> pa.Table | None:
        clock_ms = tick.clock_ms(self._node.time_kind)
        sides = (self._left, self._right)
        for side in sides:
            side.take()
        parts = self._joined()
        for side in sides:
            side.keep(clock_ms)
        if parts:
            self._mark()
        ended = [part for side in sides if (part := self._ended(side, clock_ms)) is not None]
        rows = None
        if parts or ended:
            rows = table_of(self._database, self._ordered([*parts, *ended]))
        for side in sides:
            if side.has_new or self._is_due(side, clock_ms):
                if side.found.rows:
                    over = f"SELECT {side.i} FROM {side.table.sql} WHERE {side.is_over(clock_ms)}"
                    side.found.remove(f"{side.i} IN ({over})")
                side.table.remove(side.is_over(clock_ms))
                side.look()
        return rows if rows is not None and rows.num_rows else None

    def _joined(self) -> list[str]:
        """Puts the pairs that this tick's rows make into a table."""
        left, right = self._left, self._right
        unions = []
        if left.has_new and right.table.rows:
            unions.append((left.new, right.table.sql))
        if left.has_new and right.has_new:
            unions.append((left.new, right.new))
        if right.has_new and left.table.rows:
            unions.append((left.table.sql, right.new))
        if not unions:
            return []
        texts = " UNION ALL ".join(self._pair(a, b) for a, b in unions)
        self._database.execute(f"CREATE OR REPLACE TEMP TABLE {self._pairs} AS {texts}")
        second = f"greatest({left.n}, {right.n})"
        cells = ", ".join(quoted(column.name) for column in self._node.columns)
        return [
            f'SELECT {cells}, 0 AS "$$s", {second} AS "$$a", {left.i} AS "$$b", {right.i} AS "$$c" FROM {self._pairs}'
        ]

    def _pair(self, a: str, b: str) -> str:
        left, right, node = self._left, self._right, self._node
        on = [f"{x} = {y}" for x, y in zip(left.keys, right.keys, strict=True)]
        on.append(f"{right.t} >= {left.t} + {node.lower_ms}")
        on.append(f"{right.t} <= {left.t} + {node.upper_ms}")
        left_waits = f"{left.waits} AND {right.w} <= {left.t} + {left.reach_ms}"
        right_waits = f"{right.waits} AND {left.w} <= {right.t} + {right.reach_ms}"
        on.append(f"CASE WHEN {left.n} < {right.n} THEN {left_waits} ELSE {right_waits} END")
        if node.residual is not None:
            on.append(node.residual.sql)
        names = [quoted(column.name) for column in node.columns]
        cells = ", ".join([*names, left.n, left.i, right.n, right.i])
        return f"SELECT {cells} FROM {a} AS l JOIN {b} AS r ON {' AND '.join(on)}"

    def _mark(self) -> None:
        for side in (self._left, self._right):
            if side.is_outer:
                known = f"SELECT {side.i} FROM {side.found.sql}"
                side.found.add(f"SELECT DISTINCT {side.i} FROM {self._pairs} WHERE {side.i} NOT IN ({known})")

    def _is_due(self, side: _Side, clock_ms: int) -> bool:
        return side.least_ms is not None and side.least_ms + side.reach_ms < clock_ms

    def _ended(self, side: _Side, clock_ms: int) -> str | None:
        if not side.is_outer or not (side.has_new or self._is_due(side, clock_ms)):
            return None
        cells = [
            quoted(column.name)
            if quoted(column.name) in side.names
            else f"NULL::{column.type.duckdb} AS {quoted(column.name)}"
            for column in self._node.columns
        ]
        hidden = f'1 + {side.number} AS "$$s", {side.t} AS "$$a", {side.n} AS "$$b", {side.i} AS "$$c"'
        where = f"{side.is_over(clock_ms)} AND {side.i} NOT IN (SELECT {side.i} FROM {side.found.sql})"
        return f"SELECT {', '.join(cells)}, {hidden} FROM {side.table.sql} WHERE {where}"

    def _ordered(self, parts: Sequence[str]) -> str:
        cells = ", ".join(quoted(column.name) for column in self._node.columns)
        return f'SELECT {cells} FROM ({" UNION ALL ".join(parts)}) ORDER BY "$$s", "$$a", "$$b", "$$c"'
