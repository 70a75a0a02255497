"""Asynchronous invocations: events that are kept until their function has had them, or somebody else has been told.

An event that was accepted is on disk. It is tried at least once, until it ends; then the documents that its
destinations get are written down first (sealed), delivered, and only then is the event forgotten. After a crash an
event that was under way is tried again, and a document that was sealed is delivered once: its destination is asked
whether it is there.

What happens next in an event's life is decided by pure functions (`before`, `after`, `ending`); `EventQueue` does it.

events           id, document     one `EventState` each
event_payloads   id, payload      as it came; written once
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
import sqlite3
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import msgspec

from streamkit.clock import Clock, Timer
from streamkit.control import ControlFile
from streamkit.functions.destinations import Delivery, RecordDestinations
from streamkit.functions.outcomes import Condition, Ended, LastResponse, Outcome, dead_letter, pass_by, record
from streamkit.log import ERROR_CODE, REQUEST_ID
from streamkit.model.errors import RequestTooLarge, StorageUnavailable, TooManyRequests
from streamkit.model.limits import (
    ASYNC_AGE_S_DEFAULT,
    ASYNC_BACKOFF_MS_MAX,
    ASYNC_BACKOFF_MS_MIN,
    ASYNC_CACHED_BYTES_MAX,
    ASYNC_DELIVERY_AGE_MS_MAX,
    ASYNC_PAYLOAD_BYTES_MAX,
    ASYNC_QUEUE_BYTES_MAX,
    ASYNC_QUEUE_EVENTS_MAX,
    ASYNC_RETRIES_DEFAULT,
    ASYNC_RETRY_DELAYS_MS,
    ASYNC_UNDER_WAY_PER_FUNCTION_MAX,
)
from streamkit.model.names import FunctionArn, Scope

_log = logging.getLogger(__name__)

_TABLES: Final = """
create table if not exists events (id text primary key, document blob not null) without rowid;
create table if not exists event_payloads (id text primary key, payload blob not null);
"""


# -- an event's life: values -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AsyncSettings:
    """How a qualifier's events are treated, as it is configured now. `is_stopped`: its reserved concurrency is 0."""

    retries_max: int = ASYNC_RETRIES_DEFAULT
    age_s_max: int = ASYNC_AGE_S_DEFAULT
    on_success_arn: str | None = None
    on_failure_arn: str | None = None
    dead_letter_arn: str | None = None
    is_stopped: bool = False


class Seal(msgspec.Struct, frozen=True):
    """A document that is to be delivered. `since` is where its destination has to be looked at for it."""

    id: str
    arn: str
    body: bytes
    key: str
    object_name: str | None
    attributes: dict[str, str]
    since: str | None


class EventState(msgspec.Struct, frozen=True):
    """What is remembered of an event. `due_at_ms`: not tried before; `attempts` are function errors so far.

    `backoffs` are throttles and service errors since the function last ran. `seals` not None: it has ended, and these
    are still to be delivered, since `sealed_at_ms`.
    """

    id: str  # the request id
    function_arn: str  # as invoked
    accepted_at_ms: int
    due_at_ms: int
    attempts: int = 0
    backoffs: int = 0
    response: LastResponse | None = None
    trace_header: str = ""
    client_context: str | None = None
    seals: list[Seal] | None = None
    sealed_at_ms: int = 0

    @property
    def arn(self) -> FunctionArn:
        arn = FunctionArn.parse(self.function_arn)
        assert arn is not None, "only ARNs are stored"
        return arn


# -- an event's life: rules ------------------------------------------------------------------------------------------


def before(state: EventState, settings: AsyncSettings, now_ms: int) -> Condition | None:
    """Why an event that is due is not tried any more; None where it is."""
    if settings.is_stopped:
        return "ZeroReservedConcurrency"
    if now_ms - state.accepted_at_ms > settings.age_s_max * 1000:
        return "EventAgeExceeded"
    return None


