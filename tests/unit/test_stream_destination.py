"""A stream as a destination: a document becomes one record, whatever happens between the first try and the last."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.functions.destinations import Delivery, RecordDestinations
from streamkit.mappings.destination_streams import StreamDestination, stream_destinations
from streamkit.model.errors import (
    InvalidParameterValue,
    ResourceNotFound,
    StorageUnavailable,
    StreamkitError,
    ThroughputExceeded,
    ValidationError,
)
from streamkit.model.names import Scope, StreamArn
from streamkit.shards.disk import DiskLogStore
from streamkit.streams.control import ControlStore
from streamkit.streams.service import Streams, StreamSettings
from streamkit.streams.stream import Stream
from streamkit.testing.clock import VirtualClock, run
from streamkit.testing.files import SimulatedFiles
from streamkit.testing.runner import InlineRunner

ARN = StreamArn(Scope("000000000000", "us-east-1"), "failed")
KEYS = ("a", "b", "c", "d")


class KeptControl(ControlStore):
    """A control store in memory that outlives the streams that close it, as a file does."""

    def close(self) -> None:
        pass


class World:
    """A server's streams over a simulated disk; commits take up to 40 ms. What is put is small, so a crash in the
    middle of one leaves any part of it."""

    def __init__(self, clock: VirtualClock, rng: random.Random, *, enforces_limits: bool = False) -> None:
        self.clock = clock
        self.rng = rng
        self.settings = StreamSettings(enforces_limits=enforces_limits)
        self.files = SimulatedFiles(rng.getrandbits(32))
        self.control = KeptControl(None)

    async def open(self, shards_count: int = 2) -> None:
        self.runner = InlineRunner(self.rng)
        store = DiskLogStore(Path("/data"), clock=self.clock, files=self.files, runner=self.runner)
        self.streams = Streams(self.control, store, clock=self.clock, random=self.rng, settings=self.settings)
        await self.streams.start()
        if not self.streams.all():
            await self.streams.create(ARN, shards_count=shards_count)

    async def lose_power(self) -> None:
        """The process ends with its machine, and is started again."""
        self.runner.close()
        self.files.crash()
        for timer in self.streams._timers:
            timer.cancel()
        await self.open()

    @property
    def stream(self) -> Stream:
        return self.streams.find(*ARN)

    @property
    def destination(self) -> StreamDestination:
        return StreamDestination(self.streams, ARN)

    async def reshard(self, kind: str) -> None:
        shards = self.stream.state.open_shards
        if kind == "split":
            shard = self.rng.choice(shards)
            middle = (shard.hash_keys.first + shard.hash_keys.last) // 2
            await self.streams.split(self.stream, shard.index, str(middle))
        elif len(shards) > 1:
            lower, upper = sorted(shards, key=lambda shard: shard.hash_keys.first)[:2]
            await self.streams.merge(self.stream, lower.index, upper.index)

    async def records(self) -> list[tuple[str, bytes]]:
        """Keys and data of all records, shard by shard."""
        stream = self.stream
        await stream.ready()
        found = []
        for shard in stream.state.shards:
            batches = await stream.log.read(shard.index, 0, records_max=10_000, bytes_max=1 << 24)
            found += [(record.partition_key, record.data) for batch in batches for record in batch.records()]
        return found


def play(scene: Callable[[World], Coroutine[Any, Any, None]], *, seed: int = 0, enforces_limits: bool = False) -> None:
    async def main(clock: VirtualClock, rng: random.Random) -> None:
        world = World(clock, rng, enforces_limits=enforces_limits)
        await world.open()
        await scene(world)

    run(main, seed=seed)


def delivery(number: int = 1, key: str = "a") -> Delivery:
    return Delivery(id=f"id-{number}", body=json.dumps({"document": number}).encode(), key=key)


# -- the plain case --------------------------------------------------------------------------------------------------


def test_a_document_is_a_durable_record_when_deliver_returns() -> None:
    async def scene(world: World) -> None:
        await world.destination.deliver(delivery(1, "k"))
        await world.lose_power()
        assert await world.records() == [("k", b'{"document": 1}')]

    play(scene)


def test_a_second_try_that_may_be_the_first_again_adds_nothing_if_it_is() -> None:
    async def scene(world: World) -> None:
        since = await world.destination.position()
        await world.destination.deliver(delivery(), since=since)
        await world.destination.deliver(delivery(), since=since, may_be_there=True)
        assert len(await world.records()) == 1
        await world.destination.deliver(delivery(2), since=since, may_be_there=True)
        assert len(await world.records()) == 2

    play(scene)


def test_a_document_is_looked_for_from_the_position_on_and_no_earlier() -> None:
    async def scene(world: World) -> None:
        await world.destination.deliver(delivery())
        since = await world.destination.position()
        await world.destination.deliver(delivery(), since=since, may_be_there=True)
        assert len(await world.records()) == 2

    play(scene)


def test_without_a_position_a_document_is_looked_for_everywhere() -> None:
    async def scene(world: World) -> None:
        await world.destination.deliver(delivery())
        await world.reshard("split")
        await world.destination.deliver(delivery(), may_be_there=True)
        assert len(await world.records()) == 1

    play(scene)


def test_a_position_names_the_next_offset_of_each_open_shard() -> None:
    async def scene(world: World) -> None:
        for number, key in enumerate(KEYS * 2):
            await world.destination.deliver(delivery(number, key))
        await world.reshard("split")
        stream = world.stream
        position = json.loads(await world.destination.position())
        expected = {str(shard.index): stream.log.bounds(shard.index).next_offset for shard in stream.state.open_shards}
        assert position == {"stream": stream.state.id, "shards": expected}
        assert len(expected) == 3

    play(scene)


def test_only_equal_bytes_are_the_same_document() -> None:
    async def scene(world: World) -> None:
        since = await world.destination.position()
        await world.destination.deliver(Delivery("1", b'{"a":1}', "k"))
        await world.destination.deliver(Delivery("2", b'{"a": 1}', "k"), since=since, may_be_there=True)
        assert len(await world.records()) == 2

    play(scene)


def test_a_try_that_was_given_up_while_it_was_written_is_found() -> None:
    """Cancelling does not take an append back: it is still on its way to the disk when the next try looks."""

    async def scene(world: World) -> None:
        since = await world.destination.position()
        task = asyncio.ensure_future(world.destination.deliver(delivery(), since=since))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await world.records() == []
        await world.destination.deliver(delivery(), since=since, may_be_there=True)
        assert len(await world.records()) == 1

    play(scene, seed=3)


def test_a_stream_that_was_made_anew_is_looked_through_from_its_beginning() -> None:
    async def scene(world: World) -> None:
        for number, key in enumerate(KEYS * 3):
            await world.destination.deliver(delivery(number, key))
        since = await world.destination.position()
        await world.streams.delete(world.stream)
        await world.streams.create(ARN, shards_count=1)
        await world.destination.deliver(delivery(99))
        await world.destination.deliver(delivery(99), since=since, may_be_there=True)
        assert len(await world.records()) == 1

    play(scene)


# -- what can be wrong -----------------------------------------------------------------------------------------------


def test_a_destination_is_a_stream_that_is_there() -> None:
    async def scene(world: World) -> None:
        destinations = RecordDestinations({"kinesis": stream_destinations(world.streams)})
        await destinations.find(str(ARN)).deliver(delivery())
        assert len(await world.records()) == 1
        missing = str(ARN._replace(name="missing"))
        with pytest.raises(InvalidParameterValue) as caught:
            destinations.find(missing)
        assert caught.value.message == f"The destination ARN {missing} is invalid. Stream not found: {missing}"
        with pytest.raises(InvalidParameterValue, match=r"kinesis:r:1:shelf/s is invalid\.$"):
            destinations.find("arn:aws:kinesis:r:1:shelf/s")

    play(scene)


def test_a_stream_that_is_gone_is_named_and_takes_the_document_when_it_is_back() -> None:
    async def scene(world: World) -> None:
        destination = world.destination
        await world.streams.delete(world.stream)
        with pytest.raises(ResourceNotFound, match="Stream failed under account 000000000000 not found"):
            await destination.position()
        with pytest.raises(ResourceNotFound):
            await destination.deliver(delivery())
        await world.streams.create(ARN, shards_count=1)
        await destination.deliver(delivery(), may_be_there=True)
        assert len(await world.records()) == 1

    play(scene)


def test_a_document_that_is_too_large_for_the_stream_is_refused() -> None:
    async def scene(world: World) -> None:
        large = Delivery("1", b" " * (1024 * 1024 + 1), "k")
        with pytest.raises(ValidationError, match="length less than or equal to 1048576"):
            await world.destination.deliver(large)
        assert await world.records() == []

    play(scene)


def test_a_shard_over_its_limit_refuses_a_document_for_now() -> None:
    async def scene(world: World) -> None:
        body = b" " * (1024 * 1024 - 1)
        await world.destination.deliver(Delivery("1", body, "k"))
        with pytest.raises(ThroughputExceeded):
            await world.destination.deliver(Delivery("2", body, "k"))
        await world.clock.sleep(2_000)
        await world.destination.deliver(Delivery("2", body, "k"))

    play(scene, enforces_limits=True)


def test_looking_does_not_use_up_the_readers_limits() -> None:
    async def scene(world: World) -> None:
        since = await world.destination.position()
        for number in range(10):  # five reads a second are allowed
            await world.destination.deliver(delivery(number), since=since, may_be_there=True)
        assert len(await world.records()) == 10

    play(scene, enforces_limits=True)


def test_a_disk_that_refuses_is_reported_and_the_next_try_leaves_one_record() -> None:
    async def scene(world: World) -> None:
        since = await world.destination.position()
        world.files.fail_next("sync")
        with pytest.raises(StorageUnavailable):
            await world.destination.deliver(delivery(), since=since)
        await world.destination.deliver(delivery(), since=since, may_be_there=True)
        assert len(await world.records()) == 1

    play(scene)


# -- exactly once ----------------------------------------------------------------------------------------------------

ACCIDENTS = st.one_of(
    st.tuples(st.just("power"), st.integers(0, 60)),
    st.tuples(st.just("cancel"), st.integers(0, 60)),
    st.tuples(st.sampled_from(["sync", "write"]), st.just(0)),
    st.none(),
)
TRIES = st.lists(st.tuples(ACCIDENTS, st.sampled_from(["split", "merge", None, None])), max_size=5)


class Worker:
    """Hands documents over as a mapping's worker does: first it writes down what it is about to deliver, and where that
    has to be looked for; after an accident it delivers the same again."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.written_down: tuple[Delivery, str] | None = None  # survives everything, as the control file does
        self.tries = 0
        self.noise = 0

    async def work(self, document: Delivery) -> None:
        destination = self.world.destination
        if self.written_down is None:
            self.written_down = document, await destination.position()
            self.tries = 0
        document, since = self.written_down
        self.tries += 1
        await destination.deliver(document, since=since, may_be_there=self.tries > 1)

    async def put_something_else(self) -> None:
        self.noise += 1
        stream = self.world.stream
        await stream.ready()
        stream.put_one(self.world.rng.choice(KEYS).encode(), b"noise %d" % self.noise)

    async def until_delivered(self, document: Delivery, tries: list[tuple[tuple[str, int] | None, str | None]]) -> None:
        for accident, reshard in tries:
            await self.put_something_else()
            if reshard is not None:
                await self.world.reshard(reshard)
            kind, after_ms = accident or (None, 0)
            if kind == "sync" or kind == "write":
                self.world.files.fail_next(kind)  # type: ignore[arg-type]
            task = asyncio.ensure_future(self.work(document))
            if kind == "power" or kind == "cancel":
                await self.world.clock.sleep(after_ms)
                if kind == "power":
                    await self.world.lose_power()
                task.cancel()
            outcome = (await asyncio.gather(task, return_exceptions=True))[0]
            self.world.files.heal()
            if outcome is None and kind != "power":
                break
            assert outcome is None or isinstance(outcome, StreamkitError | asyncio.CancelledError), outcome
        else:
            await self.work(document)
        self.written_down = None


@settings(max_examples=250, deadline=None)
@given(st.integers(0, 10_000), st.lists(TRIES, min_size=1, max_size=4))
def test_there_is_one_record_of_each_document_after_accidents_at_any_point(
    seed: int, plan: list[list[tuple[tuple[str, int] | None, str | None]]]
) -> None:
    """Power is lost, tries are given up, the disk fails, the stream is resharded, others put: once is once."""

    async def scene(world: World) -> None:
        worker = Worker(world)
        documents = [delivery(number, KEYS[number % 4]) for number in range(len(plan))]
        for document, tries in zip(documents, plan, strict=True):
            await worker.until_delivered(document, tries)
        await world.lose_power()
        found = sorted(data for _, data in await world.records() if not data.startswith(b"noise"))
        assert found == sorted(document.body for document in documents)

    play(scene, seed=seed)
