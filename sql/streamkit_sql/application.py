"""A script that runs until it is stopped, or until its tables end: state, positions and results commit together.

    tick ─▶ results ─▶ outbox ─┐
      └──▶ state, positions ───┴─▶ one transaction ─▶ sinks write what was committed (the next empties the outbox)

After a crash the last transaction holds. What of its outbox a sink has written is found by the sink (a file by its
name, records by reading the stream's end), so results are neither lost nor doubled.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from streamkit.clock import SystemClock
from streamkit.model.errors import UsageError
from streamkit_sql.live import WAIT_MS, Queries
from streamkit_sql.plan.nodes import Output
from streamkit_sql.queries import compiled, tables_of
from streamkit_sql.runtime.driver import Driver
from streamkit_sql.runtime.duck import connect
from streamkit_sql.runtime.engine import Emitted
from streamkit_sql.runtime.results import to_arrow
from streamkit_sql.tables.sinks import Payload, Sink, open_sink
from streamkit_sql.tables.streams import SETTLE_MS

if TYPE_CHECKING:
    import duckdb

    from streamkit.kit.backend import Backend

_log = logging.getLogger(__name__)

CHECKPOINT_MS: Final = 1_000
"""How often state is committed while there is nothing to write."""
RESULTS_MS: Final = 10
"""How soon after a commit the next may follow, where results wait for it."""
STATE_FILE: Final = "state.duckdb"
_OUTBOX: Final = """
CREATE TABLE IF NOT EXISTS outbox (checkpoint BIGINT, sink INTEGER, "n" BIGINT, "key" VARCHAR, "data" BLOB);
CREATE TABLE IF NOT EXISTS targets (checkpoint BIGINT, sink INTEGER, target VARCHAR);
CREATE TABLE IF NOT EXISTS application ("key" VARCHAR, "value" VARCHAR)
"""


@dataclass(slots=True)
class _Out:
    output: Output
    sink: Sink
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
    ) -> None:
        """Without `folder` nothing is remembered."""
        self._backend = backend
        self._text = text
        self._folder = folder
        self._rows_per_tick = rows_per_tick
        self._now_ms = now_ms or SystemClock().now_ms
        self._checkpoint = 0
        self.rows_taken = 0
        self.bad_rows = 0
        self.late_rows = 0

    async def run(self, stop: asyncio.Event | None = None) -> None:
        """Returns when all tables have ended, or soon after `stop` is set, everything committed and written. Raises
        SqlError for the script and ValueProblem for values it cannot go on with; then the last commit holds."""
        queries = Queries(self._backend)
        script = await queries.prepare(self._text)
        session = queries.session
        outs = []
        for output in script.outputs:
            if output.target is None:
                raise UsageError("an application writes: each SELECT of its script needs an INSERT INTO before it")
            outs.append(_Out(output, open_sink(session.catalog.tables[output.target], self._backend)))
        if not outs:
            raise UsageError("the script has no INSERT INTO: there is nothing to run")
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
        database = connect(None if self._folder is None else self._folder / STATE_FILE)
        try:
            program = compiled(session, script.outputs)
            self._prepare(database, program.signature)
            driver = Driver(
                program,
                database,
                tables_of(session, program, database, self._backend),
                rows_per_tick=self._rows_per_tick,
                settled_ms=lambda: self._now_ms() - SETTLE_MS,
                threaded=True,
            )
            await self._deliver_again(database, outs)
            await driver.open()
            await self._loop(driver, database, outs, stop or asyncio.Event())
        finally:
            database.close()

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
        if "signature" not in known:
            database.execute("INSERT INTO application VALUES ('signature', ?)", [signature])

    async def _deliver_again(self, database: duckdb.DuckDBPyConnection, outs: Sequence[_Out]) -> None:
        """What was committed and perhaps not written."""
        for index, out in enumerate(outs):
            rows = database.execute(
                'SELECT checkpoint, "key", "data" FROM outbox WHERE sink = ? ORDER BY "n"', [index]
            ).fetchall()
            if not rows:
                continue
            targets = database.execute("SELECT target FROM targets WHERE sink = ?", [index]).fetchall()
            payloads = [Payload(key, bytes(data)) for _, key, data in rows]
            await out.sink.write(rows[0][0], payloads, json.loads(targets[0][0]), again=True)
        database.execute("DELETE FROM outbox")
        database.execute("DELETE FROM targets")

    async def _loop(
        self, driver: Driver, database: duckdb.DuckDBPyConnection, outs: Sequence[_Out], stop: asyncio.Event
    ) -> None:
        committed_ms = self._now_ms()
        while True:
            emitted = await driver.step()
            self._gather(emitted, outs)
            self.rows_taken += driver.rows_taken
            self._note(driver)
            ends = driver.is_ended or stop.is_set()
            since_ms = self._now_ms() - committed_ms
            waits = any(out.waiting for out in outs)
            if ends or since_ms >= CHECKPOINT_MS or (waits and since_ms >= RESULTS_MS):
                await self._commit(driver, database, outs)
                committed_ms = self._now_ms()
            if ends:
                return
            if not driver.rows_taken:
                await driver.wait(RESULTS_MS if waits else WAIT_MS)

    def _gather(self, emitted: Sequence[Emitted], outs: Sequence[_Out]) -> None:
        for each in emitted:
            rows = to_arrow(each.rows, each.output.columns)
            for out in outs:
                if out.output is each.output:
                    out.waiting += out.sink.payloads(rows)

    def _note(self, driver: Driver) -> None:
        for each in driver.bad_rows:
            self.bad_rows += 1
            if self.bad_rows <= 10 or self.bad_rows % 1_000 == 0:
                _log.warning("row %d of table %s cannot be read: %s", self.bad_rows, each.table, each.reason)
        driver.bad_rows.clear()
        self.late_rows = driver.engine.late_rows

    async def _commit(self, driver: Driver, database: duckdb.DuckDBPyConnection, outs: Sequence[_Out]) -> None:
        execute = database.execute
        self._checkpoint += 1
        execute("DELETE FROM outbox")
        execute("DELETE FROM targets")
        targets = {}
        for index, out in enumerate(outs):
            if not out.waiting:
                continue
            targets[index] = await out.sink.target()
            execute("INSERT INTO targets VALUES (?, ?, ?)", [self._checkpoint, index, json.dumps(targets[index])])
            self._put_away(database, index, out.waiting)
        execute("DELETE FROM application WHERE \"key\" = 'checkpoint'")
        execute("INSERT INTO application VALUES ('checkpoint', ?)", [str(self._checkpoint)])
        await driver.checkpoint()
        for index, target in targets.items():
            payloads, outs[index].waiting = outs[index].waiting, []
            await outs[index].sink.write(self._checkpoint, payloads, target, again=False)

    def _put_away(self, database: duckdb.DuckDBPyConnection, index: int, payloads: Sequence[Payload]) -> None:
        """Into the outbox. Nothing is put away where nothing is remembered."""
        if self._folder is None:
            return
        import pyarrow as pa

        count = len(payloads)
        table = pa.table(
            {
                "checkpoint": pa.array([self._checkpoint] * count, pa.int64()),
                "sink": pa.array([index] * count, pa.int32()),
                "n": pa.array(range(count), pa.int64()),
                "key": pa.array([each.key for each in payloads], pa.string()),
                "data": pa.array([each.data for each in payloads], pa.binary()),
            }
        )
        database.register("outgoing", table)
        database.execute("INSERT INTO outbox SELECT * FROM outgoing")
        database.unregister("outgoing")
