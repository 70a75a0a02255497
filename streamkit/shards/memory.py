"""The log store in memory: for tests, and for servers whose records may go with them.

The plainest thing that keeps the port's promises: a list of batches a shard. Appends go through the same group commit,
so that order and timing are those of the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import dropwhile
from pathlib import Path

from streamkit.clock import Clock
from streamkit.model.batch import RecordBatch
from streamkit.model.errors import StorageUnavailable
from streamkit.model.names import StreamId
from streamkit.shards import frame
from streamkit.shards.commit import CommitQueue, Group, Round
from streamkit.shards.readers import Readers
from streamkit.shards.runners import Runner, ThreadRunner
from streamkit.shards.store import Appended, Bounds, Rows, Table


class MemoryLog:
    """See `streamkit.shards.store.StreamLog`."""

    def __init__(self, clock: Clock, runner: Runner) -> None:
        self._queue = CommitQueue(self, clock, runner)
        self._readers = Readers()
        self._batches: dict[int, list[RecordBatch]] = {}
        self._next_offsets: dict[int, int] = {}

    def append(self, groups: Sequence[Rows | Table]) -> Appended:
        return self._queue.append(groups)

    def bounds(self, shard_index: int) -> Bounds:
        next_offset = self.next_offset(shard_index)
        batches = self._batches.get(shard_index)
        return Bounds(batches[0].first_offset if batches else next_offset, next_offset)

    async def read(self, shard_index: int, offset: int, *, records_max: int, bytes_max: int) -> list[RecordBatch]:
        self._readers.check()
        found: list[RecordBatch] = []
        batches = self._batches.get(shard_index, [])
        for batch in dropwhile(lambda batch: batch.next_offset <= offset, batches):
            rest = batch.slice(max(offset - batch.first_offset, 0), len(batch))
            part, size = rest.cut_to(records_max, bytes_max, at_least=0 if found else 1)
            if not len(part):
                break
            found.append(part)
            records_max -= len(part)
            bytes_max -= size
        return found

    async def seek_time(self, shard_index: int, at_ms: int) -> int:
        self._readers.check()
        for batch in self._batches.get(shard_index, []):
            if batch.arrived_at_ms >= at_ms:
                return batch.first_offset
        return self.next_offset(shard_index)

    async def wait(self, shard_index: int, offset: int) -> None:
        if offset >= self.next_offset(shard_index):
            await self._readers.wait(shard_index, offset)

    def watch(self, callback: Callable[[int], None]) -> Callable[[], None]:
        return self._readers.watch(callback)

    async def trim(self, before_ms: int) -> None:
        for index, batches in self._batches.items():
            self._batches[index] = [batch for batch in batches if batch.arrived_at_ms >= before_ms]

    def next_offset(self, shard_index: int) -> int:
        return self._next_offsets.get(shard_index, 0)

    def prepare(self) -> None:
        return None

    def is_long(self, round_: Round, prepared: None) -> bool:
        return True

    def write(self, round_: Round, prepared: None) -> list[RecordBatch]:
        return [_batch(group, round_.arrived_at_ms) for group in round_.groups]

    def needs_sync(self, written: list[RecordBatch]) -> bool:
        return False

    def sync(self, written: list[RecordBatch]) -> None:
        """Nothing outlives the process."""

    def descriptor(self, written: list[RecordBatch]) -> None:
        return None

    def synced(self, written: list[RecordBatch]) -> None:
        raise AssertionError("there is nothing that could be synced")

    def publish(self, round_: Round, written: list[RecordBatch]) -> None:
        for batch in written:
            self._batches.setdefault(batch.shard_index, []).append(batch)
            self._next_offsets[batch.shard_index] = batch.next_offset
        for index in {batch.shard_index for batch in written}:
            self._readers.woken(index, self._next_offsets[index])

    async def close(self, reason: str) -> None:
        await self._queue.close(reason)
        self._readers.fail(StorageUnavailable(reason))
        self._batches.clear()


class MemoryLogStore:
    """See `streamkit.shards.store.LogStore`. What it holds is gone when it is closed."""

    def __init__(self, *, clock: Clock, runner: Runner | None = None) -> None:
        self._clock = clock
        self._runner = runner or ThreadRunner(1, "commit")
        self._logs: dict[StreamId, MemoryLog] = {}

    async def open(self, stream: StreamId) -> MemoryLog:
        if stream not in self._logs:
            self._logs[stream] = MemoryLog(self._clock, self._runner)
        return self._logs[stream]

    async def delete(self, stream: StreamId) -> None:
        log = self._logs.pop(stream, None)
        if log is not None:
            await log.close("The stream was deleted.")

    async def retain(self, streams: Sequence[StreamId]) -> None:
        for stream in set(self._logs).difference(streams):
            await self.delete(stream)

    async def close(self) -> None:
        for log in self._logs.values():
            await log.close("The log is closed.")
        self._logs.clear()
        self._runner.close()


def open_store(directory: Path, *, clock: Clock, durability: str) -> MemoryLogStore:
    """For the entry-point group `streamkit.log_stores`. The directory's control store outlives the records."""
    return MemoryLogStore(clock=clock)


def _batch(group: Group, arrived_at_ms: int) -> RecordBatch:
    prefix, body = group.encode(0, arrived_at_ms, durable_position=0)
    whole = memoryview(prefix + body)
    return frame.batch_of(whole, frame.read_header(whole, 0))
