"""What is only known at the end of a bounded input: its rows in order, or some of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from streamkit_sql.plan.nodes import NUMBER, WEIGHT, Changes, WindowFilterToEnd
from streamkit_sql.runtime.changes import PLACE, Bag
from streamkit_sql.runtime.duck import table_of
from streamkit_sql.runtime.operator import Counts, Input, Tick
from streamkit_sql.types import quoted

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa


class EndOperator:
    """Keeps all rows and gives them in the last tick, ordered; equal ones as they came. Its state is empty then."""

    def __init__(self, name: str, node: WindowFilterToEnd, input: Input) -> None:
        self.name = name
        self.inputs: Sequence[Input] = (input,)
        self.counts = Counts()
        self._node = node
        orders = [
            (f'"$$o{i}"', each.expression.type.duckdb, each.expression.sql) for i, each in enumerate(node.ordering)
        ]
        self._bag = Bag(f"{name}_rows", input, (each.name for each in input.columns), orders, is_ordered=True)
        order = [
            f"{column} {'DESC' if each.descending else 'ASC'} NULLS {'FIRST' if each.nulls_first else 'LAST'}"
            for (column, _, _), each in zip(orders, node.ordering, strict=True)
        ]
        cells = [quoted(column.name) for column in node.columns]
        if node.changes is Changes.UPDATES:
            cells.append(f"1::INTEGER AS {WEIGHT}")
        limit = "" if node.limit is None else f" LIMIT {node.limit}"
        offset = f" OFFSET {node.offset}" if node.offset else ""
        self._rows = (
            f"SELECT {', '.join(cells)} FROM {self._bag.table.sql}"
            f" ORDER BY {', '.join([*order, NUMBER, PLACE])}{limit}{offset}"
        )

    def open(self, database: duckdb.DuckDBPyConnection) -> None:
        self._database = database
        self._bag.open(database)

    def step(self, tick: Tick) -> pa.Table | None:
        if self._bag.take(tick):
            self._bag.apply()
        if not tick.is_last or not self._bag.table.rows:
            return None
        rows = table_of(self._database, self._rows)
        self._bag.table.remove("true")
        return rows if rows.num_rows else None
