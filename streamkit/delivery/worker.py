"""One delivery stream at work: reads its source, lets chunks be processed, and seals what is ripe.

    read ─▶ pending ─▶ chunks under way ─▶ buffers ─▶ freeze ─▶ encode, spool ─▶ one transaction ─▶ deliverer

A freeze is the state of all buffers at one position of the source: those that are ripe leave as objects, what is in
the others is written to a spool file. The transaction that follows moves the position past all of it. So after a crash
nothing is processed again that is in an object, and nothing is missing; only functions may see records a second time.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import msgspec
import pyarrow as pa

from streamkit.clock import Clock, Timer
from streamkit.delivery.buffers import Buffer, Buffers, Role
from streamkit.delivery.deliverer import Deliverer
from streamkit.delivery.destination import Range
from streamkit.delivery.formats import Encoder
from streamkit.delivery.ledger import Ledger
from streamkit.delivery.line import Line, Output
from streamkit.delivery.manifest import manifest_document
from streamkit.delivery.naming import Namer, object_id, random_text
from streamkit.delivery.plan import DeliveryPlan
from streamkit.delivery.processor import Offload
from streamkit.delivery.stage import Stage
from streamkit.delivery.state import BufferState, DeliveryState, SealedState, SpoolPiece, Target
from streamkit.log import DELIVERY_STREAM
from streamkit.model.batch import RecordBatch
from streamkit.model.errors import DamagedLog, StreamkitError
from streamkit.model.limits import (
    DELIVERY_CHUNK_BYTES,
    DELIVERY_CHUNK_WAIT_MS,
    DELIVERY_CHUNKS_MAX,
    DELIVERY_HELD_BYTES_MIN,
    DELIVERY_RETRY_MS_MAX,
    DELIVERY_RETRY_MS_MIN,
    DELIVERY_TRANSFORMS_MAX,
)
from streamkit.sources.source import Source

_log = logging.getLogger(__name__)


_TRIES_TOGETHER: Final = 3  # of a chunk, before the records that are in the way are looked for
_TRIES_MAX: Final = 10  # of a chunk of which no record can be processed
_SOURCE_RETRY_MS_MAX: Final = 1_000  # looking whether a stream is there again costs nothing
_CHUNK_BYTES_MIN: Final = 64 * 1024  # a buffer that is nearly full is not filled up in tiny steps


class Meter(Protocol):
    """Counts what comes in."""

    def processed(self, output: Output) -> None: ...


@dataclass(slots=True)
class Outlet:
    """How the objects of a role are made: their names, their bytes, and where they go."""

    namer: Namer
    encoder: Encoder
    target: Target
    retry_ms: int | None = None
    error_target: Target | None = None


@dataclass(slots=True)
class Job:
    """What a worker works with. `first_positions`: where to begin where the ledger knows nothing, in the source's
    incarnation `first_incarnation`; empty: whichever there is."""

    state: DeliveryState
    plan: DeliveryPlan
    source: Source
    first_positions: Mapping[int, int]
    line: Line
    outlets: Mapping[Role, Outlet]
    ledger: Ledger
    stage: Stage
    deliverer: Deliverer
    clock: Clock
    offload: Offload
    meter: Meter
    metric: str = "S3"
    first_incarnation: str = ""


class _Chunk(NamedTuple):
    batches: Sequence[RecordBatch]
    data_bytes: int
    positions: Mapping[int, int]  # of the shards it has records of: where it ends
    opened_at_ms: int


@dataclass(slots=True)
class _Freeze:
    """All buffers at one position."""

    positions: dict[int, int]
    ended: set[int]
    ripe: list[Buffer]
    others: list[tuple[Buffer, list[pa.RecordBatch], int, BufferState]]
    at_ms: int
    numbers: list[int] = field(default_factory=list)  # of the ripe ones
    spool: int | None = None
    flushes: list[_Flush] = field(default_factory=list)  # that wait for this one


class _Flush(NamedTuple):
    """Waits until everything before `tips` of a source's incarnation is sealed."""

    incarnation: str
    tips: Mapping[int, int]
    done: asyncio.Future[None]


