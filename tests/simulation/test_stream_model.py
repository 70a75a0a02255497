"""Streams against a model: whatever is done to them, in whatever order, a reader gets what was acknowledged.

Runs in virtual time, over the log in memory and the log on a simulated disk, which also crashes.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streamkit.model.errors import InvalidArgument, LimitExceeded, ResourceInUse, ResourceNotFound
from streamkit.model.hashkey import HASH_KEY_MAX
from streamkit.model.names import Scope, StreamArn
from streamkit.shards.disk import DiskLogStore
from streamkit.shards.log import LogSettings
from streamkit.shards.memory import MemoryLogStore
from streamkit.shards.store import LogStore
from streamkit.streams.control import ControlStore
from streamkit.streams.service import Streams, StreamSettings
from streamkit.streams.stream import Stream
from streamkit.testing.clock import VirtualClock, VirtualLoop
from streamkit.testing.files import SimulatedFiles
from streamkit.testing.runner import InlineRunner

T = TypeVar("T")

ARN = StreamArn(Scope("000000000000", "us-east-1"), "s")
KEYS = st.sampled_from("abcdefgh")
DELAY_MS = 500


class Written(NamedTuple):
    """An acknowledged record, as the model remembers it."""

    data: bytes
    key: str
    number: int
    arrived_at_ms: int


class KeptControl(ControlStore):
    """A control store in memory that outlives the streams that close it, as a file does."""

    def close(self) -> None:
        pass


class StreamMachine(RuleBasedStateMachine):
    """A stream called `s`, its acknowledged records by shard, and the records that may be there or not."""

    @initialize(seed=st.integers(0, 1_000), delayed=st.booleans())
    def start(self, seed: int, delayed: bool) -> None:
        self.runner = asyncio.Runner(loop_factory=VirtualLoop)
        loop = self.runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        self.clock = VirtualClock(loop)
        self.rng = random.Random(seed)
        self.control = KeptControl(None)
        self.settings = StreamSettings(transition_delay_ms=DELAY_MS if delayed else 0)
        self.count = itertools.count()
        self.open_process()
        self.forget()
        self.create(2)

    def make_store(self) -> LogStore:
        return MemoryLogStore(clock=self.clock, runner=self.log_runner)

    def open_process(self) -> None:
        self.log_runner = InlineRunner(self.rng)
        self.store = self.make_store()
        self.streams = Streams(self.control, self.store, clock=self.clock, random=self.rng, settings=self.settings)
        self.run(self.streams.start())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def forget(self) -> None:
        self.written: dict[int, list[Written]] = {}
        self.unsure: dict[bytes, str] = {}  # put, and not acknowledged when the process ended
        self.expired: set[bytes] = set()

    @property
    def stream(self) -> Stream:
        return self.streams.find(*ARN)

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.run(self.streams.close())
            self.runner.close()

    # -- records -----------------------------------------------------------------------------------------------------

    def next_data(self) -> bytes:
        return b"%d" % next(self.count)

    @rule(keys=st.lists(st.tuples(KEYS, st.none() | st.integers(0, HASH_KEY_MAX)), min_size=1, max_size=8))
    def put(self, keys: list[tuple[str, int | None]]) -> None:
        """One call of PutRecords; all of it is acknowledged."""
        explicit = [None if number is None else number.to_bytes(16, "big") for _, number in keys]
        records = [(key if number is None else f"explicit {number}", self.next_data()) for key, number in keys]

        async def put() -> None:
            await self.stream.ready()
            put = self.stream.put(
                [key.encode() for key, _ in records],
                [data for _, data in records],
                explicit if any(explicit) else None,
            )
            assert put.appended is not None
            await put.appended.wait()
            for (key, data), (group, place) in zip(records, put.places, strict=True):
                offset, arrived_at_ms = put.appended.placed(group)
                self.acknowledge(put.shards[group].index, offset + place, arrived_at_ms, key, data)

        self.run(put())

    @rule(keys=st.lists(KEYS, min_size=2, max_size=6))
    def put_at_the_same_time(self, keys: list[str]) -> None:
        """Several calls of PutRecord whose commits interleave."""

        async def put(key: str, data: bytes) -> None:
            shard, appended = self.stream.put_one(key.encode(), data)
            await appended.wait()
            self.acknowledge(shard.index, *appended.placed(0), key, data)

        async def put_all() -> None:
            await self.stream.ready()
            await asyncio.gather(*(put(key, self.next_data()) for key in keys))

        self.run(put_all())

    def acknowledge(self, shard_index: int, offset: int, arrived_at_ms: int, key: str, data: bytes) -> None:
        shard = self.stream.shard(shard_index)
        assert shard is not None
        written = self.written.setdefault(shard_index, [])
        assert offset >= len(written), "an offset was given twice"
        number = int_number(shard.created_s, shard_index, offset, arrived_at_ms)
        written.append(Written(data, key, number, arrived_at_ms))
        written.sort(key=lambda each: each.number)  # acknowledged together, in any order

    # -- shards ------------------------------------------------------------------------------------------------------

    @rule(pick=st.integers(0, 100), part=st.floats(0.01, 0.99))
    def split(self, pick: int, part: float) -> None:
        shard = self.open_shard(pick)
        keys = shard.hash_keys
        key = keys.first + int((keys.last - keys.first) * part)
        self.change(self.streams.split(self.stream, shard.index, str(key)))

    @precondition(lambda self: self.stream.state.status == "ACTIVE")
    @rule(pick=st.integers(0, 100), keys=st.lists(KEYS, min_size=1, max_size=6), wait_ms=st.integers(0, 30))
    def split_while_records_are_put(self, pick: int, keys: list[str], wait_ms: int) -> None:
        """What was put before the shard closed is before its end, whenever the disk is done with it."""

        async def put(key: str, data: bytes) -> None:
            await self.stream.ready()
            shard, appended = self.stream.put_one(key.encode(), data)
            await appended.wait()
            self.acknowledge(shard.index, *appended.placed(0), key, data)

        async def put_and_split() -> None:
            puts = [asyncio.ensure_future(put(key, self.next_data())) for key in keys]
            await self.clock.sleep(wait_ms)
            shard = self.open_shard(pick)
            keys_ = shard.hash_keys
            middle = str((keys_.first + keys_.last) // 2)
            try:
                await self.streams.split(self.stream, shard.index, middle)
            finally:
                await asyncio.gather(*puts)

        self.change(put_and_split())

    @rule(pick=st.integers(0, 100))
    def merge(self, pick: int) -> None:
        ordered = sorted(self.stream.state.open_shards, key=lambda shard: shard.hash_keys)
        if len(ordered) > 1:
            at = pick % (len(ordered) - 1)
            self.change(self.streams.merge(self.stream, ordered[at].index, ordered[at + 1].index))

    @rule(shards_count=st.integers(1, 8))
    def update_shard_count(self, shards_count: int) -> None:
        async def update() -> None:
            await self.streams.update_shard_count(self.stream, shards_count)

        self.change(update())

    @rule(hours=st.sampled_from([24, 36, 48]))
    def change_retention(self, hours: int) -> None:
        more = hours >= self.stream.state.retention_hours
        change = self.streams.increase_retention if more else self.streams.decrease_retention
        self.change(change(self.stream, hours))

    def open_shard(self, pick: int) -> Any:
        shards = self.stream.state.open_shards
        return shards[pick % len(shards)]

    def change(self, work: Coroutine[Any, Any, None]) -> None:
        """A change may be refused, for the stream's state, limits or a shard too narrow; then nothing has changed."""
        before, was_active = self.stream.state, self.stream.state.status == "ACTIVE"
        try:
            self.run(work)
        except ResourceInUse:
            assert not was_active
            assert self.stream.state == before
        except (LimitExceeded, InvalidArgument):
            assert self.stream.state == before
        else:
            assert was_active
            self.note_expired()

    # -- time --------------------------------------------------------------------------------------------------------

    @rule()
    def let_changes_settle(self) -> None:
        self.run(self.clock.sleep(DELAY_MS + 100))

    @rule(minutes=st.sampled_from([1, 60, 600, 1_440, 1_500]))
    def let_time_pass(self, minutes: int) -> None:
        self.clock.step(minutes * 60_000)
        self.note_expired()

    @rule()
    def trim(self) -> None:
        self.run(self.streams.trim())

    def note_expired(self) -> None:
        """What has once left the retention may be gone for good, also if the retention grows afterwards."""
        horizon = self.stream.horizon_ms
        for written in self.written.values():
            self.expired |= {each.data for each in written if each.arrived_at_ms < horizon}

    # -- life --------------------------------------------------------------------------------------------------------

    @rule(shards_count=st.integers(1, 3))
    def recreate(self, shards_count: int) -> None:
        self.run(self.streams.delete(self.stream))
        if self.settings.transition_delay_ms:
            assert self.stream.state.status == "DELETING"
            self.run(self.clock.sleep(DELAY_MS + 100))
        try:
            _ = self.stream
        except ResourceNotFound:
            self.forget()
            self.create(shards_count)
        else:
            raise AssertionError("the stream is still there")

    def create(self, shards_count: int) -> None:
        self.run(self.streams.create(ARN, shards_count=shards_count))
        self.run(self.clock.sleep(DELAY_MS + 100))
        assert self.stream.state.status == "ACTIVE"

    # -- what must always hold ---------------------------------------------------------------------------------------

    @invariant()
    def open_shards_share_the_hash_keys(self) -> None:
        ranges = sorted(shard.hash_keys for shard in self.stream.state.open_shards)
        assert (ranges[0].first, ranges[-1].last) == (0, HASH_KEY_MAX)
        assert all(lower.last + 1 == upper.first for lower, upper in itertools.pairwise(ranges))

    @invariant()
    def a_reader_gets_every_acknowledged_record_once_and_in_order(self) -> None:
        self.note_expired()
        found = self.run(read_by_lineage(self.stream))
        everything = [record for records in found.values() for record in records]
        assert len({record.data for record in everything}) == len(everything), "a record was read twice"
        for index, records in found.items():
            known = self.written.get(index, [])
            numbers = [record.number for record in records]
            assert numbers == sorted(set(numbers))
            sure = [record for record in records if record.data not in self.unsure]
            assert sure == known[len(known) - len(sure) :], "not the last of what was acknowledged"
            assert all(self.unsure.get(record.data, record.key) == record.key for record in records), "invented"
        must = {each.data for written in self.written.values() for each in written} - self.expired
        assert must <= {record.data for record in everything}, "an acknowledged record is lost"
        by_key: dict[str, list[int]] = {}
        for record in everything:  # shards come after their parents
            by_key.setdefault(record.key, []).append(int(record.data))
        for key, order in by_key.items():
            sure_order = [each for each in order if b"%d" % each not in self.unsure]
            if not key.startswith("explicit"):
                assert sure_order == sorted(sure_order), f"records of key {key} changed places"

    @invariant()
    def numbers_of_children_are_larger_than_their_parents(self) -> None:
        state = self.stream.state
        for shard in state.shards:
            lowest = int_number(shard.created_s, shard.index, -1, shard.created_s * 1000)
            for parent_index in (shard.parent, shard.adjacent_parent):
                parent = None if parent_index is None else self.stream.shard(parent_index)
                if parent is not None:
                    assert parent.ending_sequence_number is not None
                    assert int(parent.ending_sequence_number) < lowest
                    ending = int(parent.ending_sequence_number)
                    assert all(each.number < ending for each in self.written.get(parent.index, []))


