"""Drives a program: reads its tables, cuts what they give into ticks, commits state and positions together.

A restart begins at the last commit. Rows that were given out after it come again; whoever takes them (`sinks`) knows
what it has of them already, because what is given out is committed before it is given.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import pyarrow as pa

from streamkit_sql.errors import ValueProblem
from streamkit_sql.runtime.align import Queue, take
from streamkit_sql.runtime.engine import Emitted, Engine
from streamkit_sql.runtime.operator import END_MS, NO_WATERMARK_MS, Edge
from streamkit_sql.runtime.program import Program, ScanEdge
from streamkit_sql.runtime.python_calls import FAILED
from streamkit_sql.tables.scan import Scan, Scanned
from streamkit_sql.tables.source import SourceBatch, TableSource, sequence_numbers
from streamkit_sql.tables.watermark import Watermarks

if TYPE_CHECKING:
    import duckdb

_T = TypeVar("_T")
_TIME_MAX_MS = 2**60  # an end is nothing that arrives: sums with it must not overflow
_PLACES = frozenset({"path", "stream", "stream.arn"})
READ_BYTES_MAX = 16 << 20
"""Of one read of one split; with the rows of a tick it bounds what a query holds besides its state."""


@dataclass(slots=True)
class Table:
    """A table of a program: what it is read from, and what turns that into rows. Positions are kept by `key`: they are
    of what is read, wherever a changed script reads it."""

    key: str
    name: str
    edge: Edge
    source: TableSource
    scan: Scan
    queues: dict[str, Queue]
    has_watermark: bool
    idle_timeout_ms: int | None

    def positions(self) -> dict[str, str | None]:
        """Where each split is read on."""
        return {
            split: queue.batches[-1].position if queue.batches else queue.position
            for split, queue in self.queues.items()
        }


@runtime_checkable
class Waiting(Protocol):
    """A source that can tell when it has more."""

    async def wait(self, positions: dict[str, str | None], wait_ms: int) -> None: ...


@runtime_checkable
class Beginning(Protocol):
    """A source whose positions to begin with depend on when they are asked for: they are kept, once they were found."""

    def go_on(self) -> None:
        """A run before has begun: splits that it has not seen came to be since. Before `splits`."""
        ...

    def first_position(self, split: str) -> str: ...


@dataclass(frozen=True, slots=True)
class BadRow:
    """A payload that is no row of its table, and where it was."""

    table: str
    reason: str
    split: str = ""
    row: bytes | str | None = None
    sequence_number: str | None = None
    watermark_ms: int = NO_WATERMARK_MS


@dataclass(frozen=True, slots=True)
class SplitState:
    """How far a split is. `holds_back`: the watermark of the query waits for this one."""

    table: str
    split: str
    watermark_ms: int
    is_idle: bool
    holds_back: bool
    arrived_ms: int
    rows_taken: int


_WATERMARKS = "watermarks"


def keys_of(tables: Sequence[tuple[ScanEdge, TableSource, Scan]]) -> list[str]:
    """What is read, as text: the same for the same stream or files, whatever else a script changes."""
    found: list[str] = []
    for edge, _, scan in tables:
        place = {name: text for name, text in scan.table.options.items() if name in _PLACES}
        key = json.dumps([edge.table, scan.table.connector, place, edge.options], sort_keys=True)
        found.append(f"{key} {found.count(key)}" if key in found else key)
    return found


class Driver:
    """One run of a program. `step` is asked again and again; it owns the connection's transactions."""

    def __init__(
        self,
        program: Program,
        database: duckdb.DuckDBPyConnection,
        tables: Sequence[tuple[ScanEdge, TableSource, Scan]],
        *,
        rows_per_tick: int = 20_000,
        settled_ms: Callable[[], int] | None = None,
        threaded: bool = False,
    ) -> None:
        """`settled_ms` tells up to which arrival nothing new can come any more; None where all tables end."""
        self.engine = Engine(program, database)
        self.bad_rows: list[BadRow] = []
        self._database = database
        self._watermarks = Watermarks()
        self._tables = [
            Table(key, edge.table, edge.edge, source, scan, {}, scan.has_watermark, scan.table.idle_timeout_ms)
            for key, (edge, source, scan) in zip(keys_of(tables), tables, strict=True)
        ]
        self._rows_per_tick = rows_per_tick
        self._settled_ms = settled_ms
        self._threaded = threaded
        self.rows_taken = 0
        """By the last step."""
        self._taken: dict[tuple[str, str], tuple[int, int]] = {}  # rows and last arrival, by table and split

    async def open(self) -> None:
        """Finds the state of a run before. Begins a transaction."""
        await self._run(self._open)

    def _open(self) -> None:
        self._database.execute("BEGIN")
        self._database.execute("CREATE TABLE IF NOT EXISTS driver (key VARCHAR, value VARCHAR)")
        self.engine.open()
        saved = dict(self._database.execute("SELECT key, value FROM driver").fetchall())
        for table in self._tables:
            splits = json.loads(saved.get(table.key, "{}"))
            table.queues.update({split: Queue(position, given) for split, (position, given) in splits.items()})
            if splits and isinstance(table.source, Beginning):
                table.source.go_on()
        if _WATERMARKS in saved:
            prefixed = [(table.scan.split_prefix + split, table) for table in self._tables for split in table.queues]
            timeouts = {split: table.idle_timeout_ms for split, table in prefixed}
            marks = [tuple(each) for each in json.loads(saved[_WATERMARKS])]
            self._watermarks.restore([each for each in marks if each[0] in timeouts], timeouts)

    @property
    def is_ended(self) -> bool:
        return self.engine.is_ended

    def splits(self) -> list[SplitState]:
        """How far each is; who asks why a window does not close looks here."""
        standing = {name: (watermark, is_idle) for name, watermark, is_idle in self._watermarks.standing()}
        lowest = min((mark for mark, is_idle in standing.values() if not is_idle), default=None)
        found = []
        for table in self._tables:
            for split in table.queues:
                mark, is_idle = standing.get(table.scan.split_prefix + split, (NO_WATERMARK_MS, False))
                holds = table.has_watermark and not is_idle and mark == lowest
                count, arrived_ms = self._taken.get((table.name, split), (0, NO_WATERMARK_MS))
                found.append(SplitState(table.name, split, mark, is_idle, holds, arrived_ms, count))
        return found

    def ended_but(self, source: TableSource) -> bool:
        """Whether the other tables have given all their rows."""
        queues = [queue for table in self._tables if table.source is not source for queue in table.queues.values()]
        return bool(queues) and all(queue.read_to_ms >= END_MS and not queue.rows for queue in queues)

    async def run(self) -> AsyncIterator[list[Emitted]]:
        """All results until the tables end; nothing is committed."""
        await self.open()
        while not self.is_ended:
            emitted = await self.step()
            if emitted:
                yield emitted

    async def step(self) -> list[Emitted]:
        """One tick: reads what is there, takes it in, gives what comes of it."""
        ended = await self._read()
        import duckdb

        try:
            return await self._run(partial(self._tick, ended))
        except (duckdb.InvalidInputException, duckdb.ConversionException, duckdb.OutOfRangeException) as error:
            # What expressions' texts raise for values; anything else DuckDB complains of is a fault of ours.
            text = str(error).split("\n")[0].split(": ", 1)[-1].removeprefix(FAILED)
            raise ValueProblem(f"a value stops the query: {text}") from error

    async def wait(self, wait_ms: int) -> None:
        """Returns when there may be more to read, or after `wait_ms`. For when a step took nothing in."""
        waits = [
            asyncio.ensure_future(table.source.wait(table.positions(), wait_ms))
            for table in self._tables
            if isinstance(table.source, Waiting)
        ]
        if not waits:
            await asyncio.sleep(wait_ms / 1000)
            return
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def checkpoint(self) -> None:
        """State and positions are durable when this returns."""
        await self._run(self._commit)

    def _commit(self) -> None:
        self.engine.save()
        self._database.execute("DELETE FROM driver")
        for table in self._tables:
            positions = {split: (queue.position, queue.given) for split, queue in table.queues.items()}
            self._database.execute("INSERT INTO driver VALUES (?, ?)", [table.key, json.dumps(positions)])
        marks = json.dumps(self._watermarks.state())
        self._database.execute("INSERT INTO driver VALUES (?, ?)", [_WATERMARKS, marks])
        self._database.execute("COMMIT")
        self._database.execute("BEGIN")

    async def _run(self, work: Callable[[], _T]) -> _T:
        return await asyncio.to_thread(work) if self._threaded else work()

    # -- reading -----------------------------------------------------------------------------------------------------

    async def _read(self) -> bool:
        """Fills the queues. True where all tables have ended and all their rows are in queues."""
        # Taken before reading: what has settled by then is found by the reads that follow.
        settled_ms = NO_WATERMARK_MS if self._settled_ms is None else self._settled_ms()
        all_ended = True
        for table in self._tables:
            for split in await table.source.splits():
                if split not in table.queues:
                    source = table.source
                    first = source.first_position(split) if isinstance(source, Beginning) else None
                    table.queues[split] = Queue(first)
                if table.has_watermark:
                    self._watermarks.add(table.scan.split_prefix + split, table.idle_timeout_ms, NO_WATERMARK_MS)
            for split, queue in table.queues.items():
                if queue.rows >= self._rows_per_tick:
                    all_ended = False
                    continue
                if queue.read_to_ms >= END_MS:
                    continue
                last = queue.batches[-1].position if queue.batches else queue.position
                batch = await table.source.read(split, last, self._rows_per_tick, READ_BYTES_MAX)
                if batch is not None:
                    skipped = queue.given if not queue.batches and queue.first == 0 else 0
                    queue.add(batch)
                    if skipped:
                        queue.given = 0
                        queue.skip(skipped)
                    all_ended = False
                elif table.source.is_bounded:
                    queue.read_to_ms = END_MS
                else:
                    queue.read_to_ms = max(queue.read_to_ms, settled_ms)
                    all_ended = False
        return all_ended

    # -- a tick ------------------------------------------------------------------------------------------------------

    def _tick(self, ended: bool) -> list[Emitted]:
        queues = [queue for table in self._tables for queue in table.queues.values()]
        owners = [table for table in self._tables for _ in table.queues]
        self.rows_taken = 0
        if not queues:
            return self.engine.tick({}, watermark_ms=NO_WATERMARK_MS, arrived_ms=0, is_last=ended)
        taken = take(queues, self._rows_per_tick)
        self.rows_taken = sum(len(batch) for _, batch in taken.batches)
        for owner, batch in taken.batches:
            key = (owners[owner].name, batch.split)
            last = batch.arrived_ms if isinstance(batch.arrived_ms, int) else int(batch.arrived_ms[-1])
            self._taken[key] = (self._taken.get(key, (0, 0))[0] + len(batch), last)
        is_last = ended and not any(queue.rows for queue in queues)
        rows = self._scan(taken.batches, owners)
        if taken.arrived_ms > NO_WATERMARK_MS:
            self._watermarks.pass_time(min(taken.arrived_ms, _TIME_MAX_MS))
        return self.engine.tick(
            rows,
            watermark_ms=self._watermarks.watermark_ms,
            arrived_ms=min(taken.arrived_ms, _TIME_MAX_MS),
            is_last=is_last,
        )

    def _scan(self, batches: Sequence[tuple[int, SourceBatch]], owners: Sequence[Table]) -> Mapping[Edge, pa.Table]:
        first = self.engine.numbers(0)
        if len(self._tables) == 1:
            table = self._tables[0]
            marks: Any = self._watermarks if table.has_watermark else NoMarks()
            mine = [batch for _, batch in batches]
            found = table.scan.rows(mine, first, marks)
            self._note(table, found, mine)
            self.engine.numbers(found.rows.num_rows)
            return {table.edge: found.rows}
        return self._interleaved(batches, owners, first)

    def _note(self, table: Table, found: Scanned, batches: Sequence[SourceBatch]) -> None:
        if not found.bad:
            return
        full = [batch for batch in batches if len(batch)]
        for each in found.bad:
            batch = full[each.batch]
            row = batch.rows.slice(each.index, 1).to_pylist()[0]
            shard = str(batch.metadata.get("shard-id", batch.split))
            row = row if row is None or isinstance(row, bytes | str) else json.dumps(row, default=str)
            mark = self._watermarks.watermark_ms
            numbers = sequence_numbers(batch, each.index, each.index + 1)
            number = None if numbers is None else numbers[0]
            self.bad_rows.append(BadRow(table.name, each.reason, shard, row, number, mark))

    def _interleaved(
        self, batches: Sequence[tuple[int, SourceBatch]], owners: Sequence[Table], first: int
    ) -> dict[Edge, pa.Table]:
        """Several tables' rows, each table's decoded at once, then numbered and given watermarks in the one order in
        which they arrived."""
        notes: dict[str, NoMarks] = {}
        tables: dict[Edge, pa.Table] = {}
        for index, table in enumerate(self._tables):
            notes[str(index)] = NoMarks()
            mine = [batch for owner, batch in batches if owners[owner] is table]
            found = table.scan.rows(mine, first, notes[str(index)])
            self._note(table, found, mine)
            tables[table.edge] = found.rows
        numbers: dict[int, list[Any]] = {index: [] for index in range(len(self._tables))}
        marks: dict[int, list[Any]] = {index: [] for index in range(len(self._tables))}
        for owner, _ in batches:
            index = next(i for i, table in enumerate(self._tables) if table is owners[owner])
            split, times, arrivals = notes[str(index)].entries.pop(0)
            count = len(times)
            numbers[index].append(np.arange(first, first + count))
            first += count
            if self._tables[index].has_watermark:
                marks[index].append(self._watermarks.take(split, times, arrivals))
            else:
                marks[index].append(np.full(count, self._watermarks.watermark_ms))
        for index, table in enumerate(self._tables):
            rows = tables[table.edge]
            if rows.num_rows:
                for name, values in (("$n", numbers[index]), ("$wm", marks[index])):
                    column = pa.array(np.concatenate(values), pa.int64())
                    rows = rows.set_column(rows.schema.get_field_index(name), name, column)
                tables[table.edge] = rows
        self.engine.numbers(sum(table.num_rows for table in tables.values()))
        return tables


class NoMarks:
    """Stands in for watermarks while one of several tables is decoded: what it would have been told."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, Any, Any]] = []

    def take(self, split: str, times_ms: Any, arrivals_ms: Any) -> Any:
        self.entries.append((split, times_ms, arrivals_ms))
        return np.full(len(times_ms), NO_WATERMARK_MS, np.int64)
