"""A world for event source mappings in virtual time: a disk that crashes, a function that fails, a ledger of records.

Everything between the stream and the function is the real thing: log, streams, control file, registry, service. What
is played is what lies outside: the disk, the function, the on-failure destination. The ledger follows every record,
and says at once when something happens to it that must not.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import xxhash

from streamkit.clock import Timer
from streamkit.control import ControlFile
from streamkit.functions.destinations import Delivery, RecordDestinations
from streamkit.mappings.invoker import Buffer, Invoked
from streamkit.mappings.registry import MappingRegistry
from streamkit.mappings.service import MappingService
from streamkit.mappings.state import MappingSettings, MappingState, ShardProgress
from streamkit.mappings.store import MappingStore
from streamkit.metrics import Registry
from streamkit.model import sequence
from streamkit.model.batch import RecordBatch
from streamkit.model.errors import (
    RequestTooLarge,
    ServerError,
    StorageUnavailable,
    StreamkitError,
    TooManyRequests,
)
from streamkit.model.names import Scope, StreamArn
from streamkit.model.sequence import Position
from streamkit.shards.disk import DiskLogStore
from streamkit.shards.log import LogSettings
from streamkit.sources.find import Sources
from streamkit.streams.control import ControlStore
from streamkit.streams.service import Streams, StreamSettings
from streamkit.streams.stream import Stream
from streamkit.testing.clock import VirtualClock
from streamkit.testing.files import SimulatedFiles
from streamkit.testing.runner import InlineRunner

SCOPE: Final = Scope("000000000000", "us-east-1")
STREAM: Final = StreamArn(SCOPE, "s")
FUNCTION: Final = "arn:aws:lambda:us-east-1:000000000000:function:f"
DESTINATION: Final = "arn:aws:sqs:us-east-1:000000000000:failed"
KEYS: Final = tuple("abcdefgh")
UNSURE_MS: Final = 45  # a failure that ended so shortly before an accident may be forgotten by it,
UNSURE_DONE_MS: Final = 120  # and a success
FILTER: Final = json.dumps({"data": {"keep": [True]}})


@dataclass(frozen=True, slots=True)
class Chances:
    """How the function, its destination and the way to them behave, until everything heals."""

    poison: float = 0.05
    fails: float = 0.1
    partial: float = 0.1
    throttled: float = 0.05
    too_large: float = 0.02
    latency_ms_max: int = 150
    destination_fails: float = 0.3
    position_fails: float = 0.0


@dataclass(eq=False, slots=True)
class Invocation:
    """What the function saw. `resolved`: how many of its records, from the first, it said were processed."""

    number: int
    shard: int
    ids: list[int]
    generation: int
    began_ms: int
    ended_ms: int | None = None
    outcome: str = "under way"
    resolved: int = 0
    bisects: bool = False

    @property
    def ran(self) -> bool:
        return self.outcome not in ("under way", "throttled", "cut")

    def counts_for(self, record_id: int) -> bool:
        """Whether it was an attempt that failed, for this record; what led to a bisect was none."""
        if self.outcome not in ("failed", "partial") or self.ids.index(record_id) < self.resolved:
            return False
        return not self.bisects or len(self.ids) == 1


@dataclass(eq=False, slots=True)
class Tracked:
    """A record, as the ledger knows it. `place`: shard index and offset, once somebody has told."""

    id: int
    key: str
    keep: bool
    place: tuple[int, int] | None = None
    arrived_at_ms: int = 0
    invocations: list[Invocation] = field(default_factory=list)
    processed: int = 0
    failures: list[str] = field(default_factory=list)  # ids of the documents that hold it


class Ledger:
    """Every record and what became of it. Raises AssertionError as soon as a promise is broken."""

    def __init__(self) -> None:
        self.records: dict[int, Tracked] = {}
        self.by_shard: dict[int, dict[int, Tracked]] = {}
        self.by_key: dict[str, list[Tracked]] = {}
        self.invocations: list[Invocation] = []
        self.accidents_ms: list[int] = []
        self.stops_ms: list[int] = []  # in good order, but what was under way was dropped
        self.settings: list[tuple[int, MappingSettings]] = []  # since when
        self.starts_at_ms = 0  # what arrived before is not for the mapping
        self.generation = 0
        self.anew_ms: list[int] = []  # when retries began anew
        self.checkpoints: dict[int, int] = {}
        self.passed: set[int] = set()
        self.finals: list[tuple[int, int]] = []  # shard and window
        self.final_ids: list[int] = []
        self.finals_discarded = 0

    def put(self, key: str, keep: bool) -> Tracked:
        record = Tracked(len(self.records), key, keep)
        self.records[record.id] = record
        return record

    def locate(self, record: Tracked, shard: int, offset: int, arrived_at_ms: int) -> None:
        if record.place is None:
            record.place, record.arrived_at_ms = (shard, offset), arrived_at_ms
            self.by_shard.setdefault(shard, {})[offset] = record
            of_key = self.by_key.setdefault(record.key, [])
            of_key.append(record)
            of_key.sort(key=lambda each: each.id)
        assert record.place == (shard, offset), f"record {record.id} changed its place"

    @property
    def current(self) -> MappingSettings:
        return self.settings[-1][1]

    def changed(self, now_ms: int, state: MappingState) -> None:
        """A change of the mapping took effect, or a process found it so."""
        if not self.settings or self.current != state.settings:
            self.settings.append((now_ms, state.settings))
        if self.generation != state.generation:
            self.generation = state.generation
            self.anew_ms.append(now_ms)

    # -- what may have been forgotten --------------------------------------------------------------------------------

    def may_be_forgotten(self, invocation: Invocation) -> bool:
        """Whether an accident came before its outcome was surely on disk, or retries began anew meanwhile."""
        end_ms = invocation.ended_ms
        sharply_ms = (*self.anew_ms, *self.stops_ms)
        if any(invocation.began_ms <= at_ms and (end_ms is None or at_ms <= end_ms) for at_ms in sharply_ms):
            return True
        unsure_ms = UNSURE_DONE_MS if invocation.outcome == "done" else UNSURE_MS
        return any(
            invocation.began_ms <= at_ms and (end_ms is None or at_ms <= end_ms + unsure_ms)
            for at_ms in self.accidents_ms
        )

    def attempts(self, record: Tracked, generation: int) -> tuple[int, int]:
        """Failed attempts that count, at least and at most. At the moment of a change the last of those before it and
        the first of those after it look alike."""
        counted = [
            each
            for each in record.invocations
            if each.counts_for(record.id) and (each.generation == generation or each.began_ms in self.anew_ms)
        ]
        sure = [each for each in counted if not self.may_be_forgotten(each)]
        return len(sure), len(counted)

    # -- the function ------------------------------------------------------------------------------------------------

    def begin(self, invocation: Invocation, lanes_count: int) -> None:
        records = [self.records[each] for each in invocation.ids]
        under_way = [each for each in self.invocations[-64:] if each.outcome == "under way"]
        if records:
            at_once = [each for each in under_way if each.shard == invocation.shard]
            assert len(at_once) < lanes_count, "more at once than the parallelization factor"
            busy = {self.records[each].key for other in under_way for each in other.ids}
            assert busy.isdisjoint(record.key for record in records), "one key in two invocations at the same time"
        together = set(invocation.ids)
        retries_max = self.current.retries_max
        for record in records:
            assert self.is_wanted(record), f"record {record.id} was to be left out"
            assert not record.failures, f"record {record.id} was invoked after its failure record was delivered"
            if retries_max >= 0 and not self._retries_changed():
                sure, _ = self.attempts(record, invocation.generation)
                assert sure <= retries_max, f"record {record.id} is tried again after {sure} failed attempts"
            if not record.invocations:
                for earlier in self.by_key[record.key]:
                    if earlier.id >= record.id:
                        break
                    ok = earlier.id in together or self.is_resolved(earlier, invocation.began_ms)
                    assert ok, f"record {record.id} was first delivered before {earlier.id} of its key was resolved"
            record.invocations.append(invocation)
        self.invocations.append(invocation)

    def _retries_changed(self) -> bool:
        return len({each.retries_max for _, each in self.settings}) > 1

    def end(self, invocation: Invocation, outcome: str, resolved: int, now_ms: int) -> None:
        invocation.ended_ms, invocation.outcome, invocation.resolved = now_ms, outcome, resolved
        for each in invocation.ids[:resolved]:
            self.records[each].processed += 1

    # -- failure records ---------------------------------------------------------------------------------------------

    def failed(self, document: dict[str, Any], id: str, now_ms: int) -> None:
        info, context = document["KinesisBatchInfo"], document["requestContext"]
        assert context["requestId"] == id
        assert info["streamArn"] == str(STREAM)
        if info["batchSize"] == 0:
            self.finals_discarded += 1
            return
        first, last = sequence.parse(info["startSequenceNumber"]), sequence.parse(info["endSequenceNumber"])
        assert first is not None
        assert last is not None
        assert info["shardId"] == f"shardId-{first.shard_index:012}"
        # Maybe under settings before these: what is given up was written down under its own, and is delivered later.
        for _, settings in self.settings[::-1]:
            records = self._lane(first, last, settings)
            if len(records) == info["batchSize"]:
                break
            # What was resolved when there was another number of lanes is not handed over again.
            records = [record for record in records if not (record.processed or record.failures)]
            if len(records) == info["batchSize"]:
                break
        assert len(records) == info["batchSize"], f"{info['batchSize']} records, not {len(records)}, were given up"
        for record in records:
            record.failures.append(id)
            if not self.anew_ms:
                self._require_reason(record, context, now_ms)

    def _lane(self, first: Position, last: Position, settings: MappingSettings) -> list[Tracked]:
        """What the lane of the first record has from there to the last one."""
        there = self.by_shard[first.shard_index]
        lane = lane_of(there[first.offset].key, settings.parallelization_factor)
        return [
            record
            for offset, record in sorted(there.items())
            if first.offset <= offset <= last.offset
            and lane_of(record.key, settings.parallelization_factor) == lane
            and self.is_wanted(record)
        ]

    def _require_reason(self, record: Tracked, context: dict[str, Any], now_ms: int) -> None:
        assert len(record.failures) == 1, f"record {record.id} is in {len(record.failures)} failure records"
        ran = [each for each in record.invocations if each.ran]
        sure = [each for each in ran if not self.may_be_forgotten(each)]
        count = context["approximateInvokeCount"]
        assert len(sure) <= count <= max(len(ran), 1), f"{count} invocations of record {record.id}, not {len(ran)}"
        if context["condition"] == "RecordAgeExceeded":
            age_max_s = self.current.record_age_s_max
            assert age_max_s > 0
            assert record.arrived_at_ms < now_ms - age_max_s * 1000
            return
        least, most = self.attempts(record, 0)
        too_large = any(each.outcome == "too large" and each.ids == [record.id] for each in ran)
        if not self._retries_changed() and not too_large:
            retries_max = self.current.retries_max
            assert least <= retries_max + 1 <= most, f"record {record.id} was given up after {most} attempts"

    def is_wanted(self, record: Tracked) -> bool:
        return (record.keep or not self.current.filters) and record.arrived_at_ms >= self.starts_at_ms

    def is_resolved(self, record: Tracked, now_ms: int) -> bool:
        if record.processed or record.failures or not self.is_wanted(record):
            return True
        return self.current.on_failure_arn is None and self._was_to_be_given_up(record, now_ms)

    def _was_to_be_given_up(self, record: Tracked, now_ms: int) -> bool:
        """Nobody hears of it where there is no destination; there must have been a reason."""
        for _, settings in self.settings:
            if settings.record_age_s_max > 0 and record.arrived_at_ms < now_ms - settings.record_age_s_max * 1000:
                return True
            generations = {each.generation for each in record.invocations}
            if settings.retries_max >= 0 and any(
                self.attempts(record, each)[1] > settings.retries_max for each in generations
            ):
                return True
        return any(each.outcome == "too large" and each.ids == [record.id] for each in record.invocations)

    # -- the disk ----------------------------------------------------------------------------------------------------

    def saved(self, progress: dict[int, ShardProgress], now_ms: int) -> None:
        """The progress on disk has changed."""
        for index, shard in progress.items():
            before = self.checkpoints.get(index, 0)
            assert shard.checkpoint >= before, f"the checkpoint of shard {index} went back"
            self.checkpoints[index] = shard.checkpoint
            for offset, record in self.by_shard.get(index, {}).items():
                if record.id in self.passed:
                    continue
                lane = shard.lanes[lane_of(record.key, len(shard.lanes))]
                if offset < lane.next_offset:
                    assert self.is_resolved(record, now_ms), f"the checkpoint passed record {record.id}"
                    self.passed.add(record.id)

    # -- the end -----------------------------------------------------------------------------------------------------

    def unresolved(self, now_ms: int) -> list[int]:
        return [
            record.id
            for record in self.records.values()
            if record.place is not None and not self.is_resolved(record, now_ms)
        ]

    def check_end(self, now_ms: int) -> None:
        was_calm = not self.accidents_ms and not self.anew_ms
        for record in self.records.values():
            if record.place is None:
                continue
            if not self.accidents_ms:
                assert record.processed + len(record.failures) <= 1, f"record {record.id} ended twice"
        for records in self.by_key.values():
            firsts = [record.invocations[0].number for record in records if record.invocations]
            assert firsts == sorted(firsts), "first deliveries of a key changed places"
        if self.current.tumbling_window_s and not self.anew_ms:
            processed = {
                record.id
                for record in self.records.values()
                if record.processed and not record.failures and not self._was_to_be_given_up(record, now_ms)
            }
            assert processed <= set(self.final_ids), "a processed record is in no window"
            if was_calm:
                assert len(self.final_ids) == len(set(self.final_ids)), "a record is in two windows"
                assert len(self.finals) == len(set(self.finals)), "a window ended twice"


def lane_of(key: str, lanes_count: int) -> int:
    return int(xxhash.xxh3_64_intdigest(key.encode()) % lanes_count)


# -- what lies outside -----------------------------------------------------------------------------------------------


class ProcessClock:
    """The world's clock, as one process sees it: its timers end with it."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._timers: list[Timer] = []

    def now_ms(self) -> int:
        return self._clock.now_ms()

    async def sleep(self, delay_ms: float) -> None:
        await self._clock.sleep(delay_ms)

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> Timer:
        timer = self._clock.call_later(delay_ms, callback)
        self._timers.append(timer)
        return timer

    def end(self) -> None:
        for timer in self._timers:
            timer.cancel()