def after(
    state: EventState, outcome: Outcome, settings: AsyncSettings, now_ms: int
) -> tuple[EventState, Condition | None]:
    """The event after an attempt, and how it has ended; None where it is tried again."""
    if outcome.ending in ("throttled", "unavailable"):
        delay_ms = min(ASYNC_BACKOFF_MS_MAX, ASYNC_BACKOFF_MS_MIN << min(state.backoffs, 30))
        state = msgspec.structs.replace(state, backoffs=state.backoffs + 1)
        return _due(state, settings, now_ms + delay_ms), None
    error = None if outcome.ending == "succeeded" else outcome.function_error
    response = LastResponse(outcome.executed_version, error, outcome.payload.decode(errors="replace"))
    state = msgspec.structs.replace(state, attempts=state.attempts + 1, backoffs=0, response=response)
    if outcome.ending == "succeeded":
        return state, "Success"
    if outcome.ending == "looping" or state.attempts > settings.retries_max:
        return state, "RetriesExhausted"
    delay_ms = ASYNC_RETRY_DELAYS_MS[min(state.attempts, len(ASYNC_RETRY_DELAYS_MS)) - 1]
    return _due(state, settings, now_ms + delay_ms), None


def _due(state: EventState, settings: AsyncSettings, at_ms: int) -> EventState:
    """An event that gets too old while it waits is looked at when it does."""
    too_old_ms = state.accepted_at_ms + settings.age_s_max * 1000 + 1
    return msgspec.structs.replace(state, due_at_ms=min(at_ms, too_old_ms))


def ending(ended: Ended, settings: AsyncSettings, new_id: Callable[[], str]) -> list[tuple[str, Delivery]]:
    """The documents that are due, with where they go. A failure goes to the destination and to the dead letters."""
    documents: list[tuple[str, Delivery]] = []
    if ended.condition == "Success":
        if settings.on_success_arn is not None:
            documents.append((settings.on_success_arn, record(ended, new_id())))
        return documents
    if settings.on_failure_arn is not None:
        documents.append((settings.on_failure_arn, record(ended, new_id())))
    if settings.dead_letter_arn is not None:
        documents.append((settings.dead_letter_arn, dead_letter(ended, new_id())))
    return documents


# -- doing it --------------------------------------------------------------------------------------------------------


class Invoke(Protocol):
    """Runs a function once and says how it went. What it raises counts as `unavailable`."""

    def __call__(
        self,
        arn: FunctionArn,
        payload: bytes,
        request_id: str,
        attempt: int,
        /,
        *,
        trace_header: str,
        client_context: str | None,
    ) -> Awaitable[Outcome]: ...


FindSettings = Callable[[FunctionArn], AsyncSettings | None]
"""None where there is no such function or qualifier any more: then its events are dropped, as AWS does."""


@dataclass(slots=True)
class QueueStatistics:
    """Counts since the start, but for `waiting` and `bytes`, which are what the queue holds now."""

    waiting: int = 0
    bytes: int = 0
    accepted: int = 0
    succeeded: int = 0
    failed: int = 0
    dropped: int = 0  # the function is gone, or nobody wanted to know of the failure
    delivered: int = 0
    deliveries_given_up: int = 0


