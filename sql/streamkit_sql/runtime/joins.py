"""Regular joins: all rows of both sides are kept, and a tick's changes are joined with what is there.

With a side's rows L before and L' after its changes dL, and R and dR likewise, the changes of the joined rows are

    dL x R  +  L' x dR

An outer side adds its rows without a partner, padded with NULLs; SEMI and ANTI give nothing but rows with or without
one. Whether they have one is asked for rows that change, before and after for rows that a change of the other side
meets.

Time to live is of a row, as in Flink's `JoinRecordStateViews`. Flink counts a row's partners and goes on counting those
that were forgotten; here a row whose partners are all forgotten has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from streamkit_sql.plan.nodes import NUMBER, WEIGHT, Changes, RegularJoin
from streamkit_sql.runtime.changes import Bag, net
from streamkit_sql.runtime.operator import Counts, Input, Tick
from streamkit_sql.types import quoted

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa


class RegularJoinOperator:
    """In a tick first all that goes, then what comes, each in the order of the rows that made it."""

    def __init__(self, name: str, node: RegularJoin, left: Input, right: Input) -> None:
        self.name = name
        self.inputs: Sequence[Input] = (left, right)
        self.counts = Counts()
        self._node = node
        self._left = Bag(f"{name}_left", left, (each.name for each in left.columns), ttl_ms=node.left_ttl_ms)
        self._right = Bag(f"{name}_right", right, (each.name for each in right.columns), ttl_ms=node.right_ttl_ms)
        self._names = [quoted(column.name) for column in node.columns]
        pairs = zip(node.left_keys, node.right_keys, strict=True)
        conditions = [f"{a.sql} = {b.sql}" for a, b in pairs]
        if node.residual is not None:
            conditions.append(node.residual.sql)
        self._on = " AND ".join(conditions) or "true"
        self._out = quoted(f"{name}_out")
        self._met = quoted(f"{name}_met")
        self._gives_pairs = node.kind not in ("SEMI", "ANTI")
        self._asks_left = node.kind in ("LEFT", "FULL", "SEMI", "ANTI")
        self._asks_right = node.kind in ("RIGHT", "FULL")

    def open(self, database: duckdb.DuckDBPyConnection) -> None:
        self._database = database
        self._left.open(database)
        self._right.open(database)
        columns = [f"{quoted(each.name)} {each.type.duckdb}" for each in self._node.columns]
        self._columns = ", ".join([*columns, f"{NUMBER} BIGINT", f"{WEIGHT} BIGINT"])

    def step(self, tick: Tick) -> pa.Table | None:
        left, right = self._left, self._right
        has_left, has_right = left.take(tick), right.take(tick)
        if not has_left and not has_right:
            return None
        self._database.execute(f"CREATE OR REPLACE TEMP TABLE {self._out} ({self._columns})")
        if has_left:
            self._side(left, right, asks=self._asks_left, asks_other=self._asks_right)
        if has_right:
            self._side(right, left, asks=self._asks_right, asks_other=self._asks_left)
        updates = self._node.changes is Changes.UPDATES
        # SEMI gives a row with a first partner by taking back what it was without: the same row, if it had one already.
        rows = net(self._database, self._out, self._names, updates=updates or not self._gives_pairs)
        return rows if rows is None or updates or self._gives_pairs else rows.drop_columns(["$w"])

    def _side(self, changed: Bag, other: Bag, *, asks: bool, asks_other: bool) -> None:
        """Takes one side's changes in while the other stands still."""
        if self._gives_pairs and other.table.rows:
            joined = f"{changed.delta} AS c JOIN {other.table.sql} AS o ON {self._on}"
            self._give(joined, {*changed.names, *other.names}, f"c.{NUMBER}", f"c.{WEIGHT}")
        if asks:
            self._give(self._alone(changed.delta, other), set(changed.names), f"c.{NUMBER}", f"c.{WEIGHT}")
        asks_other = asks_other and other.table.rows > 0
        if asks_other:
            met = f"SELECT c.* FROM {other.table.sql} AS c SEMI JOIN {changed.delta} AS o ON {self._on}"
            self._database.execute(f"CREATE OR REPLACE TEMP TABLE {self._met} AS {met}")
            self._give(self._alone(self._met, changed), set(other.names), f"c.{NUMBER}", "-1")
        changed.apply()
        if asks_other:
            self._give(self._alone(self._met, changed), set(other.names), f"c.{NUMBER}", "1")

    def _alone(self, rows: str, other: Bag) -> str:
        """The rows, as `c`, that have no partner (for SEMI: that have one) on the other side as it is now."""
        join = "SEMI" if self._node.kind == "SEMI" else "ANTI"
        return f"{rows} AS c {join} JOIN {other.table.sql} AS o ON {self._on}"

    def _give(self, source: str, has: set[str], number: str, weight: str) -> None:
        """What `source` does not have is NULL."""
        cells = [name if name in has else "NULL" for name in self._names]
        self._database.execute(f"INSERT INTO {self._out} SELECT {', '.join([*cells, number, weight])} FROM {source}")
