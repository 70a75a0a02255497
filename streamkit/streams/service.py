"""Streams: making, changing, finding and deleting them. The way in for the API and the library."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from streamkit.clock import Clock, Timer
from streamkit.log import STREAM
from streamkit.model import sequence
from streamkit.model.errors import InvalidArgument, LimitExceeded, ResourceInUse, ResourceNotFound, StreamkitError
from streamkit.model.hashkey import uniform_ranges
from streamkit.model.limits import (
    CONSUMERS_PER_STREAM_MAX,
    ON_DEMAND_SHARDS_AT_START,
    ON_DEMAND_STREAMS_MAX,
    SHARDS_PER_ACCOUNT_DEFAULT_MAX,
)
from streamkit.model.names import ConsumerArn, Scope, StreamArn, StreamId
from streamkit.shards.store import LogStore
from streamkit.streams import resharding, rules
from streamkit.streams.control import Checkpoint, ControlStore
from streamkit.streams.iterators import Tokens
from streamkit.streams.state import ConsumerState, Mode, Pending, Reshard, ShardState, StreamState
from streamkit.streams.stream import Stream

_log = logging.getLogger(__name__)

MAINTENANCE_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """`transition_delay_ms`: how long a stream stays CREATING, UPDATING or DELETING; 0 makes changes at once."""

    transition_delay_ms: int = 0
    enforces_limits: bool = False
    shards_per_account_max: int = SHARDS_PER_ACCOUNT_DEFAULT_MAX


class Streams:
    """All streams of a data directory. Every change is on disk before its call returns."""

    def __init__(
        self,
        control: ControlStore,
        log_store: LogStore,
        *,
        clock: Clock,
        random: random.Random,
        settings: StreamSettings | None = None,
    ) -> None:
        self._control = control
        self._log_store = log_store
        self._clock = clock
        self._random = random
        self._settings = settings or StreamSettings()
        self._streams: dict[Scope, dict[str, Stream]] = {}
        self._by_id: dict[StreamId, Stream] = {}
        self._timers: set[Timer] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.tokens = Tokens(control.secret(random.randbytes(32)))
        self.checkpoints = Checkpoints(control, clock)

    @property
    def settings(self) -> StreamSettings:
        return self._settings

    async def start(self) -> None:
        """Takes up what is stored, finishes changes that fell due while nothing ran, and begins to trim."""
        states = self._control.streams()
        await self._log_store.retain([state.id for state in states])
        for state in states:
            stream = self._admit(state)
            if state.pending is not None:
                await self._settle_when_due(stream)
        self._later(MAINTENANCE_MS, self._maintain)

    async def close(self) -> None:
        """Finishes what was put. Nothing is lost by a process that ends without it."""
        for timer in self._timers:
            timer.cancel()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.checkpoints.flush()
        await self._log_store.close()
        self._control.close()

    def stop_waiting(self) -> None:
        """Long reads return at once, those under way and those to come."""
        for stream in self.all():
            stream.stop_waiting()

    # -- finding -----------------------------------------------------------------------------------------------------

    def find(self, scope: Scope, name: str) -> Stream:
        """Raises ResourceNotFound."""
        named = self._streams.get(scope)
        stream = named.get(name) if named is not None else None
        if stream is None:
            raise rules.stream_not_found(scope, name)
        return stream

    def named(self, scope: Scope) -> Mapping[str, Stream]:
        """The streams of a scope by name."""
        return self._streams.get(scope, {})

    def by_id(self, stream: StreamId) -> Stream | None:
        return self._by_id.get(stream)

    def all(self, scope: Scope | None = None) -> list[Stream]:
        """By name within a scope."""
        scopes = [scope] if scope is not None else sorted(self._streams)
        return [stream for each in scopes for _, stream in sorted(self._streams.get(each, {}).items())]

    def open_shards_count(self, scope: Scope) -> int:
        return sum(len(stream.state.open_shards) for stream in self._streams.get(scope, {}).values())

    def on_demand_count(self, scope: Scope) -> int:
        return sum(stream.state.mode == "ON_DEMAND" for stream in self._streams.get(scope, {}).values())

    # -- making and deleting -----------------------------------------------------------------------------------------

    async def create(
        self,
        arn: StreamArn,
        *,
        shards_count: int | None = None,
        mode: Mode = "PROVISIONED",
        tags: Mapping[str, str] | None = None,
        record_bytes_max: int | None = None,
        retention_hours: int | None = None,
        is_private: bool = False,
    ) -> Stream:
        """A new stream with equal shards; a private one counts for no quota and is never throttled. Raises
        ResourceInUse where the name is taken, LimitExceeded."""
        scope, name = arn
        if name in self._streams.get(scope, {}):
            raise ResourceInUse(f"Stream {name} under account {scope.account} already exists.")
        if mode == "ON_DEMAND":
            self._require_room_on_demand(scope)
            shards_count = shards_count or ON_DEMAND_SHARDS_AT_START
        assert shards_count is not None
        if not is_private:
            rules.require_room_for_shards(
                scope, self.open_shards_count(scope), shards_count, self._settings.shards_per_account_max
            )
        if retention_hours is not None:
            rules.require_retention(retention_hours)
        now_ms = self._clock.now_ms()
        state = StreamState(
            id=StreamId(self._random.randbytes(16).hex()),
            account=scope.account,
            region=scope.region,
            name=name,
            status="ACTIVE",
            created_at_ms=now_ms,
            shards=[
                ShardState(index, now_ms // 1000, str(keys.first), str(keys.last), now_ms)
                for index, keys in enumerate(uniform_ranges(shards_count))
            ],
            mode=mode,
            tags=rules.with_tags({}, tags or {}, name, scope.account),
            is_private=is_private,
        )
        if record_bytes_max is not None:
            state = msgspec.structs.replace(state, record_bytes_max=record_bytes_max)
        if retention_hours is not None:
            state = msgspec.structs.replace(state, retention_hours=retention_hours)
        delay_ms = 0 if is_private else self._settings.transition_delay_ms
        if delay_ms:
            state = msgspec.structs.replace(state, status="CREATING", pending=Pending(now_ms + delay_ms))
        self._control.save_stream(state)
        stream = self._admit(state)
        if state.pending is not None:
            await self._settle_when_due(stream)
        _log.info("stream created", extra={STREAM: name})
        return stream

    async def delete(self, stream: Stream, *, with_consumers: bool = True) -> None:
        """Removes the stream, its records, consumers and checkpoints. A stream of the same name starts anew."""
        async with stream.changing:
            state = stream.state
            if state.consumers and not with_consumers:
                raise ResourceInUse(
                    f"DeleteStream can’t delete {state.account}:{state.name} because there are consumers associated "
                    f"with this data stream. To delete {state.name} anyway, set the EnforceConsumerDeletion parameter "
                    "to true to force the deletion of all the consumers that are associated with it."
                )
            if state.status == "DELETING":
                return
            delay_ms = self._settings.transition_delay_ms
            pending = Pending(self._clock.now_ms() + delay_ms)
            self._save(stream, msgspec.structs.replace(state, status="DELETING", pending=pending))
        await self._settle_when_due(stream)

    async def delete_all(self) -> None:
        """Removes every stream at once, whatever its state."""
        for stream in self.all():
            async with stream.changing:
                if self._by_id.get(stream.state.id) is stream:
                    stream.replace(msgspec.structs.replace(stream.state, status="DELETING"))
                    await self._remove(stream)

    # -- changing ----------------------------------------------------------------------------------------------------

    async def split(self, stream: Stream, shard_index: int, new_starting_hash_key: str) -> None:
        async with stream.changing:
            state = stream.state
            rules.require_provisioned(state)
            shard = rules.require_shard(stream.shard(shard_index), shard_index, state)
            rules.require_open(shard, state)
            key = rules.require_splittable(shard, new_starting_hash_key, state)
            rules.require_active(state)
            scope = state.arn.scope
            rules.require_room_for_shards(
                scope, self.open_shards_count(scope), 1, self._settings.shards_per_account_max
            )
            await self._update(stream, state, reshards=[resharding.split(shard, key)])

    async def merge(self, stream: Stream, lower_index: int, upper_index: int) -> None:
        async with stream.changing:
            state = stream.state
            rules.require_provisioned(state)
            lower = rules.require_shard(stream.shard(lower_index), lower_index, state)
            upper = rules.require_shard(stream.shard(upper_index), upper_index, state)
            rules.require_open(lower, state)
            rules.require_open(upper, state)
            if not resharding.are_adjacent(lower, upper):
                raise rules.not_mergeable(lower, upper, state)
            rules.require_active(state)
            await self._update(stream, state, reshards=[resharding.merge(lower, upper)])

    async def update_shard_count(self, stream: Stream, target: int) -> int:
        """Makes the open shards `target` equal ones; returns how many there were."""
        async with stream.changing:
            state = stream.state
            rules.require_provisioned(state)
            rules.require_active(state)
            scope, now_ms = state.arn.scope, self._clock.now_ms()
            rules.require_scalable(
                state, target, self.open_shards_count(scope), self._settings.shards_per_account_max, now_ms
            )
            current = state.open_shards
            plan = resharding.uniform_plan(current, target, _next_index(state))
            updates = [*rules.recent_updates(state, now_ms), now_ms]
            await self._update(stream, msgspec.structs.replace(state, shard_count_updates_ms=updates), reshards=plan)
            return len(current)

    async def increase_retention(self, stream: Stream, hours: int) -> None:
        async with stream.changing:
            rules.require_longer(stream.state, hours)
            rules.require_active(stream.state)
            await self._update(stream, stream.state, retention_hours=hours)

    async def decrease_retention(self, stream: Stream, hours: int) -> None:
        async with stream.changing:
            rules.require_shorter(stream.state, hours)
            rules.require_active(stream.state)
            await self._update(stream, stream.state, retention_hours=hours)

    async def add_tags(self, stream: Stream, tags: Mapping[str, str]) -> None:
        async with stream.changing:
            state = stream.state
            more = rules.with_tags(state.tags, tags, state.name, state.account)
            self._save(stream, msgspec.structs.replace(state, tags=more))

    async def remove_tags(self, stream: Stream, keys: Sequence[str]) -> None:
        async with stream.changing:
            state = stream.state
            rules.require_tag_characters(keys, "remove", state.name, state.account)
            rest = {key: value for key, value in state.tags.items() if key not in keys}
            self._save(stream, msgspec.structs.replace(state, tags=rest))

    # -- consumers ---------------------------------------------------------------------------------------------------

    async def register_consumer(self, stream: Stream, name: str, tags: Mapping[str, str]) -> ConsumerState:
        async with stream.changing:
            state = stream.state
            rules.require_active_or_updating(state)
            known = self.consumers(stream)
            if any(consumer.name == name for consumer in known):
                raise ResourceInUse(
                    f"Consumer {name} under stream {state.name} already exists for account {state.account}."
                )
            if len(known) >= CONSUMERS_PER_STREAM_MAX:
                raise LimitExceeded(
                    f"This request would exceed the limit of {CONSUMERS_PER_STREAM_MAX} registered consumers for "
                    f"stream {state.name} under account {state.account}."
                )
            now_ms = self._clock.now_ms()
            tags = rules.with_tags({}, tags, state.name, state.account)
            consumer = ConsumerState(name, now_ms, now_ms + self._settings.transition_delay_ms, tags=tags)
            self._save(stream, _with_consumer(state, consumer))
            return consumer

    async def deregister_consumer(self, stream: Stream, consumer: ConsumerState) -> None:
        async with stream.changing:
            deleted = msgspec.structs.replace(
                consumer, deleted_at_ms=self._clock.now_ms() + self._settings.transition_delay_ms
            )
            self._save(stream, _with_consumer(stream.state, deleted))
            self.consumers(stream)

    async def tag_consumer(self, stream: Stream, consumer: ConsumerState, tags: Mapping[str, str]) -> None:
        async with stream.changing:
            more = rules.with_tags(consumer.tags, tags, consumer.name, stream.state.account)
            self._save(stream, _with_consumer(stream.state, msgspec.structs.replace(consumer, tags=more)))

    async def untag_consumer(self, stream: Stream, consumer: ConsumerState, keys: Sequence[str]) -> None:
        async with stream.changing:
            rules.require_tag_characters(keys, "remove", consumer.name, stream.state.account)
            rest = {key: value for key, value in consumer.tags.items() if key not in keys}
            self._save(stream, _with_consumer(stream.state, msgspec.structs.replace(consumer, tags=rest)))

    def consumers(self, stream: Stream) -> list[ConsumerState]:
        """By name; those whose deletion is over are forgotten here."""
        now_ms = self._clock.now_ms()
        state = stream.state
        kept = {
            name: consumer
            for name, consumer in sorted(state.consumers.items())
            if consumer.deleted_at_ms is None or consumer.deleted_at_ms > now_ms
        }
        if len(kept) != len(state.consumers):
            self._save(stream, msgspec.structs.replace(state, consumers=kept))
        return list(kept.values())

    def consumer(self, stream: Stream, name: str) -> ConsumerState:
        for consumer in self.consumers(stream):
            if consumer.name == name:
                return consumer
        raise self.consumer_not_found(name, stream.state.account)

    def consumer_by_arn(self, text: str) -> tuple[Stream, ConsumerState]:
        arn = ConsumerArn.parse(text)
        if arn is None:
            raise InvalidArgument(f"ConsumerARN {text} is not a valid consumer ARN.")
        try:
            stream = self.find(arn.stream.scope, arn.stream.name)
            consumer = self.consumer(stream, arn.name)
        except ResourceNotFound:
            raise self.consumer_not_found(text, arn.stream.scope.account) from None
        if consumer.created_at_ms // 1000 != arn.created_s:
            raise self.consumer_not_found(text, arn.stream.scope.account)
        return stream, consumer

    def consumer_not_found(self, name: str, account: str) -> ResourceNotFound:
        return ResourceNotFound(f"Consumer {name}, account {account} not found.")

    # -- how a change comes about ------------------------------------------------------------------------------------

    def _admit(self, state: StreamState) -> Stream:
        is_limited = self._settings.enforces_limits and not state.is_private
        stream = Stream(state, self._log_store, self._clock, enforces_limits=is_limited)
        self._streams.setdefault(state.arn.scope, {})[state.name] = stream
        self._by_id[state.id] = stream
        return stream

    def _save(self, stream: Stream, state: StreamState) -> None:
        self._control.save_stream(state)
        stream.replace(state)

    async def _update(
        self,
        stream: Stream,
        state: StreamState,
        *,
        reshards: list[Reshard] | None = None,
        retention_hours: int | None = None,
    ) -> None:
        """Accepts a change: the stream is UPDATING until it takes effect. `stream.changing` is held."""
        at_ms = self._clock.now_ms() + self._settings.transition_delay_ms
        pending = Pending(at_ms, reshards or [], retention_hours)
        if self._settings.transition_delay_ms:
            self._save(stream, msgspec.structs.replace(state, status="UPDATING", pending=pending))
            self._settle_later(stream, at_ms)
        else:
            await self._apply(stream, msgspec.structs.replace(state, pending=pending))

    async def _settle_when_due(self, stream: Stream) -> None:
        pending = stream.state.pending
        if pending is None:
            return
        if pending.at_ms > self._clock.now_ms():
            self._settle_later(stream, pending.at_ms)
            return
        async with stream.changing:
            # Meanwhile another change may have replaced this one, or the stream may be gone and its name taken.
            if stream.state.pending is not pending or self._by_id.get(stream.state.id) is not stream:
                return
            if stream.state.status == "DELETING":
                await self._remove(stream)
            else:
                await self._apply(stream, stream.state)

    def _settle_later(self, stream: Stream, at_ms: int) -> None:
        self._later(at_ms - self._clock.now_ms(), lambda: self._spawn(stream))

    def _spawn(self, stream: Stream) -> None:
        async def settle() -> None:
            try:
                await self._settle_when_due(stream)
            except StreamkitError as error:  # the disk refused; try again, the change was promised
                _log.error("a change waits for the disk: %s", error, extra={STREAM: stream.state.name})
                self._later(1_000, lambda: self._spawn(stream))

        task = asyncio.get_running_loop().create_task(settle())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _apply(self, stream: Stream, state: StreamState) -> None:
        """The pending change takes effect. Puts wait meanwhile, so that a closed shard's end is its last record."""
        pending = state.pending
        assert pending is not None
        state = msgspec.structs.replace(state, status="ACTIVE", pending=None)
        if pending.retention_hours is not None:
            state = msgspec.structs.replace(state, retention_hours=pending.retention_hours)
        if not pending.reshards:
            self._save(stream, state)
            return
        await stream.ready()
        with stream.holding_puts():
            await stream.settled()
            now_ms = self._clock.now_ms()
            for reshard in pending.reshards:
                state = _resharded(state, reshard, lambda index: stream.log.bounds(index).next_offset, now_ms)
            self._save(stream, state)
        _log.info("stream resharded to %d open shards", len(state.open_shards), extra={STREAM: state.name})

    async def _remove(self, stream: Stream) -> None:
        state = stream.state
        self._control.delete_stream(state.id)
        del self._streams[state.arn.scope][state.name]
        del self._by_id[state.id]
        await self._log_store.delete(state.id)
        _log.info("stream deleted", extra={STREAM: state.name})

    def _require_room_on_demand(self, scope: Scope) -> None:
        count = self.on_demand_count(scope)
        if count >= ON_DEMAND_STREAMS_MAX:
            raise LimitExceeded(
                f"This request would exceed the limit on the number of On-Demand streams for the account "
                f"{scope.account} in {scope.region}. Current On-Demand streams count: {count}. "
                f"Limit: {ON_DEMAND_STREAMS_MAX}."
            )

    # -- keeping house -----------------------------------------------------------------------------------------------

    async def trim(self) -> None:
        """Gives back the space of what has left the retention, and forgets closed shards that hold nothing more.

        A stream that cannot be trimmed does not keep the others from it; it is tried again the next time.
        """
        for stream in self.all():
            try:
                await self._trim(stream)
            except (StreamkitError, OSError) as error:
                _log.error("trimming failed: %s", error, extra={STREAM: stream.state.name})

    async def _trim(self, stream: Stream) -> None:
        async with stream.changing:
            if stream.state.status not in ("ACTIVE", "UPDATING"):
                return
            await stream.ready()
            await stream.log.trim(stream.horizon_ms)
            kept = [shard for shard in stream.state.shards if not stream.has_expired(shard)]
            if len(kept) != len(stream.state.shards):
                self._save(stream, msgspec.structs.replace(stream.state, shards=kept))

    def _maintain(self) -> None:
        async def trim() -> None:
            await self.trim()
            self._later(MAINTENANCE_MS, self._maintain)

        task = asyncio.get_running_loop().create_task(trim())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _later(self, delay_ms: float, callback: Callable[[], None]) -> None:
        def call() -> None:
            self._timers.discard(timer)
            callback()

        timer = self._clock.call_later(max(delay_ms, 0), call)
        self._timers.add(timer)


