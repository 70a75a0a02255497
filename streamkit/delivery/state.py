"""What is remembered of delivery streams: one document each, and one for how far each has come."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from streamkit.delivery.destination import Range
from streamkit.delivery.plan import TextCompression
from streamkit.model.names import DeliveryStreamArn, Scope

DeliveryType = Literal["DirectPut", "KinesisStreamAsSource", "MSKAsSource"]
Status = Literal["CREATING", "CREATING_FAILED", "ACTIVE", "DELETING", "DELETING_FAILED"]
DestinationKind = Literal[
    "S3",
    "ExtendedS3",
    "Redshift",
    "Elasticsearch",
    "Amazonopensearchservice",
    "AmazonOpenSearchServerless",
    "Splunk",
    "HttpEndpoint",
    "Iceberg",
    "Streamkit",
    "Channel",
]
"""As AWS's members begin: `SplunkDestinationConfiguration`, `...Description`, `...Update`. `Streamkit` is ours; the
document of a `Channel` has the members of the Kinesis API's ChannelDescription."""


class Encryption(msgspec.Struct, frozen=True):
    """Told and never done: what is on this disk is as safe as the disk."""

    status: Literal["ENABLED", "ENABLING", "DISABLED", "DISABLING"] = "DISABLED"
    key_type: str | None = None
    key_arn: str | None = None
    pending_at_ms: int | None = None  # when ENABLING or DISABLING is over
    calls_ms: list[int] = []  # of the last day: AWS counts them


class KinesisSource(msgspec.Struct, frozen=True):
    """`started_at_ms`: AWS reads what arrives after the delivery stream is made. `positions`: where that was, by shard
    index; shards that are not there are read from their first record, and with `from_start` all of them."""

    stream_arn: str
    role_arn: str
    started_at_ms: int
    from_start: bool = False
    incarnation: str = ""
    positions: dict[int, int] = {}


class DeliveryState(msgspec.Struct, frozen=True):
    """A delivery stream. `id` is this incarnation: 32 hex digits. `document` has the members of AWS's description of
    the destination, all defaults filled in; secrets it would not show are in there too."""

    id: str
    account: str
    region: str
    name: str
    type: DeliveryType
    status: Status
    created_at_ms: int
    kind: DestinationKind
    document: dict[str, Any]
    destination_id: str = "destinationId-000000000001"
    version: int = 1
    updated_at_ms: int | None = None
    source: KinesisSource | None = None
    direct_put: dict[str, Any] | None = None  # DirectPutSourceConfiguration
    encryption: Encryption = Encryption()
    tags: dict[str, str] = {}
    failure: dict[str, str] | None = None  # FailureDescription
    pending_at_ms: int | None = None  # when CREATING or DELETING is over
    is_channel: bool = False  # a channel of the Kinesis API: not among the delivery streams

    @property
    def scope(self) -> Scope:
        return Scope(self.account, self.region)

    @property
    def arn(self) -> DeliveryStreamArn:
        return DeliveryStreamArn(self.scope, self.name)


# -- progress ---------------------------------------------------------------------------------------------------------


class SpoolPiece(msgspec.Struct, frozen=True, array_like=True):
    """Rows of a buffer that are in a spool file already: record batch `index` of file `spool`."""

    spool: int
    index: int


class BufferState(msgspec.Struct, frozen=True):
    """A buffer with something in it that is on disk: its rows are in `pieces`, and the positions are past them.

    `key` is what `buffers.BufferKey` encodes. `opened_at_ms`: when its first record got into it.
    """

    key: str
    opened_at_ms: int
    arrived_at_ms: int
    records_count: int
    data_bytes: int
    ranges: list[Range]
    pieces: list[SpoolPiece]


class Target(msgspec.Struct, frozen=True):
    """A `plan.DestinationSpec`, and how names are made for it."""

    service: str
    options: dict[str, Any]
    prefix: str = ""
    error_prefix: str = ""
    time_zone: str = "UTC"
    extension: str | None = None
    is_key: bool = False
    compression: TextCompression = "UNCOMPRESSED"


class SealedState(msgspec.Struct, frozen=True):
    """An object that is on disk as file `number` and has to be delivered, whatever the delivery stream looks like now:
    `target` is its destination as it was."""

    number: int
    id: str
    key: str
    role: Literal["main", "error", "backup", "manifest"]
    target: Target
    records_count: int
    data_bytes: int
    size_bytes: int
    ranges: list[Range]
    arrived_at_ms: int
    sealed_at_ms: int
    partition: dict[str, str] = {}
    retry_ms: int | None = None  # from its sealing on; None: until it works
    error_target: Target | None = None  # where it goes if it cannot be delivered


class Progress(msgspec.Struct, frozen=True):
    """How far a delivery stream has come: records before `positions` (offsets by shard) are in sealed objects or in
    spool files, or were dropped. Replaced in one transaction each time."""

    incarnation: str = ""  # of the source
    positions: dict[int, int] = {}
    ended: list[int] = []  # shards that were read to their end
    next_number: int = 1  # of sealed objects
    next_spool: int = 1
    buffers: list[BufferState] = []
    made_under: DeliveryState | None = None  # the delivery stream as it was when `buffers` were filled
    sealed: list[SealedState] = []
