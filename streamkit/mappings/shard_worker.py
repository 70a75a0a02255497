"""One shard at work for one mapping.

    source ──read──▶ feeder ──filter, lanes──▶ batchers ──▶ lanes (outcome.Lane) ──▶ function
                       ▲                                        │ resolved
                       └──── room (look-ahead is bounded) ◀─────┘──▶ progress, saved

One task reads; one task per lane invokes. A lane that retries does not hold the others up, until as much lies between
the slowest and the reader as the look-ahead allows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec
import xxhash

from streamkit.clock import Clock
from streamkit.functions.destinations import Delivery, RecordDestination
from streamkit.functions.tracing import BatchFacts, Tracing
from streamkit.log import FUNCTION, MAPPING, SHARD
from streamkit.mappings import failures
from streamkit.mappings.batcher import Batcher, BatchLimits
from streamkit.mappings.batches import Batch, Part
from streamkit.mappings.events import EventBuilder, WindowContext
from streamkit.mappings.filters import FilterCriteria
from streamkit.mappings.invoker import Invoker
from streamkit.mappings.outcome import (
    Again,
    Discard,
    Done,
    Failed,
    Failure,
    Invoke,
    Lane,
    Outcome,
    Policy,
    Response,
    read_response,
)
from streamkit.mappings.state import EarlierLanes, LaneProgress, MappingState, Seal, ShardProgress, WindowProgress
from streamkit.model.batch import RecordBatch
from streamkit.model.errors import DamagedLog, RequestTooLarge, StreamkitError, ThroughputExceeded
from streamkit.model.limits import (
    INVOCATION_BYTES_MAX,
    LOOK_AHEAD_BYTES_MAX,
    LOOK_AHEAD_RECORDS_MAX,
    READ_BYTES_MAX,
)
from streamkit.model.names import shard_id
from streamkit.sources.source import Source

_log = logging.getLogger(__name__)

WINDOW_GRACE_MS: Final = 500  # a record that arrived just before a window's end is readable this much later at most
RETRY_DELIVERY_MS: Final = 500
RETRY_DELIVERY_MS_MAX: Final = 30_000
RETRY_READ_MS: Final = 250  # after a read that the shard's limit refused

OK: Final = "OK"
_STOPPED: Final = "stopped"
PROBLEM: Final = "PROBLEM: Function call failed"


class Progress(Protocol):
    """What shard workers tell of how far they are."""

    def changed(self, worker: ShardWorker) -> None:
        """There is something to save; soon will do."""
        ...

    async def save(self, worker: ShardWorker) -> None:
        """Returns when what `worker.progress()` says now is on disk."""
        ...


class Meter(Protocol):
    """What shard workers count."""

    def invoked(self, records: int, iterator_age_ms: int) -> None: ...

    def filtered(self, records: int) -> None: ...

    def discarded(self, records: int) -> None: ...


@dataclass(slots=True)
class Job:
    """What a mapping's shard workers share."""

    mapping: MappingState
    source: Source
    invoker: Invoker
    clock: Clock
    progress: Progress
    meter: Meter
    destination: RecordDestination | None
    new_id: Callable[[], str]
    set_result: Callable[[str], None]
    filters: FilterCriteria | None = None
    tracing: Tracing | None = None
    policy: Policy = field(init=False)

    def __post_init__(self) -> None:
        settings = self.mapping.settings
        self.policy = Policy(
            retries_max=None if settings.retries_max < 0 else settings.retries_max,
            record_age_ms_max=None if settings.record_age_s_max < 0 else settings.record_age_s_max * 1000,
            bisects=settings.bisects,
            reports_item_failures=settings.reports_item_failures,
            window_ms=settings.tumbling_window_s * 1000 or None,
        )

    @property
    def sends_payload(self) -> bool:
        """Whether the on-failure destination gets the whole event: AWS sends it to S3 only."""
        return (self.mapping.settings.on_failure_arn or "").startswith("arn:aws:s3:")