class Checkpoints:
    """Where named consumers are. Saves that come close together share a transaction; none is acknowledged before."""

    def __init__(self, control: ControlStore, clock: Clock) -> None:
        self._control = control
        self._clock = clock
        self._waiting: dict[tuple[str, StreamId, int], Checkpoint] = {}
        self._saved: asyncio.Future[None] | None = None

    def load(self, consumer: str, stream: StreamId) -> dict[int, str]:
        """Shard index to the last sequence number done, as far as it is on disk."""
        return self._control.checkpoints(consumer, stream)

    async def save(self, consumer: str, stream: StreamId, shards: Mapping[int, str]) -> None:
        """Returns when all of them are on disk."""
        now_ms = self._clock.now_ms()
        for index, number in shards.items():
            self._waiting[consumer, stream, index] = Checkpoint(consumer, stream, index, number, now_ms)
        if self._saved is None:
            loop = asyncio.get_running_loop()
            self._saved = loop.create_future()
            loop.call_soon(self._write)
        await asyncio.shield(self._saved)

    async def flush(self) -> None:
        if self._saved is not None:
            await asyncio.shield(self._saved)

    def _write(self) -> None:
        saved, waiting = self._saved, list(self._waiting.values())
        assert saved is not None
        self._saved = None
        self._waiting.clear()
        try:
            self._control.save_checkpoints(waiting)
        except Exception as error:  # whatever it is, those who wait must hear of it
            saved.set_exception(error)
        else:
            saved.set_result(None)


