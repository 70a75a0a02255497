"""What is remembered of a stream: one document, replaced as a whole by each change.

128-bit hash keys are kept as decimal text, which is also how the API writes them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from streamkit.model.hashkey import HashKeyRange
from streamkit.model.limits import RECORD_BYTES_DEFAULT_MAX, RETENTION_HOURS_MIN
from streamkit.model.names import Scope, StreamArn, StreamId
from streamkit.model.names import shard_id as id_of

Status = Literal["CREATING", "ACTIVE", "UPDATING", "DELETING"]
Mode = Literal["PROVISIONED", "ON_DEMAND"]


class ShardState(msgspec.Struct, frozen=True):
    """A shard: open until a reshard closes it, then kept until its last record has left the retention."""

    index: int
    created_s: int
    first_hash_key: str
    last_hash_key: str
    created_at_ms: int
    parent: int | None = None
    adjacent_parent: int | None = None
    closed_at_ms: int | None = None
    ending_sequence_number: str | None = None
    end_offset: int | None = None  # the offset after its last record

    @property
    def is_open(self) -> bool:
        return self.closed_at_ms is None

    @property
    def shard_id(self) -> str:
        return id_of(self.index)

    @property
    def hash_keys(self) -> HashKeyRange:
        return HashKeyRange(int(self.first_hash_key), int(self.last_hash_key))


class ConsumerState(msgspec.Struct, frozen=True):
    """A registered consumer (enhanced fan-out)."""

    name: str
    created_at_ms: int
    ready_at_ms: int
    deleted_at_ms: int | None = None
    tags: dict[str, str] = {}

    def status(self, now_ms: int) -> str:
        if self.deleted_at_ms is not None:
            return "DELETING"
        return "ACTIVE" if now_ms >= self.ready_at_ms else "CREATING"


class Reshard(msgspec.Struct, frozen=True):
    """One step: which open shards close, and the ranges of their children."""

    parents: list[int]
    children: list[tuple[str, str]]


class Pending(msgspec.Struct, frozen=True):
    """A change that was accepted and takes effect at `at_ms`, also if the server restarts before."""

    at_ms: int
    reshards: list[Reshard] = []
    retention_hours: int | None = None


class StreamState(msgspec.Struct, frozen=True):
    id: StreamId
    account: str
    region: str
    name: str
    status: Status
    created_at_ms: int
    shards: list[ShardState]
    mode: Mode = "PROVISIONED"
    retention_hours: int = RETENTION_HOURS_MIN
    record_bytes_max: int = RECORD_BYTES_DEFAULT_MAX
    tags: dict[str, str] = {}
    consumers: dict[str, ConsumerState] = {}
    pending: Pending | None = None
    shard_count_updates_ms: list[int] = []
    is_private: bool = False  # a log of ours behind something else: no user knows of it, no quota counts it

    @property
    def arn(self) -> StreamArn:
        return StreamArn(Scope(self.account, self.region), self.name)

    @property
    def open_shards(self) -> list[ShardState]:
        return [shard for shard in self.shards if shard.is_open]
