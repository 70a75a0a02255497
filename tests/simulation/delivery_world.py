"""A world for deliveries in virtual time: a source that grows, is resharded, and is deleted and made again; a function
that never answers the same twice; destinations that fail and forget to answer; a disk that is full for a while; changes
of the destination; and lives that end anywhere.

The engine is the real one, over real files and a real control file; what is played is what lies outside. What is in the
destination, in the error output and in the backup is held against all records that were put: each is in exactly one
object, or was dropped by the function, or went with its stream before it was on this disk.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import json
import random
import sqlite3
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Final, Literal, TypeVar

import msgspec
import pyarrow as pa

from streamkit.clock import Clock
from streamkit.control import ControlFile
from streamkit.delivery.buffers import Role
from streamkit.delivery.deliverer import Deliverer
from streamkit.delivery.destination import DeliveryFailed, Destination, Refused, Sealed, Takes
from streamkit.delivery.formats import Encoder
from streamkit.delivery.ledger import Ledger
from streamkit.delivery.line import Line
from streamkit.delivery.metering import DeliveryMetrics, Meter
from streamkit.delivery.naming import Namer
from streamkit.delivery.plan import (
    Backup,
    Buffering,
    CatalogTable,
    DeliveryPlan,
    DestinationSpec,
    Naming,
    RecordsFormat,
    TextFormat,
)
from streamkit.delivery.processor import Processed
from streamkit.delivery.records_format import RecordsEncoder, read_records
from streamkit.delivery.rows import Failed, Rows
from streamkit.delivery.stage import Stage
from streamkit.delivery.state import DeliveryState, Progress, Target
from streamkit.delivery.store import DeliveryStore
from streamkit.delivery.text import TextEncoder
from streamkit.delivery.worker import DeliveryWorker, Job, Outlet
from streamkit.metrics import Registry
from streamkit.model.batch import RecordBatch
from streamkit.model.errors import ResourceNotFound, StorageUnavailable
from streamkit.sources.source import ShardRead, SourceShard, StartingPosition

T = TypeVar("T")
Kind = Literal["objects", "table", "records"]
DELIVERY_ID: Final = "d" * 32
PARTITIONS: Final = tuple("abcdef")
NAMING: Final = Naming("out/", "errors/!{firehose:error-output-type}/")
PARTITIONED: Final = replace(NAMING, prefix="out/!{partitionKeyFromLambda:p}/")


@dataclass(frozen=True, slots=True)
class Chances:
    """How the outside behaves, until everything heals."""

    store_fails: float = 0.2
    store_refuses: float = 0.0  # for good
    answer_lost: float = 0.1
    latency_ms_max: int = 400
    work_ms_max: int = 60
    record_fails: float = 0.05
    record_dropped: float = 0.05
    line_fails: float = 0.02
    disk_fails: float = 0.0
    source_away: float = 0.0


HEALED: Final = Chances(0, 0, 0, 10, 2, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Settings:
    """Of one version of the delivery stream."""

    buffering: Buffering
    is_partitioned: bool = False
    has_backup: bool = False
    retry_ms: int | None = None
    poison_every: int = 0  # so many ids are between those that make the processor raise
    held_bytes_max: int | None = None  # what buffers may hold in memory


@dataclass(slots=True)
class _Shard:
    parents: tuple[int, ...] = ()
    is_open: bool = True
    records: list[tuple[bytes, int]] = field(default_factory=list)


class World:
    """What outlives a crash: the source, the destinations, the disk; and what was put."""

    def __init__(
        self, folder: Path, clock: Clock, rng: random.Random, *, shards: int = 2, kind: Kind = "objects"
    ) -> None:
        self.folder = folder
        self.clock = clock
        self.rng = rng
        self.kind: Kind = kind
        self.shards = [_Shard() for _ in range(shards)]
        self.incarnation = 1
        self.is_there = True
        self.watchers: list[Callable[[int | None], None]] = []
        self.objects: dict[str, tuple[str, bytes]] = {}  # key: id and bytes
        self.table_number = 0  # the highest that the table took
        self.table: list[bytes] = []
        self.taken: dict[int, bytes] = {}  # records, by their id, where they are delivered one by one
        self.put_count = 0
        self.text_bytes_max = 120
        self.chances = Chances()
        self.dropped: set[int] = set()
        self.gone: set[int] = set()  # records that went with their stream
        self.lives = 0
        self.turns = 0
        self.faults: list[str] = []

    def put(self, count: int) -> None:
        for _ in range(count):
            index = self.rng.choice([each for each, shard in enumerate(self.shards) if shard.is_open])
            document = {"id": self.put_count, "text": "x" * self.rng.randrange(self.text_bytes_max)}
            self.put_count += 1
            self.shards[index].records.append((json.dumps(document).encode() + b"\n", self.clock.now_ms()))
            self._tell(index)

    def split(self) -> None:
        """Closes a shard; two children take its place."""
        index = self.rng.choice([each for each, shard in enumerate(self.shards) if shard.is_open])
        self.shards[index].is_open = False
        self.shards += [_Shard((index,)), _Shard((index,))]
        self._tell(None)

    def delete_source(self) -> None:
        """With all records that are not on the delivery's disk by now."""
        progress = self.progress()
        for index, shard in enumerate(self.shards):
            kept = progress.positions.get(index, 0) if progress.incarnation == str(self.incarnation) else 0
            self.gone.update(json.loads(data)["id"] for data, _ in shard.records[kept:])
        self.is_there = False
        self.shards = []
        watchers, self.watchers = tuple(self.watchers), []
        for watcher in watchers:
            watcher(None)

    def make_source(self) -> None:
        self.incarnation += 1
        self.shards = [_Shard() for _ in range(self.rng.randrange(1, 4))]
        self.is_there = True

    def progress(self) -> Progress:
        """What is on disk."""
        control = ControlFile(self.folder / "control.sqlite")
        try:
            return DeliveryStore(control).progress(DELIVERY_ID)
        finally:
            control.close()

    def heal(self) -> None:
        self.chances = HEALED
        if not self.is_there:
            self.make_source()

    def _tell(self, shard_index: int | None) -> None:
        for watcher in tuple(self.watchers):
            watcher(shard_index)

    # -- the proof ---------------------------------------------------------------------------------------------------

    def found(self) -> Counter[int]:
        """How often each record is where it was to go, or in the error output."""
        found = Counter(self.taken.keys())
        lines = [line for content in self.table for line in content.splitlines()]
        for key, (_, content) in self.objects.items():
            if not key.startswith("backup/"):
                lines += content.splitlines()
        for line in lines:
            document = json.loads(line)
            if "rawData" in document:
                document = json.loads(base64.b64decode(document["rawData"]))
            found[document["id"]] += 1
        return found

    def backed_up(self) -> Counter[int]:
        return Counter(
            json.loads(line)["id"]
            for key, (_, content) in self.objects.items()
            if key.startswith("backup/")
            for line in content.splitlines()
        )

    def blamed(self) -> set[int]:
        """Records that are in the error output as what cannot be processed at all."""
        return {
            json.loads(base64.b64decode(document["rawData"]))["id"]
            for key, (_, content) in self.objects.items()
            if key.startswith("errors/")
            for document in map(json.loads, content.splitlines())
            if document.get("errorCode") == "Streamkit.InternalFailure"
        }

    def check(self, *, has_backup: bool | None = False) -> None:
        """That every record is in exactly one object, or was dropped, and no other is anywhere; in the backup each,
        where there always was one (None: now and then)."""
        assert not self.faults, self.faults[:5]
        for key, (_, content) in self.objects.items():
            if b'"rawData"' in content:
                assert key.startswith("errors/"), key
        wanted = set(range(self.put_count)) - self.gone
        found = self.found()
        _check_once(found, self.put_count)
        lost = sorted(wanted - set(found) - self.dropped)
        assert not lost, f"records in no object: {lost[:10]} of {len(lost)}"
        assert not found.keys() & self.dropped
        backed_up = self.backed_up()
        _check_once(backed_up, self.put_count)
        if has_backup:
            lost = sorted(wanted - set(backed_up))
            assert not lost, f"records in no backup: {lost[:10]} of {len(lost)}"


