"""A named consumer: reads a stream from where it stopped, parents before children, and remembers where it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from typing import Final, Literal

from streamkit.kit.backend import Backend, Reading, ShardInfo
from streamkit.model import sequence
from streamkit.model.batch import RecordBatch
from streamkit.model.errors import UsageError
from streamkit.model.limits import GET_RECORDS_BYTES_MAX, WAIT_MS_MAX

Start = Literal["TRIM_HORIZON", "LATEST"] | datetime
BATCH_RECORDS_MAX: Final = 10_000


class Consumer:
    """Iterate over it to get record batches; call `checkpoint` when what they say has been done.

    Order: records of a shard come in order, and a shard that a reshard closed is read to its end before its children,
    so that the records of one partition key come in the order they were put.

    Durability: `checkpoint` returns when the position is on disk. After a restart, reading goes on behind the last
    checkpoint: what was handed out and not checkpointed comes again (at least once), nothing is left out. One process
    at a time should use a name; two would each read everything, and overwrite each other's checkpoints.

    A batch is never empty, holds records of one shard, and is a view on memory: use it, slice it, hand it to Arrow.
    """

    def __init__(
        self,
        backend: Backend,
        stream: str,
        name: str,
        *,
        start: Start,
        batch_records_max: int,
        follow: bool,
    ) -> None:
        self.stream = stream
        self.name = name
        self._backend = backend
        self._start = start
        self._batch_records_max = batch_records_max
        self._follow = follow
        self._shards: dict[int, ShardInfo] = {}
        self._offsets: dict[int, int] = {}  # of the shards being read
        self._ended: set[int] = set()
        self._handed_out: dict[int, str] = {}  # the last record of each shard, not checkpointed yet
        self._is_resumed = False
        self._reading: asyncio.Future[Reading] | None = None
        self._stopped = asyncio.Event()
        self.behind_ms = 0
        """How far the last read was from the tip."""

    def __aiter__(self) -> AsyncIterator[RecordBatch]:
        return self._batches()

    def stop(self) -> None:
        """Ends the iteration: a read that waits returns, and no batch is handed out any more. What was handed out can
        still be checkpointed."""
        self._stopped.set()
        if self._reading is not None:
            self._reading.cancel()

    async def checkpoint(self, batch: RecordBatch | None = None) -> None:
        """Remembers, on disk, that everything up to the last record of `batch` is done; without a batch, everything
        that was handed out. Records of other shards are not affected by a batch's checkpoint."""
        done = self._handed_out if batch is None else {batch.shard_index: batch.last_sequence_number}
        if not done:
            return
        await self._backend.save_checkpoints(self.stream, self.name, dict(done))
        for index, number in list(done.items()):
            if self._handed_out.get(index) == number:
                del self._handed_out[index]

    async def _batches(self) -> AsyncIterator[RecordBatch]:
        await self._resume()
        while self._offsets and not self._stopped.is_set():
            found = await self._read()
            self.behind_ms = found.behind_ms
            self._take_turns(batch.shard_index for batch in found.batches)
            for batch in found.batches:
                self._offsets[batch.shard_index] = batch.next_offset
                self._handed_out[batch.shard_index] = batch.last_sequence_number
                yield batch
                if self._stopped.is_set():
                    return
            if found.ended:
                await self._go_on_after(found.ended)
            elif not found.batches and (self._stopped.is_set() or not self._follow):
                return

    async def _read(self) -> Reading:
        self._reading = asyncio.ensure_future(
            self._backend.read(
                self.stream,
                self._offsets,
                records_max=self._batch_records_max,
                bytes_max=GET_RECORDS_BYTES_MAX,
                wait_ms=WAIT_MS_MAX if self._follow else 0,
            )
        )
        try:
            return await self._reading
        except asyncio.CancelledError:
            if self._stopped.is_set() and self._reading.cancelled():
                return Reading([], [], self.behind_ms)
            self._reading.cancel()
            raise
        finally:
            self._reading = None

    async def _resume(self) -> None:
        """Where each shard is taken up. A shard without a checkpoint is read from its beginning if it came to be
        while we read, and from `start` if we have never read the stream."""
        self._shards = {shard.index: shard for shard in (await self._backend.describe(self.stream)).shards}
        self._offsets.clear()
        self._ended.clear()
        known = await self._backend.load_checkpoints(self.stream, self.name)
        for index, number in known.items():
            position = sequence.parse(number)
            if position is None:
                raise UsageError(f"the checkpoint of {self.name!r} at shard {index} is {number!r}: no sequence number")
            if index in self._shards:
                self._offsets[index] = position.offset + 1
        if known or self._start == "TRIM_HORIZON":
            self._open_ready_shards()
        else:
            await self._start_within()

    async def _start_within(self) -> None:
        """LATEST begins in the open shards; a time begins in the shards that were open then, and finds its record."""
        at_ms = round(self._start.timestamp() * 1000) if isinstance(self._start, datetime) else None
        for shard in self._shards.values():
            if at_ms is None and not shard.is_open:
                self._ended.add(shard.index)
            elif self._parents_ended(shard):
                self._offsets[shard.index] = await self._backend.seek(self.stream, shard.index, at_ms)

    async def _go_on_after(self, ended: Iterable[int]) -> None:
        for index in ended:
            self._offsets.pop(index, None)
            self._ended.add(index)
        self._shards = {shard.index: shard for shard in (await self._backend.describe(self.stream)).shards}
        self._open_ready_shards()

    def _open_ready_shards(self) -> None:
        for shard in self._shards.values():
            if shard.index not in self._offsets and shard.index not in self._ended and self._parents_ended(shard):
                self._offsets[shard.index] = 0

    def _parents_ended(self, shard: ShardInfo) -> bool:
        """A parent that is no longer listed has left the retention: nothing of it is left to read."""
        return all(parent in self._ended or parent not in self._shards for parent in shard.parents)

    def _take_turns(self, read: Iterable[int]) -> None:
        """What was read goes to the end of the line, so that a busy shard does not keep the others waiting."""
        for index in dict.fromkeys(read):
            self._offsets[index] = self._offsets.pop(index)
