"""Queries from text to rows: finds what tables are read from, and drives the program."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import pyarrow as pa

from streamkit.clock import SystemClock
from streamkit_sql.errors import NotSupported, ValueProblem
from streamkit_sql.plan.nodes import Output
from streamkit_sql.plan.planner import Planner
from streamkit_sql.runtime.driver import READ_BYTES_MAX, Driver, NoMarks
from streamkit_sql.runtime.duck import connect
from streamkit_sql.runtime.engine import Emitted
from streamkit_sql.runtime.functions import install
from streamkit_sql.runtime.program import Program, ScanEdge, compile_outputs
from streamkit_sql.session import Session
from streamkit_sql.tables.definition import TableDefinition
from streamkit_sql.tables.files import FilesSource
from streamkit_sql.tables.live_table import LiveSource
from streamkit_sql.tables.scan import Scan
from streamkit_sql.tables.source import TableSource

READ_ROWS_MAX = 100_000

if TYPE_CHECKING:
    import duckdb

    from streamkit.kit.backend import Backend


def compiled(session: Session, outputs: Sequence[Output], folder: Path | None = None) -> Program:
    """The program of some queries. `folder` is that of the application, whose live tables they read."""
    return compile_outputs(outputs, References(session, folder))


class References:
    """Reference tables for lookup joins: files, read again when they have changed."""

    def __init__(self, session: Session, folder: Path | None = None) -> None:
        self._session = session
        self._folder = folder
        self._held: dict[tuple[str, tuple[str, ...]], tuple[object, pa.Table]] = {}

    def lookup(self, table: str, names: tuple[str, ...]) -> pa.Table:
        """The columns of all rows; the same object while nothing has changed."""
        definition = self._session.catalog.tables[table]
        is_live = definition.connector == "live"
        source = LiveSource(definition, self._folder) if is_live else FilesSource(definition, lambda: 0)
        seen: object = source.files()
        if isinstance(source, LiveSource):
            seen = [(name, path.stat().st_mtime_ns, path.stat().st_size) for name, path in source.files()]
        held = self._held.get((table, names))
        if held is None or held[0] != seen:
            held = self._held[table, names] = (seen, self._read(definition, source, names))
        return held[1]

    def _read(self, definition: TableDefinition, source: FilesSource | LiveSource, names: tuple[str, ...]) -> pa.Table:
        database = connect()
        try:
            planner = Planner(self._session.catalog)
            bound = definition.bind(planner)
            install(database, [repr(bound)], self._session.catalog.called)
            wanted = {column.name: column for column in bound.columns if column.name in names}
            scan = Scan(definition, bound, wanted, database)
            position: str | None = None
            tables = []
            while (batch := source.read_now(position, READ_ROWS_MAX, READ_BYTES_MAX)) is not None:
                position = batch.position
                tables.append(scan.rows([batch], 0, NoMarks()).rows.select(list(names)))
            return pa.concat_tables(tables) if tables else scan.rows([], 0, NoMarks()).rows.select(list(names))
        finally:
            database.close()


def tables_of(
    session: Session,
    program: Program,
    database: duckdb.DuckDBPyConnection,
    backend: Backend | None,
    *,
    folder: Path | None = None,
    sources: Mapping[str, TableSource] = MappingProxyType({}),
) -> list[tuple[ScanEdge, TableSource, Scan]]:
    """What the program's tables are read from; `sources` by name are those that only who calls has."""
    found = []
    texts = [repr(result.output.query) for result in program.results]
    for edge in program.scans:
        definition = session.catalog.tables[edge.table]
        if edge.options:
            definition = definition.with_options(edge.options)
        bound = definition.bind(Planner(session.catalog))
        texts.append(repr(bound))
        scan = Scan(definition, bound, edge.paths, database)
        found.append((edge, sources.get(edge.table) or source_of(definition, backend, folder), scan))
    install(database, texts, session.catalog.called)
    return found


def source_of(definition: TableDefinition, backend: Backend | None, folder: Path | None = None) -> TableSource:
    """By the table's connector."""
    connector = definition.connector
    if connector == "filesystem":
        return FilesSource(definition, lambda: 0)
    if connector == "kinesis":
        from streamkit_sql.tables.streams import StreamSource, starting

        if backend is None:
            raise NotSupported(f"table {definition.name!r} reads a stream; there are none here.")
        return StreamSource(backend, stream_of(definition.options), starting(definition.options))
    if connector == "live":
        return LiveSource(definition, folder)
    if connector == "datagen":
        from streamkit_sql.tables.datagen import DatagenSource

        return DatagenSource(definition, SystemClock().now_ms)
    raise NotSupported(f"table {definition.name!r} can be written, not read: it is a {connector!r}.")


def stream_of(options: Mapping[str, str]) -> str:
    """The stream a table is of: `stream`, or the last part of `stream.arn`."""
    return options.get("stream") or options["stream.arn"].rpartition("/")[2]


async def run_bounded(
    session: Session, outputs: Sequence[Output], *, rows_per_tick: int = 20_000, backend: Backend | None = None
) -> AsyncIterator[Emitted]:
    """All rows of queries over tables that end, in this process's memory."""
    database = connect()
    try:
        program = compiled(session, outputs)
        driver = Driver(program, database, tables_of(session, program, database, backend), rows_per_tick=rows_per_tick)
        async for emitted in driver.run():
            _require_good(driver)
            for each in emitted:
                yield each
        _require_good(driver)
    finally:
        database.close()


def _require_good(driver: Driver) -> None:
    """Without an error stream a row that cannot be read ends the query, as it ends Flink's."""
    if driver.bad_rows:
        bad = driver.bad_rows[0]
        hint = "Set 'json.ignore-parse-errors' = 'true' to read what can be read of it."
        raise ValueProblem(f"a row of table {bad.table!r} cannot be read: {bad.reason}.", hint=hint)