def _check_once(found: Counter[int], count: int) -> None:
    twice = sorted(each for each, times in found.items() if times > 1)
    assert not twice, f"records in more than one object: {twice[:10]}"
    assert max(found, default=-1) < count


class PlayedSource:
    """See `streamkit.sources.source.Source`."""

    arn = "arn:aws:kinesis:us-east-1:000000000000:stream/s"
    stream_arn = arn
    horizon_ms = 0

    def __init__(self, world: World) -> None:
        self._world = world

    async def ready(self) -> None:
        self._require()
        if self._world.rng.random() < self._world.chances.source_away:
            raise StorageUnavailable("not now")

    @property
    def incarnation(self) -> str:
        self._require()
        return str(self._world.incarnation)

    def shards(self) -> list[SourceShard]:
        self._require()
        return [SourceShard(index, each.parents, each.is_open) for index, each in enumerate(self._world.shards)]

    async def seek(self, shard_index: int, position: StartingPosition, at_ms: int | None) -> int:
        return len(self._world.shards[shard_index].records) if position == "LATEST" else 0

    async def read(self, shard_index: int, offset: int, *, records_max: int, bytes_max: int) -> ShardRead:
        self._require()
        shard = self._world.shards[shard_index]  # a stream that is deleted meanwhile may still be read
        await self._world.clock.sleep(self._world.rng.randrange(5))
        if self._world.rng.random() < self._world.chances.source_away:
            raise OSError(errno.EIO, "not now")
        found = shard.records[offset : offset + min(self._world.rng.randrange(1, 200), records_max)]
        while len(found) > 1 and sum(len(data) for data, _ in found) > bytes_max:
            found = found[: len(found) // 2]
        end = offset + len(found)
        next_offset = None if not shard.is_open and end == len(shard.records) else end
        return ShardRead([_batch(shard_index, offset, found)] if found else [], next_offset)

    def watch(self, callback: Callable[[int | None], None]) -> Callable[[], None]:
        self._require()
        self._world.watchers.append(callback)

        def unwatch() -> None:
            if callback in self._world.watchers:
                self._world.watchers.remove(callback)

        return unwatch

    def _require(self) -> None:
        if not self._world.is_there:
            raise ResourceNotFound("Stream s under account 000000000000 not found.")


def _batch(shard: int, offset: int, records: Sequence[tuple[bytes, int]]) -> RecordBatch:
    bounds = array("i", [0])
    for data, _ in records:
        bounds.append(bounds[-1] + len(data))
    keys = memoryview(array("i", range(len(records) + 1)))
    arrivals = memoryview(array("q", [arrived for _, arrived in records]))
    whole = memoryview(b"".join(data for data, _ in records))
    return RecordBatch(
        shard, 1, offset, 0, len(records), records[0][1], keys, memoryview(b"k" * len(records)), memoryview(bounds),
        whole, arrivals_ms=arrivals,
    )  # fmt: skip


class Whims:
    """A processor that drops, fails and partitions as it likes, another way each time it sees a record."""

    def __init__(self, world: World, settings: Settings) -> None:
        self._world = world
        self._settings = settings

    async def process(self, rows: Rows) -> Processed:
        world, chances = self._world, self._world.chances
        await world.clock.sleep(world.rng.randrange(chances.work_ms_max + 1))
        if world.rng.random() < chances.line_fails:
            raise DeliveryFailed("Whim", "not now")
        identities = [json.loads(data)["id"] for data in rows.data.to_pylist()]
        every = self._settings.poison_every
        if every and any(identity % every == 1 and identity not in world.dropped for identity in identities):
            raise ValueError("poison")
        kept, failed = [], []
        for row, identity in enumerate(identities):
            if identity in world.dropped or world.rng.random() < chances.record_dropped:
                world.dropped.add(identity)  # another run must not keep what this one may have dropped for good
            elif world.rng.random() < chances.record_fails:
                failed.append(row)
            else:
                kept.append(row)
        good = rows.take(pa.array(kept, pa.int64()))
        if self._settings.is_partitioned:
            values = pa.array([world.rng.choice(PARTITIONS) for _ in kept], pa.string())
            good = good.with_keys({"partitionKeyFromLambda:p": values})
        bad = [Failed(rows.take(pa.array(failed, pa.int64())), "processing-failed", [("Whim", "no")] * len(failed))]
        return Processed(good, bad if failed else ())


class _Played:
    """What destinations have in common: it takes a while, and may fail before or after."""

    takes: Takes = "objects"
    is_ordered = False
    failed_output_type = "store-failed"
    metric = "S3"

    def __init__(self, world: World) -> None:
        self._world = world

    async def schema(self) -> None:
        return None

    async def deliver(self, sealed: Sealed, *, may_be_there: bool) -> Sequence[Refused]:
        world, chances = self._world, self._world.chances
        await world.clock.sleep(world.rng.randrange(chances.latency_ms_max + 1))
        # Who gives up what is there would have it twice, and says so in its manual.
        if not chances.answer_lost and self._is_there(sealed):
            return self._take(sealed, may_be_there)
        if world.rng.random() < chances.store_refuses:
            raise DeliveryFailed("400", "never", is_final=True)
        if world.rng.random() < chances.store_fails:
            raise DeliveryFailed("503", "slow down")
        refused = self._take(sealed, may_be_there)
        if world.rng.random() < chances.answer_lost:
            raise DeliveryFailed("Reset", "connection reset")
        await world.clock.sleep(world.rng.randrange(chances.latency_ms_max + 1))
        return refused

    def _is_there(self, sealed: Sealed) -> bool:
        return False

    def _take(self, sealed: Sealed, may_be_there: bool) -> Sequence[Refused]:
        raise NotImplementedError

    async def close(self) -> None:
        return


class PlayedStore(_Played):
    """A destination that keeps what it is given under its name, once."""

    def _is_there(self, sealed: Sealed) -> bool:
        return sealed.key in self._world.objects

    def _take(self, sealed: Sealed, may_be_there: bool) -> Sequence[Refused]:
        world, content = self._world, sealed.path.read_bytes()
        known = world.objects.get(sealed.key)
        if known is None:
            world.objects[sealed.key] = sealed.id, content
        else:
            if not may_be_there:
                world.faults.append(f"{sealed.key} is there, and the engine says it was never tried")
            if known != (sealed.id, content):
                world.faults.append(f"{sealed.key} came with other bytes than before")
        return []


class PlayedTable(_Played):
    """Remembers the highest number it took, as Delta does: whatever comes out of order is lost."""

    is_ordered = True

    def _is_there(self, sealed: Sealed) -> bool:
        return sealed.number <= self._world.table_number

    def _take(self, sealed: Sealed, may_be_there: bool) -> Sequence[Refused]:
        world = self._world
        if sealed.number > world.table_number:
            world.table.append(sealed.path.read_bytes())
            world.table_number = sealed.number
        elif not may_be_there:
            world.faults.append(f"object {sealed.number} came to a table that has {world.table_number}")
        return []


class PlayedEndpoint(_Played):
    """Takes records one by one, those it knows without a word, and refuses some for good."""

    takes: Takes = "records"

    async def deliver(self, sealed: Sealed, *, may_be_there: bool) -> Sequence[Refused]:
        try:
            return await super().deliver(sealed, may_be_there=may_be_there)
        except DeliveryFailed as error:
            there = [row for row, identity, _ in self._records(sealed) if identity in self._world.taken]
            error.delivered = [range(row, row + 1) for row in there]
            raise

    def _take(self, sealed: Sealed, may_be_there: bool) -> Sequence[Refused]:
        refused = []
        for row, identity, data in self._records(sealed):
            if identity % 11 == 3:
                refused.append(Refused(row, "Bad", "does not please"))
            else:
                self._world.taken.setdefault(identity, data)
        return refused

    def _records(self, sealed: Sealed) -> Iterator[tuple[int, int, bytes]]:
        rows = [data for batch in read_records(sealed.path) for data in batch.column("data").to_pylist()]
        for row, data in enumerate(rows):
            yield row, json.loads(data)["id"], data


class _NoSchemas:
    def columns(self, table: CatalogTable) -> tuple[tuple[str, str], ...]:
        raise NotImplementedError

    def keep(self, name: str, columns: tuple[tuple[str, str], ...]) -> CatalogTable:
        raise NotImplementedError

    def kept(self, name: str) -> CatalogTable | None:
        return None


class _FullDisk(ControlFile):
    """A control file whose transactions fail as often as the disk does."""

    world: World | None = None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        if self.world is not None and self.world.rng.random() < self.world.chances.disk_fails:
            raise StorageUnavailable("The change could not be stored: the disk is full. Nothing was changed.")
        with super().transaction() as db:
            yield db


class _Worker(DeliveryWorker):
    def __init__(self, job: Job, world: World) -> None:
        super().__init__(job)
        self._world = world

    async def _turn(self) -> bool:
        self._world.turns += 1
        return await super()._turn()


class Life:
    """The engine from one start to the next crash."""

    def __init__(self, world: World, settings: Settings, *, version: int = 1) -> None:
        world.lives += 1
        self._world = world
        self._control = _FullDisk(world.folder / "control.sqlite")
        store = DeliveryStore(self._control)
        stage = Stage(world.folder / "stage")
        naming = PARTITIONED if settings.is_partitioned else NAMING
        spec, plain = DestinationSpec(world.kind, {"version": version}), DestinationSpec("objects")
        state = DeliveryState(
            DELIVERY_ID, "000000000000", "us-east-1", "d", "KinesisStreamAsSource", "ACTIVE", 0, "ExtendedS3", {},
            version=version,
        )  # fmt: skip
        store.save(state)
        self._control.world = world
        self.ledger = ledger = Ledger(store, DELIVERY_ID)
        stage.open({each.number for each in ledger.progress.sealed}, ledger.spools)
        is_text = world.kind != "records"
        backup = Backup("all", plain, settings.buffering, Naming("backup/")) if settings.has_backup else None
        self.plan = DeliveryPlan(
            "d", str(state.arn), version, PlayedSource.arn, settings.buffering, naming,
            TextFormat() if is_text else RecordsFormat(), spec, plain, is_partitioned=settings.is_partitioned,
            backup=backup,
        )  # fmt: skip
        errors = Target("objects", {}, naming.prefix, naming.error_prefix)
        deliverer = Deliverer(
            state,
            ledger,
            stage,
            self._open,
            clock=world.clock,
            random_source=random.Random(world.rng.getrandbits(32)),
            offload=self._offload,
            meter=Meter(DeliveryMetrics(Registry()), "d"),
            on_change=lambda: self.worker.wake(),
        )
        line = Line(
            self.plan,
            [Whims(world, settings)],
            schemas=_NoSchemas(),
            table_schema=PlayedStore(world).schema,
            active=lambda: self.worker.active_partitions(),
            clock=world.clock,
            offload=self._offload,
        )
        namer, text = Namer(naming, stream="d", version=version), TextEncoder(TextFormat())
        encoder: Encoder = text if is_text else RecordsEncoder()
        outlets: dict[Role, Outlet] = {
            "main": Outlet(namer, encoder, Target(world.kind, dict(spec.options)), settings.retry_ms, errors),
            "error": Outlet(namer, text, errors),
        }
        if backup is not None:
            outlets["backup"] = Outlet(Namer(backup.naming, stream="d", version=version), text, Target("objects", {}))
        self.worker = _Worker(
            Job(
                state=state,
                plan=self.plan,
                source=PlayedSource(world),
                first_positions={},
                line=line,
                outlets=outlets,
                ledger=ledger,
                stage=stage,
                deliverer=deliverer,
                clock=world.clock,
                offload=self._offload,
                meter=Meter(DeliveryMetrics(Registry()), "d"),
            ),
            world,
        )
        if settings.held_bytes_max is not None:
            self.worker._held_bytes_max = settings.held_bytes_max
        self.deliverer = deliverer

    def _open(self, target: Target) -> Destination:
        kinds: Mapping[str, type[_Played]] = {"objects": PlayedStore, "table": PlayedTable, "records": PlayedEndpoint}
        return kinds[target.service](self._world)

    async def _offload(self, work: Callable[[], T]) -> T:
        """As a thread would: it takes a while before, and a while after; the disk may refuse at any of them."""
        world = self._world
        await world.clock.sleep(world.rng.randrange(world.chances.work_ms_max + 1))
        self._write_a_bit()
        done = work()
        await world.clock.sleep(world.rng.randrange(world.chances.work_ms_max + 1))
        self._write_a_bit()
        return done

    def _write_a_bit(self) -> None:
        if self._world.rng.random() < self._world.chances.disk_fails:
            raise OSError(errno.ENOSPC, "No space left on device")

    @property
    def made_under(self) -> int | None:
        """The version that filled what is in buffers."""
        before = self.ledger.progress.made_under
        return None if before is None else before.version

    async def crash(self) -> None:
        """Everything stops where it is; what the disk has stays."""
        await self.worker.stop(finish_ms=0)
        await self._end()

    async def change(self, finish_ms: int) -> None:
        """Ends for another version to take over."""
        await self.worker.stop(finish_ms=finish_ms, delivers=False)
        await self._end()

    async def close(self, finish_ms: int | None = None) -> None:
        await self.worker.stop(finish_ms=finish_ms)
        await self._end()

    async def _end(self) -> None:
        with contextlib.suppress(Exception):
            await self._control.flush()
        self._control.close()
        await asyncio.sleep(0)


async def start(world: World, settings: Callable[[int], Settings], version: int, *, settle_ms: int = 1_000) -> Life:
    """A life as the service begins one: what is in buffers of another version is sealed as that one would. Where that
    does not come to an end in `settle_ms` it crashes, and tries again; at last somebody makes room on the disk."""
    for tries in count():
        if tries > 2:
            world.chances = replace(world.chances, disk_fails=0.0)
        life = Life(world, settings(version), version=version)
        before = life.made_under
        if before is None or before == version:
            life.worker.start()
            return life
        await life.crash()
        old = Life(world, settings(before), version=before)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(old.worker.settle(), settle_ms / 1000)
        await old.crash()
    raise AssertionError


def state_of(life: Life) -> str:
    """For the log of a story that failed."""
    return msgspec.json.encode(life.ledger.progress).decode()
