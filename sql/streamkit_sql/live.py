"""Queries over the streams of a kit: `kit.sql(..)` and `streamkit sql`.

A stream needs no CREATE TABLE: the columns of one that a query names are discovered from its newest records.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from streamkit.clock import SystemClock
from streamkit.model.errors import ResourceNotFound, UsageError
from streamkit_sql.errors import UnknownName
from streamkit_sql.expressions.bound import Column
from streamkit_sql.language import tree
from streamkit_sql.language.parser import parse_script
from streamkit_sql.plan.explain import explain
from streamkit_sql.queries import compiled, tables_of
from streamkit_sql.runtime.driver import Driver
from streamkit_sql.runtime.duck import connect
from streamkit_sql.runtime.engine import Emitted
from streamkit_sql.runtime.results import to_arrow
from streamkit_sql.session import Script, Session
from streamkit_sql.tables.streams import SETTLE_MS, Start, StreamSource

if TYPE_CHECKING:
    from streamkit.kit.backend import Backend
    from streamkit_sql.user_functions.declared import FuncType, TypeLike

SAMPLE_RECORDS_MAX: Final = 1_000
SAMPLE_BYTES_MAX: Final = 4 << 20
WAIT_MS: Final = 50
"""How long a query sleeps without new records: so late do windows of processing time close."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of a result. Where it updates, `weights` says of each whether it comes (1) or goes (-1)."""

    table: pa.Table
    weights: list[int] | None


class Result:
    """A query that runs while it is iterated over: `async for rows in result`. Iterating ends it when it is left."""

    def __init__(self, columns: tuple[Column, ...], rows: AsyncIterator[Rows]) -> None:
        self.columns = columns
        self._rows = rows

    def __aiter__(self) -> AsyncIterator[Rows]:
        return self._rows

    async def to_arrow(self) -> pa.Table:
        """All rows that are there at the end, of a query that has one (`follow=False`)."""
        tables, weights = [], []
        updates = False
        async for rows in self:
            tables.append(rows.table)
            weights += rows.weights or [1] * rows.table.num_rows
            updates = updates or rows.weights is not None
        if not tables:
            return pa.schema([pa.field(column.name, column.type.arrow) for column in self.columns]).empty_table()
        table = pa.concat_tables(tables)
        return _standing(table, weights) if updates else table

    async def to_pandas(self) -> Any:
        return (await self.to_arrow()).to_pandas()

    async def to_polars(self) -> Any:
        import polars

        return polars.from_arrow(await self.to_arrow())


def _standing(table: pa.Table, weights: list[int]) -> pa.Table:
    """The rows that came and did not go."""
    open_rows: dict[str, list[int]] = {}
    for index, (row, weight) in enumerate(zip(table.to_pylist(), weights, strict=True)):
        places = open_rows.setdefault(repr(row), [])
        if weight > 0:
            places.append(index)
        else:
            places.pop()
    return table.take(sorted(index for places in open_rows.values() for index in places))


