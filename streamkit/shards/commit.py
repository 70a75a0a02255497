"""Group commit: appends that arrive while the disk is busy share the next round.

One round at a time is written and synced, on a commit thread; everything else happens on the event loop. Offsets and
the arrival time are given when a round starts, so that a round that fails leaves no gap: its records were never placed.

    append ──▶ pending round ──▶ in flight (thread: encode, write, sync) ──▶ published, then acknowledged
                    ▲                                                  │
                    └──────────── the next appends gather ◀────────────┘
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from streamkit.clock import Clock
from streamkit.model.batch import Columns
from streamkit.model.errors import StorageUnavailable, ThroughputExceeded
from streamkit.model.hashkey import digest_of
from streamkit.model.limits import FRAME_COLUMNS_BYTES_MAX, FRAME_RECORDS_MAX, KIB, PENDING_BYTES_MAX
from streamkit.shards import frame
from streamkit.shards.runners import Runner
from streamkit.shards.store import Placed, Rows, Shard, Table

GATHERED_BYTES_MAX: Final = 256 * KIB
"""A round of this size starts before the last one is answered; a smaller one waits for who comes back at once."""

Callback = Callable[[BaseException | None], None]


class Group:
    """Records that become one frame: rows that several appends added, or columns of one."""

    __slots__ = ("columns", "count", "first_offset", "hash_keys", "keys", "shard", "size_bytes", "values")

    def __init__(self, shard: Shard, columns: Columns | None = None) -> None:
        self.shard = shard
        self.columns = columns
        self.keys: list[bytes] = []
        self.values: list[bytes] = []
        self.hash_keys: list[bytes] | None = None
        self.count = columns.count if columns else 0
        self.size_bytes = 0
        self.first_offset = -1  # until its round starts

    def add(self, rows: Rows) -> None:
        if rows.hash_keys is not None and self.hash_keys is None:
            self.hash_keys = [digest_of(key) for key in self.keys]
        if self.hash_keys is not None:
            self.hash_keys += rows.hash_keys if rows.hash_keys is not None else map(digest_of, rows.keys)
        self.keys += rows.keys
        self.values += rows.values
        self.count += len(rows.keys)

    def encode(self, seed: int, arrived_at_ms: int, *, durable_position: int) -> tuple[bytes, bytes]:
        """The group as a frame, in two buffers to be written one after the other."""
        if self.columns is not None:
            return frame.encode(
                seed,
                shard_index=self.shard.index,
                shard_created_s=self.shard.created_s,
                first_offset=self.first_offset,
                arrived_at_ms=arrived_at_ms,
                durable_position=durable_position,
                columns=self.columns,
            )
        return frame.encode_rows(
            seed,
            shard_index=self.shard.index,
            shard_created_s=self.shard.created_s,
            first_offset=self.first_offset,
            arrived_at_ms=arrived_at_ms,
            durable_position=durable_position,
            keys=self.keys,
            values=self.values,
            hash_keys=self.hash_keys,
        )


class Round:
    """What one write and one sync make durable."""

    __slots__ = (
        "appends_count", "arrived_at_ms", "callbacks", "error", "groups", "is_done", "open_groups", "size_bytes",
    )  # fmt: skip

    def __init__(self) -> None:
        self.groups: list[Group] = []
        self.open_groups: dict[int, Group] = {}
        self.callbacks: list[Callback] = []
        self.size_bytes = 0
        self.arrived_at_ms = 0
        self.is_done = False
        self.error: BaseException | None = None

    def add_rows(self, rows: Rows) -> tuple[Group, int]:
        group = self.open_groups.get(rows.shard.index)
        if group is None or group.size_bytes >= FRAME_COLUMNS_BYTES_MAX or group.count >= FRAME_RECORDS_MAX:
            group = self._new_group(rows.shard)
            self.open_groups[rows.shard.index] = group
        place = (group, group.count)
        group.add(rows)
        if len(rows.keys) == 1:
            size = len(rows.keys[0]) + len(rows.values[0])
        else:
            size = sum(map(len, rows.values)) + sum(map(len, rows.keys))
        group.size_bytes += size
        self.size_bytes += size
        return place

    def add_table(self, table: Table) -> tuple[Group, int]:
        first: Group | None = None
        for window in table.columns.windows(FRAME_RECORDS_MAX, FRAME_COLUMNS_BYTES_MAX):
            group = self._new_group(table.shard, window)
            first = first or group
        self.open_groups.pop(table.shard.index, None)  # rows that come after must lie after
        assert first is not None, "an append has records"
        self.size_bytes += table.columns.bytes_between(0, table.columns.count)
        return first, 0

    def _new_group(self, shard: Shard, columns: Columns | None = None) -> Group:
        group = Group(shard, columns)
        self.groups.append(group)
        return group


class _Append:
    """See `streamkit.shards.store.Appended`."""

    __slots__ = ("_places", "_round")

    def __init__(self, round_: Round, places: list[tuple[Group, int]]) -> None:
        self._round = round_
        self._places = places

    def then(self, callback: Callback) -> None:
        if self._round.is_done:
            asyncio.get_running_loop().call_soon(callback, self._round.error)
        else:
            self._round.callbacks.append(callback)

    def placed(self, index: int) -> Placed:
        group, row = self._places[index]
        assert group.first_offset >= 0, "asked before it was placed"
        return Placed(group.first_offset + row, self._round.arrived_at_ms)

    async def wait(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def finish(error: BaseException | None) -> None:
            if future.cancelled():
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        self.then(finish)
        await future


class Writer(Protocol):
    """What a log does with a round. `write` and `sync` may run on a commit thread, the others run on the event loop."""

    def next_offset(self, shard_index: int) -> int: ...

    def prepare(self) -> Any:
        """What `write` needs to know of the loop's state."""
        ...

    def is_long(self, round_: Round, prepared: Any) -> bool:
        """Whether `write` will take so long that the event loop should not wait for it."""
        ...

    def write(self, round_: Round, prepared: Any) -> Any:
        """Hands the round to the operating system, or raises."""
        ...

    def needs_sync(self, written: Any) -> bool: ...

    def sync(self, written: Any) -> None:
        """Makes it durable, or raises; then nothing of the round counts."""
        ...

    def descriptor(self, written: Any) -> int | None:
        """The file whose data the kernel may be asked to sync, with `synced` to be called after; None if only `sync`
        can do it."""
        ...

    def synced(self, written: Any) -> None:
        """The file was synced by somebody else."""
        ...

    def publish(self, round_: Round, written: Any) -> None:
        """Makes the round's records readable."""
        ...


