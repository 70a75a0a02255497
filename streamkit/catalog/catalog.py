"""The data catalog: databases, tables with the versions of their schemas, partitions.

Glue's semantics, for its API, for tools that keep Iceberg or Hive tables in it, and for deliveries, which ask for a
table's columns. Every change is on disk when its call returns. All calls are made on the event loop.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from streamkit.catalog import predicates, rules
from streamkit.catalog.state import DatabaseState, PartitionState, TableState
from streamkit.catalog.store import CatalogStore, Row, partition_key
from streamkit.clock import Clock
from streamkit.control import ControlFile
from streamkit.model.errors import InvalidInput
from streamkit.model.limits import (
    CATALOG_DATABASES_MAX,
    CATALOG_LOOKED_AT_MAX,
    CATALOG_PAGE_BYTES_MAX,
    CATALOG_PAGE_MAX,
    CATALOG_PARTITIONS_MAX,
    CATALOG_PARTITIONS_PAGE_MAX,
    CATALOG_SEARCH_TABLES_MAX,
    CATALOG_TABLES_MAX,
    CATALOG_VERSIONS_MAX,
)
from streamkit.model.names import Scope

T = TypeVar("T", bound=msgspec.Struct)
Given = Mapping[str, Any]

_NEWEST: Final = 10**9


class Page(NamedTuple, Generic[T]):
    """`onward` is where the next page begins, None at the end. A page may be short, or empty, and have a next one."""

    items: list[T]
    onward: str | None


class Catalog:
    """See the module. Names are folded to lower case, whoever asks."""

    def __init__(self, control: ControlFile, *, clock: Clock, random: random.Random) -> None:
        self._store = CatalogStore(control)
        self._clock = clock
        self._random = random

    # -- what deliveries ask -----------------------------------------------------------------------------------------

    def columns(self, scope: Scope, database: str, table: str, version: str | None) -> tuple[tuple[str, str], ...]:
        """Names and Hive types in order, of a version or of the latest. Raises EntityNotFound, which is a
        ResourceNotFound; InvalidInput for a type that nobody can read."""
        return rules.columns_of(self.table(scope, database, table, version))

    def ensure(self, scope: Scope, database: str, table: str, columns: Sequence[tuple[str, str]]) -> None:
        """Makes a table of these columns, and its database, as far as they are not there. A table that is there stays
        as it is."""
        rules.require_columns(f"table {database}.{table}", columns)
        if self._store.database(scope, rules.folded(database)) is None:
            self.create_database(scope, {"Name": database})
        if self._store.table(scope, rules.folded(database), rules.folded(table)) is None:
            described = [{"Name": name, "Type": kind} for name, kind in columns]
            given = {"Name": table, "StorageDescriptor": {"Columns": described}, "TableType": "EXTERNAL_TABLE"}
            self.create_table(scope, database, given)

    # -- databases ---------------------------------------------------------------------------------------------------

    def create_database(self, scope: Scope, given: Given, tags: Mapping[str, str] | None = None) -> DatabaseState:
        document = _document(given)
        name = document["Name"]
        if self._store.database(scope, name) is not None:
            raise rules.already_exists("Database")
        rules.require_room("databases", self._store.databases_count(scope) + 1, CATALOG_DATABASES_MAX)
        state = DatabaseState(*scope, name, document, self._now_ms(), dict(tags or {}))
        self._store.save_database(state)
        return state

    def database(self, scope: Scope, name: str) -> DatabaseState:
        state = self._store.database(scope, rules.folded(name))
        if state is None:
            raise rules.database_not_found(rules.folded(name))
        return state

    def databases(self, scope: Scope, *, after: str = "", items_max: int = CATALOG_PAGE_MAX) -> Page[DatabaseState]:
        return _page(self._store.databases(scope, after), DatabaseState, items_max)

    def update_database(self, scope: Scope, name: str, given: Given) -> None:
        state = self.database(scope, name)
        document = _document(given)
        if document["Name"] != state.name:  # our words; AWS says that a database cannot be renamed
            raise InvalidInput(f"Database {state.name} cannot be renamed to {document['Name']}.")
        self._store.save_database(msgspec.structs.replace(state, document=document))

    def set_tags(self, scope: Scope, name: str, tags: Mapping[str, str]) -> None:
        """All tags of a database."""
        self._store.save_database(msgspec.structs.replace(self.database(scope, name), tags=dict(tags)))

    def delete_database(self, scope: Scope, name: str) -> None:
        """With everything in it, at once."""
        self._store.delete_database(scope, self.database(scope, name).name)

    def delete_all(self) -> None:
        """Everything of everybody."""
        self._store.delete_all()

    # -- tables ------------------------------------------------------------------------------------------------------

    def create_table(
        self, scope: Scope, database: str, given: Given, indexes: Sequence[Mapping[str, Any]] = ()
    ) -> TableState:
        owner = self.database(scope, database).name
        document = _document(given)
        name = document["Name"]
        if self._store.table(scope, owner, name) is not None:
            raise rules.already_exists("Table")
        rules.require_room("tables", self._store.tables_count(scope, owner) + 1, CATALOG_TABLES_MAX)
        now_ms = self._now_ms()
        state = TableState(
            self._random.randbytes(16).hex(), *scope, owner, name, 0, document, now_ms, now_ms, list(map(dict, indexes))
        )
        self._store.add_table(state)
        return state

    def table(self, scope: Scope, database: str, name: str, version: str | None = None) -> TableState:
        owner, name = rules.folded(database), rules.folded(name)
        state = self._store.table(scope, owner, name)
        if state is None:
            self.database(scope, owner)
            raise rules.table_not_found(name)
        if version is None or rules.parse_version(version) == state.version:
            return state
        archived = self._store.version(state, rules.parse_version(version))
        if archived is None:
            raise rules.version_not_found(version)
        return archived

    def tables(
        self,
        scope: Scope,
        database: str,
        *,
        expression: str | None = None,
        after: str = "",
        items_max: int = CATALOG_PAGE_MAX,
    ) -> Page[TableState]:
        """By name; those whose names match, see `rules.name_matcher`."""
        owner = self.database(scope, database).name
        matches = rules.name_matcher(expression) if expression else None
        return _page(self._store.tables(scope, owner, after), TableState, items_max, matches)

    def every_table(self, scope: Scope) -> Iterator[TableState]:
        """Of all databases, by database and name, as far as SearchTables looks. To be used up before anything is
        changed."""
        for _, row in zip(range(CATALOG_SEARCH_TABLES_MAX), self._store.all_tables(scope), strict=False):
            yield msgspec.json.decode(row.document, type=TableState)

    def update_table(
        self, scope: Scope, database: str, given: Given, *, version: str | None = None, archives: bool = True
    ) -> TableState:
        """The next version, which replaces the table's definition as a whole. Raises ConcurrentModification where
        `version` is given and is not the current one. The version before it is kept where `archives`."""
        document = _document(given)
        current = self.table(scope, database, document["Name"])
        if version is not None and version != str(current.version):
            raise rules.modified_meanwhile()
        if archives:
            rules.require_room("table versions", self._store.counts(current).versions + 1, CATALOG_VERSIONS_MAX)
        state = msgspec.structs.replace(
            current, version=current.version + 1, document=document, updated_at_ms=self._now_ms()
        )
        self._store.replace_table(state, current if archives else None)
        return state

    def delete_table(self, scope: Scope, database: str, name: str) -> None:
        self._store.delete_tables([self.table(scope, database, name)])

    # -- versions ----------------------------------------------------------------------------------------------------

    def versions(
        self, scope: Scope, database: str, name: str, *, after: str = "", items_max: int = CATALOG_PAGE_MAX
    ) -> Page[TableState]:
        """Newest first: the current one, and those that are archived."""
        current = self.table(scope, database, name)
        if not after:
            page = _page(self._store.versions(current, current.version), TableState, items_max - 1)
            onward = page.onward if page.items or page.onward is None else str(current.version)
            return Page([current, *page.items], onward)
        return _page(self._store.versions(current, rules.parse_version(after)), TableState, items_max)

    def delete_version(self, scope: Scope, database: str, name: str, version: str) -> None:
        """An archived one. AWS's answer for the current one is not known; ours is an InvalidInput."""
        found = self.table(scope, database, name, version)
        current = self.table(scope, database, name)
        if found.version == current.version:
            raise InvalidInput(f"Version {version} is the current version of table {current.name}.")
        self._store.delete_version(current, found.version)

    # -- partitions --------------------------------------------------------------------------------------------------

    def create_partition(self, scope: Scope, database: str, name: str, given: Given) -> None:
        if self.create_partitions(scope, database, name, [given]):
            raise rules.already_exists("Partition")

    def create_partitions(self, scope: Scope, database: str, name: str, given: Sequence[Given]) -> list[list[str]]:
        """Makes those that are not there; returns the values of those that are, also earlier in the same call."""
        table = self.table(scope, database, name)
        now_ms, known, added = self._now_ms(), [], dict[str, PartitionState]()
        for each in given:
            state = self._partition_state(table, each, now_ms)
            key = partition_key(state.values)
            if key in added or self._store.partition(table, state.values) is not None:
                known.append(state.values)
            else:
                added[key] = state
        count = self._store.counts(table).partitions + len(added)
        rules.require_room("partitions", count, CATALOG_PARTITIONS_MAX)
        if added:
            self._store.change_partitions(table, list(added.values()))
        return known

    def partition(self, scope: Scope, database: str, name: str, values: Sequence[str]) -> PartitionState:
        table = self.table(scope, database, name)
        state = self._store.partition(table, rules.require_partition(table, values))
        if state is None:
            raise rules.partition_not_found()
        return state

    def partitions(
        self,
        scope: Scope,
        database: str,
        name: str,
        *,
        expression: str | None = None,
        after: str = "",
        items_max: int = CATALOG_PARTITIONS_PAGE_MAX,
    ) -> Page[PartitionState]:
        """By their values as text; those that fulfil the expression, see `predicates`."""
        table = self.table(scope, database, name)
        matches = None
        if expression and expression.strip():
            holds = predicates.parse(expression, table.partition_keys)
            matches = lambda key: holds(msgspec.json.decode(key, type=list[str]))  # noqa: E731
        return _page(self._store.partitions(table, after), PartitionState, items_max, matches)

    def update_partition(
        self, scope: Scope, database: str, name: str, values: Sequence[str], given: Given
    ) -> PartitionState:
        """Replaces it; where its values change, AWS's model asks for deleting and making it anew, and AWS takes it: so
        do we, where no other has the new values."""
        table = self.table(scope, database, name)
        before = self.partition(scope, database, name, values)
        state = self._partition_state(table, {"Values": before.values, **given}, before.created_at_ms)
        if state.values != before.values and self._store.partition(table, state.values) is not None:
            raise rules.already_exists("Partition")
        self._store.change_partitions(table, [state], [before.values])
        return state

    def delete_partition(self, scope: Scope, database: str, name: str, values: Sequence[str]) -> None:
        found = self.partition(scope, database, name, values)
        self._store.change_partitions(self.table(scope, database, name), [], [found.values])

    def _partition_state(self, table: TableState, given: Given, created_at_ms: int) -> PartitionState:
        values = rules.require_partition(table, given.get("Values"))
        document = {name: value for name, value in given.items() if name != "Values"}
        rules.require_size(given)
        return PartitionState(list(values), document, created_at_ms)

    def _now_ms(self) -> int:
        """Glue tells whole seconds."""
        return self._clock.now_ms() // 1000 * 1000


def _document(given: Given) -> dict[str, Any]:
    rules.require_size(given)
    return {**given, "Name": rules.folded(given["Name"])}


def _page(rows: Iterator[Row], kind: type[T], items_max: int, matches: Callable[[str], bool] | None = None) -> Page[T]:
    """As many rows as fit into an answer, in count and in bytes. Rows that do not match cost no decoding, and an answer
    leaves out a bounded number of them."""
    items: list[T] = []
    size_bytes, left_out, last = 0, 0, ""
    for row in rows:
        if matches is not None and not matches(row.name):
            left_out += 1
        elif len(items) >= items_max or (items and size_bytes + len(row.document) > CATALOG_PAGE_BYTES_MAX):
            return Page(items, last)
        else:
            items.append(msgspec.json.decode(row.document, type=kind))
            size_bytes += len(row.document)
        last = row.name
        if left_out >= CATALOG_LOOKED_AT_MAX:
            return Page(items, last)
    return Page(items, None)
