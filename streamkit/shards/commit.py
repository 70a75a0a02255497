"""Group commit: appends that arrive while the disk is busy share the next round.

One round at a time is written and synced, on a commit thread; everything else happens on the event loop. Offsets and
the arrival time are given when a round starts, so that a round that fails leaves no gap: its records were never placed.

    append ──▶ pending round ──▶ in flight (thread: encode, write, sync) ──▶ published, then acknowledged
                    ▲                                                  │
                    └──────────── the next appends gather ◀────────────┘
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Final, Protocol

from streamkit.clock import Clock
from streamkit.model.batch import Columns
from streamkit.model.errors import StorageUnavailable, ThroughputExceeded
from streamkit.model.hashkey import digest_of
from streamkit.model.limits import FRAME_COLUMNS_BYTES_MAX, FRAME_RECORDS_MAX, KIB, PENDING_BYTES_MAX
from streamkit.shards import frame
from streamkit.shards.store import Placed, Rows, Shard, Table

GATHER_TURNS_MAX: Final = 64
"""Turns of the event loop, about 1.5 µs each when nothing happens, that a round waits for more appends."""
GATHERED_BYTES_MAX: Final = 256 * KIB
"""A round of this size is worth a sync of its own."""

ON_LOOP_BYTES_MAX: Final = 64 * KIB
"""A round larger than this is written on a thread: the write itself takes long, and lets others run meanwhile."""
ON_LOOP_S_MAX: Final = 0.002
"""A write and sync that took longer shows a slow disk; then"""
THREADED_ROUNDS: Final = 256
"""so many rounds go to a thread before the loop tries again."""

Callback = Callable[[BaseException | None], None]


class Runner(Protocol):
    """Runs blocking work and calls back on the event loop."""

    def run(self, job: Callable[[], Any], done: Callable[[Any, BaseException | None], None], size_bytes: int) -> None:
        """`size_bytes` tells how much work there is. The call-back may come before this returns."""
        ...

    def close(self) -> None: ...


class ThreadRunner:
    """A few threads that do blocking work; the call-back costs one wake-up of the loop.

    Cheaper than an executor and a future (about 6 µs a job against 25), which matters at thousands of commits a second.
    """

    def __init__(self, threads_count: int, name: str) -> None:
        self._jobs: SimpleQueue[tuple[asyncio.AbstractEventLoop, Callable[[], Any], Callable[..., None]] | None]
        self._jobs = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{index}", daemon=True) for index in range(threads_count)
        ]
        for thread in self._threads:
            thread.start()

    def run(self, job: Callable[[], Any], done: Callable[[Any, BaseException | None], None], size_bytes: int) -> None:
        self._jobs.put((asyncio.get_running_loop(), job, done))

    def close(self) -> None:
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (work := self._jobs.get()) is not None:
            loop, job, done = work
            try:
                outcome: tuple[Any, BaseException | None] = (job(), None)
            except BaseException as error:
                outcome = (None, error)
            try:
                loop.call_soon_threadsafe(done, *outcome)
            except RuntimeError:  # the loop was closed under us: nobody is left to be told
                return


class DiskRunner(ThreadRunner):
    """Small rounds on the event loop as long as the disk is quick; large ones, and all while it is slow, on threads.

    A hand-over to a thread and back costs more than a quick disk takes: two waits for the interpreter and four context
    switches. With 16 writers of single records the server needs 45 µs of CPU a record with it on the loop, 70 µs with
    threads. A sync on the loop delays everybody by its time, so one that takes long sends the next rounds to a thread.
    """

    def __init__(self, threads_count: int, name: str) -> None:
        super().__init__(threads_count, name)
        self._threaded_rounds = 0

    def run(self, job: Callable[[], Any], done: Callable[[Any, BaseException | None], None], size_bytes: int) -> None:
        if size_bytes > ON_LOOP_BYTES_MAX or self._threaded_rounds:
            self._threaded_rounds = max(self._threaded_rounds - 1, 0)
            super().run(job, done, size_bytes)
            return
        started_s = time.perf_counter()
        try:
            outcome: tuple[Any, BaseException | None] = (job(), None)
        except Exception as error:
            outcome = (None, error)
        if time.perf_counter() - started_s > ON_LOOP_S_MAX:
            self._threaded_rounds = THREADED_ROUNDS
        done(*outcome)


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
        self.appends_count = 0
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
        self.size_bytes += len(table.columns.data) + len(table.columns.keys)
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
    """What a log does with a round. `write` runs on a commit thread, the others on the event loop."""

    def next_offset(self, shard_index: int) -> int: ...

    def prepare(self) -> Any:
        """What `write` needs to know of the loop's state."""
        ...

    def write(self, round_: Round, prepared: Any) -> Any:
        """Makes the round durable, or raises and leaves nothing of it."""
        ...

    def publish(self, round_: Round, written: Any) -> None:
        """Makes the round's records readable."""
        ...


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
        self._last_appends_count = 0
        self._turns_left = 0
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
        pending.appends_count += 1
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
        if self._gathers():
            asyncio.get_running_loop().call_soon(self._start)
            return
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
        prepared = self._writer.prepare()
        self._runner.run(lambda: self._writer.write(round_, prepared), self._finish, round_.size_bytes)

    def _gathers(self) -> bool:
        """Whether the next round waits a little for those whose appends were just acknowledged.

        Writers that wait for each answer come back within some tens of microseconds, much less than a sync takes. A
        round that started with the first of them would leave the others to the next one: half the throughput at the
        same number of syncs. A lone writer is never kept waiting.
        """
        pending = self._pending
        if pending.appends_count * 4 >= self._last_appends_count * 3 or pending.size_bytes > GATHERED_BYTES_MAX:
            return False
        self._turns_left -= 1
        return self._turns_left > 0

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
        self._last_appends_count = round_.appends_count
        self._turns_left = GATHER_TURNS_MAX
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