class _RoundJob:
    """A round on its way to the disk; see `streamkit.shards.runners.Job`."""

    __slots__ = ("_prepared", "_round", "_writer", "written")

    def __init__(self, writer: Writer, round_: Round, prepared: Any) -> None:
        self._writer = writer
        self._round = round_
        self._prepared = prepared
        self.written: Any = None

    @property
    def is_long(self) -> bool:
        return self._writer.is_long(self._round, self._prepared)

    def write(self) -> None:
        self.written = self._writer.write(self._round, self._prepared)

    def sync(self) -> None:
        self._writer.sync(self.written)

    @property
    def needs_sync(self) -> bool:
        return self._writer.needs_sync(self.written)

    def descriptor(self) -> int | None:
        return self._writer.descriptor(self.written)

    def synced(self) -> None:
        self._writer.synced(self.written)


class CommitQueue:
    """The pending round and the one in flight, for one log."""

    def __init__(
        self, writer: Writer, clock: Clock, runner: Runner, pending_bytes_max: int = PENDING_BYTES_MAX
    ) -> None:
        self._writer = writer
        self._clock = clock
        self._runner = runner
        self._pending_bytes_max = pending_bytes_max
        self._pending = Round()
        self._in_flight: Round | None = None
        self._start_is_due = False
        self._idle: list[asyncio.Future[None]] = []
        self._closed: str | None = None
        self.last_arrived_at_ms = 0

    def append(self, groups: Sequence[Rows | Table]) -> _Append:
        if self._closed:
            raise StorageUnavailable(self._closed)
        pending = self._pending
        if pending.size_bytes > self._pending_bytes_max:
            raise ThroughputExceeded(
                f"{pending.size_bytes:,} bytes of this stream wait for the disk, which is more than "
                f"{self._pending_bytes_max:,}; put again after a pause"
            )
        places = [pending.add_rows(group) if isinstance(group, Rows) else pending.add_table(group) for group in groups]
        self.kick()
        return _Append(pending, places)

    def kick(self) -> None:
        """Starts a round soon, also an empty one: the writer may have other work to do."""
        if self._in_flight is None and not self._start_is_due:
            # At the end of this turn of the loop: what other connections sent meanwhile shares the round.
            self._start_is_due = True
            asyncio.get_running_loop().call_soon(self._start)

    async def close(self, reason: str) -> None:
        """Refuses further appends with this reason, and returns when those made are finished."""
        self._closed = reason
        await self.settled()

    async def settled(self) -> None:
        """Returns when nothing is pending or in flight."""
        if self._in_flight is not None or self._start_is_due:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle.append(future)
            await future

    def _start(self) -> None:
        self._start_is_due = False
        round_ = self._in_flight = self._pending
        self._pending = Round()
        # The clock may step back; arrival times never do, or seeking by time would lose records.
        round_.arrived_at_ms = self.last_arrived_at_ms = max(self._clock.now_ms(), self.last_arrived_at_ms)
        next_offsets: dict[int, int] = {}
        for group in round_.groups:
            index = group.shard.index
            first = next_offsets.get(index)
            group.first_offset = self._writer.next_offset(index) if first is None else first
            next_offsets[index] = group.first_offset + group.count
        job = _RoundJob(self._writer, round_, self._writer.prepare())
        self._runner.run(job, lambda error: self._finish(job.written, error))

    def _finish(self, written: Any, error: BaseException | None) -> None:
        round_ = self._in_flight
        assert round_ is not None
        self._in_flight = None
        if error is None:
            self._writer.publish(round_, written)
        else:
            error = round_.error = _as_storage_error(error)
        round_.is_done = True
        if self._pending.size_bytes > GATHERED_BYTES_MAX:  # a busy disk goes on while we answer
            self._start()
        # A callback may refer to what holds the round: forgotten here, the records go with their last user.
        callbacks, round_.callbacks = round_.callbacks, []
        for callback in callbacks:
            callback(error)
        if self._pending.groups:
            self.kick()
        if self._in_flight is None and not self._pending.groups:
            for future in self._idle:
                if not future.done():
                    future.set_result(None)
            self._idle.clear()


def _as_storage_error(error: BaseException) -> StorageUnavailable:
    if isinstance(error, StorageUnavailable):
        return error
    refused = StorageUnavailable(f"The records could not be stored: {error}. Nothing was acknowledged; put them again.")
    refused.__cause__ = error
    return refused
