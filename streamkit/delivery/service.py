"""All delivery streams at work: a worker for each, started, changed and stopped as the registry says."""

from __future__ import annotations

import asyncio
import logging
import random
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from streamkit.catalog.catalog import Catalog
from streamkit.clock import Clock
from streamkit.delivery.channel_plan import compile_channel
from streamkit.delivery.compile import compile_plan
from streamkit.delivery.destination import Surroundings
from streamkit.delivery.metering import DeliveryMetrics, Meter
from streamkit.delivery.plan import CatalogTable, DeliveryPlan
from streamkit.delivery.processor import Offload
from streamkit.delivery.registry import DeliveryRegistry
from streamkit.delivery.rules import private_scope
from streamkit.delivery.state import DeliveryState
from streamkit.delivery.store import DeliveryStore
from streamkit.functions.invoke import Invocations
from streamkit.metrics import Registry
from streamkit.model.errors import InvalidArgument, ResourceNotFound, StreamkitError, UsageError
from streamkit.model.limits import DELIVERY_CHANGE_MS, DELIVERY_THREADS
from streamkit.model.names import FunctionArn, Scope, StreamArn
from streamkit.sources.find import Sources
from streamkit.sources.source import Source
from streamkit.sources.stream_source import StreamSource
from streamkit.streams.service import Streams

if TYPE_CHECKING:
    from streamkit.delivery.assembly import Workshop
    from streamkit.delivery.processors import Invoked
    from streamkit.delivery.worker import DeliveryWorker

_log = logging.getLogger(__name__)

T = TypeVar("T")
INFERRED_DATABASE = "streamkit"


class _Schemas:
    """See `line.Schemas`: our catalog, as one delivery stream sees it."""

    def __init__(self, catalog: Catalog, scope: Scope) -> None:
        self._catalog = catalog
        self._scope = scope

    def columns(self, table: CatalogTable) -> tuple[tuple[str, str], ...]:
        scope = self._scope if not table.region else Scope(self._scope.account, table.region)
        return self._catalog.columns(scope, table.database, table.table, table.version)

    def keep(self, name: str, columns: tuple[tuple[str, str], ...]) -> CatalogTable:
        self._catalog.ensure(self._scope, INFERRED_DATABASE, name, columns)
        return CatalogTable(INFERRED_DATABASE, name)

    def kept(self, name: str) -> CatalogTable | None:
        try:
            self._catalog.columns(self._scope, INFERRED_DATABASE, name, None)
        except StreamkitError:
            return None
        return CatalogTable(INFERRED_DATABASE, name)