class ProcessControl(ControlFile):
    """The kept control file in one process: a transaction takes its time, may fail, and dies with the process."""

    def __init__(
        self, kept: ControlFile, clock: ProcessClock, rng: random.Random, on_commit: Callable[[], None]
    ) -> None:
        self.db = kept.db
        self.fails_next = 0
        self.is_dead = False
        self.on_failure: Callable[[], None] = lambda: None
        self._clock = clock
        self._rng = rng
        self._on_commit = on_commit
        self._waiting: list[Callable[[sqlite3.Connection], None]] = []
        self._saved: asyncio.Future[None] | None = None

    def close(self) -> None:
        pass

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        if self.is_dead:
            raise StorageUnavailable("The process has ended.")
        with super().transaction() as db:
            yield db
        self._on_commit()

    def soon(self, write: Callable[[sqlite3.Connection], None]) -> asyncio.Future[None]:
        self._waiting.append(write)
        if self._saved is None:
            self._saved = asyncio.get_running_loop().create_future()
            if self.is_dead:
                saved = self._saved
                self._write()
                return saved
            self._clock.call_later(self._rng.randint(0, 20), self._write)
        return self._saved

    def die(self) -> None:
        """What was not committed never will be."""
        self.is_dead = True
        if self._saved is not None:
            self._write()

    def _write(self) -> None:
        if self.fails_next and self._waiting and not self.is_dead:
            self.fails_next -= 1
            self._waiting = [_refuse]
            self.on_failure()
        super()._write()


