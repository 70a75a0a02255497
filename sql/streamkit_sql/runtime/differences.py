"""INTERSECT and EXCEPT, with and without ALL: how often each row is on either side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from streamkit_sql.plan.nodes import NUMBER, WEIGHT, Changes, SetDifference
from streamkit_sql.runtime.changes import Lifetime, StateTable, net, same
from streamkit_sql.runtime.operator import Counts, Input, Tick
from streamkit_sql.types import quoted

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_LEFT: Final = '"$$left"'
_RIGHT: Final = '"$$right"'
_TIMES: Final = {
    ("INTERSECT", False): "CASE WHEN {0} > 0 AND {1} > 0 THEN 1 ELSE 0 END",
    ("INTERSECT", True): "least({0}, {1})",
    ("EXCEPT", False): "CASE WHEN {0} > 0 AND {1} = 0 THEN 1 ELSE 0 END",
    ("EXCEPT", True): "greatest({0} - {1}, 0)",
}


class SetDifferenceOperator:
    """Columns are matched by their places; NULLs are equal. A row that neither side has is forgotten; with a time to
    live, so is one that has not come or gone for so long."""

    def __init__(self, name: str, node: SetDifference, left: Input, right: Input) -> None:
        self.name = name
        self.inputs: Sequence[Input] = (left, right)
        self.counts = Counts()
        self._names = [quoted(column.name) for column in node.columns]
        assert len(left.columns) == len(right.columns) == len(node.columns)
        self._lifetime = Lifetime(node.ttl_ms)
        columns = [(quoted(column.name), column.type.duckdb) for column in node.columns]
        counts = [(_LEFT, "BIGINT"), (_RIGHT, "BIGINT")]
        self._table = StateTable(f"{name}_rows", [*columns, *counts, *self._lifetime.columns])
        self._types = [of for _, of in columns]
        self._changed = quoted(f"{name}_changed")
        self._times = _TIMES[node.kind, node.all]

    def open(self, database: duckdb.DuckDBPyConnection) -> None:
        self._database = database
        self._table.open(database)

    def step(self, tick: Tick) -> pa.Table | None:
        if self._lifetime.is_due(tick, self._table):
            self._table.remove(self._lifetime.forgotten)
        sides = [self._side(input, place) for place, input in enumerate(self.inputs) if input.has_rows]
        if not sides:
            return None
        self._change(" UNION ALL ".join(sides))
        before = self._times.replace("{0}", '"$$l"').replace("{1}", '"$$r"')
        after = self._times.replace("{0}", _LEFT).replace("{1}", _RIGHT)
        names = ", ".join(self._names)
        out = f"(SELECT {names}, {NUMBER}, ({after}) - ({before}) AS {WEIGHT} FROM {self._changed})"
        return net(self._database, out, self._names)

    def _side(self, input: Input, place: int) -> str:
        cells = [
            f"CAST({quoted(column.name)} AS {of}) AS {name}"
            for column, of, name in zip(input.columns, self._types, self._names, strict=True)
        ]
        weight = WEIGHT if input.changes is Changes.UPDATES else "1"
        counts = [f"{weight if place == side else 0} AS {name}" for side, name in enumerate((_LEFT, _RIGHT))]
        return f"SELECT {', '.join([*cells, NUMBER, *counts])} FROM ({input.sql})"

    def _change(self, sides: str) -> None:
        """The rows that changed: how often they were there (`$$l`, `$$r`) and how often now (`$$left`, `$$right`)."""
        names = ", ".join(self._names)
        sums = f"CAST(sum({_LEFT}) AS BIGINT) AS {_LEFT}, CAST(sum({_RIGHT}) AS BIGINT) AS {_RIGHT}"
        changes = f"SELECT {names}, min({NUMBER}) AS {NUMBER}, {sums} FROM ({sides}) GROUP BY {names}"
        cells = [*(f"d.{name}" for name in self._names), f"d.{NUMBER}", 's.rowid AS "$$row"']
        for was, now in (('"$$l"', _LEFT), ('"$$r"', _RIGHT)):
            # Below zero goes only what was forgotten.
            there = f"coalesce(s.{now}, 0)"
            cells += [f"{there} AS {was}", f"greatest({there} + d.{now}, 0) AS {now}"]
        cells += self._lifetime.cells
        matched = same("d", "s", self._names)
        joined = f"({changes}) AS d LEFT JOIN {self._table.sql} AS s ON {matched}"
        self._database.execute(
            f"CREATE OR REPLACE TEMP TABLE {self._changed} AS SELECT {', '.join(cells)} FROM {joined}"
        )
        written = [_LEFT, _RIGHT, *(name for name, _ in self._lifetime.columns)]
        stored = ", ".join([*self._names, *written])
        known = f'SELECT "$$row" FROM {self._changed} WHERE "$$row" IS NOT NULL'
        there = f"({_LEFT} > 0 OR {_RIGHT} > 0)"
        self._table.replace(known, f"SELECT {stored} FROM {self._changed} WHERE {there}")
