"""One stream at work: its state, its log, its router. The hot paths of puts and reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from streamkit.clock import Clock
from streamkit.model.batch import RecordBatch
from streamkit.model.errors import ResourceNotFound, ThroughputExceeded
from streamkit.model.limits import FRAME_RECORDS_MAX, HOUR_MS, TABLE_WINDOW_BYTES_MAX
from streamkit.model.names import shard_id as id_of
from streamkit.shards.store import Appended, LogStore, Rows, Shard, StreamLog
from streamkit.streams import rules
from streamkit.streams.routing import Router
from streamkit.streams.state import ShardState, StreamState
from streamkit.streams.throttle import ShardThrottle

if TYPE_CHECKING:
    import pyarrow as pa

RATE_EXCEEDED: Final = "Rate exceeded for shard {shard} in stream {name} under account {account}."


class Put(NamedTuple):
    """A put under way: what was appended, and for each record that was, its group and its place in that.

    `refused` has the rows that were left out because their shard is over its limit, with the shard's index.
    """

    appended: Appended | None
    shards: list[Shard]
    places: list[tuple[int, int]]
    refused: dict[int, int]

    async def groups(self) -> list[tuple[int, int, int, int]]:
        """When durable: each group's shard, the shard's creation second, its first offset and arrival time."""
        if self.appended is None:
            return []
        await self.appended.wait()
        return [(shard.index, shard.created_s, *self.appended.placed(group)) for group, shard in enumerate(self.shards)]


class Read(NamedTuple):
    """What a read of a shard found. `next_offset` is None when the shard is closed and read to its end."""

    batches: list[RecordBatch]
    next_offset: int | None
    behind_ms: int


class AnyRead(NamedTuple):
    """What a read of several shards found. `ended`: shards that are closed and were read to their end."""

    batches: list[RecordBatch]
    ended: list[int]
    behind_ms: int


class Stream:
    """Made by `Streams`. Puts need `is_ready`, or `await ready()` first."""

    def __init__(self, state: StreamState, log_store: LogStore, clock: Clock, *, enforces_limits: bool) -> None:
        self._log_store = log_store
        self._clock = clock
        self._enforces_limits = enforces_limits
        self._throttles: dict[int, ShardThrottle] = {}
        self._log: StreamLog | None = None
        self._last_append: Appended | None = None
        self._lets_wait = True
        self.records_put = 0  # since the process started
        self._open: asyncio.Event | None = None  # set when a change of the shards is over; None while there is none
        self._on_change: list[Callable[[], None]] = []
        self.changing = asyncio.Lock()
        self.state = state
        self.router = Router(state.open_shards)
        self._by_index: dict[int, ShardState] = {}
        self.replace(state)

    def replace(self, state: StreamState) -> None:
        """The stream as it is from now on; the state was stored before."""
        self.state = state
        self.router = Router(state.open_shards)
        self._by_index = {shard.index: shard for shard in state.shards}
        for callback in tuple(self._on_change):
            callback()

    # -- being there -------------------------------------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """Whether a put can be made without waiting."""
        return self._open is None and self._log is not None and self.state.status in ("ACTIVE", "UPDATING")

    async def ready(self) -> None:
        """Returns when puts and reads can be made; raises ResourceNotFound while the stream is being made or deleted,
        as AWS answers puts then."""
        while self._open is not None:
            await self._open.wait()
        if self.state.status not in ("ACTIVE", "UPDATING"):
            raise self.not_found()
        if self._log is None:
            self._log = await self._log_store.open(self.state.id)

    @property
    def log(self) -> StreamLog:
        assert self._log is not None, "ready() was not awaited"
        return self._log

    def not_found(self) -> ResourceNotFound:
        return ResourceNotFound(f"Stream {self.state.name} under account {self.state.account} not found.")

    @contextmanager
    def holding_puts(self) -> Iterator[None]:
        """Puts wait while this is entered; they go on with the router that is there afterwards."""
        self._open = asyncio.Event()
        try:
            yield
        finally:
            self._open.set()
            self._open = None

    async def settled(self) -> None:
        """Returns when every put that was made is durable or refused."""
        if self._last_append is not None:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            # Whoever waits may have been cancelled meanwhile.
            self._last_append.then(lambda _: None if done.done() else done.set_result(None))
            await done

    # -- puts --------------------------------------------------------------------------------------------------------

    def put_one(self, key: bytes, value: bytes, hash_key: bytes | None = None) -> tuple[Shard, Appended]:
        """Appends one record. Raises ThroughputExceeded where its shard is over its limit and limits are enforced."""
        router = self.router
        shard = router.shards[router.slot_of(key, hash_key)]
        if self._enforces_limits and not self._admits_write(shard.index, len(key) + len(value)):
            raise ThroughputExceeded(self.rate_exceeded(shard.index))
        rows = Rows(shard, [key], [value], None if hash_key is None else [hash_key])
        appended = self._last_append = self.log.append([rows])
        self.records_put += 1
        return shard, appended

    def put(self, keys: list[bytes], values: list[bytes], hash_keys: Sequence[bytes | None] | None = None) -> Put:
        """Appends records, in order, all in one commit; those over their shard's limit are left out and named."""
        refused: dict[int, int] = {}
        if self._enforces_limits:
            refused = self._refused(keys, values, hash_keys)
        if refused:
            kept = [row for row in range(len(keys)) if row not in refused]
            keys, values = [keys[row] for row in kept], [values[row] for row in kept]
            hash_keys = None if hash_keys is None else [hash_keys[row] for row in kept]
        if not keys:
            return Put(None, [], [], refused)
        groups, places = self.router.route(keys, values, hash_keys)
        appended = self._last_append = self.log.append(groups)
        self.records_put += len(keys)
        return Put(appended, [group.shard for group in groups], places, refused)

    async def put_table(self, keys: pa.Array, data: pa.Array) -> int:
        """Appends two binary columns; returns the count when all rows are durable.

        Rows of one shard keep their order. A table of more than 65,536 rows or 16 MiB takes several commits,
        each all or nothing, and is routed while the disk writes. Limits on throughput are not enforced.
        """
        import pyarrow.compute as pc

        sizes = pc.binary_length(data)
        if len(data) and pc.max(sizes).as_py() > self.state.record_bytes_max:
            self.require_record_sizes(sizes.to_pylist())
        appended: Appended | None = None
        for start, rows in _windows(pc.add(sizes, pc.binary_length(keys))):
            await self.ready()
            before = appended
            groups = self.router.route_table(keys.slice(start, rows), data.slice(start, rows))
            appended = self._last_append = self.log.append(groups)
            if before is not None:  # two windows under way at most: one on disk, one waiting
                await before.wait()
        if appended is not None:
            await appended.wait()
        self.records_put += len(keys)
        return len(keys)

    def require_record_sizes(self, sizes: Sequence[int]) -> None:
        """Raises ValidationError, naming each record that is larger than the stream takes."""
        if max(sizes, default=0) > self.state.record_bytes_max:
            named = ((f"records.{row}.data", size) for row, size in enumerate(sizes, 1))
            rules.require_record_sizes(self.state, named)

    def rate_exceeded(self, shard_index: int) -> str:
        return RATE_EXCEEDED.format(shard=id_of(shard_index), name=self.state.name, account=self.state.account)

    # -- reads -------------------------------------------------------------------------------------------------------

    def shard(self, index: int) -> ShardState | None:
        """A shard that can still be read: an open one, or a closed one within the retention."""
        shard = self._by_index.get(index)
        return None if shard is None or self.has_expired(shard) else shard

    def has_expired(self, shard: ShardState) -> bool:
        return shard.closed_at_ms is not None and shard.closed_at_ms < self.horizon_ms

    @property
    def horizon_ms(self) -> int:
        """What arrived before this cannot be read any more."""
        return self._clock.now_ms() - self.state.retention_hours * HOUR_MS

    async def first_offset(self, shard_index: int) -> int:
        """The trim horizon: exactly the first record within the retention."""
        return await self.log.seek_time(shard_index, self.horizon_ms)

    async def seek(self, shard_index: int, at_ms: int | None) -> int:
        """The offset of the first record that arrived at or after this time; of the tip for None."""
        await self.ready()
        if at_ms is None:
            return self.log.bounds(shard_index).next_offset
        return await self.log.seek_time(shard_index, at_ms)

    async def read(
        self, shard: ShardState, offset: int, *, records_max: int, bytes_max: int, is_fanned_out: bool = False
    ) -> Read:
        """Records from `offset`, or from the trim horizon if that is later. `is_fanned_out`: for a registered consumer,
        which does not share the shard's read limit."""
        throttle = self._throttle(shard.index) if self._enforces_limits and not is_fanned_out else None
        now_ms = self._clock.now_ms()
        if throttle is not None and not throttle.admits_read(now_ms):
            raise ThroughputExceeded(self.rate_exceeded(shard.index))
        log = self.log
        offset = max(offset, await self.first_offset(shard.index))
        batches = await log.read(shard.index, offset, records_max=records_max, bytes_max=bytes_max)
        next_offset: int | None = batches[-1].next_offset if batches else offset
        is_at_tip = next_offset is None or next_offset >= log.bounds(shard.index).next_offset
        behind_ms = 0 if is_at_tip or not batches else max(now_ms - batches[-1].last_arrived_at_ms, 0)
        if throttle is not None:
            throttle.read(sum(batch.data_bytes for batch in batches))
        if shard.end_offset is not None and next_offset is not None and next_offset >= shard.end_offset:
            next_offset = None
        return Read(batches, next_offset, behind_ms)

    def watch_changes(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls back whenever the stream's state was replaced; the returned function ends that."""
        self._on_change.append(callback)

        def unwatch() -> None:
            if callback in self._on_change:
                self._on_change.remove(callback)

        return unwatch

    def stop_waiting(self) -> None:
        """Those who wait for records get what there is, from now on: the process is about to end."""
        self._lets_wait = False
        for callback in tuple(self._on_change):
            callback()

    async def wait_any(self, offsets: Mapping[int, int], wait_ms: float) -> None:
        """Returns when one of the shards has a record at its offset or after it, when the stream's shards change, or
        when the time is over."""
        log = self.log
        if any(offset < log.bounds(index).next_offset for index, offset in offsets.items()):
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake(shard_index: int | None = None) -> None:
            if not woken.done() and (shard_index is None or shard_index in offsets):
                woken.set_result(None)

        unwatch = log.watch(wake)
        self._on_change.append(wake)
        timer = self._clock.call_later(wait_ms, wake)
        try:
            await woken
        finally:
            timer.cancel()
            unwatch()
            self._on_change.remove(wake)

    async def read_any(
        self, offsets: Mapping[int, int], *, records_max: int, bytes_max: int, wait_ms: float = 0
    ) -> AnyRead:
        """Reads several shards at once, each from its offset, and waits where there is nothing yet. Records come in
        order within a shard; the limits hold for all shards together."""
        await self.ready()
        if (
            wait_ms
            and self._lets_wait
            and all(shard is not None and shard.is_open for shard in map(self.shard, offsets))
        ):
            await self.wait_any(offsets, wait_ms)
            await self.ready()  # it may have been deleted meanwhile
        found = AnyRead([], [], 0)
        for index, offset in offsets.items():
            shard = self.shard(index)
            if shard is None:  # it was closed, and its records have left the retention
                found.ended.append(index)
                continue
            share = max(bytes_max // 4, 1)  # so that one shard does not keep the others waiting
            read = await self.read(shard, offset, records_max=records_max, bytes_max=min(share, bytes_max))
            if read.next_offset is None:
                found.ended.append(index)
            found.batches.extend(read.batches)
            found = found._replace(behind_ms=max(found.behind_ms, read.behind_ms))
            records_max -= sum(map(len, read.batches))
            bytes_max -= sum(batch.data_bytes for batch in read.batches)
            if records_max <= 0 or bytes_max <= 0:
                break
        return found

    # -- limits ------------------------------------------------------------------------------------------------------

    def _throttle(self, shard_index: int) -> ShardThrottle:
        throttle = self._throttles.get(shard_index)
        if throttle is None:
            throttle = self._throttles[shard_index] = ShardThrottle(self._clock.now_ms())
        return throttle

    def _admits_write(self, shard_index: int, size_bytes: int) -> bool:
        return self._throttle(shard_index).admits_write(size_bytes, self._clock.now_ms())

    def _refused(
        self, keys: list[bytes], values: list[bytes], hash_keys: Sequence[bytes | None] | None
    ) -> dict[int, int]:
        """The records over their shard's limit: row to shard index."""
        refused = {}
        for row, (key, value) in enumerate(zip(keys, values, strict=True)):
            slot = self.router.slot_of(key, hash_keys[row] if hash_keys else None)
            index = self.router.shards[slot].index
            if not self._admits_write(index, len(key) + len(value)):
                refused[row] = index
        return refused


def _windows(sizes: pa.Array) -> Iterator[tuple[int, int]]:
    """The parts of a table that are appended one after the other: each its first row and the count of its rows."""
    import pyarrow.compute as pc

    start = 0
    while start < len(sizes):
        rows = min(FRAME_RECORDS_MAX, len(sizes) - start)
        while rows > 1 and pc.sum(sizes.slice(start, rows)).as_py() > TABLE_WINDOW_BYTES_MAX:
            rows = (rows + 1) // 2
        yield start, rows
        start += rows