class ShardWorker:
    """Run it once. After `stop` it lets what is under way finish; cancelled, it drops it, and that comes again."""

    def __init__(self, job: Job, progress: ShardProgress) -> None:
        self._job = job
        self.shard_index = progress.shard_index
        self._incarnation = progress.incarnation
        self._generation = progress.generation
        self._lane_progress = list(progress.lanes)
        self._window_s = progress.window_s
        self._earlier = progress.earlier
        self._seals: dict[int, Seal] = {seal.lane: seal for seal in progress.seals}
        self._lanes: list[Lane] = []
        settings = job.mapping.settings
        self._events = EventBuilder(
            shard_index=self.shard_index,
            source_arn=job.source.arn,
            role_arn=job.invoker.role_of(settings.function_arn),
            region=job.mapping.region,
        )
        self._limits = BatchLimits(
            records_max=settings.batch_records_max,
            event_bytes_max=INVOCATION_BYTES_MAX - len(job.source.arn) - 1024,
            window_ms=settings.batching_window_s * 1000,
            tumbling_ms=job.policy.window_ms,
            envelope_bytes=self._events.envelope_bytes,
        )
        self._batchers: list[Batcher] = []
        self._wakes: list[asyncio.Event] = []
        self._read_offset = 0
        self._caught_up_ms = -1  # when the last read began that found nothing
        self._more = asyncio.Event()
        self._room = asyncio.Event()
        self._stopped = asyncio.Event()
        self._is_stopping = False
        self._is_read = False  # the shard is closed and was read to its end
        self.is_done = False

    def notify(self) -> None:
        """The shard has new records, or was closed."""
        self._more.set()

    def stop(self) -> None:
        """Takes up nothing new."""
        self._is_stopping = True
        self._stopped.set()
        self._more.set()
        self._room.set()
        for wake in self._wakes:
            wake.set()

    def progress(self) -> ShardProgress:
        lanes = [lane.progress() for lane in self._lanes] or self._lane_progress
        checkpoint = min(lane.next_offset for lane in lanes)
        return ShardProgress(
            self.shard_index,
            self._generation,
            self._incarnation,
            lanes,
            list(self._seals.values()),
            self.is_done,
            self._window_s,
            [each for each in self._earlier if checkpoint < max(each.next_offsets)],
        )

    async def run(self) -> None:
        """Returns when the shard is done, or `stop` was called and nothing is under way."""
        await self._deliver_sealed()
        if self._is_stopping:
            return
        # Only now: what was sealed under earlier settings is of the lanes that there were then.
        carried = carried_over(self._job, self.progress())
        self._generation, self._lane_progress = carried.generation, carried.lanes
        self._window_s, self._earlier = carried.window_s, carried.earlier
        self._lanes = [Lane(self._job.policy, progress) for progress in self._lane_progress]
        self._batchers = [Batcher(self._limits) for _ in self._lanes]
        self._wakes = [asyncio.Event() for _ in self._lanes]
        self._read_offset = min(lane.next_offset for lane in self._lanes)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._feed())
            for index in range(len(self._lanes)):
                group.create_task(self._drive(index))
        if self._is_read and not self._is_stopping:
            self.is_done = True
        await self._job.progress.save(self)

    # -- reading -----------------------------------------------------------------------------------------------------

    async def _feed(self) -> None:
        while not self._is_stopping:
            if self._is_far_ahead():
                self._room.clear()
                await self._room.wait()
                continue
            self._more.clear()
            began_ms = self._job.clock.now_ms()
            found = await self._read()
            if found is None:
                self._is_read = True
                for batcher in self._batchers:
                    batcher.is_ended = True
                self._wake_all()
                return
            if not found:
                self._caught_up_ms = began_ms
                self._wake_all()  # a window may be over, and lanes without records may advance
                await self._more.wait()

    async def _read(self) -> bool | None:
        """Whether there was anything; None at the end of a closed shard."""
        job = self._job
        try:
            read = await job.source.read(
                self.shard_index,
                self._read_offset,
                records_max=min(LOOK_AHEAD_RECORDS_MAX, 100 * job.mapping.settings.batch_records_max),
                bytes_max=READ_BYTES_MAX,
            )
        except ThroughputExceeded:
            await job.clock.sleep(RETRY_READ_MS)
            return True
        except DamagedLog as error:
            if error.next_offset is None:
                raise
            _log.error("records left out: %s", error, extra=self._fields())
            self._read_offset = error.next_offset
            return True
        for batch in read.batches:
            self._take(batch)
        if read.next_offset is None:
            return None
        self._read_offset = max(self._read_offset, read.next_offset)
        return bool(read.batches)

    def _take(self, batch: RecordBatch) -> None:
        """Filters a batch and hands its records to their lanes."""
        self._read_offset = max(self._read_offset, batch.next_offset)
        job = self._job
        rows: list[int] | None = None
        if job.filters is not None:
            rows = job.filters.matches_batch(batch)
            if rows is not None:
                job.meter.filtered(len(batch) - len(rows))
        if self._earlier:
            rows = self._unresolved(batch, rows)
        if len(self._lanes) == 1:
            self._give(0, Part(batch, rows))
            return
        by_lane: list[list[int]] = [[] for _ in self._lanes]
        keys, count = batch.keys_bytes(), len(self._lanes)
        for row in range(len(batch)) if rows is None else rows:
            by_lane[_lane_of(keys[row], count)].append(row)
        for index, chosen in enumerate(by_lane):
            if chosen:
                self._give(index, Part(batch, chosen))

    def _unresolved(self, batch: RecordBatch, rows: list[int] | None) -> list[int] | None:
        """Without what was resolved when there was another number of lanes."""
        for earlier in self._earlier:
            ends = earlier.next_offsets
            if batch.first_offset >= max(ends):
                continue
            keys = batch.keys_bytes()
            rows = [
                row
                for row in (range(len(batch)) if rows is None else rows)
                if batch.first_offset + row >= ends[_lane_of(keys[row], len(ends))]
            ]
        return rows

    def _give(self, index: int, part: Part) -> None:
        """To a lane, without what it has resolved already."""
        next_offset = self._lanes[index].next_offset
        if part.size and part.offset(0) < next_offset:
            done = sum(offset < next_offset for offset in part.offsets())
            part = part.slice(done, part.size)
        if part.size:
            self._batchers[index].add(part, self._job.clock.now_ms())
            self._wakes[index].set()

    def _is_far_ahead(self) -> bool:
        records = sum(batcher.records_count for batcher in self._batchers)
        return (
            records >= LOOK_AHEAD_RECORDS_MAX
            or sum(batcher.data_bytes for batcher in self._batchers) >= LOOK_AHEAD_BYTES_MAX
            or records >= 200 * self._job.mapping.settings.batch_records_max
        )

    def _wake_all(self) -> None:
        for wake in self._wakes:
            wake.set()

    # -- lanes -------------------------------------------------------------------------------------------------------

    async def _drive(self, index: int) -> None:
        """Does what the lane's rules say, until the shard is done or `stop` was called."""
        lane, batcher, wake, job = self._lanes[index], self._batchers[index], self._wakes[index], self._job
        while True:
            wake.clear()
            now_ms = job.clock.now_ms()
            step = lane.next(now_ms, job.source.horizon_ms)
            if isinstance(step, Discard):
                if not await self._discard(index, lane, step.failure):
                    return
            elif self._is_stopping:
                return
            elif isinstance(step, Invoke):
                await self._invoke(lane, step)
            elif step.until_ms is not None:
                await self._sleep(wake, step.until_ms)
            elif (batch := batcher.take(now_ms)) is not None:
                lane.offer(batch)
                self._room.set()
            elif not self._advance(lane, batcher, now_ms):
                if self._is_read and batcher.first_offset is None:
                    return
                await self._sleep(wake, self._next_time(lane, batcher))

    def _advance(self, lane: Lane, batcher: Batcher, now_ms: int) -> bool:
        """What a lane without work can do: count what was filtered out as done, end its window. Whether that made
        work."""
        before = lane.next_offset
        first = batcher.first_offset
        lane.advance(self._read_offset if first is None else first)
        if lane.next_offset != before:
            self._job.progress.changed(self)
        window_ms = self._job.policy.window_ms
        if lane.has_work or first is not None or window_ms is None or lane.open_window_ms is None:
            return lane.has_work
        end_ms = lane.open_window_ms + window_ms + WINDOW_GRACE_MS
        if self._is_read or self._caught_up_ms >= end_ms:
            lane.end_window()
            return True
        if now_ms >= end_ms:
            self._more.set()  # read once more: what arrived in the window is there by now
        return False

    def _next_time(self, lane: Lane, batcher: Batcher) -> float | None:
        """When there is something to do although nothing comes."""
        due_ms = batcher.due_ms()
        window_ms = self._job.policy.window_ms
        if due_ms is not None or window_ms is None or lane.open_window_ms is None:
            return due_ms
        end_ms = lane.open_window_ms + window_ms + WINDOW_GRACE_MS
        return max(end_ms, self._job.clock.now_ms() + 1) if self._caught_up_ms < end_ms else None

    async def _sleep(self, wake: asyncio.Event, until_ms: float | None) -> None:
        """Until woken, or until a time."""
        if until_ms is None:
            await wake.wait()
            return
        timer = self._job.clock.call_later(max(until_ms - self._job.clock.now_ms(), 0), wake.set)
        try:
            await wake.wait()
        finally:
            timer.cancel()

    # -- invocations -------------------------------------------------------------------------------------------------

    async def _invoke(self, lane: Lane, step: Invoke) -> None:
        job, batch = self._job, step.work.batch
        if batch is not None:
            last = batch.parts[-1]
            age_ms = job.clock.now_ms() - last.arrived_at_ms(last.size - 1)
            job.meter.invoked(len(batch), max(age_ms, 0))
        outcome = await (self._outcome(batch, step) if job.tracing is None else self._traced(job.tracing, batch, step))
        lane.finish(outcome, job.clock.now_ms())
        if isinstance(outcome, Done):
            job.set_result(OK)
            job.progress.changed(self)
        elif not isinstance(outcome, Again):
            job.set_result(PROBLEM)
            await job.progress.save(self)  # the attempt counts, also if we are killed before the next one

    async def _traced(self, tracing: Tracing, batch: Batch | None, step: Invoke) -> Outcome:
        mapping = self._job.mapping
        facts = BatchFacts(
            mapping_id=mapping.id,
            function_arn=mapping.settings.function_arn,
            stream_arn=self._job.source.stream_arn,
            shard_id=shard_id(self.shard_index),
            records=0 if batch is None else len(batch),
            attempt=step.work.invocations + 1,
            first_sequence_number=None if batch is None else batch.sequence_number(0),
            last_sequence_number=None if batch is None else batch.sequence_number(len(batch) - 1),
        )
        with tracing.batch(facts) as span:
            outcome = await self._outcome(batch, step)
            span.ended(type(outcome).__name__.lower())
        return outcome

    async def _outcome(self, batch: Batch | None, step: Invoke) -> Outcome:
        job = self._job
        target = job.mapping.settings.function_arn
        try:
            if batch is not None and job.invoker.takes_batches(target):
                invoked = await job.invoker.run(target, None, batch.as_record_batch())
            else:
                payload = self._events.build(batch or Batch([]), self._window_context(step.window, step))
                if sum(map(len, payload)) > INVOCATION_BYTES_MAX:
                    return Failed(Response(413, "$LATEST", "RequestTooLarge"), is_final=True)
                invoked = await job.invoker.run(target, payload)
        except RequestTooLarge:
            return Failed(Response(413, "$LATEST", "RequestTooLarge"), is_final=True)
        except StreamkitError as error:
            job.set_result(f"PROBLEM: {error}")
            return Again()
        response = Response(invoked.status, invoked.version, invoked.function_error)
        if invoked.function_error is not None:
            return Failed(response)
        return read_response(invoked.payload, batch, job.policy, response)

    def _window_context(self, window: WindowProgress | None, step: Invoke) -> WindowContext | None:
        if window is None:
            return None
        window_ms = self._job.policy.window_ms
        assert window_ms is not None
        is_final = step.work.batch is None
        return WindowContext(
            window.start_ms, window.start_ms + window_ms, window.state, is_final, step.work.ended_early
        )

    # -- failures ----------------------------------------------------------------------------------------------------

    async def _discard(self, index: int, lane: Lane, failure: Failure) -> bool:
        """False where `stop` was called before the destination took it; then it is delivered after the next start."""
        job, batch = self._job, failure.batch
        count = 0 if batch is None else len(batch)
        if job.destination is not None:
            seal = await self._sealed(index, lane, failure)
            if seal is None:
                return False
            self._seals[index] = seal
            await job.progress.save(self)
            if not await self._deliver(self._seals[index], may_be_there=False):
                return False
        lane.discarded()
        self._seals.pop(index, None)
        await job.progress.save(self)
        job.meter.discarded(count)
        _log.info("%d records given up: %s", count, failure.condition, extra=self._fields())
        return True

    async def _sealed(self, index: int, lane: Lane, failure: Failure) -> Seal | None:
        """None where `stop` was called before the destination could say where it is."""
        job, batch = self._job, failure.batch
        since = await self._position()
        if since is _STOPPED:
            return None
        id, now_ms = job.new_id(), job.clock.now_ms()
        payload = b"".join(self._events.build(batch)) if batch is not None and job.sends_payload else None
        body = failures.failure_body(
            failure,
            id=id,
            now_ms=now_ms,
            function_arn=job.mapping.settings.function_arn,
            stream_arn=job.source.stream_arn,
            shard_index=self.shard_index,
            payload=payload,
        )
        first = lane.next_offset if batch is None else batch.first_offset
        last = first - 1 if batch is None else batch.last_offset
        name = failures.object_name(job.mapping.id, self.shard_index, now_ms, id)
        return Seal(index, id, failure.condition, first, last, body, name, since)

    async def _position(self) -> str | None:
        """Where the destination is now, however long it takes to hear of it."""
        job = self._job
        assert job.destination is not None
        delay_ms = RETRY_DELIVERY_MS
        while True:
            try:
                return await job.destination.position()
            except StreamkitError as error:
                _log.warning("on-failure destination: %s", error, extra=self._fields())
                job.set_result(f"PROBLEM: {error}")
            if self._is_stopping:
                return _STOPPED
            await self._sleep(self._stopped, job.clock.now_ms() + delay_ms)
            delay_ms = min(delay_ms * 2, RETRY_DELIVERY_MS_MAX)

    async def _deliver_sealed(self) -> None:
        """What a crash left between writing a failure record down and knowing that it was delivered."""
        for index, seal in list(self._seals.items()):
            if self._job.destination is not None and not await self._deliver(seal, may_be_there=True):
                return
            self._lane_progress[index] = failures.without(self._lane_progress[index], seal)
            del self._seals[index]
            await self._job.progress.save(self)

    async def _deliver(self, seal: Seal, *, may_be_there: bool) -> bool:
        """Hands a failure record over, however long that takes; False where `stop` was called meanwhile."""
        job = self._job
        assert job.destination is not None
        delivery = Delivery(seal.id, seal.body.encode(), shard_id(self.shard_index), seal.object_name)
        delay_ms = RETRY_DELIVERY_MS
        while True:
            try:
                await job.destination.deliver(delivery, since=seal.since, may_be_there=may_be_there)
                return True
            except StreamkitError as error:
                _log.warning("on-failure destination: %s", error, extra=self._fields())
                job.set_result(f"PROBLEM: {error}")
            if self._is_stopping:
                return False
            may_be_there = True
            await self._sleep(self._stopped, job.clock.now_ms() + delay_ms)
            delay_ms = min(delay_ms * 2, RETRY_DELIVERY_MS_MAX)

    def _fields(self) -> dict[str, str]:
        mapping = self._job.mapping
        return {MAPPING: mapping.id, FUNCTION: mapping.settings.function_arn, SHARD: shard_id(self.shard_index)}