class Queries:
    """A session over the streams of a backend. Statements keep what they declare."""

    def __init__(self, backend: Backend | None, *, session: Session | None = None) -> None:
        """Without a backend there are no streams, only files."""
        self.session = session or Session()
        self._backend = backend

    def register(
        self,
        name: str,
        function: Any,
        *,
        result_type: TypeLike | None = None,
        input_types: Sequence[TypeLike] | None = None,
        func_type: FuncType = "general",
        deterministic: bool | None = None,
    ) -> None:
        """Makes a Python function one of SQL's, in the queries planned from now on: see `Session.register`."""
        self.session.register(
            name,
            function,
            result_type=result_type,
            input_types=input_types,
            func_type=func_type,
            deterministic=deterministic,
        )

    async def prepare(self, text: str) -> Script:
        """Plans a script. Streams it names, and has no tables for, are discovered."""
        statements = parse_script(text)
        known = {*self.session.catalog.tables, *self.session.catalog.views, *declared(statements)}
        for name in dict.fromkeys(tables_named(statements)):
            if name not in known and self._backend is not None:
                await self.discover(name)
        return self.session.run(text)

    async def discover(self, stream: str) -> None:
        """Declares a table for a stream, if there is one of this name."""
        from streamkit_sql.tables.definition import TableDefinition
        from streamkit_sql.tables.discovery import discover

        try:
            samples = await self._samples(stream)
        except ResourceNotFound:
            return
        if not samples:
            hint = "Put some records, or declare a table with CREATE TABLE .. WITH ('connector' = 'kinesis', ..)."
            raise UnknownName(f"stream {stream!r} has no records to discover columns from.", hint=hint)
        create = discover(stream, {"connector": "kinesis", "stream": stream}, samples)
        self.session.catalog.tables[stream] = TableDefinition.from_create(create)

    async def _samples(self, stream: str) -> list[bytes]:
        if self._backend is None:
            return []
        source = StreamSource(self._backend, stream, "TRIM_HORIZON")
        samples: list[bytes] = []
        for split in await source.splits():
            batch = await source.read(split, None, SAMPLE_RECORDS_MAX, SAMPLE_BYTES_MAX)
            if batch is not None:
                assert isinstance(batch.rows, pa.BinaryArray)
                samples += batch.rows.to_pylist()
        return samples

    async def explain(self, text: str) -> str:
        """The plan of a script, and the CREATE TABLE statements of what was discovered for it."""
        from streamkit_sql.language.printer import to_flink

        before = set(self.session.catalog.tables)
        script = await self.prepare(text)
        made = [table.to_create() for name, table in self.session.catalog.tables.items() if name not in before]
        return "\n\n".join([*(to_flink(each) + ";" for each in made), explain(script.outputs)])

    async def query(self, text: str, *, start: Start | None = None, follow: bool = True) -> Result:
        """One query. `start` is TRIM_HORIZON, LATEST, or epoch ms; by default what its tables say, and without `follow`
        all that is there now. Statements before the query are carried out."""
        script = await self.prepare(text)
        if len(script.outputs) != 1:
            raise UsageError(f"the text has {len(script.outputs)} queries; one is run here")
        return Result(script.outputs[0].columns, self.rows(script, start=start, follow=follow))

    async def rows(
        self,
        script: Script,
        *,
        start: Start | None = None,
        follow: bool = True,
        rows_per_tick: int = 20_000,
        now_ms: Callable[[], int] | None = None,
    ) -> AsyncIterator[Rows]:
        """The results of a script's queries, as they come. Without `follow`, over what is in the streams now."""
        database = connect()
        try:
            async for emitted in self._emitted(
                script, database, start, follow, rows_per_tick, now_ms or SystemClock().now_ms
            ):
                yield _rows(emitted)
        finally:
            database.close()

    async def _emitted(
        self,
        script: Script,
        database: Any,
        start: Start | None,
        follow: bool,
        rows_per_tick: int,
        now_ms: Callable[[], int],
    ) -> AsyncIterator[Emitted]:
        program = compiled(self.session, script.outputs)
        tables = tables_of(self.session, program, database, self._backend)
        for _, source, _ in tables:
            if isinstance(source, StreamSource):
                source.begin(start if follow else start or "TRIM_HORIZON", is_bounded=not follow)
        driver = Driver(
            program,
            database,
            tables,
            rows_per_tick=rows_per_tick,
            settled_ms=lambda: now_ms() - SETTLE_MS,
            threaded=True,
        )
        await driver.open()
        while not driver.is_ended:
            emitted = await driver.step()
            for each in emitted:
                yield each
            if not driver.rows_taken and not driver.is_ended:
                await driver.wait(WAIT_MS)


def _rows(emitted: Emitted) -> Rows:
    table = to_arrow(emitted.rows, emitted.output.columns)
    count = len(emitted.output.columns)
    weights = table.column(count).to_pylist() if table.num_columns > count else None
    return Rows(table.select(range(count)), weights)


def declared(node: Any) -> Iterator[str]:
    """The tables and views a script makes, those of WITH among them."""
    if isinstance(node, tuple | list):
        for each in node:
            yield from declared(each)
    elif isinstance(node, tree.Node):
        if isinstance(node, tree.CreateTable | tree.CreateView):
            yield node.name.parts[-1]
        elif isinstance(node, tree.With):
            yield from (name for name, _, _ in node.views)
        for each in fields(node):
            yield from declared(getattr(node, each.name))


def tables_named(node: Any) -> Iterator[str]:
    """The tables a script names, wherever."""
    if isinstance(node, tuple | list):
        for each in node:
            yield from tables_named(each)
    elif isinstance(node, tree.TableName):
        yield node.name.parts[-1]
    elif isinstance(node, tree.TableArgument) and isinstance(node.table, tree.Name):
        yield node.table.parts[-1]
    elif isinstance(node, tree.Node):
        for each in fields(node):
            yield from tables_named(getattr(node, each.name))
