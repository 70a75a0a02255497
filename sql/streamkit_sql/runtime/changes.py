"""What updating operators share: tables of state that stay clean, bags of rows, and net changes.

A relation that updates is a multiset: a row comes with `$w` +1 and goes with -1. What an operator gives in a tick is
net: a row that came and went in it is not given, so there are never two rows of one tick that take each other back.

Scratch tables of a tick are temporary and are made anew in each; DuckDB gives their memory back at the commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from streamkit_sql.plan.nodes import NUMBER, WEIGHT, Changes
from streamkit_sql.runtime.duck import table_of
from streamkit_sql.types import quoted

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from streamkit_sql.runtime.operator import Input, Tick

TOUCHED: Final = '"$$t"'
"""When a row of state was written last, in ms of processing time; there is one only where state has a time to live."""
PLACE: Final = '"$$i"'
"""Tells rows of one bag apart, in the order in which they came: several may have one `$n`, as an array's elements."""
GARBAGE_ROWS_MIN: Final = 100_000
"""Deleted rows of a table below which writing it anew costs more than passing over them."""

OWN_ROW_ID_MIN: Final = 36_028_797_018_960_000
"""DuckDB's MAX_ROW_ID: from here on row ids are of rows that the open transaction has added."""


def same(left: str, right: str, names: Iterable[str]) -> str:
    """The condition that two relations agree in all these columns, NULLs included."""
    return " AND ".join(f"{left}.{name} IS NOT DISTINCT FROM {right}.{name}" for name in names) or "true"


class StateTable:
    """A table that is written anew when more of its rows are deleted than there, so that garbage has a bound."""

    def __init__(self, name: str, columns: Sequence[tuple[str, str]]) -> None:
        self.sql = quoted(name)
        self._gone = quoted(f"{name}_gone")
        self.columns = list(columns)
        self.rows = 0
        self._deleted = 0

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.columns]

    def open(self, database: duckdb.DuckDBPyConnection) -> None:
        self._database = database
        texts = ", ".join(f"{name} {of}" for name, of in self.columns)
        database.execute(f"CREATE TABLE IF NOT EXISTS {self.sql} ({texts})")
        self.rows = self.one(f"SELECT count(*) FROM {self.sql}")

    def one(self, sql: str) -> int:
        value: int = self._database.execute(sql).fetchall()[0][0]
        return value

    def add(self, select: str) -> int:
        """Columns by their places."""
        added = self.one(f"INSERT INTO {self.sql} {select}")
        self.rows += added
        return added

    def replace(self, row_ids: str, select: str) -> None:
        """New rows for those of these ids, which a SELECT gives that does not read this table. Not an UPDATE: that
        never gives back the room of the texts before."""
        self._delete_ids(f"({row_ids}) AS g(id)")
        self.add(select)

    def remove(self, condition: str) -> None:
        """`condition` reads columns only. Row ids may be others afterwards."""
        self._delete(condition)
        self._tidy()

    def remove_rows(self, row_ids: str) -> None:
        """`row_ids` is a SELECT of one column, which may read this table; NULL is no row."""
        self._database.execute(f"CREATE OR REPLACE TEMP TABLE {self._gone} AS SELECT * FROM ({row_ids}) AS g(id)")
        self._delete_ids(self._gone)

    def _delete_ids(self, ids: str) -> None:
        """DuckDB 2.0.0 crashes (a segmentation fault, then or at the commit) where one statement deletes, in no order,
        rows of the open transaction and committed ones by their ids. So each kind has its own statement."""
        kinds = [f"count(*) FILTER (id {operator} {OWN_ROW_ID_MIN})" for operator in ("<", ">=")]
        committed, own = self._database.execute(f"SELECT {', '.join(kinds)} FROM {ids}").fetchall()[0]
        for count, operator in ((committed, "<"), (own, ">=")):
            if count:
                self._delete(f"rowid IN (SELECT id FROM {ids} WHERE id {operator} {OWN_ROW_ID_MIN})")
        self._tidy()

    def _delete(self, condition: str) -> None:
        removed = self.one(f"DELETE FROM {self.sql} WHERE {condition}")
        self.rows -= removed
        self._deleted += removed

    def _tidy(self) -> None:
        if self._deleted > max(GARBAGE_ROWS_MIN, self.rows):
            self._database.execute(f"CREATE OR REPLACE TABLE {self.sql} AS SELECT * FROM {self.sql}")
            self._deleted = 0