def fresh_progress(job: Job, shard_index: int, offset: int) -> ShardProgress:
    """Of a shard that nothing was read of."""
    settings = job.mapping.settings
    lanes = [LaneProgress(offset)] * settings.parallelization_factor
    incarnation, window_s = job.source.incarnation, settings.tumbling_window_s
    return ShardProgress(shard_index, job.mapping.generation, incarnation, lanes, window_s=window_s)


def carried_over(job: Job, progress: ShardProgress) -> ShardProgress:
    """Progress under earlier settings. What was resolved stays so; retries begin anew. Nothing may be sealed."""
    settings = job.mapping.settings
    if progress.generation == job.mapping.generation:
        return progress
    assert not progress.seals
    fresh = fresh_progress(job, progress.shard_index, progress.checkpoint)
    lanes, earlier = fresh.lanes, list(progress.earlier)
    ends = [lane.next_offset for lane in progress.lanes]
    if len(ends) == len(lanes):
        keeps_window = progress.window_s == settings.tumbling_window_s
        lanes = [LaneProgress(lane.next_offset, [], lane.window if keeps_window else None) for lane in progress.lanes]
    elif min(ends) < max(ends):
        earlier.append(EarlierLanes(ends))
    return msgspec.structs.replace(fresh, lanes=lanes, earlier=earlier, is_done=progress.is_done)


def _lane_of(key: bytes, count: int) -> int:
    return xxhash.xxh3_64_intdigest(key) % count
