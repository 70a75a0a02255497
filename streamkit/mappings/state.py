"""What is remembered of event source mappings: one document each, and one per shard for how far it has come."""

from __future__ import annotations

from typing import Literal

import msgspec

from streamkit.model.names import MappingArn, Scope
from streamkit.sources.source import StartingPosition

Status = Literal["Creating", "Enabling", "Enabled", "Disabling", "Disabled", "Updating", "Deleting"]
Condition = Literal["RetryAttemptsExhausted", "RecordAgeExceeded"]


class MappingSettings(msgspec.Struct, frozen=True):
    """What UpdateEventSourceMapping can change. Defaults are AWS's for streams; -1 means without bound."""

    function_arn: str  # full, with the qualifier if one was given
    enabled: bool = True
    batch_records_max: int = 100
    batching_window_s: int = 0
    parallelization_factor: int = 1
    retries_max: int = -1
    record_age_s_max: int = -1
    bisects: bool = False
    reports_item_failures: bool = False
    tumbling_window_s: int = 0
    filters: list[str] = []  # patterns
    on_failure_arn: str | None = None
    metrics: list[str] = []
    kms_key_arn: str | None = None


class MappingPending(msgspec.Struct, frozen=True):
    """A change that was accepted and takes effect at `at_ms`, also if the server restarts before. `settings` None
    deletes the mapping."""

    at_ms: int
    settings: MappingSettings | None


class MappingState(msgspec.Struct, frozen=True):
    """A mapping. `id` is its UUID. `generation` counts changes that make retries under way begin anew."""

    id: str
    account: str
    region: str
    source_arn: str  # of a stream, or of a registered consumer
    starting_position: StartingPosition
    settings: MappingSettings
    status: Status
    created_at_ms: int
    modified_at_ms: int
    starting_at_ms: int | None = None  # for AT_TIMESTAMP
    pending: MappingPending | None = None
    last_result: str = "No records processed"
    transition_reason: str = "User action"
    generation: int = 0
    tags: dict[str, str] = {}

    @property
    def arn(self) -> MappingArn:
        return MappingArn(Scope(self.account, self.region), self.id)


class SliceProgress(msgspec.Struct, frozen=True, array_like=True):
    """A batch that failed and is tried again: the lane's records from `first` to `last` (offsets, both included).

    `attempts` count against MaximumRetryAttempts; `invocations` are all that held these records, those that ended in a
    bisect too.
    """

    first: int
    last: int
    attempts: int
    invocations: int


class WindowProgress(msgspec.Struct, frozen=True):
    """The tumbling window a lane is in. `state` is the function's, as JSON text."""

    start_ms: int
    state: str = "{}"
    is_final_due: bool = False
    ended_early: bool = False
    attempts: int = 0
    invocations: int = 0


class LaneProgress(msgspec.Struct, frozen=True):
    """`next_offset`: all of the lane's records before it are resolved. `slices`, in order, lie at or after it."""

    next_offset: int
    slices: list[SliceProgress] = []
    window: WindowProgress | None = None


class Seal(msgspec.Struct, frozen=True):
    """A failure record that is to be delivered, written down first: after a crash the same one is delivered, once.

    `since` is where its destination has to be looked at, to see whether it got there.
    """

    lane: int
    id: str
    condition: Condition
    first: int
    last: int
    body: str  # JSON
    object_name: str
    since: str | None = None


class EarlierLanes(msgspec.Struct, frozen=True):
    """Where as many lanes stood as there were before their number was changed: records before their lane's offset are
    resolved, and are not handed over again."""

    next_offsets: list[int]


class ShardProgress(msgspec.Struct, frozen=True):
    """How far a mapping is in a shard. `is_done`: the shard is closed and all its records are resolved.

    `incarnation` is the source's: in another one these offsets mean nothing. `generation` is the mapping's: under
    another one the lanes still stand where they are, but what was being retried begins anew.
    """

    shard_index: int
    generation: int
    incarnation: str
    lanes: list[LaneProgress]
    seals: list[Seal] = []
    is_done: bool = False
    window_s: int = 0  # the tumbling window that the lanes' windows are of
    earlier: list[EarlierLanes] = []

    @property
    def checkpoint(self) -> int:
        """All records before this offset are resolved."""
        return min(lane.next_offset for lane in self.lanes)