class _Lane:
    """A function's events that are due, in the order in which they became so, and how many may run at once.

    Where the function throttles, half as many are tried at once, down to one; each one that runs lets in one more.
    `is_paused`: it throttled although no other event of the queue ran, so the next one would be throttled as well.
    """

    __slots__ = ("allowed", "due", "is_paused", "under_way")

    def __init__(self) -> None:
        self.due: deque[EventState] = deque()
        self.under_way = 0
        self.allowed = ASYNC_UNDER_WAY_PER_FUNCTION_MAX
        self.is_paused = False

    def learn(self, outcome: Outcome) -> None:
        if outcome.ending == "throttled":
            self.allowed = max(1, self.allowed // 2)
        else:
            self.allowed = min(ASYNC_UNDER_WAY_PER_FUNCTION_MAX, self.allowed + 1)


class EventQueue:
    """All events of a data directory. Made and used on one event loop."""

    def __init__(
        self,
        file: ControlFile,
        invoke: Invoke,
        settings: FindSettings,
        destinations: RecordDestinations,
        *,
        clock: Clock,
        random: random.Random,
        events_max: int = ASYNC_QUEUE_EVENTS_MAX,
        bytes_max: int = ASYNC_QUEUE_BYTES_MAX,
    ) -> None:
        self._file = file
        self._file.db.executescript(_TABLES)
        self._invoke = invoke
        self._find_settings = settings
        self._destinations = destinations
        self._clock = clock
        self._random = random
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._sizes: dict[str, int] = {}  # payload bytes, of every event that is kept
        self._later: list[tuple[int, int, EventState]] = []  # a heap by due time; the count keeps it in order
        self._count = 0
        self._lanes: dict[tuple[Scope, str], _Lane] = {}
        self._cache: dict[str, bytes] = {}  # payloads of events not tried yet
        self._cached_bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: Timer | None = None
        self._timer_at_ms = 0
        self._is_running = False
        self.statistics = QueueStatistics()

    def start(self) -> None:
        """Takes up the events that are on disk. Settings must be there: events may be tried at once."""
        assert not self._is_running
        sizes = dict(self._file.db.execute("select id, length(payload) from event_payloads").fetchall())
        states = [
            msgspec.json.decode(document, type=EventState)
            for (document,) in self._file.db.execute("select document from events")
        ]
        self._is_running = True
        for state in sorted(states, key=lambda state: state.accepted_at_ms):
            self._add(state, sizes.get(state.id, 0))
        self._pump()

    async def close(self) -> None:
        """Starts nothing more and cancels what is under way: those events are tried again after the next start."""
        self._is_running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def accept(
        self,
        arn: FunctionArn,
        payload: bytes,
        request_id: str,
        *,
        trace_header: str = "",
        client_context: str | None = None,
    ) -> None:
        """Returns when the event is on disk; it is tried soon after. `payload` is JSON.

        Raises RequestTooLarge, TooManyRequests where the queue is full, StorageUnavailable; then nothing was accepted.
        """
        size = len(payload)
        if size > ASYNC_PAYLOAD_BYTES_MAX:
            raise RequestTooLarge(
                f"{size} byte payload is too large for the Event invocation type "
                f"(limit {ASYNC_PAYLOAD_BYTES_MAX} bytes)"
            )
        statistics = self.statistics
        if statistics.waiting >= self._events_max or statistics.bytes + size > self._bytes_max:
            raise TooManyRequests("CallerRateLimitExceeded")
        now_ms = self._clock.now_ms()
        state = EventState(
            request_id, str(arn), now_ms, now_ms, trace_header=trace_header, client_context=client_context
        )
        document = msgspec.json.encode(state)
        assert request_id not in self._sizes, "request ids are not given twice"

        def write(db: sqlite3.Connection) -> None:
            db.execute("insert or replace into events values (?, ?)", (request_id, document))
            db.execute("insert or replace into event_payloads values (?, ?)", (request_id, payload))

        self._hold(request_id, size)  # counted before it is stored: many may be waiting for the same sync
        try:
            # Shielded: a caller that goes away does not undo what is being stored.
            await asyncio.shield(self._file.soon(write))
        except StorageUnavailable:
            self._release(request_id)
            raise
        except asyncio.CancelledError:
            self._add_later(state, payload)
            raise
        statistics.accepted += 1
        self._keep(request_id, payload)
        self._add(state, size)
        self._pump()

    def forget(self, arn: FunctionArn) -> None:
        """To be called when a function was deleted, or a qualifier of it: events that wait for it are dropped now."""
        gone = [entry for entry in self._later if _is_of(entry[2], arn) and self._find_settings(entry[2].arn) is None]
        if gone:
            numbers = {number for _, number, _ in gone}
            self._later = [entry for entry in self._later if entry[1] not in numbers]
            heapq.heapify(self._later)
            for _, _, state in gone:
                self._lane(state).due.append(state)
            self._start(self._lane(gone[0][2]))

    async def clear(self) -> None:
        """Forgets all events; those under way are cancelled. Raises StorageUnavailable."""
        was_running = self._is_running
        await self.close()
        try:
            await self._file.flush()
            with self._file.transaction() as db:
                db.execute("delete from events")
                db.execute("delete from event_payloads")
        except BaseException:
            self._put_down()
            if was_running:  # what could not be forgotten goes on
                self.start()
            raise
        self._put_down()
        self._is_running = was_running

    def _put_down(self) -> None:
        """Drops what is known of events; what is on disk stays."""
        for id in list(self._sizes):
            self._release(id)
        self._later.clear()
        self._lanes.clear()

    # -- what waits --------------------------------------------------------------------------------------------------

    def _hold(self, id: str, size: int) -> None:
        if id not in self._sizes:
            self._sizes[id] = size
            self.statistics.waiting += 1
            self.statistics.bytes += size

    def _release(self, id: str) -> None:
        size = self._sizes.pop(id)
        self.statistics.waiting -= 1
        self.statistics.bytes -= size
        self._take_cached(id)

    def _keep(self, id: str, payload: bytes) -> None:
        if self._cached_bytes + len(payload) <= ASYNC_CACHED_BYTES_MAX:
            self._cache[id] = payload
            self._cached_bytes += len(payload)

    def _take_cached(self, id: str) -> bytes | None:
        payload = self._cache.pop(id, None)
        if payload is not None:
            self._cached_bytes -= len(payload)
        return payload

    def _payload(self, id: str) -> bytes:
        payload = self._take_cached(id)
        if payload is None:
            row = self._file.db.execute("select payload from event_payloads where id = ?", (id,)).fetchone()
            assert row is not None, "an event and its payload are stored and removed together"
            payload = bytes(row[0])
        return payload

    def _add(self, state: EventState, size: int) -> None:
        self._hold(state.id, size)
        self._count += 1
        heapq.heappush(self._later, (state.due_at_ms, self._count, state))

    def _add_later(self, state: EventState, payload: bytes) -> None:
        """For a caller that went away while its event was being stored: it is tried when it is on disk."""
        saved = asyncio.ensure_future(self._file.flush())

        def added(_: asyncio.Future[None]) -> None:
            row = self._file.db.execute("select 1 from events where id = ?", (state.id,)).fetchone()
            if row is None:
                self._release(state.id)
                return
            self.statistics.accepted += 1
            self._add(state, len(payload))
            self._pump()

        saved.add_done_callback(added)
        self._tasks.add(saved)
        saved.add_done_callback(self._tasks.discard)

    def _lane(self, state: EventState) -> _Lane:
        arn = state.arn
        lane = self._lanes.get((arn.scope, arn.name))
        if lane is None:
            lane = self._lanes[arn.scope, arn.name] = _Lane()
        return lane

    def _pump(self) -> None:
        """Starts what is due and may run, and sets the timer for what is next."""
        if not self._is_running:
            return
        now_ms = self._clock.now_ms()
        changed = []
        while self._later and self._later[0][0] <= now_ms:
            state = heapq.heappop(self._later)[2]
            lane = self._lane(state)
            lane.due.append(state)
            changed.append(lane)
        for lane in changed:
            self._start(lane)
        self._set_timer()

    def _start(self, lane: _Lane) -> None:
        while self._is_running and not lane.is_paused and lane.due and lane.under_way < lane.allowed:
            lane.under_way += 1
            task = asyncio.get_running_loop().create_task(self._live(lane, lane.due.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _set_timer(self) -> None:
        if not self._later:
            return
        at_ms = self._later[0][0]
        if self._timer is not None:
            if self._timer_at_ms <= at_ms:
                return
            self._timer.cancel()
        self._timer_at_ms = at_ms
        self._timer = self._clock.call_later(max(0, at_ms - self._clock.now_ms()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._pump()

    # -- an event's turn ---------------------------------------------------------------------------------------------

    async def _live(self, lane: _Lane, state: EventState) -> None:
        """One turn of an event: an attempt, or its end."""
        is_under_way = True

        def let_next_in() -> None:
            nonlocal is_under_way
            if is_under_way:
                is_under_way = False
                lane.under_way -= 1
                self._start(lane)

        try:
            await self._turn(lane, state, let_next_in)
        except Exception as error:  # a mistake of ours; the event is not to be lost by it
            _log.error("an event's turn broke: %s", error, extra={REQUEST_ID: state.id}, exc_info=error)
            if state.id in self._sizes:
                due_at_ms = self._clock.now_ms() + ASYNC_BACKOFF_MS_MAX
                self._add(msgspec.structs.replace(state, due_at_ms=due_at_ms), self._sizes[state.id])
                self._pump()
        finally:
            let_next_in()

    def _pause(self, lane: _Lane) -> None:
        def resume() -> None:
            lane.is_paused = False
            self._start(lane)

        if not lane.is_paused:
            lane.is_paused = True
            self._clock.call_later(ASYNC_BACKOFF_MS_MIN, resume)

    async def _turn(self, lane: _Lane, state: EventState, let_next_in: Callable[[], None]) -> None:
        if state.seals is not None:
            let_next_in()
            await self._deliver(state, may_be_there=True)
            return
        arn = state.arn
        settings = self._find_settings(arn)
        if settings is None:
            await self._remove(state, "dropped")
            _log.info("event dropped: its function is gone", extra={REQUEST_ID: state.id})
            return
        condition = before(state, settings, self._clock.now_ms())
        payload = self._payload(state.id)
        if condition is None:
            outcome = await self._attempt(state, arn, payload)
            lane.learn(outcome)
            if outcome.ending == "throttled" and lane.under_way == 1:
                self._pause(lane)
            let_next_in()
            settings = self._find_settings(arn) or settings
            state, condition = after(state, outcome, settings, self._clock.now_ms())
        if condition is None:
            await self._save(state)
            self._add(state, len(payload))
            self._pump()
        else:
            let_next_in()
            await self._end(state, arn, condition, payload, settings)

    async def _attempt(self, state: EventState, arn: FunctionArn, payload: bytes) -> Outcome:
        try:
            return await self._invoke(
                arn,
                payload,
                state.id,
                state.attempts + 1,
                trace_header=state.trace_header,
                client_context=state.client_context,
            )
        except Exception as error:  # whatever it is, the event has to go on
            _log.error("event could not be tried: %s", error, extra={REQUEST_ID: state.id}, exc_info=error)
            return Outcome("unavailable")

    async def _end(
        self, state: EventState, arn: FunctionArn, condition: Condition, payload: bytes, settings: AsyncSettings
    ) -> None:
        now_ms = self._clock.now_ms()
        response = None if condition == "ZeroReservedConcurrency" else state.response
        # What is told of an invocation is part of its chain: a function that hears of it counts it, too.
        trace_header = pass_by(state.trace_header, arn)[0] if state.attempts else state.trace_header
        ended = Ended(state.id, arn, condition, state.attempts, payload, response, now_ms, trace_header)
        documents = ending(ended, settings, self._new_id)
        if condition == "Success":
            self.statistics.succeeded += 1
        else:
            self.statistics.failed += 1
            _log.info("event failed: %s", condition, extra={REQUEST_ID: state.id})
        if not documents:
            await self._remove(state, None if condition == "Success" else "dropped")
            return
        seals = [
            Seal(
                document.id,
                arn_of,
                document.body,
                document.key,
                document.object_name,
                dict(document.attributes),
                await self._position(arn_of),
            )
            for arn_of, document in documents
        ]
        state = msgspec.structs.replace(state, seals=seals, sealed_at_ms=now_ms, backoffs=0)
        await self._save(state)
        await self._deliver(state, may_be_there=False)

    def _new_id(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    # -- delivering --------------------------------------------------------------------------------------------------

    async def _position(self, arn: str) -> str | None:
        """Where to look for the document later on. A destination that cannot say is looked at from its beginning."""
        try:
            return await self._destinations.find(arn).position()
        except Exception as error:  # `deliver` will fail as well, and say why
            _log.info("a destination has no position: %s", error)
            return None

    async def _deliver(self, state: EventState, *, may_be_there: bool) -> None:
        """Hands over what is sealed, one after the other; what fails is tried again later, until it is too old."""
        assert state.seals is not None
        left: list[Seal] = []
        for seal in state.seals:
            if await self._deliver_one(state.id, seal, may_be_there=may_be_there):
                self.statistics.delivered += 1
            else:
                left.append(seal)
        now_ms = self._clock.now_ms()
        if left and now_ms - state.sealed_at_ms < ASYNC_DELIVERY_AGE_MS_MAX:
            delay_ms = min(ASYNC_BACKOFF_MS_MAX, ASYNC_BACKOFF_MS_MIN << min(state.backoffs, 30))
            state = msgspec.structs.replace(state, seals=left, backoffs=state.backoffs + 1, due_at_ms=now_ms + delay_ms)
            await self._save(state)
            self._add(state, self._sizes[state.id])
            self._pump()
            return
        self.statistics.deliveries_given_up += len(left)
        for seal in left:
            _log.error("a record of an event's end was given up: %s", seal.arn, extra={REQUEST_ID: state.id})
        await self._remove(state, None)

    async def _deliver_one(self, id: str, seal: Seal, *, may_be_there: bool) -> bool:
        delivery = Delivery(seal.id, seal.body, seal.key, seal.object_name, seal.attributes)
        try:
            await self._destinations.find(seal.arn).deliver(delivery, since=seal.since, may_be_there=may_be_there)
        except Exception as error:  # of an implementation that may be anybody's
            code = getattr(error, "code", type(error).__name__)
            _log.error("a record was not delivered: %s", error, extra={REQUEST_ID: id, ERROR_CODE: code})
            return False
        return True

    # -- storing -----------------------------------------------------------------------------------------------------

    async def _save(self, state: EventState) -> None:
        document = msgspec.json.encode(state)
        await self._write(lambda db: _replace(db, state.id, document))

    async def _remove(self, state: EventState, why: Literal["dropped"] | None) -> None:
        await self._write(lambda db: _delete(db, state.id))
        self._release(state.id)
        if why == "dropped":
            self.statistics.dropped += 1

    async def _write(self, write: Callable[[sqlite3.Connection], None]) -> None:
        """Returns when it is on disk: what could not be stored is tried again, the event waits for it."""
        while True:
            try:
                await asyncio.shield(self._file.soon(write))
                return
            except StorageUnavailable as error:
                _log.error("an event could not be stored: %s", error)
                await self._clock.sleep(ASYNC_BACKOFF_MS_MIN)


def _is_of(state: EventState, arn: FunctionArn) -> bool:
    own = state.arn
    return own.scope == arn.scope and own.name == arn.name and arn.qualifier in (None, own.qualifier)


def _replace(db: sqlite3.Connection, id: str, document: bytes) -> None:
    db.execute("update events set document = ? where id = ?", (document, id))


def _delete(db: sqlite3.Connection, id: str) -> None:
    db.execute("delete from events where id = ?", (id,))
    db.execute("delete from event_payloads where id = ?", (id,))
