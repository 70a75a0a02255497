"""All mappings at work: a worker for each that is in effect, started, changed and stopped as the registry says."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from streamkit.clock import Clock
from streamkit.functions.destinations import Delivery, RecordDestinations
from streamkit.functions.tracing import Tracing
from streamkit.mappings.filters import FilterCriteria
from streamkit.mappings.invoker import Invoker
from streamkit.mappings.mapping_worker import CAUGHT_UP_POLL_MS, MappingWorker, SavedProgress
from streamkit.mappings.registry import MappingRegistry, in_effect
from streamkit.mappings.shard_worker import Job
from streamkit.mappings.state import MappingState
from streamkit.mappings.store import MappingStore
from streamkit.metrics import Registry
from streamkit.model.errors import ServerError, StreamkitError
from streamkit.model.limits import DELIVERY_TIMEOUT_MS
from streamkit.sources.find import Sources

T = TypeVar("T")


class _FoundWhenNeeded:
    """A destination that may not be there just now, may never answer, and may be anybody's: all that goes wrong with it
    is an error that whoever delivers knows, and tries again after."""

    def __init__(self, destinations: RecordDestinations, arn: str) -> None:
        self._destinations = destinations
        self._arn = arn

    async def position(self) -> str | None:
        return await self._bounded(self._destinations.find(self._arn).position())

    async def deliver(self, delivery: Delivery, *, since: str | None = None, may_be_there: bool = False) -> None:
        destination = self._destinations.find(self._arn)
        await self._bounded(destination.deliver(delivery, since=since, may_be_there=may_be_there))

    async def _bounded(self, work: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(DELIVERY_TIMEOUT_MS / 1000):
                return await work
        except StreamkitError:
            raise
        except TimeoutError as error:
            raise ServerError(f"The destination {self._arn} did not answer in time.") from error
        except Exception as error:
            raise ServerError(f"The destination {self._arn} failed: {error}") from error


class _Meter:
    """Counts one mapping's work."""

    def __init__(self, service: MappingService, state: MappingState) -> None:
        self._service = service
        self._labels = (state.settings.function_arn, state.source_arn)

    def invoked(self, records: int, iterator_age_ms: int) -> None:
        self._service.records.add(records, *self._labels)
        self._service.iterator_age.set(iterator_age_ms, *self._labels)

    def filtered(self, records: int) -> None:
        self._service.filtered.add(records, *self._labels)

    def discarded(self, records: int) -> None:
        self._service.discarded.add(records, *self._labels)


class MappingService:
    """Started after what it reads and what it runs, stopped before."""

    def __init__(
        self,
        registry: MappingRegistry,
        store: MappingStore,
        *,
        sources: Sources,
        invoker: Invoker,
        destinations: RecordDestinations,
        clock: Clock,
        random: random.Random,
        metrics: Registry,
        tracing: Tracing | None = None,
    ) -> None:
        self.registry = registry
        self._store = store
        self._sources = sources
        self._invoker = invoker
        self._destinations = destinations
        self._clock = clock
        self._random = random
        self._tracing = tracing
        self._workers: dict[str, MappingWorker] = {}
        self._leaving: set[MappingWorker] = set()  # changed or deleted, but not done with what is under way
        self._is_stopping = False
        self._is_deleting = False
        labels = ("function", "source")
        self.records = metrics.counter(
            "streamkit_mapping_records_total", "Records handed to functions by mappings, retries included.", labels
        )
        self.filtered = metrics.counter(
            "streamkit_mapping_filtered_records_total", "Records left out by filters (FilteredOutEventCount).", labels
        )
        self.discarded = metrics.counter(
            "streamkit_mapping_discarded_records_total", "Records given up (DroppedEventCount).", labels
        )
        self.iterator_age = metrics.gauge(
            "streamkit_mapping_iterator_age_ms",
            "Age of the last record of the last batch when it was handed over (CloudWatch: IteratorAge).",
            labels,
        )

    async def start(self) -> None:
        self._unlisten = self.registry.listen(self._changed)
        await self.registry.start()

    async def stop(self, *, at_once: bool = False, finish_ms: int | None = None) -> None:
        """Finishes the invocations under way, within `finish_ms` where that is given, or drops them: then their
        records come again after the next start, and the attempt does not count. Can be called more than once."""
        self._is_stopping = True
        workers = [*self._workers.values(), *self._leaving]
        if workers and not at_once and finish_ms != 0:
            stops = [asyncio.ensure_future(worker.stop()) for worker in workers]
            await asyncio.wait(stops, timeout=None if finish_ms is None else finish_ms / 1000)
        await self._drop(workers)
        self._workers.clear()
        await self.registry.close()

    async def delete_all(self) -> None:
        """Removes every mapping and drops what is under way."""
        self._is_deleting = True
        try:
            await self._drop([*self._workers.values(), *self._leaving])
            await self.registry.forget_all()
        finally:
            self._is_deleting = False

    async def _drop(self, workers: Iterable[MappingWorker]) -> None:
        await asyncio.gather(*(worker.stop(at_once=True) for worker in workers))

    async def caught_up(self, counts: Callable[[MappingState], bool] = lambda _: True) -> None:
        """Returns when every record that is in the sources now is resolved by every mapping that is in effect,
        or is to be, and `counts`."""
        while any(state.pending is not None for state in self.registry.all() if counts(state)):
            await self._clock.sleep(CAUGHT_UP_POLL_MS)
        await self.registry.told()
        counted = [state.id for state in self.registry.all() if counts(state)]
        await asyncio.gather(*(self._workers[each].caught_up() for each in counted if each in self._workers))

    async def _changed(self, before: MappingState | None, after: MappingState | None) -> None:
        state = after or before
        assert state is not None
        if after is not None and before is not None and before.settings == after.settings:
            return
        worker = self._workers.pop(state.id, None)
        if worker is not None:
            self._leaving.add(worker)  # known until it has stopped: a server that stops meanwhile has to wait for it
            await worker.stop(at_once=self._is_deleting)
            self._leaving.discard(worker)
        if after is not None and in_effect(after) and not self._is_stopping:
            self._start(after)

    def _start(self, state: MappingState) -> None:
        progress = SavedProgress(self._store, state.id, self._clock)
        settings = state.settings
        job = Job(
            mapping=state,
            source=self._sources.find(state.source_arn),
            invoker=self._invoker,
            clock=self._clock,
            progress=progress,
            meter=_Meter(self, state),
            destination=None
            if settings.on_failure_arn is None
            else _FoundWhenNeeded(self._destinations, settings.on_failure_arn),
            new_id=self._new_id,
            set_result=self._result_setter(state.id),
            filters=FilterCriteria.parse(settings.filters) if settings.filters else None,
            tracing=self._tracing,
        )
        worker = self._workers[state.id] = MappingWorker(job, progress, self._store)
        worker.start()

    def _result_setter(self, mapping_id: str) -> Callable[[str], None]:
        last = ""

        def set_result(text: str) -> None:
            nonlocal last
            if text != last:  # asked after every invocation
                last = text
                self.registry.set_result(mapping_id, text)

        return set_result

    def _new_id(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))
