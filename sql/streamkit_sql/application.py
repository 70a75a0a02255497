"""A script that runs until it is stopped, or until its tables end: state, positions and results commit together.

    tick ─▶ results ─▶ outbox ─┐
      └──▶ state, positions ───┴─▶ one transaction ─▶ sinks write what was committed (the next empties the outbox)

After a crash the last transaction holds. What of its outbox a sink has written is found by the sink (a file by its
name, records by reading the stream's end), so results are neither lost nor doubled; delivery streams and functions
cannot be asked, and may get the last ones again. Live tables and the error stream are state themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from streamkit.clock import SystemClock
from streamkit.model.errors import UsageError
from streamkit_sql.errors import NotSupported, UnknownName
from streamkit_sql.language.parser import parse_script
from streamkit_sql.limits import SNAPSHOT_MS_MIN, SNAPSHOT_PART, STOP_WAIT_S
from streamkit_sql.live import WAIT_MS, Queries, declared
from streamkit_sql.plan.nodes import Changes, Output
from streamkit_sql.queries import compiled, tables_of
from streamkit_sql.runtime.driver import Driver, keys_of
from streamkit_sql.runtime.duck import connect
from streamkit_sql.runtime.engine import Emitted
from streamkit_sql.runtime.results import to_arrow
from streamkit_sql.session import Session
from streamkit_sql.tables.error_stream import (
    ERROR_STREAM,
    WATERMARKS,
    ErrorLog,
    ErrorSource,
    system_tables,
    watermarks_table,
)
from streamkit_sql.tables.live_table import LiveTable, read_snapshot, snapshot_path, write_snapshot
from streamkit_sql.tables.sinks import Payload, Sink, open_sink
from streamkit_sql.tables.streams import SETTLE_MS

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from streamkit.kit.backend import Backend

_log = logging.getLogger(__name__)

CHECKPOINT_MS: Final = 1_000
"""How often state is committed while there is nothing to write."""
RESULTS_MS: Final = 10
"""How soon after a commit the next may follow, where results wait for it."""
STATE_FILE: Final = "state.duckdb"
_OUTBOX: Final = """
CREATE TABLE IF NOT EXISTS outbox (checkpoint BIGINT, sink VARCHAR, "n" BIGINT, "key" VARCHAR, "data" BLOB);
CREATE TABLE IF NOT EXISTS targets (checkpoint BIGINT, sink VARCHAR, target VARCHAR);
CREATE TABLE IF NOT EXISTS application ("key" VARCHAR, "value" VARCHAR)
"""


@dataclass(slots=True)
class _Out:
    """What is written to a table, by however many INSERTs. `sink` is None of a live table, which is state."""

    target: str
    sink: Sink | None
    waiting: list[Payload] = field(default_factory=list)


class Application:
    """One run of a script. Not to be run twice at a time over one folder: DuckDB's lock on the state refuses that."""

    def __init__(
        self,
        backend: Backend | None,
        text: str,
        folder: Path | None,
        *,
        rows_per_tick: int = 20_000,
        now_ms: Callable[[], int] | None = None,
        modules: Path | None = None,
    ) -> None:
        """Without `folder` nothing is remembered. Modules with functions are looked for in `modules` first."""
        self._backend = backend
        self._text = text
        self._folder = folder
        self._modules = modules
        self._rows_per_tick = rows_per_tick
        self._now_ms = now_ms or SystemClock().now_ms
        self._checkpoint = 0
        self._live: dict[str, LiveTable] = {}
        self._errors = ErrorLog(self._now_ms)
        self._unread: set[str] = set()  # tables that have changed since their snapshot
        self._snapshot_due_ms = 0
        self._snapshots: asyncio.Task[None] | None = None
        self._reader: duckdb.DuckDBPyConnection | None = None
        self._reading = threading.Lock()
        self._kept: dict[str, pa.Table] = {}  # of an application that is not kept in a folder and has ended
        self._marks: pa.Table | None = None
        self.rows_taken = 0
        self.bad_rows = 0
        self.late_rows = 0
        self.checkpoint_ms: int | None = None
        """When state was last committed."""
        self.results: dict[str, int] = {}
        """Rows written by table, in this run."""

    async def run(self, stop: asyncio.Event | None = None) -> None:
        """Returns when all tables have ended, or soon after `stop` is set, everything committed and written. Raises
        SqlError for the script and ValueProblem for values it cannot go on with; then the last commit holds."""
        queries = Queries(self._backend, session=Session(folder=self._modules))
        session = queries.session
        named = set(declared(parse_script(self._text)))
        system = {each.name: each for each in system_tables() if each.name not in named}
        session.catalog.tables.update(system)
        script = await queries.prepare(self._text)
        outs = self._outs(script.outputs, session, frozenset(system))
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
        database = connect(None if self._folder is None else self._folder / STATE_FILE)
        try:
            program = compiled(session, script.outputs, self._folder)
            errors = ErrorSource(self._errors)
            tables = tables_of(
                session,
                program,
                database,
                self._backend,
                folder=self._folder,
                sources={ERROR_STREAM: errors} if ERROR_STREAM in system else {},
            )
            # State is of the rows it was made from: other tables under the same operators are another plan.
            self._prepare(database, "\n".join([program.signature, *keys_of(tables)]) if program.steps else "")
            driver = Driver(
                program,
                database,
                tables,
                rows_per_tick=self._rows_per_tick,
                settled_ms=lambda: self._now_ms() - SETTLE_MS,
                threaded=True,
            )
            errors.others_ended = lambda: driver.ended_but(errors)
            stop = stop or asyncio.Event()
            if await self._deliver_again(database, outs, stop):
                await driver.open()
                await self._loop(driver, database, outs, stop)
            await self._last_snapshots()
        finally:
            if self._snapshots is not None:
                with contextlib.suppress(Exception):  # what went wrong is being raised already
                    await self._snapshots
            with self._reading:
                self._reader = None
            database.close()

    def _outs(self, outputs: Sequence[Output], session: Session, system: frozenset[str]) -> list[_Out]:
        outs: dict[str, _Out] = {}
        live: dict[str, bool] = {}
        for output in outputs:
            if output.target is None:
                raise UsageError("an application writes: each SELECT of its script needs an INSERT INTO before it")
            target = session.catalog.tables[output.target]
            if target.name in system:
                raise NotSupported(f"table {target.name!r} is only read: the application writes it itself.")
            if target.connector == "live":
                if "path" in target.options:
                    hint = "Leave out 'path': an application writes live tables to its own folder."
                    raise NotSupported(f"the live table {target.name!r} is another application's.", target.place, hint)
                live[target.name] = live.get(target.name, False) or output.query.changes is Changes.UPDATES
                outs[target.name] = _Out(target.name, None)
            elif target.name not in outs:
                outs[target.name] = _Out(target.name, open_sink(target, self._backend))
        if not outs:
            raise UsageError("the script has no INSERT INTO: there is nothing to run")
        self._live = {name: LiveTable(session.catalog.tables[name], updates=each) for name, each in live.items()}
        self.results = {output.target: 0 for output in outputs if output.target is not None}
        return list(outs.values())

    def _prepare(self, database: duckdb.DuckDBPyConnection, signature: str) -> None:
        """An old state only serves the plan it was made by."""
        for statement in _OUTBOX.split(";"):
            database.execute(statement)
        known = dict(database.execute('SELECT "key", "value" FROM application').fetchall())
        if "signature" in known and known["signature"] != signature:
            raise UsageError(
                f"the state in {self._folder} is of another plan: the script's queries have changed. "
                "Run it under another name, or delete that folder to begin anew."
            )
        self._checkpoint = int(known.get("checkpoint", 0))
        self._errors.open(database)
        for live in self._live.values():
            live.open(database)
        with self._reading:
            self._reader = database.cursor()
        self._unread = {*self._live, ERROR_STREAM}
        if "signature" not in known:
            database.execute("INSERT INTO application VALUES ('signature', ?)", [signature])

    async def _deliver_again(
        self, database: duckdb.DuckDBPyConnection, outs: Sequence[_Out], stop: asyncio.Event
    ) -> bool:
        """What was committed and perhaps not written. False: it was stopped before all is."""
        left = {name for (name,) in database.execute("SELECT DISTINCT sink FROM outbox").fetchall()}
        if missing := sorted(left - {out.target for out in outs}):
            raise UsageError(
                f"rows for table {missing[0]!r} were committed and are not written yet, and the script no longer "
                "writes to it. Run it once more as it was."
            )
        for out in outs:
            rows = database.execute(
                'SELECT checkpoint, "key", "data" FROM outbox WHERE sink = ? ORDER BY "n"', [out.target]
            ).fetchall()
            if not rows:
                continue
            targets = database.execute("SELECT target FROM targets WHERE sink = ?", [out.target]).fetchall()
            payloads = [Payload(key, bytes(data)) for _, key, data in rows]
            assert out.sink is not None
            writing = out.sink.write(rows[0][0], payloads, json.loads(targets[0][0]), again=True)
            if not await _finished(writing, stop):
                return False
        database.execute("DELETE FROM outbox")
        database.execute("DELETE FROM targets")
        return True

    async def _loop(
        self, driver: Driver, database: duckdb.DuckDBPyConnection, outs: Sequence[_Out], stop: asyncio.Event
    ) -> None:
        committed_ms = self._now_ms() - CHECKPOINT_MS  # at once: where it begins is decided then
        while True:
            emitted = await driver.step()
            self._gather(emitted, outs)
            self.rows_taken += driver.rows_taken
            self._note(driver)
            ends = driver.is_ended or stop.is_set()
            since_ms = self._now_ms() - committed_ms
            waits = any(out.waiting for out in outs)
            if ends or since_ms >= CHECKPOINT_MS or (waits and since_ms >= RESULTS_MS):
                if not await self._commit(driver, database, outs, stop):
                    return
                committed_ms = self._now_ms()
                self._snapshot(driver, committed_ms)
            if ends:
                return
            if not driver.rows_taken:
                await driver.wait(RESULTS_MS if waits else WAIT_MS)

    def _gather(self, emitted: Sequence[Emitted], outs: Sequence[_Out]) -> None:
        for each in emitted:
            target = each.output.target
            assert target is not None
            self.results[target] += each.rows.num_rows
            if target in self._live:
                self._live[target].add(each.rows)
                continue
            rows = to_arrow(each.rows, each.output.columns)
            for out in outs:
                if out.target == target:
                    assert out.sink is not None
                    out.waiting += out.sink.payloads(rows)

    def _note(self, driver: Driver) -> None:
        for each in driver.bad_rows:
            self.bad_rows += 1
            if self.bad_rows <= 10 or self.bad_rows % 1_000 == 0:
                _log.warning("row %d of table %s cannot be read: %s", self.bad_rows, each.table, each.reason)
        if driver.bad_rows:
            self._errors.add_bad(driver.bad_rows)
            self._unread.add(ERROR_STREAM)
            driver.bad_rows.clear()
        for late in driver.engine.take_late():
            self._errors.add_late(late)
            self._unread.add(ERROR_STREAM)
        self.late_rows = driver.engine.late_rows

    async def _commit(
        self, driver: Driver, database: duckdb.DuckDBPyConnection, outs: Sequence[_Out], stop: asyncio.Event
    ) -> bool:
        """False: it was stopped before everything was written; the outbox has it."""
        execute = database.execute
        self._checkpoint += 1
        execute("DELETE FROM outbox")
        execute("DELETE FROM targets")
        targets = {}
        for out in outs:
            if not out.waiting:
                continue
            assert out.sink is not None
            target = targets[out.target] = await out.sink.target()
            execute("INSERT INTO targets VALUES (?, ?, ?)", [self._checkpoint, out.target, json.dumps(target)])
            self._put_away(database, out.target, out.waiting)
        execute("DELETE FROM application WHERE \"key\" = 'checkpoint'")
        execute("INSERT INTO application VALUES ('checkpoint', ?)", [str(self._checkpoint)])
        await asyncio.to_thread(self._apply)
        await driver.checkpoint()
        self.checkpoint_ms = self._now_ms()
        for out in outs:
            if out.target not in targets:
                continue
            payloads, out.waiting = out.waiting, []
            assert out.sink is not None
            if not await _finished(out.sink.write(self._checkpoint, payloads, targets[out.target], again=False), stop):
                return False
        return True

    def _apply(self) -> None:
        """Live tables and the error stream into the transaction."""
        self._errors.trim()
        self._unread.update([name for name, live in self._live.items() if live.apply()])

    def _put_away(self, database: duckdb.DuckDBPyConnection, target: str, payloads: Sequence[Payload]) -> None:
        """Into the outbox. Nothing is put away where nothing is remembered."""
        if self._folder is None:
            return
        import pyarrow as pa

        count = len(payloads)
        table = pa.table(
            {
                "checkpoint": pa.array([self._checkpoint] * count, pa.int64()),
                "sink": pa.array([target] * count, pa.string()),
                "n": pa.array(range(count), pa.int64()),
                "key": pa.array([each.key for each in payloads], pa.string()),
                "data": pa.array([each.data for each in payloads], pa.binary()),
            }
        )
        database.register("outgoing", table)
        database.execute("INSERT INTO outbox SELECT * FROM outgoing")
        database.unregister("outgoing")

    # -- reading -----------------------------------------------------------------------------------------------------

    def table(self, name: str) -> pa.Table:
        """A live table, `error_stream` or `streamkit_watermarks`, as of the last commit; of an application that does
        not run, as it was left. Rows of a live table are in no order. UnknownName for others. From any thread."""
        if name == WATERMARKS:
            return self.watermarks()
        with self._reading:
            if self._reader is not None:
                return self._read(name)
        if self._folder is not None:
            try:
                return read_snapshot(snapshot_path(self._folder, name)).replace_schema_metadata(None)
            except FileNotFoundError:
                raise _unknown(name, self._live) from None
        if name not in self._kept:
            raise _unknown(name, self._live)
        return self._kept[name]

    def watermarks(self) -> pa.Table:
        """How far each split of each table is: what `error_stream.WATERMARK_COLUMNS` says. Of this run."""
        return watermarks_table([]) if self._marks is None else self._marks

    def _read(self, name: str) -> pa.Table:
        assert self._reader is not None
        if name == ERROR_STREAM:
            return self._errors.read(self._reader)
        if name not in self._live:
            raise _unknown(name, self._live)
        return self._live[name].read(self._reader)

    def _snapshot(self, driver: Driver, now_ms: int) -> None:
        """After a commit, where the last ones are old enough and written."""
        if now_ms < self._snapshot_due_ms or (self._snapshots is not None and not self._snapshots.done()):
            return
        self._marks = watermarks_table(driver.splits())
        self._snapshot_due_ms = now_ms + SNAPSHOT_MS_MIN
        if self._folder is None:
            return
        if self._snapshots is not None:
            self._snapshots.result()  # a disk that is full is said
        names, self._unread = self._unread, set()
        self._snapshots = asyncio.create_task(asyncio.to_thread(self._write, names, self._checkpoint, now_ms))

    def _write(self, names: set[str], checkpoint: int, begun_ms: int) -> None:
        """May see a later commit than the one it is named after; never a part of one."""
        assert self._folder is not None
        metadata = {"checkpoint": str(checkpoint), "at_ms": str(begun_ms)}
        for name in sorted(names):
            with self._reading:
                rows = None if self._reader is None else self._read(name)
            if rows is not None:
                write_snapshot(self._folder, name, rows, metadata)
        if self._marks is not None:
            write_snapshot(self._folder, WATERMARKS, self._marks, metadata)
        now_ms = self._now_ms()
        self._snapshot_due_ms = now_ms + max(SNAPSHOT_MS_MIN, (now_ms - begun_ms) * SNAPSHOT_PART)

    async def _last_snapshots(self) -> None:
        """What an application leaves behind that ends in order."""
        if self._snapshots is not None:
            await self._snapshots
            self._snapshots = None
        if self._folder is None:
            self._kept = {name: self._read(name) for name in (*self._live, ERROR_STREAM)}
        else:
            await asyncio.to_thread(self._write, {*self._live, ERROR_STREAM}, self._checkpoint, self._now_ms())


def _unknown(name: str, live: Mapping[str, LiveTable]) -> UnknownName:
    return UnknownName(f"there is no live table {name!r}.", hint=f"There are: {', '.join([*live, ERROR_STREAM])}.")


async def _finished(writing: Coroutine[Any, Any, None], stop: asyncio.Event) -> bool:
    """False where an application is stopped while a target takes nothing: then what is left is written by its next
    run."""
    task = asyncio.ensure_future(writing)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            await asyncio.wait({task}, timeout=STOP_WAIT_S)
        if task.done():
            task.result()
            return True
        _log.warning("stopped before all results were written; the next run writes them")
        return False
    finally:
        for each in (task, stopping):
            each.cancel()
        await asyncio.gather(task, stopping, return_exceptions=True)
