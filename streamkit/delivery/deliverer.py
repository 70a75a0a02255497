"""Sealed objects on their way to their destinations: tried until they are there, or given to the error output."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Protocol

import msgspec
import pyarrow as pa

from streamkit.clock import Clock
from streamkit.delivery.destination import DeliveryFailed, Destination, NotesSkipped, Refused, Sealed, TellsMore
from streamkit.delivery.error_documents import documents
from streamkit.delivery.ledger import Ledger
from streamkit.delivery.naming import Namer, random_text
from streamkit.delivery.plan import Naming, TextFormat
from streamkit.delivery.processor import Offload
from streamkit.delivery.records_format import read_records
from streamkit.delivery.rows import Failed, Rows
from streamkit.delivery.stage import Stage
from streamkit.delivery.state import DeliveryState, SealedState, Target
from streamkit.delivery.text import TextEncoder
from streamkit.log import ATTEMPT, DELIVERY_STREAM, DESTINATION, ERROR_CODE
from streamkit.model.errors import StreamkitError
from streamkit.model.limits import (
    DELIVERY_CLOSE_MS,
    DELIVERY_RETRY_MS_MAX,
    DELIVERY_RETRY_MS_MIN,
    DELIVERY_STAGED_BYTES_MAX,
    DELIVERY_STAGED_OBJECTS_MAX,
    DELIVERY_UPLOADS_MAX,
)

_log = logging.getLogger(__name__)

OpenTarget = Callable[[Target], Destination]

_LOUD_ATTEMPTS: Final = 5  # a destination that stays away is told of at first, then only now and then


class Meter(Protocol):
    """Counts what became of objects; destinations by their `metric`."""

    def tried(self, destination: str, *, failed: bool) -> None: ...

    def delivered(self, destination: str, role: str, records: int, size_bytes: int) -> None: ...


class _Lane:
    """Objects for one destination, and those of them that are under way; or for all ordered ones of a kind: they may
    be one table under two settings, and tables remember only the highest number they took."""

    def __init__(self, *, is_ordered: bool) -> None:
        self.waiting: deque[SealedState] = deque()
        self.under_way = 0
        self._under_way_max = 1 if is_ordered else DELIVERY_UPLOADS_MAX

    @property
    def is_free(self) -> bool:
        return self.under_way < self._under_way_max


class Deliverer:
    """Of one delivery stream. What it is given is in the ledger already, and leaves it when it was delivered."""

    def __init__(
        self,
        state: DeliveryState,
        ledger: Ledger,
        stage: Stage,
        open_target: OpenTarget,
        *,
        clock: Clock,
        random_source: random.Random,
        offload: Offload,
        meter: Meter,
        on_change: Callable[[], None],
    ) -> None:
        self._state = state
        self._ledger = ledger
        self._stage = stage
        self._open_target = open_target
        self._clock = clock
        self._random = random_source
        self._offload = offload
        self._meter = meter
        self._on_change = on_change
        self._destinations: dict[bytes, Destination] = {}
        self._lanes: dict[bytes, _Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: list[SealedState] = []  # manifests, until what they list is delivered
        self._restored: set[int] = set()
        self._drains: list[tuple[set[int], asyncio.Future[bool]]] = []  # what each still waits for
        self._is_stopped = False
        self._numbers: set[int] = set()  # of what is not done with
        self._bytes = 0

    @property
    def staged_bytes(self) -> int:
        return self._bytes

    @property
    def has_room(self) -> bool:
        """Whether more may be sealed: a destination that is away for long must not fill the disk."""
        return self._bytes < DELIVERY_STAGED_BYTES_MAX and len(self._numbers) < DELIVERY_STAGED_OBJECTS_MAX

    def restore(self) -> None:
        """Goes on with what the ledger has."""
        sealed = list(self._ledger.progress.sealed)
        self._restored = {each.number for each in sealed}
        self.add(sealed)

    def add(self, sealed: Sequence[SealedState]) -> None:
        for each in sorted(sealed, key=lambda one: one.number):
            self._numbers.add(each.number)
            self._bytes += each.size_bytes
            if each.role == "manifest":
                self._held.append(each)
            else:
                lane = self._lane(each.target)
                lane.waiting.append(each)
                self._start(lane)
        self._release_manifests()

    async def drained(self) -> bool:
        """Returns when what was sealed until now is delivered, or in the error output. False: stopped before."""
        numbers = set(self._numbers)
        if not numbers or self._is_stopped:
            return not numbers
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._drains.append((numbers, done))
        return await done

    async def stop(self) -> None:
        """What is under way is cut off, and comes again after the next start."""
        self._is_stopped = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for _, done in self._drains:
            if not done.done():
                done.set_result(False)
        # Some wait for a commit under way, so that nobody makes it a second time beside it; but not for ever.
        closing = [asyncio.ensure_future(each.close()) for each in self._destinations.values()]
        if closing:
            _, late = await asyncio.wait(closing, timeout=DELIVERY_CLOSE_MS / 1000)
            for task in late:
                task.cancel()
            await asyncio.gather(*closing, return_exceptions=True)

    # -- lanes -------------------------------------------------------------------------------------------------------

    def _destination(self, target: Target) -> Destination:
        key = msgspec.json.encode([target.service, target.options])
        destination = self._destinations.get(key)
        if destination is None:
            destination = self._destinations[key] = self._open_target(target)
        return destination

    def _lane(self, target: Target) -> _Lane:
        is_ordered = self._destination(target).is_ordered
        key = msgspec.json.encode([target.service, None if is_ordered else target.options])
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(is_ordered=is_ordered)
        return lane

    def _start(self, lane: _Lane) -> None:
        while lane.waiting and lane.is_free and not self._is_stopped:
            lane.under_way += 1
            task = asyncio.get_running_loop().create_task(self._run(lane, lane.waiting.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, lane: _Lane, sealed: SealedState) -> None:
        instead = await self._deliver(self._destination(sealed.target), sealed)
        await self._settled(self._ledger.delivered(sealed.number, instead))
        if all(each.number != sealed.number for each in instead):
            try:
                await self._offload(lambda: self._stage.remove_staged(sealed.number))
            except OSError as error:  # the next start removes it
                _log.warning("a delivered file stays for now: %s", error, extra={DELIVERY_STREAM: self._state.name})
        lane.under_way -= 1
        self._numbers.discard(sealed.number)
        self._bytes -= sealed.size_bytes
        self.add(instead)
        self._start(lane)
        self._finish_drains(sealed, instead)
        self._on_change()

    def _finish_drains(self, sealed: SealedState, instead: Sequence[SealedState]) -> None:
        for numbers, done in tuple(self._drains):
            if sealed.number in numbers:
                numbers.discard(sealed.number)
                numbers.update(each.number for each in instead)
                if not numbers:
                    self._drains.remove((numbers, done))
                    if not done.done():
                        done.set_result(True)

    def _release_manifests(self) -> None:
        """A manifest follows everything that was sealed before it."""
        under_way = [each.number for each in self._ledger.progress.sealed if each.role == "main"]
        first = min(under_way, default=None)
        for manifest in [each for each in self._held if first is None or each.number < first]:
            self._held.remove(manifest)
            lane = self._lane(manifest.target)
            lane.waiting.append(manifest)
            self._start(lane)

    # -- one object --------------------------------------------------------------------------------------------------

    async def _deliver(self, destination: Destination, sealed: SealedState) -> list[SealedState]:
        """Returns what takes its place: nothing when all of it was delivered. Raises nothing: what failed here would
        be forgotten until the next start."""
        attempt = 0
        may_be_there = sealed.number in self._restored
        while True:
            attempt += 1
            try:
                refused = await destination.deliver(self._sealed(sealed), may_be_there=may_be_there)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                failure = error if isinstance(error, DeliveryFailed) else _unforeseen(error)
                self._meter.tried(destination.metric, failed=True)
                self._tell(sealed, attempt, failure)
                if self._is_over(sealed, failure):
                    return await self._until_written(partial(self._given_up, destination, sealed, attempt, failure))
            else:
                self._meter.tried(destination.metric, failed=False)
                self._meter.delivered(
                    destination.metric, sealed.role, sealed.records_count - len(refused), sealed.size_bytes
                )
                if not refused:
                    return []
                return await self._until_written(partial(self._error_objects, destination, sealed, attempt, refused))
            may_be_there = True
            await self._back_off(attempt)

    async def _until_written(self, write: Callable[[], Awaitable[list[SealedState]]]) -> list[SealedState]:
        """What a destination does not take must get to the error output: a full disk only delays that."""
        attempt = 0
        while True:
            try:
                return await write()
            except Exception as error:
                attempt += 1
                fields = {DELIVERY_STREAM: self._state.name, ATTEMPT: attempt}
                _log.error("error documents cannot be written: %s", error, extra=fields, exc_info=_unless_told(error))
            await self._back_off(attempt)

    async def _back_off(self, attempt: int) -> None:
        backoff_ms = min(DELIVERY_RETRY_MS_MIN << min(attempt - 1, 20), DELIVERY_RETRY_MS_MAX)
        await self._clock.sleep(backoff_ms * (0.5 + self._random.random() / 2))

    def _is_over(self, sealed: SealedState, failure: DeliveryFailed) -> bool:
        if sealed.error_target is None:
            return False  # it is on its way to the error output or a backup: AWS stops here, too, until that is mended
        if failure.is_final:
            return True
        return sealed.retry_ms is not None and self._clock.now_ms() - sealed.sealed_at_ms >= sealed.retry_ms

    def _tell(self, sealed: SealedState, attempt: int, failure: DeliveryFailed) -> None:
        if attempt <= _LOUD_ATTEMPTS or attempt % 20 == 0:
            fields = {
                DELIVERY_STREAM: self._state.name,
                DESTINATION: sealed.target.service,
                ATTEMPT: attempt,
                ERROR_CODE: failure.error_code,
            }
            _log.warning("%s was not delivered: %s", sealed.key, failure.message, extra=fields)

    def _sealed(self, sealed: SealedState) -> Sealed:
        return Sealed(
            self._state.id,
            sealed.number,
            sealed.id,
            sealed.key,
            self._stage.staged(sealed.number),
            sealed.records_count,
            sealed.size_bytes,
            sealed.ranges,
            sealed.arrived_at_ms,
            sealed.partition,
        )

    # -- the error output --------------------------------------------------------------------------------------------

    async def _given_up(
        self, destination: Destination, sealed: SealedState, attempt: int, failure: DeliveryFailed
    ) -> list[SealedState]:
        if isinstance(destination, NotesSkipped):
            try:
                await destination.skipped(self._sealed(sealed))
                return []
            except DeliveryFailed as error:
                self._tell(sealed, attempt, error)
        if destination.takes == "records":
            delivered = {row for rows in failure.delivered for row in rows}
            refused = [
                Refused(row, failure.error_code, failure.message)
                for row in range(sealed.records_count)
                if row not in delivered
            ]
            return await self._error_objects(destination, sealed, attempt, refused)
        target = sealed.error_target
        assert target is not None
        extension = "".join(sealed.key.rpartition("/")[2].partition(".")[1:])
        return [
            msgspec.structs.replace(
                sealed,
                key=self._error_key(sealed, destination.failed_output_type, extension),
                role="error",
                target=target,
                retry_ms=None,
                error_target=None,
            )
        ]

    async def _error_objects(
        self, destination: Destination, sealed: SealedState, attempt: int, refused: Sequence[Refused]
    ) -> list[SealedState]:
        """An object with the error documents of these records."""
        target = sealed.error_target
        assert target is not None, "records are refused only by main outputs, and those have an error output"
        number = self._ledger.take_number()
        path = self._stage.staged(number)
        at_ms = self._clock.now_ms()

        def write() -> tuple[int, str]:
            table = pa.Table.from_batches(list(read_records(self._stage.staged(sealed.number))))
            rows = Rows.from_batch(table.combine_chunks().to_batches()[0])
            places = [each.row for each in refused]
            more = destination if isinstance(destination, TellsMore) else None
            failed = Failed(
                rows.take(pa.array(places, pa.int64())),
                destination.failed_output_type,
                [(each.code, each.message) for each in refused],
                attempts=attempt,
                members={} if more is None else more.error_members(self._sealed(sealed), places),
            )
            lines = pa.RecordBatch.from_arrays([documents(failed, at_ms=at_ms)], ["data"])
            written = TextEncoder(TextFormat(target.compression)).write([lines], path)
            self._stage.sync()
            return written.size_bytes, written.extension

        size_bytes, extension = await self._offload(write)
        return [
            msgspec.structs.replace(
                sealed,
                number=number,
                key=self._error_key(sealed, destination.failed_output_type, extension),
                role="error",
                target=target,
                records_count=len(refused),
                size_bytes=size_bytes,
                sealed_at_ms=at_ms,
                retry_ms=None,
                error_target=None,
            )
        ]

    def _error_key(self, sealed: SealedState, error_type: str, extension: str) -> str:
        target = sealed.error_target
        assert target is not None
        naming = Naming(target.prefix, target.error_prefix, target.time_zone, target.extension, target.is_key)
        return Namer(naming, stream=self._state.name, version=self._state.version).key(
            arrived_at_ms=sealed.arrived_at_ms,
            id=sealed.id,
            extension=extension,
            partition={},
            error_type=error_type,
            random_text=random_text(sealed.id),
        )

    async def _settled(self, saved: asyncio.Future[None]) -> None:
        """A disk that refuses now may take it later: a ledger that is behind only delivers again what is there."""
        while True:
            try:
                await asyncio.shield(saved)
                return
            except StreamkitError as error:
                _log.error("progress was not saved: %s", error, extra={DELIVERY_STREAM: self._state.name})
                await self._clock.sleep(DELIVERY_RETRY_MS_MAX / 30)
                saved = self._ledger.again()


def _unless_told(error: Exception) -> Exception | None:
    """For the log: errors whose text says all need no trace."""
    return None if isinstance(error, OSError | StreamkitError) else error


def _unforeseen(error: Exception) -> DeliveryFailed:
    if isinstance(error, StreamkitError):
        return DeliveryFailed(error.code, error.message)
    _log.error("a destination failed in a way it does not tell", exc_info=error)
    return DeliveryFailed("Streamkit.InternalFailure", repr(error))
