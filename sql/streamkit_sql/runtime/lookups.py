"""Rows with the rows of a reference table as it is when they come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from streamkit_sql.plan.nodes import NUMBER, WEIGHT, Changes, LookupJoin
from streamkit_sql.runtime.changes import net
from streamkit_sql.runtime.operator import Counts, Input, Tick
from streamkit_sql.types import quoted

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa


class ReferenceTables(Protocol):
    """Where lookups find their tables."""

    def lookup(self, table: str, names: tuple[str, ...]) -> pa.Table:
        """These columns of the table as it is now. The same object where nothing has changed: it is read anew only if
        it is another."""
        ...


class LookupJoinOperator:
    """Rows in the order of the left rows' arrival, then of the table's rows. NULL keys match nothing. There is no
    state: a row that goes takes what the table says then, which is what it once got if the table has not changed."""

    def __init__(self, name: str, node: LookupJoin, left: Input, context: ReferenceTables) -> None:
        self.name = name
        self.inputs: Sequence[Input] = (left,)
        self.counts = Counts()
        self._node = node
        self._context = context
        self._updates = left.changes is Changes.UPDATES
        self._table = quoted(f"{name}_table")
        self._known: pa.Table | None = None
        conditions = [f"{a.sql} = {b.sql}" for a, b in zip(node.left_keys, node.right_keys, strict=True)]
        if node.residual is not None:
            conditions.append(node.residual.sql)
        self._names = [quoted(column.name) for column in node.columns]
        join = "LEFT JOIN" if node.kind == "LEFT" else "JOIN"
        on = " AND ".join(conditions) or "true"
        hidden = [f"l.{NUMBER}", 'o."$$o"', *([f"l.{WEIGHT}"] if self._updates else [])]
        joined = f"({left.sql}) AS l {join} {self._table} AS o ON {on}"
        self._joined = f"SELECT {', '.join([*self._names, *hidden])} FROM {joined}"

    def open(self, database: duckdb.DuckDBPyConnection) -> None:
        self._database = database
        self._known = None

    def step(self, tick: Tick) -> pa.Table | None:
        if not self.inputs[0].has_rows:
            return None
        self._refresh()
        if self._updates:
            return net(self._database, f"({self._joined})", self._names)
        return net(self._database, f"({self._joined})", self._names, updates=False, order=f'{NUMBER}, "$$o"')

    def _refresh(self) -> None:
        node = self._node
        table = self._context.lookup(node.table, node.table_names)
        if table is self._known:
            return
        given = quoted(f"{self.name}_given")
        self._database.register(f"{self.name}_given", table)
        cells = [
            f"CAST({quoted(name)} AS {column.type.duckdb}) AS {quoted(column.name)}"
            for name, column in zip(node.table_names, node.table_columns, strict=True)
        ]
        rows = f'SELECT {", ".join([*cells, "row_number() OVER ()"])} AS "$$o" FROM {given}'
        self._database.execute(f"CREATE OR REPLACE TEMP TABLE {self._table} AS {rows}")
        self._database.unregister(f"{self.name}_given")
        self._known = table