class DeliveryService:
    """Started after what it reads and the functions it asks, stopped before."""

    def __init__(
        self,
        registry: DeliveryRegistry,
        store: DeliveryStore,
        *,
        directory: Path,
        streams: Streams,
        sources: Sources,
        catalog: Catalog,
        invocations: Invocations,
        surroundings: Surroundings,
        clock: Clock,
        random_source: random.Random,
        metrics: Registry,
        offload: Offload | None = None,
    ) -> None:
        """`offload` runs what blocks; None: on threads."""
        self.registry = registry
        self._store = store
        self._directory = directory
        self._streams = streams
        self._sources = sources
        self._catalog = catalog
        self._invocations = invocations
        self._surroundings = surroundings
        self._clock = clock
        self._random = random_source
        self._metrics = DeliveryMetrics(metrics)
        self._threads: ThreadPoolExecutor | None = None
        self._offload: Offload = offload or self._on_thread
        self._workers: dict[str, DeliveryWorker] = {}
        self._starting: dict[str, asyncio.Future[None]] = {}  # those that have to settle what came before them
        self._states: dict[str, DeliveryState] = {}
        self._workshop_made: Workshop | None = None
        self._is_stopping = False
        self._is_deleting = False
        registry.prepare = self.prepare
        registry.check = self.check

    async def start(self) -> None:
        """Lets every delivery stream work."""
        # Private streams that nobody owns were left by a crash.
        owned = {(private_scope(state.scope), state.name) for state in self.registry.stored()}
        for stream in self._streams.all():
            if stream.state.is_private and tuple(stream.state.arn) not in owned:
                await self._streams.delete(stream)
        await self._remove_left()
        self._unlisten = self.registry.listen(self._changed)
        await self.registry.start()

    async def _remove_left(self) -> None:
        """Directories of delivery streams that were deleted when a crash came."""
        known = {state.id for state in self.registry.stored()}
        here = list(self._directory.iterdir()) if self._directory.is_dir() else []
        for left in [each for each in here if each.name not in known]:
            await self._offload(partial(shutil.rmtree, left, ignore_errors=True))

    async def stop(self, *, finish_ms: int | None = None) -> None:
        """Seals what was read and delivers it, within `finish_ms`. Can be called more than once."""
        self._is_stopping = True
        await self.registry.close()  # from now on nobody else starts a worker, or stops one
        for starting in self._starting.values():
            starting.cancel()
        await asyncio.gather(*self._starting.values(), return_exceptions=True)
        workers = list(self._workers.values())
        self._workers.clear()
        await asyncio.gather(*(worker.stop(finish_ms=finish_ms) for worker in workers))
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)

    async def delete_all(self) -> None:
        """Removes every delivery stream, and drops what is not delivered."""
        self._is_deleting = True
        try:
            await self.registry.delete_all()
        finally:
            self._is_deleting = False

    async def flush(self, state: DeliveryState) -> None:
        """Returns when everything that is in its source now is delivered, also where it was just made or changed."""
        await self.registry.told()
        while (worker := self._workers.get(state.id)) is not None and not await worker.flush():
            await self.registry.told()  # another one takes over, or it is gone

    async def flush_named(self, name: str | None) -> None:
        """As `flush`, for each delivery stream of this name; None: for all."""
        everything = [*self.registry.all(), *self.registry.channels()]
        await asyncio.gather(*(self.flush(state) for state in everything if name is None or state.name == name))

    def measure(self) -> None:
        """Brings gauges up to date, for /metrics."""
        now_ms = self._clock.now_ms()
        for delivery_id, worker in self._workers.items():
            name = self._states[delivery_id].name
            oldest = worker.oldest_at_ms
            self._metrics.freshness.set(0 if oldest is None else max(now_ms - oldest, 0) / 1000, name, worker.metric)
            self._metrics.partitions.set(worker.partitions_count, name)
            self._metrics.staged_bytes.set(worker.staged_bytes, name)

    def check(self, state: DeliveryState) -> None:
        """Before a delivery stream is stored or changed: that it can work at all. Raises InvalidArgument."""
        try:
            self._workshop.check(state, plan_of(state))
        except UsageError as error:
            raise InvalidArgument(error.message) from error

    # -- sources -----------------------------------------------------------------------------------------------------

    async def prepare(self, state: DeliveryState) -> DeliveryState:
        """Before a delivery stream is stored: makes the private stream of direct puts, or notes where to begin."""
        if state.source is None:
            arn = StreamArn(private_scope(state.scope), state.name)
            left = self._streams.named(arn.scope).get(arn.name)  # by a crash that came before it had an owner
            if left is not None:
                await self._streams.delete(left)
            await self._streams.create(arn, shards_count=1, is_private=True)
            return state
        source = self._sources.find(state.source.stream_arn)
        await source.ready()
        positions = dict(state.source.positions)
        if not state.source.from_start:
            positions = {shard.index: await source.seek(shard.index, "LATEST", None) for shard in source.shards()}
        kept = msgspec.structs.replace(state.source, incarnation=source.incarnation, positions=positions)
        return msgspec.structs.replace(state, source=kept)

    def _source(self, state: DeliveryState) -> Source:
        if state.source is not None:
            return self._sources.find(state.source.stream_arn)
        return StreamSource(self._streams, StreamArn(private_scope(state.scope), state.name))

    # -- workers -----------------------------------------------------------------------------------------------------

    async def _changed(self, before: DeliveryState | None, after: DeliveryState | None) -> None:
        """What was in effect, and what is from now on."""
        state = after or before
        assert state is not None
        if before is not None and after is not None and plan_of(before) == plan_of(after):
            self._states[state.id] = state
            return
        starting = self._starting.pop(state.id, None)
        if starting is not None:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
        worker = self._workers.get(state.id)
        if worker is not None:
            # A new version begins with empty buffers; sealed objects are on disk, and its worker delivers them. What
            # cannot be sealed in time, as on a full disk, is when it can be.
            await worker.stop(finish_ms=0 if after is None else DELIVERY_CHANGE_MS, delivers=False)
            self._workers.pop(state.id, None)
        if after is not None:
            if not self._is_stopping:
                await self._start(after)
            return
        self._states.pop(state.id, None)
        private = self._streams.named(private_scope(state.scope)).get(state.name) if state.source is None else None
        if private is not None:
            await self._streams.delete(private)
        # Series are told apart by name alone: another account, region or channel may have one of the same name.
        everything = [*self.registry.all(), *self.registry.channels()]
        if all(other.name != state.name for other in everything):
            self._metrics.forget(state.name)
        await self._offload(self._workshop.stage(state).destroy)

    async def _start(self, state: DeliveryState) -> None:
        """Returns when it works; on a disk that is full, it may only begin to when there is room."""
        self._states[state.id] = state
        starting = self._starting[state.id] = asyncio.ensure_future(self._settle_and_start(state))
        await asyncio.wait([starting], timeout=DELIVERY_CHANGE_MS / 1000)
        if starting.done():
            self._starting.pop(state.id, None)
            starting.result()

    async def _settle_and_start(self, state: DeliveryState) -> None:
        made_under = self._store.progress(state.id).made_under
        if made_under is not None and made_under.version != state.version:
            await self._make(made_under).settle()
        worker = self._workers[state.id] = self._make(state)
        worker.start()

    def _make(self, state: DeliveryState) -> DeliveryWorker:
        source = state.source
        return self._workshop.make(
            state,
            plan_of(state),
            self._source(state),
            {} if source is None else source.positions,
            _Schemas(self._catalog, state.scope),
            Meter(self._metrics, state.name),
            first_incarnation="" if source is None else source.incarnation,
        )

    @property
    def _workshop(self) -> Workshop:
        if self._workshop_made is None:
            from streamkit.delivery.assembly import Workshop  # brings Arrow: a server without deliveries has none

            self._workshop_made = Workshop(
                self._directory,
                self._store,
                self._surroundings,
                self._invoke,
                self._clock,
                self._random,
                self._offload,
            )
        return self._workshop_made

    async def _invoke(self, function_arn: str, payload: Sequence[bytes]) -> Invoked:
        arn = FunctionArn.parse(function_arn)
        if arn is None:
            raise ResourceNotFound(f"Function not found: {function_arn}")
        return await self._invocations.invoke(arn, payload)

    async def _on_thread(self, work: Callable[[], T]) -> T:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(DELIVERY_THREADS, thread_name_prefix="delivery")
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def plan_of(state: DeliveryState) -> DeliveryPlan:
    return compile_channel(state) if state.is_channel else compile_plan(state)
