"""Live tables: the rows of a query as they stand now, kept by the application that runs it.

    results ─▶ changes of a commit ─▶ state (one transaction with positions) ─▶ tables/NAME.arrow (each second)

What a query gives is kept as a bag: each different row with how often it came more than it went. So a row that goes
takes back just itself, in whatever order rows of one key come and go. With a primary key a reader sees of each key the
row that came last; without one every row, as often as it is there. A query that only adds needs no bag under a key: the
last row takes the place of the one before.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import pyarrow as pa

from streamkit.model.errors import UsageError
from streamkit_sql.errors import SqlError, UnknownName
from streamkit_sql.expressions.bound import Column
from streamkit_sql.runtime.changes import StateTable
from streamkit_sql.runtime.duck import table_of
from streamkit_sql.runtime.results import to_arrow
from streamkit_sql.tables.definition import TableDefinition
from streamkit_sql.tables.source import SourceBatch
from streamkit_sql.types import quoted

if TYPE_CHECKING:
    import duckdb

SPLIT: Final = "table"
FOLDER: Final = "tables"
_HASH: Final = '"$$hash"'
_WEIGHT: Final = '"$$weight"'
_PLACE: Final = '"$$place"'


class LiveTable:
    """Its state is in tables named `live_NAME`. Changes are held until `apply`, which belongs to a transaction."""

    def __init__(self, table: TableDefinition, *, updates: bool) -> None:
        """`updates`: some query that writes to it takes rows back."""
        self.name = table.name
        self.columns = tuple(Column(each.name, each.type) for each in table.written)
        self._keys = [quoted(key) for key in table.primary_key]
        self._names = [quoted(column.name) for column in self.columns]
        self._updates = updates
        hidden = [(_HASH, "UBIGINT"), (_WEIGHT, "BIGINT"), (_PLACE, "BIGINT")]
        columns = [(name, column.type.duckdb) for name, column in zip(self._names, self.columns, strict=True)]
        self._table = StateTable(f"live_{table.name}", [*columns, *hidden])
        self._waiting: list[pa.Table] = []
        self._next = 0
        self._has_twins = False
        """Whether some key ever had several rows at once: then readers have to choose."""

    def open(self, database: duckdb.DuckDBPyConnection) -> None:
        """Raises UsageError where the state of a run before is of a table of other columns."""
        self._database = database
        self._table.open(database)
        found = database.execute(f"DESCRIBE {self._table.sql}").fetchall()
        wanted = database.execute(f"DESCRIBE SELECT {self._nulls()}").fetchall()
        if [(row[0], row[1]) for row in found] != [(row[0], row[1]) for row in wanted]:
            raise UsageError(
                f"the state's table {self.name!r} has other columns than the script's. Run the script under another "
                "name, or delete the folder of its state to begin anew."
            )
        self._next = self._table.one(f"SELECT coalesce(max({_PLACE}) + 1, 0) FROM {self._table.sql}")
        if self._keys and self._updates:
            asked = f"SELECT count({_HASH}) - count(DISTINCT {_HASH}) FROM {self._table.sql}"
            self._has_twins = self._table.one(asked) > 0

    def _nulls(self) -> str:
        return ", ".join(f"NULL::{of} AS {name}" for name, of in self._table.columns)

    def add(self, rows: pa.Table) -> None:
        """Rows as the engine gives them, `$w` last where their query updates."""
        if "$w" not in rows.column_names:
            rows = rows.append_column("$w", pa.repeat(pa.scalar(1, pa.int32()), rows.num_rows))
        self._waiting.append(rows.rename_columns([*(column.name for column in self.columns), "$w"]))

    def apply(self) -> bool:
        """Takes in what was added; whether there was something."""
        if not self._waiting:
            return False
        rows = pa.concat_tables(self._waiting)
        self._waiting = []
        rows = rows.append_column("$$place", pa.array(range(self._next, self._next + rows.num_rows), pa.int64()))
        self._next += rows.num_rows
        self._database.register("live_rows", rows)
        try:
            self._merge()
        finally:
            self._database.unregister("live_rows")
        return True

    def _merge(self) -> None:
        names = ", ".join(self._names)
        hashed = f"hash({', '.join(self._keys or self._names)}) AS {_HASH}"
        come = f'SELECT {names}, {hashed}, "$w"::BIGINT AS {_WEIGHT}, {_PLACE} FROM live_rows'
        if not self._updates and not self._keys:
            self._table.add(come)
            return
        execute = self._database.execute
        execute(f"CREATE OR REPLACE TEMP TABLE live_come AS {self._merged(come)}")
        touched = f"{_HASH} IN (SELECT {_HASH} FROM live_come)"
        both = f"SELECT * FROM {self._table.sql} WHERE {touched} UNION ALL SELECT * FROM live_come"
        execute(f"CREATE OR REPLACE TEMP TABLE live_stay AS {self._merged(both)}")
        self._table.remove(touched)
        self._table.add("SELECT * FROM live_stay")
        if self._keys and self._updates and not self._has_twins:
            counts = f"SELECT count(*) AS c FROM live_stay WHERE {_WEIGHT} > 0 GROUP BY {', '.join(self._keys)}"
            self._has_twins = self._table.one(f"SELECT count(*) FROM ({counts}) WHERE c > 1") > 0

    def _merged(self, rows: str) -> str:
        names = ", ".join(self._names)
        if not self._updates:
            last = f"row_number() OVER (PARTITION BY {', '.join(self._keys)} ORDER BY {_PLACE} DESC)"
            return f"SELECT * FROM ({rows}) QUALIFY {last} = 1"
        place = f"coalesce(max({_PLACE}) FILTER ({_WEIGHT} > 0), max({_PLACE}))"
        return (
            f"SELECT {names}, {_HASH}, sum({_WEIGHT})::BIGINT AS {_WEIGHT}, {place} AS {_PLACE} FROM ({rows}) "
            f"GROUP BY {names}, {_HASH} HAVING sum({_WEIGHT}) <> 0"
        )

    def read(self, database: duckdb.DuckDBPyConnection) -> pa.Table:
        """The rows there are, in no order, as `database` (a cursor of the same database) sees them."""
        names = ", ".join(self._names)
        there = f"SELECT * FROM {self._table.sql} WHERE {_WEIGHT} > 0"
        if self._has_twins:
            last = f"row_number() OVER (PARTITION BY {', '.join(self._keys)} ORDER BY {_PLACE} DESC)"
            there += f" QUALIFY {last} = 1"
        elif self._updates and not self._keys:
            there = f"SELECT *, unnest(range({_WEIGHT})) AS copy FROM ({there})"
        return to_arrow(table_of(database, f"SELECT {names} FROM ({there})"), self.columns)


# -- snapshots -------------------------------------------------------------------------------------------------------


def snapshot_path(folder: Path, name: str) -> Path:
    """Where the table of an application, whose folder this is, can be read by other processes."""
    return folder / FOLDER / f"{quote(name, safe=' ')}.arrow"


def write_snapshot(folder: Path, name: str, table: pa.Table, metadata: Mapping[str, str]) -> None:
    """As an Arrow IPC file, in one step: a reader finds this one or the one before. It is not synced to the disk, since
    an application that starts writes it anew."""
    path = snapshot_path(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    table = table.replace_schema_metadata(dict(metadata))
    with pa.OSFile(str(beside), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    os.replace(beside, path)


def read_snapshot(path: Path) -> pa.Table:
    """Its pages are those of the file. FileNotFoundError where there is none."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