def _refuse(db: sqlite3.Connection) -> None:
    raise sqlite3.OperationalError("disk I/O error")


class PlayedFunction:
    """See `streamkit.mappings.invoker.Invoker`: one process's way to the function."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.is_closed = False

    def role_of(self, target: str) -> str:
        return "arn:aws:iam::000000000000:role/r"

    def takes_batches(self, target: str) -> bool:
        return False

    async def run(self, target: str, payload: Sequence[Buffer] | None, batch: RecordBatch | None = None) -> Invoked:
        assert not self.is_closed, "an invocation after the service was stopped"
        assert payload is not None
        return await self._world.play(json.loads(b"".join(payload)))


class PlayedDestination:
    """See `streamkit.functions.destinations.RecordDestination`. It outlives processes; documents are kept for good."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.documents: list[tuple[str, bytes]] = []

    async def position(self) -> str | None:
        world = self._world
        await world.clock.sleep(world.rng.randint(0, 20))
        if world.happens(world.chances.position_fails):
            raise ServerError("The destination does not answer.")
        return str(len(self.documents))

    async def deliver(self, delivery: Delivery, *, since: str | None = None, may_be_there: bool = False) -> None:
        world = self._world
        await world.clock.sleep(world.rng.randint(0, 60))
        fails = world.happens(world.chances.destination_fails)
        if fails and world.rng.random() < 0.5:
            raise ServerError("The destination refuses.")
        if may_be_there:
            assert since is not None
            there = self.documents[int(since) :]
        else:
            there = []
        if (delivery.id, delivery.body) not in there:
            with world.watching():
                assert all(delivery.id != id for id, _ in self.documents), "a failure record was delivered twice"
            self.documents.append((delivery.id, delivery.body))
            document = json.loads(delivery.body)
            world.note("gave up", delivery.id[:8], document["KinesisBatchInfo"]["batchSize"])
            with world.watching():
                world.ledger.failed(document, delivery.id, world.clock.now_ms())
        await world.clock.sleep(world.rng.randint(0, 60))
        if fails:
            raise ServerError("The destination has it, and does not say so.")


