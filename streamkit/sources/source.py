"""The port: what mappings and deliveries read. Sharded, ordered, and every record has an offset in its shard.

Streams and registered consumers come with the core (`stream_source`); others are found by the service in the source's
ARN, through the entry-point group `streamkit.sources`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from streamkit.model.batch import RecordBatch

StartingPosition = Literal["TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"]


@dataclass(frozen=True, slots=True)
class SourceShard:
    """A shard that can still be read. `parents` may name shards that no longer can."""

    index: int
    parents: tuple[int, ...]
    is_open: bool


class ShardRead(NamedTuple):
    """`next_offset` is None when the shard is closed and was read to its end."""

    batches: Sequence[RecordBatch]
    next_offset: int | None


class Source(Protocol):
    """Errors are StreamkitErrors; ResourceNotFound where the source is gone."""

    arn: str
    """As events name it."""
    stream_arn: str
    """As failure records name it."""

    async def ready(self) -> None:
        """Returns when it can be read; raises ResourceNotFound."""
        ...

    @property
    def incarnation(self) -> str:
        """Another one means other records at the same offsets: progress in the old one counts for nothing."""
        ...

    @property
    def horizon_ms(self) -> int:
        """What arrived before this cannot be read any more."""
        ...

    def shards(self) -> Sequence[SourceShard]: ...

    async def seek(self, shard_index: int, position: StartingPosition, at_ms: int | None) -> int:
        """The offset of a starting position."""
        ...

    async def read(self, shard_index: int, offset: int, *, records_max: int, bytes_max: int) -> ShardRead:
        """Records from `offset` on, or from the first kept one; nothing at the tip. Raises ThroughputExceeded where
        the shard's read limit is used up."""
        ...

    def watch(self, callback: Callable[[int | None], None]) -> Callable[[], None]:
        """Calls back with a shard's index when it has new records, and with None when shards or the source's state
        have changed; the returned function ends that."""
        ...