class LiveSource:
    """See `streamkit_sql.tables.source.TableSource`: a snapshot as it is when it is first read, then its end."""

    is_bounded = True

    def __init__(self, table: TableDefinition, folder: Path | None) -> None:
        """`folder` is the reading application's own, where the table does not name another."""
        self._table = table
        path = table.options.get("path")
        if path is None and folder is None:
            hint = "Write 'path' = 'the folder of the application's state'."
            raise SqlError(f"the live table {table.name!r} is read without its application.", table.place, hint)
        where = Path(path) if path is not None else folder
        assert where is not None
        self.path = snapshot_path(where, table.name)
        if path is not None and not self.path.exists():
            raise UnknownName(f"there is no live table {table.name!r} in {path!r}.", table.place)
        self._rows: pa.Table | None = None

    def files(self) -> list[tuple[str, Path]]:
        """What a change of shows that the table has changed."""
        return [(self.path.name, self.path)] if self.path.exists() else []

    async def splits(self) -> Sequence[str]:
        return [SPLIT]

    async def read(self, split: str, position: str | None, rows_max: int, bytes_max: int) -> SourceBatch | None:
        return self.read_now(position, rows_max, bytes_max)

    def read_now(self, position: str | None, rows_max: int, bytes_max: int) -> SourceBatch | None:
        if self._rows is None:
            self._rows = self._load()
        start = int(position or 0)
        rows = self._rows.slice(start, rows_max)
        return SourceBatch(SPLIT, rows, 0, str(start + rows.num_rows)) if rows.num_rows else None

    def _load(self) -> pa.Table:
        fields = self._table.physical
        try:
            rows = read_snapshot(self.path)
        except FileNotFoundError:  # its own, of which nothing is written yet
            return pa.schema([pa.field(each.name, each.type.arrow) for each in fields]).empty_table()
        missing = [each.name for each in fields if each.name not in rows.column_names]
        if missing:
            hint = f"It has: {', '.join(rows.column_names)}."
            raise UnknownName(f"the live table {self._table.name!r} has no {missing[0]!r}.", self._table.place, hint)
        return rows.select([each.name for each in fields])
