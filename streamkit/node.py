"""Everything in one data directory, put together: what a server serves, and what the library embeds.

    directory (lock, log, control file) ─▶ streams, catalog ─▶ functions ─▶ deliveries, mappings

Opened in this order, closed in the other.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from streamkit.catalog.catalog import Catalog
from streamkit.clock import Clock, SystemClock
from streamkit.delivery.destination import Surroundings
from streamkit.delivery.registry import DeliveryRegistry
from streamkit.delivery.service import DeliveryService
from streamkit.delivery.store import DeliveryStore
from streamkit.functions.destination_files import BucketFiles
from streamkit.functions.destinations import RecordDestinations
from streamkit.functions.service import Functions, FunctionSettings
from streamkit.functions.tracing import Tracing
from streamkit.mappings.destination_streams import stream_destinations
from streamkit.mappings.function_invoker import FunctionInvoker
from streamkit.mappings.registry import MappingRegistry
from streamkit.mappings.service import MappingService
from streamkit.mappings.store import MappingStore
from streamkit.metrics import Registry
from streamkit.model.errors import ResourceNotFound
from streamkit.model.names import FunctionArn
from streamkit.shards.disk import Durability
from streamkit.sources.find import Sources
from streamkit.streams.directory import DataDirectory
from streamkit.streams.service import Streams, StreamSettings

_log = logging.getLogger(__name__)

FINISH_MS: Final = 10_000
"""How long a node that is closed waits for invocations of mappings. What stops servers often kills after that."""


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """What a data directory is opened with."""

    durability: Durability = "fsync"
    log_store: str = "disk"
    streams: StreamSettings = field(default_factory=StreamSettings)
    functions: FunctionSettings = field(default_factory=FunctionSettings)
    object_store: Mapping[str, str] = field(default_factory=dict)
    """Where buckets are: see `delivery.destination.Surroundings`. Empty: folders in the data directory."""
    destinations: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By service: what wins over the options of each destination that asks for such settings, as `redshift` does."""


class Node:
    """Started by `start`; then `streams`, `catalog`, `functions`, `deliveries` and `mappings` are there."""

    def __init__(
        self,
        path: Path,
        settings: NodeSettings | None = None,
        *,
        clock: Clock | None = None,
        metrics: Registry | None = None,
        random_source: random.Random | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self.settings = settings or NodeSettings()
        self.clock = clock or SystemClock()
        self.metrics = metrics or Registry()
        self._path = path.absolute()  # environments of functions have working directories of their own
        self._random = random_source or random.Random(random.SystemRandom().getrandbits(128))
        self.directory = DataDirectory(
            path,
            durability=self.settings.durability,
            log_store=self.settings.log_store,
            settings=self.settings.streams,
            clock=self.clock,
        )
        self._tracing = tracing
        self._resetting = asyncio.Lock()
        self.catalog: Catalog
        self.functions: Functions
        self.deliveries: DeliveryService
        self.mappings: MappingService
        self.before_mappings: Callable[[Node], Awaitable[None]] | None = None
        """Awaited when functions can be made, before anything runs them."""

    @property
    def streams(self) -> Streams:
        return self.directory.streams

    async def start(self) -> None:
        """Opens everything and lets it run."""
        await self.open()
        try:
            await self.run()
        except BaseException:
            await self.close()
            raise

    async def open(self) -> None:
        """Opens everything. Nothing runs yet by itself: what functions call may have to listen first."""
        await self.directory.start()
        try:
            await self._open()
        except BaseException:
            await self.directory.close()
            raise

    async def run(self) -> None:
        """Lets events that wait be tried, and mappings read."""
        if self.before_mappings is not None:
            await self.before_mappings(self)
        await self.functions.run()
        await self.deliveries.start()
        await self.mappings.start()

    async def _open(self) -> None:
        control, clock = self.directory.control, self.clock
        destinations = RecordDestinations(
            {
                "kinesis": stream_destinations(self.streams),
                "s3": BucketFiles(self._path / "buckets").resolve,
            }
        )
        self.functions = Functions(
            self._path / "functions",
            control,
            destinations,
            clock=clock,
            random=self._random,
            metrics=self.metrics,
            settings=self.settings.functions,
            tracing=self._tracing,
        )
        store, sources = MappingStore(control), Sources(self.streams)
        registry = MappingRegistry(
            store,
            clock=clock,
            random=self._random,
            transition_delay_ms=self.settings.streams.transition_delay_ms,
            function_exists=self._existing_function,
            source_exists=sources.exists,
            destinations=destinations,
        )
        self.mappings = MappingService(
            registry,
            store,
            sources=sources,
            invoker=FunctionInvoker(self.functions.invocations),
            destinations=destinations,
            clock=clock,
            random=self._random,
            metrics=self.metrics,
            tracing=self.functions.tracing,
        )
        self.catalog = Catalog(control, clock=clock, random=self._random)
        delivery_store = DeliveryStore(control)
        self.deliveries = DeliveryService(
            DeliveryRegistry(
                delivery_store,
                clock=clock,
                random=self._random,
                transition_delay_ms=self.settings.streams.transition_delay_ms,
                function_exists=lambda arn: self._existing_function(arn) is not None,
                stream_exists=sources.exists,
            ),
            delivery_store,
            directory=self._path / "delivery",
            streams=self.streams,
            sources=sources,
            catalog=self.catalog,
            invocations=self.functions.invocations,
            surroundings=Surroundings(
                clock,
                buckets=self._path / "buckets",
                object_store=self.settings.object_store,
                settings={**self.settings.destinations, "data": self._path},
            ),
            clock=clock,
            random_source=self._random,
            metrics=self.metrics,
        )
        await self.functions.start()

    async def close(self, finish_ms: int = FINISH_MS) -> None:
        """Lets invocations of mappings under way finish, and what deliveries hold be delivered, each for so long at
        most; ends all environments, and closes the log. What was cut off comes again after the next start, and is not
        counted as an attempt."""
        async with AsyncExitStack() as closing:  # in the other order, all of it whatever fails
            closing.push_async_callback(self.directory.close)
            closing.push_async_callback(self.functions.stop)
            closing.push_async_callback(self.deliveries.stop, finish_ms=finish_ms)
            closing.push_async_callback(self.mappings.stop, finish_ms=finish_ms)
        if self.functions.tracing is not None:  # last: it waits for a collector that may not answer
            await self.functions.tracing.close()

    async def reset(self) -> None:
        """Removes everything, and ends what is under way. Resets asked for meanwhile come after this one."""
        async with self._resetting:
            await self.mappings.delete_all()
            await self.deliveries.delete_all()
            await self.functions.reset()
            self.catalog.delete_all()
            await self.streams.delete_all()

    def _existing_function(self, arn: FunctionArn) -> FunctionArn | None:
        try:
            self.functions.registry.resolve(arn)
        except ResourceNotFound:
            return None
        return arn