class _Faults(logging.Handler):
    """What is logged as a fault of our own is one, also where it is survived."""

    def __init__(self, problems: list[BaseException]) -> None:
        super().__init__(logging.ERROR)
        self._problems = problems

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info is not None and record.exc_info[1] is not None:
            self._problems.append(record.exc_info[1])


# -- the world -------------------------------------------------------------------------------------------------------


class World:
    """Streams with mappings over them, and processes that come and go. One stream `s`, one mapping."""

    def __init__(self, clock: VirtualClock, seed: int, *, chances: Chances, shards_count: int = 2) -> None:
        self.clock = clock
        self.rng = random.Random(seed)
        self.chances = chances
        self.ledger = Ledger()
        self.trace: list[str] = []
        self.problems: list[BaseException] = []
        self.destination = PlayedDestination(self)
        self.mapping_id = ""
        self.windows: dict[int, list[int]] = {}  # by shard: the state that the function returned last
        self.finals_fail = False  # once each, and are tried again
        self.finals_failed: set[tuple[int, int]] = set()
        self._poison: dict[int, bool] = {}
        self._shards_count = shards_count
        self._files = SimulatedFiles(seed)
        self._kept = ControlFile(None)
        self._main: asyncio.Task[Any] | None = None
        self._putting: set[asyncio.Task[None]] = set()
        self._faults = _Faults(self.problems)
        logging.getLogger("streamkit").addHandler(self._faults)

    def note(self, *what: object) -> None:
        self.trace.append(f"{self.clock.now_ms()} {' '.join(map(str, what))}")

    def happens(self, chance: float) -> bool:
        return self.rng.random() < chance

    def accident(self, what: str) -> None:
        self.note(what)
        self.ledger.accidents_ms.append(self.clock.now_ms())

    @contextmanager
    def watching(self) -> Iterator[None]:
        """What is found wrong ends the story, wherever in the process it is found."""
        try:
            yield
        except Exception as error:
            self.problems.append(error)
            raise

    def heal(self, *, cures_poison: bool) -> None:
        self.chances = Chances(0.05, 0, 0, 0, 0, self.chances.latency_ms_max, 0, 0)
        if cures_poison:
            self._poison = dict.fromkeys(self.ledger.records, False)
        self.note("healed")

    # -- processes ---------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        self._main = asyncio.current_task()
        self._clock = ProcessClock(self.clock)
        self.control = ProcessControl(self._kept, self._clock, self.rng, self._on_commit)
        self.control.on_failure = lambda: self.accident("control file refused")
        self._runner = InlineRunner(self.rng)
        log = DiskLogStore(
            Path("/data"),
            clock=self._clock,
            files=self._files,
            runner=self._runner,
            settings=LogSettings(segment_bytes_max=4_000),
        )
        self.streams = Streams(
            ControlStore(self.control), log, clock=self._clock, random=self.rng, settings=StreamSettings(100)
        )
        await self.streams.start()
        self.store = MappingStore(self.control)
        sources = Sources(self.streams)
        destinations = RecordDestinations({"sqs": lambda arn: self.destination})
        self.registry = MappingRegistry(
            self.store,
            clock=self._clock,
            random=self.rng,
            transition_delay_ms=self.rng.choice((0, 300)),
            function_exists=lambda function: function,
            source_exists=sources.exists,
            destinations=destinations,
        )
        self.registry.listen(self._on_change)
        self.function = PlayedFunction(self)
        self.service = MappingService(
            self.registry,
            self.store,
            sources=sources,
            invoker=self.function,
            destinations=destinations,
            clock=self._clock,
            random=self.rng,
            metrics=Registry(),
        )
        if not self.mapping_id:
            await self.streams.create(STREAM, shards_count=self._shards_count)
            await self.clock.sleep(200)
        await self._find_survivors()
        await self.service.start()
        self.note("process started")

    async def close(self, *, waits_for_changes: bool = True) -> None:
        """In good order: invocations under way end, and no other begins."""
        await asyncio.gather(*self._putting)
        if waits_for_changes:
            await self._settled()
        began_ms = self.clock.now_ms()
        finish_ms = self.rng.choice((None, None, 0, 100))
        await self.service.stop(finish_ms=finish_ms)
        if finish_ms is not None:
            self.ledger.stops_ms += [began_ms, self.clock.now_ms()]
        took_ms = self.clock.now_ms() - began_ms
        assert took_ms <= self.chances.latency_ms_max + 1_000, f"it took {took_ms} ms to stop"
        self.function.is_closed = True
        under_way = [each for each in self.ledger.invocations[-64:] if each.outcome == "under way"]
        assert not under_way, "an invocation outlives the service"
        await self.streams.close()
        self._clock.end()
        await self._end_tasks()
        self.note("process ended")

    async def crash(self, *, with_power: bool) -> None:
        """Kills the process, or the machine."""
        self.accident("power lost" if with_power else "killed")
        self.control.die()
        self._clock.end()
        self._runner.close()
        if with_power:
            self._files.crash()
        await self._end_tasks()
        self.function.is_closed = True

    async def _end_tasks(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            _, pending = await asyncio.wait(tasks, timeout=60)
            assert not pending, f"tasks that do not end: {pending}"
        self._putting.clear()

    # -- the mapping -------------------------------------------------------------------------------------------------

    @property
    def stream(self) -> Stream:
        return self.streams.find(*STREAM)

    @property
    def state(self) -> MappingState:
        return self.registry.get(SCOPE, self.mapping_id)

    async def map(self, given: dict[str, Any]) -> None:
        given = {"EventSourceArn": str(STREAM), "FunctionName": "f", **given}
        await asyncio.gather(*self._putting)
        await self.clock.sleep(1)
        self.put(5)
        self.note("map", json.dumps(given))
        if given["StartingPosition"] == "LATEST":
            self.ledger.starts_at_ms = self.clock.now_ms()
        self.mapping_id = (await self.registry.create(SCOPE, given)).id
        await self._settled()

    async def update(self, given: dict[str, Any]) -> None:
        """Returns when it is in effect, and what ran under the old settings has ended."""
        await self._settled()
        await self.begin_update(given)
        await self._settled()

    async def begin_update(self, given: dict[str, Any]) -> None:
        """Returns when it is accepted, if it can be."""
        if self.state.pending is None:
            self.note("update", json.dumps(given))
            await self.registry.update(SCOPE, self.mapping_id, given)

    async def _settled(self) -> None:
        for _ in range(1_000):
            if self.state.pending is None:
                await self.registry.told()
                return
            await self.clock.sleep(10)
        raise AssertionError("a change did not take effect")

    async def _on_change(self, before: MappingState | None, after: MappingState | None) -> None:
        if after is not None:
            self.note("in effect", after.status, after.generation)
            self.ledger.changed(self.clock.now_ms(), after)

    def _on_commit(self) -> None:
        if self.mapping_id:
            with self.watching():
                self.ledger.saved(self.store.load_progress(self.mapping_id), self.clock.now_ms())

    # -- records -----------------------------------------------------------------------------------------------------

    def put(self, count: int) -> None:
        """Some records of any keys; acknowledged some time later, if at all."""
        task = asyncio.get_running_loop().create_task(self._put(count))
        self._putting.add(task)
        task.add_done_callback(self._putting.discard)

    async def _put(self, count: int) -> None:
        stream = self.stream
        await stream.ready()
        records = [self.ledger.put(self.rng.choice(KEYS), self.rng.random() < 0.8) for _ in range(count)]
        put = stream.put([each.key.encode() for each in records], [_data(each) for each in records])
        assert put.appended is not None
        try:
            await put.appended.wait()
        except StreamkitError:
            return
        for record, (group, place) in zip(records, put.places, strict=True):
            offset, arrived_at_ms = put.appended.placed(group)
            self.ledger.locate(record, put.shards[group].index, offset + place, arrived_at_ms)

    async def _find_survivors(self) -> None:
        """Records that were put and not acknowledged when the process ended: those that are there, are for good."""
        stream = self.stream
        await stream.ready()
        for shard in stream.state.shards:
            for batch in await stream.log.read(shard.index, 0, records_max=100_000, bytes_max=2**30):
                for row, (data, arrived_at_ms) in enumerate(zip(batch.values(), batch.arrivals(), strict=True)):
                    record = self.ledger.records[json.loads(bytes(data))["id"]]
                    self.ledger.locate(record, shard.index, batch.offset(row), arrived_at_ms)

    # -- the function ------------------------------------------------------------------------------------------------

    async def play(self, event: dict[str, Any]) -> Invoked:
        """One invocation, from a drawn outcome."""
        with self.watching():
            invocation = self._begin(event)
        try:
            outcome, resolved, answer = self._draw(event, invocation)
            if outcome == "throttled":
                raise TooManyRequests("ConcurrentInvocationLimitExceeded")
            if outcome == "too large":
                raise RequestTooLarge("The event is too large.")
            await self.clock.sleep(self.rng.randint(0, self.chances.latency_ms_max))
            self._end(event, invocation, outcome, resolved, answer)
            return answer
        except asyncio.CancelledError:
            self.ledger.end(invocation, "cut", 0, self.clock.now_ms())
            raise
        except StreamkitError:
            self.ledger.end(invocation, outcome, 0, self.clock.now_ms())
            raise
        finally:
            self.note("invoked", invocation.shard, invocation.ids, invocation.outcome, invocation.resolved)

    def _begin(self, event: dict[str, Any]) -> Invocation:
        ids: list[int] = []
        shard = int(event["shardId"][8:]) if "shardId" in event else -1
        arrivals: list[int] = []
        for each in event["Records"]:
            number = each["kinesis"]["sequenceNumber"]
            position = sequence.parse(number)
            assert position is not None
            assert each["eventID"] == f"shardId-{position.shard_index:012}:{number}"
            assert shard in (-1, position.shard_index), "a batch of two shards"
            shard = position.shard_index
            data = base64.b64decode(each["kinesis"]["data"])
            record = self.ledger.records[json.loads(data)["id"]]
            assert data == _data(record)
            assert each["kinesis"]["partitionKey"] == record.key
            arrivals.append(round(each["kinesis"]["approximateArrivalTimestamp"] * 1000))
            self.ledger.locate(record, shard, position.offset, arrivals[-1])
            ids.append(record.id)
        assert ids == sorted(ids), "records of a batch changed places"
        settings = self.ledger.current
        assert len(ids) <= settings.batch_records_max or self.ledger.anew_ms
        number_ = len(self.ledger.invocations)
        invocation = Invocation(
            number_, shard, ids, self.state.generation, self.clock.now_ms(), bisects=settings.bisects
        )
        self.ledger.begin(invocation, settings.parallelization_factor)
        if "window" in event:
            self._check_window(event, arrivals)
        return invocation

    def _check_window(self, event: dict[str, Any], arrivals: list[int]) -> None:
        start_ms, end_ms = _epoch_ms(event["window"]["start"]), _epoch_ms(event["window"]["end"])
        assert end_ms - start_ms == self.ledger.current.tumbling_window_s * 1000
        assert all(start_ms <= each < end_ms for each in arrivals), "a batch spans windows"
        assert bool(arrivals) != event["isFinalInvokeForWindow"]
        assert not event["isWindowTerminatedEarly"]
        shard = int(event["shardId"][8:])
        if not self.ledger.accidents_ms and not self.ledger.anew_ms:
            known = self.windows.get(shard, [])
            assert event["state"].get("ids", []) == known, "the state is not what was returned last"

    def _draw(self, event: dict[str, Any], invocation: Invocation) -> tuple[str, int, Invoked]:
        """What happens, how many records it resolves, and the answer."""
        ids, chances = invocation.ids, self.chances
        settings = self.ledger.current
        reports, has_window = settings.reports_item_failures, "window" in event
        error = Invoked(b'{"errorType":"Oops"}', "$LATEST", "r", function_error="Unhandled")
        if self.happens(chances.throttled):
            return "throttled", 0, error
        if not ids:
            return self._draw_final(event, invocation, error)
        if len(ids) > 1 and self.happens(chances.too_large):
            return "too large", 0, error
        bad = [place for place, each in enumerate(ids) if self._is_poison(each)]
        if not bad and self.happens(chances.partial):
            bad = [self.rng.randrange(len(ids))]
        if bad and reports and self.rng.random() < 0.8:
            named = self.rng.sample(bad, len(bad))
            numbers = [event["Records"][place]["kinesis"]["sequenceNumber"] for place in named]
            answer = {"batchItemFailures": [{"itemIdentifier": number} for number in numbers]}
            return "partial", bad[0], self._answer(event, invocation, bad[0], answer)
        if bad or self.happens(chances.fails):
            if reports and self.rng.random() < 0.3:
                junk = self.rng.choice(([{"itemIdentifier": ""}], [{"itemIdentifier": None}], [{"id": "1"}], [None]))
                return "failed", 0, self._answer(event, invocation, 0, {"batchItemFailures": junk})
            if has_window and self.rng.random() < 0.3:
                return "failed", 0, Invoked(b"{}", "$LATEST", "r")
            return "failed", 0, error
        answer = {} if reports or self.rng.random() < 0.8 else {"batchItemFailures": [{"itemIdentifier": ""}]}
        return "done", len(ids), self._answer(event, invocation, len(ids), answer)

    def _draw_final(self, event: dict[str, Any], invocation: Invocation, error: Invoked) -> tuple[str, int, Invoked]:
        assert event["state"], "a final invocation of a window without a processed record"
        window = invocation.shard, _epoch_ms(event["window"]["start"])
        if self.finals_fail and window not in self.finals_failed and self.happens(self.chances.fails):
            self.finals_failed.add(window)
            return "failed", 0, error
        return "done", 0, Invoked(b'{"state":{}}', "$LATEST", "r")

    def _answer(self, event: dict[str, Any], invocation: Invocation, resolved: int, answer: Any) -> Invoked:
        if "window" in event:
            seen = event["state"].get("ids", []) + invocation.ids[:resolved]
            answer = {**answer, "state": {"ids": seen}}
        return Invoked(json.dumps(answer).encode(), "$LATEST", "r")

    def _end(self, event: dict[str, Any], invocation: Invocation, outcome: str, resolved: int, answer: Invoked) -> None:
        self.ledger.end(invocation, outcome, resolved, self.clock.now_ms())
        if "window" in event and outcome in ("done", "partial"):
            state = json.loads(answer.payload)["state"]
            if not invocation.ids:
                self.ledger.final_ids += event["state"].get("ids", [])
                self.ledger.finals.append((invocation.shard, _epoch_ms(event["window"]["start"])))
                self.windows.pop(invocation.shard, None)
            elif resolved:
                self.windows[invocation.shard] = state["ids"]

    def _is_poison(self, record_id: int) -> bool:
        if record_id not in self._poison:
            self._poison[record_id] = self.happens(self.chances.poison)
        return self._poison[record_id]

    # -- the end -----------------------------------------------------------------------------------------------------

    async def quiesce(self, limit_s: int = 900) -> None:
        """Returns when every record is resolved, and that is on disk."""
        await asyncio.gather(*self._putting)
        for _ in range(limit_s):
            self.raise_problems()
            if not self.ledger.unresolved(self.clock.now_ms()):
                break
            await self.clock.sleep(1_000)
        left = self.ledger.unresolved(self.clock.now_ms())
        assert not left, f"records that never end: {left}; {self.state.last_result}"
        settings = self.ledger.current
        await self.clock.sleep(2 * 1_000 * (settings.tumbling_window_s + settings.batching_window_s) + 40_000)
        self.raise_problems()
        stream, progress = self.stream, self.store.load_progress(self.mapping_id)
        for shard in stream.state.shards:
            if shard.index not in progress:
                assert shard.index not in self.ledger.by_shard, f"nothing is known of shard {shard.index} on disk"
            elif shard.is_open:
                tip = stream.log.bounds(shard.index).next_offset
                assert progress[shard.index].checkpoint == tip, f"shard {shard.index} is not read to its tip on disk"
            else:
                assert progress[shard.index].is_done, f"shard {shard.index} is not done on disk"

    def raise_problems(self) -> None:
        if self.problems:
            raise self.problems[0]

    def end(self) -> None:
        logging.getLogger("streamkit").removeHandler(self._faults)


def _data(record: Tracked) -> bytes:
    return json.dumps({"id": record.id, "keep": record.keep}).encode()


def _epoch_ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)