class Lifetime:
    """When state is forgotten that nothing has touched. At the end of a bounded input time does not jump."""

    def __init__(self, ttl_ms: int | None) -> None:
        self.ttl_ms = ttl_ms
        self.now_ms = 0
        self._next_ms: int | None = None

    @property
    def columns(self) -> list[tuple[str, str]]:
        return [] if self.ttl_ms is None else [(TOUCHED, "BIGINT")]

    @property
    def cells(self) -> list[str]:
        """Of a row that is written now."""
        return [] if self.ttl_ms is None else [f"{self.now_ms}::BIGINT AS {TOUCHED}"]

    def is_due(self, tick: Tick, table: StateTable) -> bool:
        """Whether some of the table's rows are to be forgotten before this tick's rows count."""
        if not tick.is_last:
            self.now_ms = max(self.now_ms, tick.arrived_ms)
        if self.ttl_ms is None or not table.rows:
            return False
        if self._next_ms is not None and self.now_ms < self._next_ms:
            return False
        oldest_ms = table.one(f"SELECT min({TOUCHED}) FROM {table.sql}")
        self._next_ms = oldest_ms + self.ttl_ms
        if self.now_ms < self._next_ms:
            return False
        self._next_ms = None
        return True

    @property
    def forgotten(self) -> str:
        return f"{TOUCHED} <= {self.now_ms - (self.ttl_ms or 0)}"


class Bag:
    """The rows of one input that are there, equal ones each for itself.

    `columns` are of the input, `extras` are computed when a row comes (name, type, text). A row that goes takes away
    the oldest of its equals, as Flink's retractions do; one that has no equal, since it was forgotten, takes nothing.
    With `is_ordered` each -1 counts in its turn; otherwise a tick's changes are netted first.
    """

    def __init__(
        self,
        name: str,
        input: Input,
        columns: Iterable[str],
        extras: Sequence[tuple[str, str, str]] = (),
        *,
        ttl_ms: int | None = None,
        is_ordered: bool = False,
    ) -> None:
        wanted = set(columns)
        self.columns = [(quoted(each.name), each.type.duckdb) for each in input.columns if each.name in wanted]
        self.names = [name for name, _ in self.columns]
        self.kept = [*self.names, *(name for name, _, _ in extras)]
        self.updates = input.changes is Changes.UPDATES
        self.delta = quoted(f"{name}_delta")
        self.lifetime = Lifetime(ttl_ms)
        self._extras = list(extras)
        self._input = input
        self._is_ordered = is_ordered
        extra = [(name, of) for name, of, _ in extras]
        self.table = StateTable(
            name, [*self.columns, *extra, (NUMBER, "BIGINT"), (PLACE, "BIGINT"), *self.lifetime.columns]
        )
        self._next = 0
        self._has_minus = False

    def open(self, database: duckdb.DuckDBPyConnection) -> None:
        self._database = database
        self.table.open(database)
        self._next = self.table.one(f"SELECT coalesce(max({PLACE}) + 1, 0) FROM {self.table.sql}")
        columns = [*self.columns, *((name, of) for name, of, _ in self._extras)]
        texts = [f"{name} {of}" for name, of in [*columns, (NUMBER, "BIGINT"), (PLACE, "BIGINT"), (WEIGHT, "BIGINT")]]
        database.execute(f"CREATE OR REPLACE TEMP TABLE {self.delta} ({', '.join(texts)})")
        self._is_empty = True

    def take(self, tick: Tick) -> bool:
        """Puts the tick's rows into `delta`: the kept columns, `$n`, their place and `$w`; false where there are none.
        State is as it was, but for what is forgotten."""
        if self.lifetime.is_due(tick, self.table):
            self.table.remove(self.lifetime.forgotten)
        if not self._input.has_rows:
            if not self._is_empty:
                self._database.execute(
                    f"CREATE OR REPLACE TEMP TABLE {self.delta} AS SELECT * FROM {self.delta} LIMIT 0"
                )
                self._is_empty = True
            return False
        cells = [*self.names, *(f"CAST({text} AS {of}) AS {name}" for name, of, text in self._extras)]
        weight = f"CAST({WEIGHT} AS BIGINT)" if self.updates else "1::BIGINT"
        rows = f"SELECT {', '.join([*cells, NUMBER])}, {weight} AS {WEIGHT} FROM ({self._input.sql})"
        if self.updates and not self._is_ordered:
            extras = [f"max({name}) AS {name}" for name, _, _ in self._extras]
            group = f" GROUP BY {', '.join(self.names)}" if self.names else ""
            merged = [*self.names, *extras, f"max({NUMBER}) AS {NUMBER}", f"CAST(sum({WEIGHT}) AS BIGINT) AS {WEIGHT}"]
            rows = f"SELECT {', '.join(merged)} FROM ({rows}){group} HAVING sum({WEIGHT}) <> 0 ORDER BY {NUMBER}"
        place = f"{self._next} + row_number() OVER () - 1 AS {PLACE}"
        chosen = ", ".join([*self.kept, NUMBER, place, WEIGHT])
        self._database.execute(f"CREATE OR REPLACE TEMP TABLE {self.delta} AS SELECT {chosen} FROM ({rows})")
        asked = f"SELECT count(*), count(*) FILTER ({WEIGHT} < 0) FROM {self.delta}"
        count, minus = self._database.execute(asked).fetchall()[0]
        self._next += count
        self._has_minus = minus > 0
        self._is_empty = count == 0
        return bool(count)

    def apply(self) -> None:
        """Makes `delta` a part of the state."""
        if self._is_empty:
            return
        cells = ", ".join([*self.kept, NUMBER, PLACE, *self.lifetime.cells])
        where = f" WHERE {WEIGHT} > 0" if self.updates else ""
        self.table.add(f"SELECT {cells} FROM {self.delta}{where}")
        if self.updates:
            more = f"SELECT *, unnest(range({WEIGHT} - 1)) FROM {self.delta} WHERE {WEIGHT} > 1"
            self.table.add(f"SELECT {cells} FROM ({more})")
        if self._has_minus:
            self.table.remove_rows(oldest(self.table.sql, self.delta, self.names))


