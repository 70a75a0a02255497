"""The library over a data directory in this process: no server, no port."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from streamkit.api.kinesis import Kinesis
from streamkit.clock import Clock, SystemClock
from streamkit.kit.backend import Placement, Reading, StreamInfo, info_of, placements
from streamkit.metrics import Registry
from streamkit.model.errors import UsageError
from streamkit.model.names import Scope
from streamkit.shards.disk import Durability
from streamkit.streams.directory import DataDirectory
from streamkit.streams.stream import Stream

if TYPE_CHECKING:
    import pyarrow as pa

    from streamkit.kit.delivery_client import DeliveryClient


class EmbeddedBackend:
    """See `streamkit.kit.backend.Backend`."""

    def __init__(
        self, path: Path, scope: Scope, *, durability: Durability = "fsync", clock: Clock | None = None
    ) -> None:
        self._scope = scope
        self._clock = clock or SystemClock()
        self._directory = DataDirectory(path, durability=durability, clock=self._clock)
        self._is_owner = True
        self._make_deliveries: Callable[[], DeliveryClient] | None = None
        self._deliveries: DeliveryClient | None = None

    @classmethod
    def over(
        cls, directory: DataDirectory, scope: Scope, deliveries: Callable[[], DeliveryClient] | None = None
    ) -> EmbeddedBackend:
        """Over a directory that somebody else has opened, and closes; `deliveries` are made when they are wanted."""
        backend = cls(directory.path, scope)
        backend._make_deliveries = deliveries
        backend._directory = directory
        backend._is_owner = False
        return backend

    async def start(self) -> None:
        if self._is_owner:
            await self._directory.start()
        self._kinesis = Kinesis(self._directory.streams, self._clock, Registry())
        self._actions = self._kinesis.actions

    async def close(self) -> None:
        if self._is_owner:
            await self._directory.close()

    async def call(self, operation: str, values: Mapping[str, Any]) -> dict[str, Any]:
        # Through the codec, so that what is refused and how it reads is the same as over the wire.
        model = self._kinesis.model.operations[operation]
        output = await self._actions[operation](self._scope, model.decode(msgspec.json.encode(values)))
        assert isinstance(output, Mapping)
        answer: dict[str, Any] = msgspec.json.decode(model.encode(output) or b"{}")
        return answer

    def deliveries(self) -> DeliveryClient:
        if self._make_deliveries is None:
            raise UsageError(
                "nothing delivers from a data directory that is only opened: use an App, or `streamkit serve` and its "
                "URL"
            )
        if self._deliveries is None:
            self._deliveries = self._make_deliveries()
        return self._deliveries

    async def stream_names(self) -> list[str]:
        return [stream.state.name for stream in self._directory.streams.all(self._scope)]

    async def describe(self, stream: str) -> StreamInfo:
        return await info_of(self, stream)

    async def put(
        self, stream: str, keys: Sequence[bytes], values: Sequence[bytes], hash_keys: Sequence[bytes | None] | None
    ) -> list[Placement | None]:
        target = await self._ready(stream)
        target.require_record_sizes([*map(len, values)])
        put = target.put([*keys], [*values], hash_keys)
        return placements(await put.groups(), put.places, [*put.refused])

    async def put_table(self, stream: str, keys: pa.Array, data: pa.Array) -> int:
        return await (await self._ready(stream)).put_table(keys, data)

    async def read(
        self, stream: str, offsets: Mapping[int, int], *, records_max: int, bytes_max: int, wait_ms: int
    ) -> Reading:
        target = await self._ready(stream)
        found = await target.read_any(offsets, records_max=records_max, bytes_max=bytes_max, wait_ms=wait_ms)
        return Reading(*found)

    async def seek(self, stream: str, shard_index: int, at_ms: int | None) -> int:
        return await self._find(stream).seek(shard_index, at_ms)

    async def load_checkpoints(self, stream: str, consumer: str) -> dict[int, str]:
        return self._directory.streams.checkpoints.load(consumer, self._find(stream).state.id)

    async def save_checkpoints(self, stream: str, consumer: str, shards: Mapping[int, str]) -> None:
        await self._directory.streams.checkpoints.save(consumer, self._find(stream).state.id, shards)

    def _find(self, name: str) -> Stream:
        return self._directory.streams.find(self._scope, name)

    async def _ready(self, name: str) -> Stream:
        stream = self._find(name)
        await stream.ready()
        return stream
