"""Top-N and deduplication as they change: the partitions a tick touches are ranked before and after it.

Over an input to which rows are only added, what is not among a partition's first `last` rows never comes back: such
rows are dropped, so that state is `last` rows a partition. Over an updating input all rows are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from streamkit_sql.plan.nodes import NUMBER, WEIGHT, Changes, Rank
from streamkit_sql.runtime.changes import PLACE, Bag, net, same
from streamkit_sql.runtime.operator import Counts, Input, Tick
from streamkit_sql.types import quoted

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_RANK = '"$$rank"'


class RankOperator:
    """In a tick first all that goes, then what comes, each in the order of the rows' arrival. Without the rank's number
    a row that only moves is no change. Rows that are equal in the order stand as they came."""

    def __init__(self, name: str, node: Rank, input: Input) -> None:
        self.name = name
        self.inputs: Sequence[Input] = (input,)
        self.counts = Counts()
        assert 1 <= node.first <= node.last
        self._node = node
        # Kept as values: an order by PROCTIME() reads a clock that belongs to the row's arrival.
        orders = [
            (f'"$$o{i}"', each.expression.type.duckdb, each.expression.sql) for i, each in enumerate(node.ordering)
        ]
        keys = [(f'"$$k{i}"', each.type.duckdb, each.sql) for i, each in enumerate(node.partition)]
        output = {column.name for column in node.columns if column.name != node.number}
        needed = output if input.changes is Changes.APPEND else {column.name for column in input.columns}
        self._bag = Bag(f"{name}_rows", input, needed, [*keys, *orders], ttl_ms=node.ttl_ms, is_ordered=True)
        self._keys = [key for key, _, _ in keys]
        order = [
            f"{column} {'DESC' if each.descending else 'ASC'} NULLS {'FIRST' if each.nulls_first else 'LAST'}"
            for (column, _, _), each in zip(orders, node.ordering, strict=True)
        ]
        partition = f"PARTITION BY {', '.join(self._keys)} " if self._keys else ""
        self._number = f"row_number() OVER ({partition}ORDER BY {', '.join([*order, NUMBER, PLACE])})"
        self._names = [quoted(column.name) for column in node.columns]
        self._before = quoted(f"{name}_before")
        self._after = quoted(f"{name}_after")
        self._touched = quoted(f"{name}_touched")

    def open(self, database: duckdb.DuckDBPyConnection) -> None:
        self._database = database
        self._bag.open(database)

    def step(self, tick: Tick) -> pa.Table | None:
        if not self._bag.take(tick):
            return None
        if self._bag.updates:
            self._recompute()
        else:
            self._merge()
        number = self._node.number
        cells = [_RANK if number is not None and name == quoted(number) else name for name in self._names]
        chosen = ", ".join(f"{cell} AS {name}" for cell, name in zip(cells, self._names, strict=True))
        wanted = f"{_RANK} BETWEEN {self._node.first} AND {self._node.last}"
        sides = [
            f"SELECT {chosen}, {NUMBER}, {weight} AS {WEIGHT} FROM {source} WHERE {wanted}"
            for source, weight in ((self._before, "-1::BIGINT"), (self._after, "1::BIGINT"))
        ]
        changed = f"({' UNION ALL '.join(sides)})"
        if self._node.changes is Changes.UPDATES:
            return net(self._database, changed, self._names)
        assert not self._bag.updates
        return net(self._database, f'({sides[1]} AND "$$r" IS NULL)', self._names, updates=False)

    def _make(self, table: str, select: str) -> None:
        self._database.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS {select}")

    def _ranked(self, source: str) -> str:
        return f"SELECT *, {self._number} AS {_RANK} FROM {source} QUALIFY {_RANK} <= {self._node.last}"

    def _merge(self) -> None:
        """New rows against the kept ones of their partitions; those pushed out are forgotten."""
        bag, kept = self._bag, ", ".join([*self._bag.kept, NUMBER, PLACE])
        old, own = f'{kept}, "$$r"', f'{kept}, NULL::BIGINT AS "$$r"'
        new = quoted(f"{self.name}_new")
        self._make(new, self._ranked(bag.delta))
        met = f"SEMI JOIN {new} AS d ON {same('s', 'd', self._keys)}"
        self._make(self._before, self._ranked(f'(SELECT s.*, s.rowid AS "$$r" FROM {bag.table.sql} AS s {met})'))
        both = f"(SELECT {old} FROM {self._before} UNION ALL SELECT {own} FROM {new})"
        self._make(self._after, self._ranked(both))
        stays = f'SELECT "$$r" FROM {self._after} WHERE "$$r" IS NOT NULL'
        out = f'SELECT "$$r" FROM {self._before} WHERE "$$r" NOT IN ({stays})'
        cells = ", ".join([kept, *bag.lifetime.cells])
        bag.table.remove_rows(out)
        bag.table.add(f'SELECT {cells} FROM {self._after} WHERE "$$r" IS NULL')

    def _recompute(self) -> None:
        bag = self._bag
        keys = ", ".join(self._keys) or "1 AS one"
        self._make(self._touched, f"SELECT DISTINCT {keys} FROM {bag.delta}")
        source = (
            f"(SELECT s.* FROM {bag.table.sql} AS s SEMI JOIN {self._touched} AS t ON {same('s', 't', self._keys)})"
        )
        self._make(self._before, self._ranked(source))
        bag.apply()
        self._make(self._after, self._ranked(source))