class DiskStreamMachine(StreamMachine):
    """The same on a disk: the process ends, in good order or not, and another takes up what it left."""

    @initialize(seed=st.integers(0, 1_000), delayed=st.booleans())
    def start(self, seed: int, delayed: bool) -> None:
        self.files = SimulatedFiles(seed)
        super().start(seed, delayed)

    def make_store(self) -> LogStore:
        small = LogSettings(segment_bytes_max=2_000)  # so that a run has several
        return DiskLogStore(Path("/data"), clock=self.clock, files=self.files, runner=self.log_runner, settings=small)

    @rule()
    def restart(self) -> None:
        self.run(self.streams.close())
        self.open_process()

    @rule(keys=st.lists(KEYS, max_size=5), delay_ms=st.integers(0, 60))
    def crash(self, keys: list[str], delay_ms: int) -> None:
        """Power fails while records are put."""

        async def put(key: str, data: bytes) -> None:
            shard, appended = self.stream.put_one(key.encode(), data)
            await appended.wait()
            del self.unsure[data]
            self.acknowledge(shard.index, *appended.placed(0), key, data)

        async def put_and_crash() -> None:
            await self.stream.ready()
            tasks = []
            for key in keys:
                data = self.next_data()
                self.unsure[data] = key
                tasks.append(asyncio.ensure_future(put(key, data)))
            await self.clock.sleep(delay_ms)
            self.log_runner.close()
            self.files.crash()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.run(put_and_crash())
        self.abandon_process()
        self.open_process()

    @precondition(lambda self: self.stream.state.status == "ACTIVE")
    @rule(pick=st.integers(0, 100))
    def crash_in_a_split(self, pick: int) -> None:
        self.split(pick, 0.5)
        self.files.crash()
        self.log_runner.close()
        self.abandon_process()
        self.open_process()

    def abandon_process(self) -> None:
        """Its timers and tasks end with it."""
        for timer in self.streams._timers:
            timer.cancel()


