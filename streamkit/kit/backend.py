"""The port under the library: what both an embedded data directory and a running server can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from streamkit.model.batch import RecordBatch
from streamkit.model.sequence import SequenceNumber

if TYPE_CHECKING:
    import pyarrow as pa


class Placement(NamedTuple):
    """Where a record went."""

    shard_id: str
    sequence_number: SequenceNumber


class Reading(NamedTuple):
    """`ended`: shards that are closed and were read to their end."""

    batches: list[RecordBatch]
    ended: list[int]
    behind_ms: int


@dataclass(frozen=True, slots=True)
class ShardInfo:
    shard_id: str
    index: int
    parents: tuple[int, ...]
    first_hash_key: int
    last_hash_key: int
    is_open: bool


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """A stream as it is now. `shards`: open ones, and closed ones whose records can still be read."""

    name: str
    arn: str
    status: str
    mode: str
    retention_hours: int
    created_at_ms: int
    shards: tuple[ShardInfo, ...]

    @property
    def open_shards(self) -> tuple[ShardInfo, ...]:
        return tuple(shard for shard in self.shards if shard.is_open)


class Backend(Protocol):
    """Every call may raise a StreamkitError; those of a server arrive as the same classes."""

    async def call(self, operation: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """An operation of the Kinesis API that is not about records."""
        ...

    async def stream_names(self) -> list[str]: ...

    async def describe(self, stream: str) -> StreamInfo: ...

    async def put(
        self, stream: str, keys: Sequence[bytes], values: Sequence[bytes], hash_keys: Sequence[bytes] | None
    ) -> list[Placement | None]:
        """All at once; None for a record over its shard's limit, where limits are enforced."""
        ...

    async def put_table(self, stream: str, keys: pa.Array, data: pa.Array) -> int: ...

    async def read(
        self, stream: str, offsets: Mapping[int, int], *, records_max: int, bytes_max: int, wait_ms: int
    ) -> Reading: ...

    async def seek(self, stream: str, shard_index: int, at_ms: int | None) -> int: ...

    async def load_checkpoints(self, stream: str, consumer: str) -> dict[int, str]: ...

    async def save_checkpoints(self, stream: str, consumer: str, shards: Mapping[int, str]) -> None: ...

    async def close(self) -> None: ...