def oldest(table: str, source: str, names: Sequence[str]) -> str:
    """A SELECT of the row ids of those rows of `table` that what goes in `source` (negative `$w`) takes away."""
    group = f" GROUP BY {', '.join(names)}" if names else ""
    count = f'CAST(-sum({WEIGHT}) AS BIGINT) AS "$$m"'
    gone = f"SELECT {', '.join([*names, count])} FROM {source} WHERE {WEIGHT} < 0{group}"
    numbered = f'SELECT *, row_number() OVER () AS "$$g" FROM ({gone})'
    turn = f'row_number() OVER (PARTITION BY g."$$g" ORDER BY s.{NUMBER}, s.{PLACE})'
    joined = f"FROM {table} AS s JOIN ({numbered}) AS g ON {same('s', 'g', names)}"
    return f'SELECT "$$r" FROM (SELECT s.rowid AS "$$r", {turn} AS "$$p", g."$$m" {joined}) WHERE "$$p" <= "$$m"'


def net(
    database: duckdb.DuckDBPyConnection,
    source: str,
    names: Sequence[str],
    *,
    updates: bool = True,
    order: str = NUMBER,
) -> pa.Table | None:
    """The net changes in `source`, a SELECT or table with the columns `names`, `$n` and `$w`: each as often as it comes
    or goes; first all that goes, then what comes, as a table with a key needs it; each in the order of `$n`. Without
    `updates` nothing can go, there is no `$w`, and `order` says how."""
    cells = ", ".join(names)
    if not updates:
        rows = table_of(database, f"SELECT {cells} FROM {source} ORDER BY {order}")
        return rows if rows.num_rows else None
    group = f" GROUP BY {cells}" if names else ""
    merged = ", ".join([*names, f'min({NUMBER}) AS "$$n"', f'CAST(sum({WEIGHT}) AS BIGINT) AS "$$s"'])
    summed = f"SELECT {merged} FROM {source}{group} HAVING sum({WEIGHT}) <> 0"
    weight = f'CAST(sign("$$s") AS INTEGER) AS {WEIGHT}'
    repeated = f'(SELECT *, {weight}, unnest(range(abs("$$s"))) FROM ({summed}))'
    ordered = ", ".join([WEIGHT, '"$$n"', *names])
    rows = table_of(database, f"SELECT {', '.join([*names, WEIGHT])} FROM {repeated} ORDER BY {ordered}")
    return rows if rows.num_rows else None