async def read_by_lineage(stream: Stream) -> dict[int, list[Written]]:
    """All records by shard, from the trim horizon; a shard is begun when its parents have been read to their ends."""
    await stream.ready()
    waiting = [shard for shard in stream.state.shards if stream.shard(shard.index) is not None]
    found: dict[int, list[Written]] = {}
    while waiting:
        unread = {shard.index for shard in waiting}
        shard = next(each for each in waiting if unread.isdisjoint({each.parent, each.adjacent_parent}))
        waiting.remove(shard)
        records = found[shard.index] = []
        offset: int | None = 0
        while offset is not None:
            read = await stream.read(shard, offset, records_max=7, bytes_max=1_000)
            records += [
                Written(record.data, record.partition_key, int(record.sequence_number), record.arrived_at_ms)
                for batch in read.batches
                for record in batch.records()
            ]
            if not read.batches and read.next_offset is not None:
                assert shard.is_open, "a closed shard does not end"
                break
            offset = read.next_offset
    return found


def int_number(created_s: int, shard_index: int, offset: int, arrived_at_ms: int) -> int:
    from streamkit.model.sequence import number_of

    return number_of(created_s, shard_index, offset, arrived_at_ms)


StreamMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
DiskStreamMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)


class TestStreamsInMemoryKeepTheirPromises(StreamMachine.TestCase):  # type: ignore[misc,valid-type]
    pass


class TestStreamsOnDiskKeepTheirPromises(DiskStreamMachine.TestCase):  # type: ignore[misc,valid-type]
    pass