class DeliveryWorker:
    """Started once, stopped once."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._clock = job.clock
        plan = job.plan
        backup = plan.backup
        errors = plan.buffering if backup is None or backup.mode == "all" else backup.buffering
        self._buffers = Buffers(
            {"main": plan.buffering, "error": errors, "backup": plan.buffering if backup is None else backup.buffering},
            # AWS's buffers of partitions may take half as long again as their interval.
            grain_ms=plan.buffering.interval_ms // 8 if plan.is_partitioned else 0,
        )
        transform = plan.transform
        if transform is not None:
            self._chunk_bytes, self._chunks_max = transform.size_bytes, DELIVERY_TRANSFORMS_MAX
            self._chunk_wait_ms = min(transform.interval_ms, max(plan.buffering.interval_ms, 0))
        else:
            self._chunk_bytes, self._chunks_max = DELIVERY_CHUNK_BYTES, DELIVERY_CHUNKS_MAX
            self._chunk_wait_ms = min(DELIVERY_CHUNK_WAIT_MS, plan.buffering.interval_ms)
        # Columns may take more than the text they are made of: a buffer should be ripe before it has to be spooled. Of
        # many buffers few are ripe at a time.
        held_bytes = plan.buffering.size_bytes if plan.is_partitioned else plan.buffering.size_bytes * 3 // 2
        self._held_bytes_max = max(held_bytes, DELIVERY_HELD_BYTES_MIN)
        self._incarnation = ""  # of the source; empty: none was read yet
        self._read_to: dict[int, int] = {}  # next offset by shard
        self._applied_to: dict[int, int] = {}  # what is before is in buffers, or was
        self._ended: set[int] = set()
        self._fresh: set[int] = set()  # shards that may have more
        self._pending: list[RecordBatch] = []
        self._pending_bytes = 0
        self._pending_records = 0
        self._pending_since_ms = 0
        self._under_way: deque[tuple[_Chunk, asyncio.Task[Output | None]]] = deque()
        self._sealing: asyncio.Task[None] | None = None
        self._sealing_bytes = 0  # in memory, of buffers that have left
        self._saved: tuple[str, dict[int, int]] = "", {}
        self._flushes: list[_Flush] = []
        self._closing = asyncio.Event()
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stopped = asyncio.Event()
        self._woken = asyncio.Event()
        self._timer: Timer | None = None
        self._is_open = False  # the source is there, and what it tells is heard
        self._failures = 0  # of the source, one after the other
        self._problem = ""  # of it, that was told last
        self._is_settling = False
        self._away: Timer | None = None  # until it is looked for again
        self._unwatch: Callable[[], None] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def oldest_at_ms(self) -> int | None:
        """When the oldest record arrived that was read and is not delivered; None where there is none."""
        arrivals = [each.arrived_at_ms for each in self._job.ledger.progress.sealed]
        arrivals += [each.arrived_at_ms for each in self._buffers]
        arrivals += [batch.arrived_at_ms for batch in self._pending[:1]]
        arrivals += [chunk.batches[0].arrived_at_ms for chunk, _ in self._under_way]
        return min(arrivals, default=None)

    @property
    def metric(self) -> str:
        """What CloudWatch calls the destination."""
        return self._job.metric

    @property
    def staged_bytes(self) -> int:
        return self._job.deliverer.staged_bytes

    @property
    def partitions_count(self) -> int:
        return sum(buffer.key.role == "main" for buffer in self._buffers)

    def active_partitions(self) -> set[tuple[tuple[str, str], ...]]:
        return {buffer.key.partition for buffer in self._buffers if buffer.key.role == "main"}

    def start(self) -> None:
        self._take_up()
        self._job.deliverer.restore()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def wake(self) -> None:
        self._woken.set()

    async def flush(self) -> bool:
        """Returns when every record that is in the source now is where it belongs, or every record that was read where
        there is no source any more. Buffers are not waited for. False: this worker was stopped before."""
        source = self._job.source
        try:
            await source.ready()
            incarnation = source.incarnation
            tips = {shard.index: await source.seek(shard.index, "LATEST", None) for shard in source.shards()}
        except (StreamkitError, OSError):
            incarnation, tips = self._incarnation, dict(self._read_to)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._flushes.append(_Flush(incarnation, tips, done))
        self._look_again()

        async def flushed() -> bool:
            await done
            return await self._job.deliverer.drained()

        flushing, stopped = asyncio.ensure_future(flushed()), asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait([flushing, stopped], return_when=asyncio.FIRST_COMPLETED)
            return flushing.done() and flushing.result()
        finally:
            flushing.cancel()
            stopped.cancel()

    async def stop(self, *, finish_ms: int | None, delivers: bool = True) -> None:
        """Reads no more, seals what was read, and delivers it unless `delivers` is False, all of it within `finish_ms`:
        what is not delivered then, is after the next start. 0 stops at once, None waits for ever."""
        if self._task is not None and not self._task.done() and finish_ms != 0:
            finishing = asyncio.ensure_future(self._finish(delivers=delivers))
            await asyncio.wait([finishing], timeout=None if finish_ms is None else finish_ms / 1000)
            finishing.cancel()
            await asyncio.gather(finishing, return_exceptions=True)
        if self._task is not None:  # first: it would begin others
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        tasks = [task for _, task in self._under_way] + ([] if self._sealing is None else [self._sealing])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for timer in (self._timer, self._away):
            if timer is not None:
                timer.cancel()
        if self._unwatch is not None:
            self._unwatch()
        await self._job.deliverer.stop()
        await self._job.ledger.settled()  # who comes after this worker begins with what is on disk
        self._stopped.set()

    async def _finish(self, *, delivers: bool) -> None:
        self._closing.set()
        self.wake()
        await asyncio.shield(self._closed)
        if delivers:
            await self._job.deliverer.drained()

    async def settle(self) -> None:
        """Instead of `start`: seals what the ledger has in buffers; reads nothing, and delivers nothing. For buffers
        that were filled under another version of the delivery stream. Cancelling it leaves them as they are."""
        self._take_up()
        self._is_settling = True
        self._closing.set()
        self._seal(self._clock.now_ms())
        try:
            if self._sealing is not None:
                await self._sealing
        finally:
            await self.stop(finish_ms=0)

    def _take_up(self) -> None:
        """What the ledger has."""
        progress = self._job.ledger.progress
        self._buffers.restore(progress.buffers)
        self._incarnation, self._read_to = progress.incarnation, dict(progress.positions)
        self._applied_to, self._ended = dict(self._read_to), set(progress.ended)
        self._saved = self._incarnation, dict(self._read_to)

    # -- the loop ----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        attempt = 0
        while True:
            try:
                while True:
                    self._woken.clear()
                    moved = await self._turn()
                    attempt = 0
                    if not moved:
                        await self._sleep()
            except (StreamkitError, OSError) as error:
                attempt += 1
                self._warn("its progress cannot be saved", error)
                await self._pause(attempt)
            except Exception as error:
                attempt += 1
                fields = {DELIVERY_STREAM: self._job.plan.name}
                _log.error("a delivery stream failed, and begins anew", extra=fields, exc_info=error)
                self._is_open = False
                await self._pause(attempt)

    async def _pause(self, attempt: int) -> None:
        """Until the next try; shorter where there will be none."""
        waits = [
            asyncio.ensure_future(self._clock.sleep(_backoff_ms(attempt))),
            asyncio.ensure_future(self._closing.wait()),
        ]
        try:
            await asyncio.wait(waits[: 1 if self._is_closing else 2], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()

    async def _take_in(self) -> bool:
        """Reads what there is. While the source is away, what was read before goes on its way all the same."""
        if self._is_closing or self._away is not None:
            return False
        try:
            if not self._is_open:
                self._is_open = await self._open()
            moved = self._is_open and await self._read()
        except (StreamkitError, OSError) as error:
            self._is_open = False
            self._failures += 1
            if repr(error) != self._problem:  # it may be so for days
                self._problem = repr(error)
                self._warn("its source cannot be read", error)
            self._flushes = [_Flush(self._incarnation, dict(self._read_to), each.done) for each in self._flushes]
            delay_ms = min(_backoff_ms(self._failures), _SOURCE_RETRY_MS_MAX)
            self._away = self._clock.call_later(delay_ms, self._look_again)
            return False
        self._failures, self._problem = 0, ""
        return moved

    def _look_again(self) -> None:
        if self._away is not None:
            self._away.cancel()
        self._away = None
        self.wake()

    async def _open(self) -> bool:
        """Finds what the source is now. False where another stream has its name now, and what was read of the one
        before is still on its way."""
        source = self._job.source
        await source.ready()
        if source.incarnation != self._incarnation:
            if self._pending or self._under_way or self._sealing is not None:
                return False
            is_first = not self._incarnation and self._job.first_incarnation in ("", source.incarnation)
            self._read_to = dict(self._job.first_positions) if is_first else {}
            self._applied_to, self._ended = dict(self._read_to), set()
            self._flushes = [
                each if each.incarnation == source.incarnation else _Flush(source.incarnation, {}, each.done)
                for each in self._flushes
            ]
            self._incarnation = source.incarnation
            self._fresh.clear()
        if self._unwatch is not None:
            self._unwatch()
        self._unwatch = source.watch(self._has_news)
        self._find_shards()
        return True

    def _has_news(self, shard_index: int | None) -> None:
        if shard_index is None:
            self._is_open = False  # it may be another one now, or none
        else:
            self._fresh.add(shard_index)
        self.wake()

    def _find_shards(self) -> None:
        self._fresh.update(shard.index for shard in self._job.source.shards() if shard.index not in self._ended)

    async def _turn(self) -> bool:
        """Does what can be done now; False when there is nothing but to wait."""
        moved = await self._take_in()
        now_ms = self._clock.now_ms()
        while self._dispatch(now_ms):
            moved = True
        moved |= self._apply()
        if not self._pending and not self._under_way:
            self._applied_to = dict(self._read_to)  # what could not be read was passed over
        moved |= self._seal(now_ms)
        moved |= await self._save_positions()
        self._finish_flushes()
        if self._is_closing and not moved and self._is_empty and not self._closed.done():
            self._closed.set_result(None)
        return moved

    @property
    def _is_closing(self) -> bool:
        return self._closing.is_set()

    @property
    def _is_empty(self) -> bool:
        return not (self._pending or self._under_way or self._sealing is not None or len(self._buffers))

    async def _sleep(self) -> None:
        due: list[int] = []  # of what nothing is in the way of; what is in the way wakes it
        if (pending_due_ms := self._pending_due_ms()) is not None and len(self._under_way) < self._chunks_max:
            due.append(pending_due_ms)
        can_seal = self._sealing is None and self._job.deliverer.has_room
        if can_seal and (buffers_due_ms := self._buffers.due_at_ms()) is not None:
            due.append(buffers_due_ms)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if due:
            self._timer = self._clock.call_later(max(min(due) - self._clock.now_ms(), 1), self.wake)
        await self._woken.wait()

    # -- reading -----------------------------------------------------------------------------------------------------

    async def _read(self) -> bool:
        """Reads each shard that has news once, as far as there is room."""
        moved = False
        for index in sorted(self._fresh):
            wanted = self._chunk_target - self._pending_bytes
            records_max = self._job.line.records_max - self._pending_records
            if wanted <= 0 or records_max <= 0 or not self._has_room:
                break
            if not self._is_open or self._job.source.incarnation != self._incarnation:
                self._is_open = False
                return True
            self._fresh.discard(index)
            if index in self._ended:
                continue
            offset = self._read_to.get(index, 0)
            try:
                batches, next_offset = await self._job.source.read(
                    index, offset, records_max=records_max, bytes_max=wanted
                )
            except DamagedLog as error:
                if error.next_offset is None:
                    raise
                self._warn("records are lost, for they cannot be read", error)
                batches, next_offset = [], error.next_offset
            if next_offset is None:
                self._ended.add(index)
                next_offset = batches[-1].next_offset if batches else offset
            elif next_offset != offset:
                self._fresh.add(index)  # there may be more
            self._read_to[index] = next_offset
            if batches:
                moved = True
                if not self._pending:
                    self._pending_since_ms = self._clock.now_ms()
                self._pending += batches
                self._pending_bytes += sum(batch.data_bytes for batch in batches)
                self._pending_records += sum(map(len, batches))
            elif next_offset != offset:
                moved = True
        return moved

    @property
    def _chunk_target(self) -> int:
        """The bytes of the next chunk: what the buffer lacks, where there is one for all records."""
        if self._job.plan.is_partitioned or self._job.plan.transform is not None:
            return self._chunk_bytes
        room = self._buffers.room_bytes() - sum(chunk.data_bytes for chunk, _ in self._under_way)
        return min(max(room, _CHUNK_BYTES_MIN), self._chunk_bytes)

    @property
    def _has_room(self) -> bool:
        held = self._buffers.held_bytes + self._sealing_bytes + sum(chunk.data_bytes for chunk, _ in self._under_way)
        if held >= self._held_bytes_max + self._chunk_bytes:  # the room a seal may take as well
            return False
        return len(self._under_way) < self._chunks_max and self._job.deliverer.has_room

    # -- chunks ------------------------------------------------------------------------------------------------------

    def _pending_due_ms(self) -> int | None:
        return self._pending_since_ms + self._chunk_wait_ms if self._pending else None

    def _dispatch(self, now_ms: int) -> bool:
        """Begins a chunk where there is a whole one, or where it has waited long enough."""
        if not self._pending or len(self._under_way) >= self._chunks_max:
            return False
        self._pending_since_ms = min(self._pending_since_ms, now_ms)  # the clock may have been set back
        due_ms = self._pending_due_ms()
        assert due_ms is not None
        is_whole = self._pending_bytes >= self._chunk_target or self._pending_records >= self._job.line.records_max
        is_hurried = bool(self._flushes) or self._is_closing or not self._is_open
        if not is_whole and now_ms < due_ms and not is_hurried:
            return False
        positions = {batch.shard_index: batch.next_offset for batch in self._pending}
        chunk = _Chunk(self._pending, self._pending_bytes, positions, self._pending_since_ms)
        self._pending, self._pending_bytes, self._pending_records = [], 0, 0
        task = asyncio.get_running_loop().create_task(self._process(chunk))
        task.add_done_callback(lambda _: self.wake())
        self._under_way.append((chunk, task))
        return True

    async def _process(self, chunk: _Chunk) -> Output | None:
        """Tries until it is processed: where something outside is in the way, everything behind it waits. None where
        that is still so when this worker is to end. Raises nothing: a chunk that is forgotten is lost."""
        line = self._job.line
        unforeseen = attempt = 0
        while True:
            attempt += 1
            try:
                if unforeseen < _TRIES_TOGETHER:
                    return await line.process(chunk.batches)
                return await line.process_apart(chunk.batches, gives_up=unforeseen >= _TRIES_MAX)
            except (StreamkitError, OSError) as error:
                self._warn("records cannot be processed now", error)
            except Exception as error:
                unforeseen += 1
                fields = {DELIVERY_STREAM: self._job.plan.name}
                _log.error("records cannot be processed", extra=fields, exc_info=error)
            if self._is_closing:
                return None
            await self._pause(attempt)

    def _apply(self) -> bool:
        """Puts what chunks gave into buffers, in the order in which they were read."""
        moved = False
        while self._under_way and self._under_way[0][1].done():
            chunk, task = self._under_way[0]
            output, ranges = task.result(), _ranges(chunk.batches)
            self._under_way.popleft()
            if output is None:
                self._put_back()
                break
            for piece in output.pieces:
                if piece.batch.num_rows:
                    self._buffers.add(piece, ranges, chunk.opened_at_ms)
            self._job.line.applied(output)
            self._applied_to.update(chunk.positions)
            self._job.meter.processed(output)
            moved = True
        return moved

    def _put_back(self) -> None:
        """What is not processed is not read, either: who comes after this worker begins there."""
        for _, task in self._under_way:
            task.cancel()
        self._under_way.clear()
        self._pending, self._pending_bytes, self._pending_records = [], 0, 0
        self._ended = self._read_ended()
        self._read_to = dict(self._applied_to)

    # -- sealing -----------------------------------------------------------------------------------------------------

    def _seal(self, now_ms: int) -> bool:
        """Begins a seal where there is a reason for one."""
        if self._sealing is not None or not len(self._buffers):
            return False
        reached = [each for each in self._flushes if self._is_applied_to(each)]
        is_last = bool(reached) or (self._is_closing and not self._pending and not self._under_way)
        ripe = self._buffers.ripe(now_ms, everything=is_last) if self._job.deliverer.has_room or is_last else []
        if not ripe and self._buffers.held_bytes < self._held_bytes_max:
            return False
        buffers = self._buffers
        buffers.take(ripe)
        self._sealing_bytes = sum(each.held_bytes for each in ripe)
        others = [(each, buffers.frozen(each), each.held_bytes, each.state(each.pieces)) for each in buffers]
        freeze = _Freeze(dict(self._applied_to), self._read_ended(), ripe, others, now_ms)
        freeze.flushes = reached
        self._flushes = [each for each in self._flushes if each not in reached]
        freeze.numbers = [self._job.ledger.take_number() for _ in ripe]
        if any(batches for _, batches, _, _ in others):
            freeze.spool = self._job.ledger.take_spool()
        self._sealing = asyncio.get_running_loop().create_task(self._sealed_for_good(freeze))
        self._sealing.add_done_callback(self._sealing_done)
        return True

    def _sealing_done(self, task: asyncio.Task[None]) -> None:
        self._sealing, self._sealing_bytes = None, 0
        if not task.cancelled() and task.exception() is not None:
            _log.error("a seal failed", extra={DELIVERY_STREAM: self._job.plan.name}, exc_info=task.exception())
        self.wake()

    def _read_ended(self) -> set[int]:
        """Shards whose last record is in buffers, or was."""
        return {index for index in self._ended if self._applied_to.get(index, 0) >= self._read_to.get(index, 0)}

    async def _sealed_for_good(self, freeze: _Freeze) -> None:
        """Writes the files of a freeze, then says in one transaction that they count. Tries until the disk takes it:
        the records of a freeze that is forgotten are lost."""
        ledger = self._job.ledger
        attempt = 0
        saved: asyncio.Future[None] | None = None
        while True:
            try:
                if saved is None:
                    sealed, states = await self._write(freeze)
                    before, made_under = ledger.spools, self._job.state if states else None
                    saved = ledger.came_to(
                        self._incarnation, freeze.positions, freeze.ended, states, made_under, sealed
                    )
                await asyncio.shield(saved)
                break
            except Exception as error:
                attempt += 1
                is_told = isinstance(error, OSError | StreamkitError)
                fields = {DELIVERY_STREAM: self._job.plan.name}
                _log.error("objects cannot be sealed: %s", error, extra=fields, exc_info=None if is_told else error)
                await self._clock.sleep(_backoff_ms(attempt))
                saved = None if saved is None else ledger.again()
        self._saved = self._incarnation, freeze.positions
        place = 0
        for buffer, batches, held_bytes, _ in freeze.others:
            if batches:
                assert freeze.spool is not None
                self._buffers.spooled(buffer, held_bytes, SpoolPiece(freeze.spool, place))
                place += 1
        if not self._is_settling:
            self._job.deliverer.add(sealed)
        for flush in freeze.flushes:
            if not flush.done.done():
                flush.done.set_result(None)
        gone = before - ledger.spools
        try:
            await self._job.offload(lambda: self._job.stage.remove_spools(gone))
        except OSError as error:  # the next start removes them
            self._warn("spool files stay for now", error)

    async def _write(self, freeze: _Freeze) -> tuple[list[SealedState], list[BufferState]]:
        stage = self._job.stage
        sealed: list[SealedState] = []
        for number, buffer in zip(freeze.numbers, freeze.ripe, strict=True):
            sealed.append(await self._write_object(number, buffer, freeze.at_ms))
        if self._job.plan.manifest and any(each.role == "main" for each in sealed):
            sealed.append(await self._write_manifest(sealed, freeze.at_ms))
        groups = [batches for _, batches, _, _ in freeze.others if batches]
        states: list[BufferState] = []
        place = 0
        for _, batches, _, state in freeze.others:
            pieces = list(state.pieces)
            if batches:
                assert freeze.spool is not None
                pieces.append(SpoolPiece(freeze.spool, place))
                place += 1
            states.append(_with_pieces(state, pieces))

        def finish() -> None:
            if freeze.spool is not None:
                stage.write_spool(freeze.spool, groups)
            stage.sync()

        await self._job.offload(finish)
        return sealed, states

    async def _write_object(self, number: int, buffer: Buffer, at_ms: int) -> SealedState:
        outlet, key, stage = self._job.outlets[buffer.key.role], buffer.key, self._job.stage
        path = stage.staged(number)

        def pieces() -> Iterator[pa.RecordBatch]:
            for piece in buffer.pieces:
                yield from stage.read_spool(piece)
            yield from buffer.joined()

        size_bytes, extension = await self._job.offload(lambda: outlet.encoder.write(pieces(), path))
        return self._sealed_state(outlet, key.role, number, buffer, size_bytes, extension, at_ms)

    def _sealed_state(
        self, outlet: Outlet, role: Role, number: int, buffer: Buffer, size_bytes: int, extension: str, at_ms: int
    ) -> SealedState:
        identity = object_id(self._job.state.id, number)
        partition = dict(buffer.key.partition)
        name = outlet.namer.key(
            arrived_at_ms=buffer.arrived_at_ms,
            id=identity,
            extension=extension,
            partition=partition,
            error_type=buffer.key.error_type or None,
            random_text=random_text(identity),
        )
        return SealedState(
            number,
            identity,
            name,
            role,
            outlet.target,
            buffer.records_count,
            buffer.data_bytes,
            size_bytes,
            buffer.ranges_list(),
            buffer.arrived_at_ms,
            at_ms,
            partition,
            outlet.retry_ms,
            outlet.error_target,
        )

    async def _write_manifest(self, sealed: Sequence[SealedState], at_ms: int) -> SealedState:
        listed = [each for each in sealed if each.role == "main"]
        number, outlet = self._job.ledger.take_number(), self._job.outlets["main"]
        text = manifest_document(self._job.plan.name, listed, at_ms)
        path = self._job.stage.staged(number)
        await self._job.offload(lambda: _write_synced(path, text))
        first = min(listed, key=lambda each: each.arrived_at_ms)
        return SealedState(
            number,
            object_id(self._job.state.id, number),
            f"_manifests/{first.id}.json",
            "manifest",
            outlet.target,
            0,
            len(text),
            len(text),
            [],
            first.arrived_at_ms,
            at_ms,
        )

    async def _save_positions(self) -> bool:
        """Where records left nothing to deliver, the position moves all the same."""
        position = self._incarnation, dict(self._applied_to)
        if self._sealing is not None or len(self._buffers) or position == self._saved:
            return False
        if self._pending or self._under_way:
            return False
        saved = self._job.ledger.came_to(*position, self._read_ended(), [], None, [])
        self._saved = position  # what the disk refuses now comes with the next change
        await asyncio.shield(saved)
        return True

    # -- flushing ----------------------------------------------------------------------------------------------------

    def _is_applied_to(self, flush: _Flush) -> bool:
        ended = self._read_ended()
        return flush.incarnation == self._incarnation and all(
            index in ended or self._applied_to.get(index, 0) >= tip for index, tip in flush.tips.items()
        )

    def _finish_flushes(self) -> None:
        """Those that have nothing to wait for; a seal finishes the others."""
        if self._sealing is not None or len(self._buffers):
            return
        for flush in [each for each in self._flushes if self._is_applied_to(each)]:
            self._flushes.remove(flush)
            if not flush.done.done():
                flush.done.set_result(None)

    def _warn(self, what: str, error: BaseException) -> None:
        _log.warning("%s: %s", what, error, extra={DELIVERY_STREAM: self._job.plan.name})


def _backoff_ms(attempt: int) -> int:
    return min(DELIVERY_RETRY_MS_MIN << min(attempt, 20), DELIVERY_RETRY_MS_MAX)


def _ranges(batches: Sequence[RecordBatch]) -> list[Range]:
    bounds: dict[int, tuple[int, int]] = {}
    for batch in batches:
        first, last = batch.offset(0), batch.next_offset - 1
        known = bounds.get(batch.shard_index)
        bounds[batch.shard_index] = (first, last) if known is None else (min(known[0], first), max(known[1], last))
    return [Range(shard, *each) for shard, each in bounds.items()]


def _with_pieces(state: BufferState, pieces: list[SpoolPiece]) -> BufferState:
    return msgspec.structs.replace(state, pieces=pieces)


def _write_synced(path: Path, text: bytes) -> None:
    with path.open("wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
