"""The port: what the rest of streamkit asks of a log, whatever it is kept in.

Two implementations come with the core, on disk and in memory; both run `streamkit.testing.log_store_contract`.
Other ones are found through the entry-point group `streamkit.log_stores`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from streamkit.model.batch import Columns, RecordBatch
from streamkit.model.names import StreamId


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard as the log knows it: its number, and the creation second that is part of its sequence numbers."""

    index: int
    created_s: int


@dataclass(slots=True)
class Rows:
    """Records to append to one shard, as puts bring them. `hash_keys` (16 bytes each) only where any was explicit."""

    shard: Shard
    keys: list[bytes]
    values: list[bytes]
    hash_keys: list[bytes] | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Records to append to one shard, as columns."""

    shard: Shard
    columns: Columns


class Placed(NamedTuple):
    """Where an appended group went. Its records have consecutive offsets and share the arrival time."""

    first_offset: int
    arrived_at_ms: int


class Appended(Protocol):
    """An append under way: all of it becomes durable, or none of it is acknowledged."""

    def then(self, callback: Callable[[BaseException | None], None]) -> None:
        """Calls back once, on the event loop: with None when the log's durability holds, with the error otherwise."""
        ...

    def placed(self, index: int) -> Placed:
        """Where group `index` of the append went. Valid from the call-back on."""
        ...

    async def wait(self) -> None:
        """Returns when durable; raises StorageUnavailable. Cancelling it does not take the append back."""
        ...


class Bounds(NamedTuple):
    """The offsets a shard holds: from the first kept to the next to be given. Equal where it holds none."""

    first_offset: int
    next_offset: int


class StreamLog(Protocol):
    """The log of one stream. All calls are made on the event loop's thread."""

    def append(self, groups: Sequence[Rows | Table]) -> Appended:
        """Appends groups in order; records of one shard keep the order of their appends.

        Appends made while a commit is under way share the next one. Raises ThroughputExceeded, taking nothing, while
        more than PENDING_BYTES_MAX wait for the disk.
        """
        ...

    def bounds(self, shard_index: int) -> Bounds:
        """What can be read now: only what is durable counts. A shard never heard of holds nothing from offset 0."""
        ...

    async def read(self, shard_index: int, offset: int, *, records_max: int, bytes_max: int) -> list[RecordBatch]:
        """Records from `offset` on, in order: at most `records_max`, and as many as fit `bytes_max` (keys and data),
        but one at least. Empty at the tip. An offset before the first kept one reads from there.

        Raises DamagedLog where the next record cannot be read, with the offset from which reading can go on.
        """
        ...

    async def seek_time(self, shard_index: int, at_ms: int) -> int:
        """The offset of the first kept record that arrived at or after this time; the next offset if there is none."""
        ...

    async def wait(self, shard_index: int, offset: int) -> None:
        """Returns when the shard holds a record at or after `offset`. Returns at once if it does."""
        ...

    def watch(self, callback: Callable[[int], None]) -> Callable[[], None]:
        """Calls back with a shard's number whenever it has new records; the returned function ends that."""
        ...

    async def trim(self, before_ms: int) -> None:
        """Gives space back: whole segments all of whose records arrived before this time. What can still be read
        afterwards may include older records; who cuts exactly does it by `seek_time`."""
        ...


class LogStore(Protocol):
    """Logs by stream id."""

    async def open(self, stream: StreamId) -> StreamLog:
        """The stream's log, recovered; an empty one where there is none. The same object until it is closed."""
        ...

    async def delete(self, stream: StreamId) -> None:
        """Removes all records of the stream. Readers of it fail from now on. It may be unknown."""
        ...

    async def retain(self, streams: Sequence[StreamId]) -> None:
        """Removes what belongs to any other stream: what a crash left between deleting a name and its records."""
        ...

    async def close(self) -> None:
        """Waits for commits under way. Appends afterwards fail."""
        ...
