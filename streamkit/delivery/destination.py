"""The port: where sealed objects go. Ours and others' are found through the entry-point group
`streamkit.destinations`; `streamkit.testing.destination_contract` is the suite for one.

A sealed object never changes: its name, its bytes and its id are in the control file before a destination hears of it,
and every try, also after a crash, comes with the same. So a destination that refuses to write a name twice, or
remembers an id, delivers exactly once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

from streamkit.clock import Clock
from streamkit.delivery.plan import DestinationSpec
from streamkit.model.errors import StreamkitError

if TYPE_CHECKING:
    import pyarrow as pa

Takes = Literal["objects", "records", "tables"]
"""`objects`: files under their names. `records`: Arrow IPC files whose records are sent on (`plan.RecordsFormat`).
`tables`: Parquet files that become part of a table."""


class Range(NamedTuple):
    """Records of a shard that are in an object: none before `first`, none after `last` (offsets). Between them may be
    records that are in other objects."""

    shard: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Sealed:
    """An object that is to be delivered, the same at every try.

    `number` grows with each object of a delivery stream. `id` is a UUID made of the delivery stream's id and the
    number. `path` is a local file that only the engine removes, when the object was delivered.
    """

    delivery_id: str  # of this incarnation of the delivery stream: 32 hex digits
    number: int
    id: str
    key: str
    path: Path
    records_count: int
    size_bytes: int
    ranges: Sequence[Range]
    arrived_at_ms: int  # of the oldest record
    partition: Mapping[str, str] = field(default_factory=dict)
    content_encoding: str | None = None  # AWS sets none


class Refused(NamedTuple):
    """A record that a destination does not take, whatever one does: its row in the sealed file, and why."""

    row: int
    code: str
    message: str


class DeliveryFailed(StreamkitError):
    """A try failed. It may have been delivered all the same, in part or in whole.

    `is_final`: another try cannot go better. Otherwise it is tried again, as long as the plan says. `delivered`: rows
    of the sealed file that are known to be there, when it has to be given up.
    """

    code = "DeliveryFailed"
    status = 502

    def __init__(self, error_code: str, message: str, *, is_final: bool = False) -> None:
        super().__init__(message)
        self.error_code = error_code
        self.is_final = is_final
        self.delivered: Sequence[range] = ()


class Destination(Protocol):
    """All calls are made on the event loop; what blocks belongs on a thread. Calls may overlap unless `is_ordered`."""

    takes: Takes
    is_ordered: bool
    """One object at a time, in the order of their numbers."""
    failed_output_type: str
    """Of what it did not take: what `!{firehose:error-output-type}` gives then, such as `http-endpoint-failed`."""
    metric: str
    """As CloudWatch names it: `S3` in DeliveryToS3.Records."""

    async def schema(self) -> pa.Schema | None:
        """The table's schema where there is a table, for `tables`; None elsewhere. Raises DeliveryFailed."""
        ...

    async def deliver(self, sealed: Sealed, *, may_be_there: bool) -> Sequence[Refused]:
        """Returns when the object is where it belongs, durable as far as the destination goes; with the records it
        refuses. `may_be_there`: it was tried before. Raises DeliveryFailed; cancelling it leaves it in doubt."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What destinations may need of the process they are in.

    `buckets` is where buckets are folders, when there is no object store; `object_store` its settings where there is
    one: endpoint, region, access_key_id, secret_access_key, as far as they are given. `settings` has `data`, the data
    directory, and by service what the process was told of its destinations.
    """

    clock: Clock
    buckets: Path
    region: str = "us-east-1"
    object_store: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class NotesSkipped(Protocol):
    """A destination that keeps what was given up where somebody finds it, as Redshift's bucket does: then the error
    output does not get it as well."""

    async def skipped(self, sealed: Sealed) -> None:
        """Raises DeliveryFailed."""
        ...


@runtime_checkable
class TellsMore(Protocol):
    """A destination of records that has more to say of those it did not take."""

    def error_members(self, sealed: Sealed, rows: Sequence[int]) -> Mapping[str, Sequence[Any]]:
        """Further members of their error documents, a value for each of these rows. Blocking, on any thread."""
        ...


class OpenDestination(Protocol):
    """What an entry point of `streamkit.destinations` is. Opening does no I/O; raises UsageError for options that
    cannot be right."""

    def __call__(self, spec: DestinationSpec, surroundings: Surroundings) -> Destination: ...