def _with_consumer(state: StreamState, consumer: ConsumerState) -> StreamState:
    return msgspec.structs.replace(state, consumers={**state.consumers, consumer.name: consumer})


def _next_index(state: StreamState) -> int:
    return max(shard.index for shard in state.shards) + 1


def _resharded(state: StreamState, reshard: Reshard, next_offset: Callable[[int], int], now_ms: int) -> StreamState:
    """One step taken: parents closed at their last record, children opened. A child's creation second is later than
    its parents', so that its sequence numbers are larger."""
    shards = {shard.index: shard for shard in state.shards}
    parents = [shards[index] for index in reshard.parents]
    for parent in parents:
        end = next_offset(parent.index)
        ending = sequence.sequence_number(parent.created_s, parent.index, end, max(now_ms, parent.created_at_ms))
        shards[parent.index] = msgspec.structs.replace(
            parent, closed_at_ms=now_ms, ending_sequence_number=ending, end_offset=end
        )
    created_s = max(now_ms // 1000, *(parent.created_s + 1 for parent in parents))
    for index, (first, last) in enumerate(reshard.children, _next_index(state)):
        shards[index] = ShardState(
            index,
            created_s,
            first,
            last,
            now_ms,
            parent=parents[0].index,
            adjacent_parent=parents[1].index if len(parents) > 1 else None,
        )
    return msgspec.structs.replace(state, shards=list(shards.values()))
