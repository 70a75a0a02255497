"""A world for deliveries in virtual time: a source that grows and is resharded, a function that never answers the same
twice, a store that fails and forgets to answer, and lives that end anywhere.

The engine is the real one, over real files and a real control file; what is played is what lies outside. Objects in the
store are held against all records that were put: each is in exactly one object, or was dropped by the function.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from streamkit.clock import Clock
from streamkit.control import ControlFile
from streamkit.delivery.deliverer import Deliverer
from streamkit.delivery.destination import DeliveryFailed, Refused, Sealed, Takes
from streamkit.delivery.ledger import Ledger
from streamkit.delivery.line import Line
from streamkit.delivery.metering import DeliveryMetrics, Meter
from streamkit.delivery.naming import Namer
from streamkit.delivery.plan import Buffering, CatalogTable, DeliveryPlan, DestinationSpec, Naming, TextFormat
from streamkit.delivery.processor import Processed
from streamkit.delivery.rows import Failed, Rows
from streamkit.delivery.stage import Stage
from streamkit.delivery.state import DeliveryState, Target
from streamkit.delivery.store import DeliveryStore
from streamkit.delivery.text import TextEncoder
from streamkit.delivery.worker import DeliveryWorker, Job, Outlet
from streamkit.metrics import Registry
from streamkit.model.batch import RecordBatch
from streamkit.sources.source import ShardRead, SourceShard, StartingPosition

T = TypeVar("T")
DELIVERY_ID: Final = "d" * 32
PARTITIONS: Final = tuple("abcdef")


@dataclass(frozen=True, slots=True)
class Chances:
    """How the outside behaves, until everything heals."""

    store_fails: float = 0.2
    answer_lost: float = 0.1
    latency_ms_max: int = 400
    work_ms_max: int = 60
    record_fails: float = 0.05
    record_dropped: float = 0.05
    line_fails: float = 0.02


@dataclass(slots=True)
class _Shard:
    parents: tuple[int, ...] = ()
    is_open: bool = True
    records: list[tuple[bytes, int]] = field(default_factory=list)


class World:
    """What outlives a crash: the source, the store, the disk; and what was put."""

    def __init__(self, folder: Path, clock: Clock, rng: random.Random, *, shards: int = 2) -> None:
        self.folder = folder
        self.clock = clock
        self.rng = rng
        self.shards = [_Shard() for _ in range(shards)]
        self.watchers: list[Callable[[int | None], None]] = []
        self.objects: dict[str, tuple[str, bytes]] = {}  # key: id and bytes
        self.put_count = 0
        self.chances = Chances()
        self.dropped: set[int] = set()
        self.lives = 0
        self.faults: list[str] = []

    def put(self, count: int) -> None:
        for _ in range(count):
            index = self.rng.choice([each for each, shard in enumerate(self.shards) if shard.is_open])
            document = {"id": self.put_count, "text": "x" * self.rng.randrange(120)}
            self.put_count += 1
            self.shards[index].records.append((json.dumps(document).encode(), self.clock.now_ms()))
            for watcher in tuple(self.watchers):
                watcher(index)

    def split(self) -> None:
        """Closes a shard; two children take its place."""
        index = self.rng.choice([each for each, shard in enumerate(self.shards) if shard.is_open])
        self.shards[index].is_open = False
        self.shards += [_Shard((index,)), _Shard((index,))]
        for watcher in tuple(self.watchers):
            watcher(None)

    def heal(self) -> None:
        self.chances = Chances(0, 0, 10, 2, 0, 0, 0)

    # -- the proof ---------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """That every record is in exactly one object, or was dropped; and no other is anywhere."""
        assert not self.faults, self.faults[:5]
        found: Counter[int] = Counter()
        for key, (_, content) in self.objects.items():
            for line in content.splitlines():
                document = json.loads(line)
                if "rawData" in document:
                    assert "/errors/" in f"/{key}", key
                    document = json.loads(base64.b64decode(document["rawData"]))
                found[document["id"]] += 1
        twice = sorted(each for each, count in found.items() if count > 1)
        assert not twice, f"records in more than one object: {twice[:10]}"
        lost = sorted(set(range(self.put_count)) - set(found) - self.dropped)
        assert not lost, f"records in no object: {lost[:10]} of {len(lost)}"
        assert max(found, default=-1) < self.put_count
        assert not found.keys() & self.dropped


class PlayedSource:
    """See `streamkit.sources.source.Source`."""

    arn = "arn:aws:kinesis:us-east-1:000000000000:stream/s"
    stream_arn = arn
    incarnation = "1"
    horizon_ms = 0

    def __init__(self, world: World) -> None:
        self._world = world

    async def ready(self) -> None:
        return

    def shards(self) -> list[SourceShard]:
        return [SourceShard(index, each.parents, each.is_open) for index, each in enumerate(self._world.shards)]

    async def seek(self, shard_index: int, position: StartingPosition, at_ms: int | None) -> int:
        return len(self._world.shards[shard_index].records) if position == "LATEST" else 0

    async def read(self, shard_index: int, offset: int, *, records_max: int, bytes_max: int) -> ShardRead:
        await self._world.clock.sleep(self._world.rng.randrange(5))
        shard = self._world.shards[shard_index]
        found = shard.records[offset : offset + self._world.rng.randrange(1, 200)]
        while len(found) > 1 and sum(len(data) for data, _ in found) > bytes_max:
            found = found[: len(found) // 2]
        end = offset + len(found)
        next_offset = None if not shard.is_open and end == len(shard.records) else end
        return ShardRead([_batch(shard_index, offset, found)] if found else [], next_offset)

    def watch(self, callback: Callable[[int | None], None]) -> Callable[[], None]:
        self._world.watchers.append(callback)
        return lambda: self._world.watchers.remove(callback)


def _batch(shard: int, offset: int, records: Sequence[tuple[bytes, int]]) -> RecordBatch:
    bounds = array("i", [0])
    for data, _ in records:
        bounds.append(bounds[-1] + len(data))
    keys = memoryview(array("i", range(len(records) + 1)))
    arrivals = memoryview(array("q", [arrived for _, arrived in records]))
    data = memoryview(b"".join(data for data, _ in records))
    return RecordBatch(
        shard, 1, offset, 0, len(records), records[0][1], keys, memoryview(b"k" * len(records)), memoryview(bounds),
        data, arrivals_ms=arrivals,
    )  # fmt: skip


class Whims:
    """A processor that drops, fails and partitions as it likes, another way each time it sees a record."""

    def __init__(self, world: World, *, partitions: bool) -> None:
        self._world = world
        self._partitions = partitions

    async def process(self, rows: Rows) -> Processed:
        world, chances = self._world, self._world.chances
        await world.clock.sleep(world.rng.randrange(chances.work_ms_max + 1))
        if world.rng.random() < chances.line_fails:
            raise DeliveryFailed("Whim", "not now")
        kept, failed = [], []
        for row, data in enumerate(rows.data.to_pylist()):
            identity = json.loads(data)["id"]
            if identity in world.dropped or world.rng.random() < chances.record_dropped:
                world.dropped.add(identity)  # another run must not keep what this one may have dropped for good
            elif world.rng.random() < chances.record_fails:
                failed.append(row)
            else:
                kept.append(row)
        good = rows.take(pa.array(kept, pa.int64()))
        good = good.with_data(pc.binary_join_element_wise(good.data, pa.scalar(b"\n"), b""))
        if self._partitions:
            values = pa.array([world.rng.choice(PARTITIONS) for _ in kept], pa.string())
            good = good.with_keys({"partitionKeyFromLambda:p": values})
        bad = [Failed(rows.take(pa.array(failed, pa.int64())), "processing-failed", [("Whim", "no")] * len(failed))]
        return Processed(good, bad if failed else ())


class PlayedStore:
    """A destination that keeps what it is given under its name, once."""

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
        if world.rng.random() < chances.store_fails:
            raise DeliveryFailed("503", "slow down")
        content = sealed.path.read_bytes()
        known = world.objects.get(sealed.key)
        if known is None:
            world.objects[sealed.key] = sealed.id, content
        else:
            if not may_be_there:
                world.faults.append(f"{sealed.key} is there, and the engine says it was never tried")
            if known != (sealed.id, content):
                world.faults.append(f"{sealed.key} came with other bytes than before")
        if world.rng.random() < chances.answer_lost:
            raise DeliveryFailed("Reset", "connection reset")
        await world.clock.sleep(world.rng.randrange(chances.latency_ms_max + 1))
        return []

    async def close(self) -> None:
        return


class _NoSchemas:
    def columns(self, table: CatalogTable) -> tuple[tuple[str, str], ...]:
        raise NotImplementedError

    def keep(self, name: str, columns: tuple[tuple[str, str], ...]) -> CatalogTable:
        raise NotImplementedError

    def kept(self, name: str) -> CatalogTable | None:
        return None


class Life:
    """The engine from one start to the next crash."""

    def __init__(self, world: World, buffering: Buffering, *, partitions: bool, version: int = 1) -> None:
        world.lives += 1
        self._world = world
        self._control = ControlFile(world.folder / "control.sqlite")
        store = DeliveryStore(self._control)
        stage = Stage(world.folder / "stage")
        naming = Naming(
            "out/!{partitionKeyFromLambda:p}/" if partitions else "out/", "errors/!{firehose:error-output-type}/"
        )
        spec = DestinationSpec("played")
        state = DeliveryState(
            DELIVERY_ID, "000000000000", "us-east-1", "d", "KinesisStreamAsSource", "ACTIVE", 0, "ExtendedS3", {},
            version=version,
        )  # fmt: skip
        store.save(state)
        ledger = Ledger(store, DELIVERY_ID)
        stage.open({each.number for each in ledger.progress.sealed}, ledger.spools)
        self.plan = DeliveryPlan(
            "d", str(state.arn), version, PlayedSource.arn, buffering, naming, TextFormat(), spec, spec,
            is_partitioned=partitions,
        )  # fmt: skip
        target = Target("played", {})
        meter = Meter(DeliveryMetrics(Registry()), "d")
        deliverer = Deliverer(
            state,
            ledger,
            stage,
            lambda _: PlayedStore(world),
            clock=world.clock,
            random_source=random.Random(world.rng.getrandbits(32)),
            offload=self._offload,
            meter=meter,
            on_change=lambda: self.worker.wake(),
        )
        line = Line(
            self.plan,
            [Whims(world, partitions=partitions)],
            schemas=_NoSchemas(),
            table_schema=PlayedStore(world).schema,
            active=lambda: self.worker.active_partitions(),
            clock=world.clock,
            offload=self._offload,
        )
        namer = Namer(naming, stream="d", version=version)
        outlet = Outlet(namer, TextEncoder(TextFormat()), target)
        self.ledger = ledger
        self.worker = DeliveryWorker(
            Job(
                state=state,
                plan=self.plan,
                source=PlayedSource(world),
                first_positions={},
                line=line,
                outlets={"main": outlet, "error": outlet},
                ledger=ledger,
                stage=stage,
                deliverer=deliverer,
                clock=world.clock,
                offload=self._offload,
                meter=meter,
            )
        )
        deliverer.restore()

    async def _offload(self, work: Callable[[], T]) -> T:
        """As a thread would: it takes a while before, and a while after."""
        await self._world.clock.sleep(self._world.rng.randrange(self._world.chances.work_ms_max + 1))
        done = work()
        await self._world.clock.sleep(self._world.rng.randrange(self._world.chances.work_ms_max + 1))
        return done

    async def crash(self) -> None:
        """Everything stops where it is; what the disk has stays."""
        await self.worker.stop(finish_ms=0)
        with contextlib.suppress(Exception):
            await self._control.flush()
        self._control.close()

    async def close(self) -> None:
        await self.worker.stop(finish_ms=None)
        await self._control.flush()
        self._control.close()
        await asyncio.sleep(0)
