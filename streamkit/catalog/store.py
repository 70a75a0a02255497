"""Where the catalog is, in the control file.

catalog_databases    account, region, name, tables (how many), document            one `DatabaseState` each
catalog_tables       account, region, database, name, id, versions, partitions,    one `TableState` each: the current
                     document                                                      version; counts of what hangs on it
catalog_versions     table_id, version, document                                   a `TableState` that was archived
catalog_partitions   table_id, key (its values as JSON), document                  one `PartitionState` each
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, TypeVar

import msgspec

from streamkit.catalog.state import DatabaseState, PartitionState, TableState
from streamkit.control import ControlFile
from streamkit.model.names import Scope

T = TypeVar("T", bound=msgspec.Struct)

_TABLES: Final = """
create table if not exists catalog_databases (
    account text not null, region text not null, name text not null,
    tables integer not null default 0, document blob not null,
    primary key (account, region, name)
) without rowid;
create table if not exists catalog_tables (
    account text not null, region text not null, database text not null, name text not null,
    id text not null, versions integer not null default 0, partitions integer not null default 0,
    document blob not null,
    primary key (account, region, database, name)
) without rowid;
create table if not exists catalog_versions (
    table_id text not null, version integer not null, document blob not null,
    primary key (table_id, version)
) without rowid;
create table if not exists catalog_partitions (
    table_id text not null, key text not null, document blob not null,
    primary key (table_id, key)
) without rowid;
"""
_DATABASE: Final = "account = ? and region = ? and name = ?"
_TABLE: Final = "account = ? and region = ? and database = ? and name = ?"


class Row(NamedTuple):
    """A document that is not read yet."""

    name: str
    document: bytes


class Counts(NamedTuple):
    versions: int
    partitions: int


class CatalogStore:
    """Blocking calls of well under a millisecond, but for deleting what much hangs on. A failed one changed nothing and
    raises StorageUnavailable. What is not there is None."""

    def __init__(self, control: ControlFile) -> None:
        self._control = control
        self._db = control.db
        self._db.executescript(_TABLES)

    # -- databases ---------------------------------------------------------------------------------------------------

    def database(self, scope: Scope, name: str) -> DatabaseState | None:
        return self._one(f"select document from catalog_databases where {_DATABASE}", (*scope, name), DatabaseState)

    def databases(self, scope: Scope, after: str) -> Iterator[Row]:
        """By name; to be used up, or let go, before anything is changed."""
        query = (
            "select name, document from catalog_databases where account = ? and region = ? and name > ? order by name"
        )
        return map(Row._make, self._db.execute(query, (*scope, after)))

    def databases_count(self, scope: Scope) -> int:
        query = "select count(*) from catalog_databases where account = ? and region = ?"
        return self._count(query, scope)

    def tables_count(self, scope: Scope, database: str) -> int:
        return self._count(f"select tables from catalog_databases where {_DATABASE}", (*scope, database))

    def save_database(self, state: DatabaseState) -> None:
        document = msgspec.json.encode(state)
        with self._control.transaction() as db:
            db.execute(
                "insert into catalog_databases (account, region, name, document) values (?, ?, ?, ?) "
                "on conflict do update set document = excluded.document",
                (state.account, state.region, state.name, document),
            )

    def delete_database(self, scope: Scope, name: str) -> None:
        """With its tables, their versions and partitions."""
        inside = "(select id from catalog_tables where account = ? and region = ? and database = ?)"
        with self._control.transaction() as db:
            for below in ("catalog_versions", "catalog_partitions"):
                db.execute(f"delete from {below} where table_id in {inside}", (*scope, name))
            db.execute("delete from catalog_tables where account = ? and region = ? and database = ?", (*scope, name))
            db.execute(f"delete from catalog_databases where {_DATABASE}", (*scope, name))

    def delete_all(self) -> None:
        with self._control.transaction() as db:
            for table in ("catalog_databases", "catalog_tables", "catalog_versions", "catalog_partitions"):
                db.execute(f"delete from {table}")

    # -- tables ------------------------------------------------------------------------------------------------------

    def table(self, scope: Scope, database: str, name: str) -> TableState | None:
        return self._one(f"select document from catalog_tables where {_TABLE}", (*scope, database, name), TableState)

    def tables(self, scope: Scope, database: str, after: str) -> Iterator[Row]:
        """By name; to be used up, or let go, before anything is changed."""
        query = (
            "select name, document from catalog_tables where account = ? and region = ? and database = ? and name > ? "
            "order by name"
        )
        return map(Row._make, self._db.execute(query, (*scope, database, after)))

    def all_tables(self, scope: Scope) -> Iterator[Row]:
        """Of all databases, by database and name; likewise."""
        query = "select name, document from catalog_tables where account = ? and region = ? order by database, name"
        return map(Row._make, self._db.execute(query, tuple(scope)))

    def counts(self, table: TableState) -> Counts:
        query = f"select versions, partitions from catalog_tables where {_TABLE}"
        row = self._db.execute(query, _key(table)).fetchone()
        return Counts(*row) if row else Counts(0, 0)

    def add_table(self, state: TableState) -> None:
        with self._control.transaction() as db:
            db.execute(
                "insert into catalog_tables (account, region, database, name, id, document) values (?, ?, ?, ?, ?, ?)",
                (*_key(state), state.id, msgspec.json.encode(state)),
            )
            _more_tables(db, state.scope, state.database, 1)

    def replace_table(self, state: TableState, archived: TableState | None) -> None:
        """The next version of a table; the one before it is kept where it is given."""
        with self._control.transaction() as db:
            db.execute(
                f"update catalog_tables set document = ?, versions = versions + ? where {_TABLE}",
                (msgspec.json.encode(state), int(archived is not None), *_key(state)),
            )
            if archived is not None:
                row = (archived.id, archived.version, msgspec.json.encode(archived))
                db.execute("insert into catalog_versions values (?, ?, ?)", row)

    def delete_tables(self, states: Sequence[TableState]) -> None:
        """All of them or none, with their versions and partitions."""
        with self._control.transaction() as db:
            for state in states:
                db.execute(f"delete from catalog_tables where {_TABLE}", _key(state))
                db.execute("delete from catalog_versions where table_id = ?", (state.id,))
                db.execute("delete from catalog_partitions where table_id = ?", (state.id,))
                _more_tables(db, state.scope, state.database, -1)

    # -- versions ----------------------------------------------------------------------------------------------------

    def version(self, table: TableState, version: int) -> TableState | None:
        """An archived one."""
        query = "select document from catalog_versions where table_id = ? and version = ?"
        return self._one(query, (table.id, version), TableState)

    def versions(self, table: TableState, before: int) -> Iterator[Row]:
        """Archived ones below a number, newest first; to be used up, or let go, before anything is changed."""
        query = (
            "select cast(version as text), document from catalog_versions where table_id = ? and version < ? "
            "order by version desc"
        )
        return map(Row._make, self._db.execute(query, (table.id, before)))

    def delete_version(self, table: TableState, version: int) -> None:
        with self._control.transaction() as db:
            gone = db.execute(
                "delete from catalog_versions where table_id = ? and version = ?", (table.id, version)
            ).rowcount
            db.execute(f"update catalog_tables set versions = versions - ? where {_TABLE}", (gone, *_key(table)))

    # -- partitions --------------------------------------------------------------------------------------------------

    def partition(self, table: TableState, values: Sequence[str]) -> PartitionState | None:
        query = "select document from catalog_partitions where table_id = ? and key = ?"
        return self._one(query, (table.id, partition_key(values)), PartitionState)

    def partitions(self, table: TableState, after: str) -> Iterator[Row]:
        """By key; to be used up, or let go, before anything is changed."""
        query = "select key, document from catalog_partitions where table_id = ? and key > ? order by key"
        return map(Row._make, self._db.execute(query, (table.id, after)))

    def change_partitions(
        self, table: TableState, added: Sequence[PartitionState], removed: Sequence[Sequence[str]] = ()
    ) -> None:
        """All of it or nothing; none of the added may be there unless it is removed too, all removed must be there."""
        with self._control.transaction() as db:
            for values in removed:
                key = (table.id, partition_key(values))
                db.execute("delete from catalog_partitions where table_id = ? and key = ?", key)
            db.executemany(
                "insert into catalog_partitions values (?, ?, ?)",
                [(table.id, partition_key(each.values), msgspec.json.encode(each)) for each in added],
            )
            more = len(added) - len(removed)
            db.execute(f"update catalog_tables set partitions = partitions + ? where {_TABLE}", (more, *_key(table)))

    # -- documents ---------------------------------------------------------------------------------------------------

    def _one(self, query: str, parameters: tuple[object, ...], kind: type[T]) -> T | None:
        row = self._db.execute(query, parameters).fetchone()
        return None if row is None else msgspec.json.decode(row[0], type=kind)

    def _count(self, query: str, parameters: tuple[object, ...]) -> int:
        row = self._db.execute(query, parameters).fetchone()
        return int(row[0]) if row else 0


def partition_key(values: Sequence[str]) -> str:
    return msgspec.json.encode(values).decode()


def _key(table: TableState) -> tuple[str, str, str, str]:
    return table.account, table.region, table.database, table.name


def _more_tables(db: sqlite3.Connection, scope: Scope, database: str, more: int) -> None:
    db.execute(f"update catalog_databases set tables = tables + ? where {_DATABASE}", (more, *scope, database))
