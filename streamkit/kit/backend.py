"""The port under the library: what both an embedded data directory and a running server can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from streamkit.model import sequence
from streamkit.model.batch import RecordBatch
from streamkit.model.names import shard_id, shard_index
from streamkit.model.sequence import SequenceNumber

if TYPE_CHECKING:
    import pyarrow as pa

    from streamkit.kit.delivery_client import DeliveryClient


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


def placements(
    groups: Sequence[tuple[int, int, int, int]], places: Sequence[tuple[int, int]], refused: Sequence[int]
) -> list[Placement | None]:
    """Where each record of a put went. `groups`: shard, creation second, first offset, arrival time; `places`: a
    record's group and place in it; `refused`: rows that were not taken."""
    ids = [shard_id(group[0]) for group in groups]
    firsts = [
        sequence.number_of(created_s, index, offset, arrived_at_ms)
        for index, created_s, offset, arrived_at_ms in groups
    ]
    step = sequence.OFFSET_STEP
    found: list[Placement | None] = [
        Placement(ids[group], SequenceNumber(str(firsts[group] + place * step))) for group, place in places
    ]
    for row in sorted(refused):
        found.insert(row, None)
    return found


async def info_of(backend: Backend, stream: str) -> StreamInfo:
    """A stream's description and all its shards, by the Kinesis API."""
    found = (await backend.call("DescribeStreamSummary", {"StreamName": stream}))["StreamDescriptionSummary"]
    shards: list[ShardInfo] = []
    request: dict[str, Any] = {"StreamName": stream}
    if found["StreamStatus"] in ("ACTIVE", "UPDATING"):
        while request:
            page = await backend.call("ListShards", request)
            shards += map(_shard_info, page["Shards"])
            request = {"NextToken": page["NextToken"]} if page.get("NextToken") else {}
    return StreamInfo(
        name=found["StreamName"],
        arn=found["StreamARN"],
        status=found["StreamStatus"],
        mode=found["StreamModeDetails"]["StreamMode"],
        retention_hours=found["RetentionPeriodHours"],
        created_at_ms=round(found["StreamCreationTimestamp"] * 1000),
        shards=tuple(shards),
    )


def _shard_info(shard: Mapping[str, Any]) -> ShardInfo:
    parents = [shard[name] for name in ("ParentShardId", "AdjacentParentShardId") if shard.get(name)]
    return ShardInfo(
        shard_id=shard["ShardId"],
        index=_index(shard["ShardId"]),
        parents=tuple(map(_index, parents)),
        first_hash_key=int(shard["HashKeyRange"]["StartingHashKey"]),
        last_hash_key=int(shard["HashKeyRange"]["EndingHashKey"]),
        is_open=shard["SequenceNumberRange"].get("EndingSequenceNumber") is None,
    )


def _index(shard_id: str) -> int:
    index = shard_index(shard_id)
    assert index is not None, "a server names shards as Kinesis does"
    return index


class Backend(Protocol):
    """Every call may raise a StreamkitError; those of a server arrive as the same classes."""

    async def start(self) -> None: ...

    async def call(self, operation: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """An operation of the Kinesis API that is not about records."""
        ...

    async def stream_names(self) -> list[str]: ...

    async def describe(self, stream: str) -> StreamInfo: ...

    async def put(
        self, stream: str, keys: Sequence[bytes], values: Sequence[bytes], hash_keys: Sequence[bytes | None] | None
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

    def deliveries(self) -> DeliveryClient:
        """Raises UsageError where nothing delivers."""
        ...

    async def close(self) -> None: ...
