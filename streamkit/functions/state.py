"""What is remembered of functions and layers: documents, replaced as a whole by each change.

A `Configuration` is what a version fixes for ever: code and everything that changes how it runs. What belongs to the
function whatever its version (aliases, concurrency, policies, tags, URLs) stands beside it in `FunctionState`.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from streamkit.model.names import FunctionArn, LayerArn, Scope

LATEST: Final = "$LATEST"

EnvironmentKind = Literal["fork", "ric", "inline"]
Input = Literal["event", "batch"]


class CodeState(msgspec.Struct, frozen=True):
    """A code package, by its content: `CodeStore` has it unpacked under its hash. Functions share equal ones."""

    sha256: str  # hex, of the zip
    zip_bytes: int
    unpacked_bytes: int


class LoggingState(msgspec.Struct, frozen=True):
    """AWS's LoggingConfig. Levels count for the JSON format only."""

    format: Literal["Text", "JSON"] = "Text"
    application_level: str | None = None
    system_level: str | None = None
    group: str | None = None  # None: /aws/lambda/<function name>


class Configuration(msgspec.Struct, frozen=True):
    """What a version is made of. `environment`, `input` and `source` are ours; AWS has no such settings.

    `source` is where code comes from that is not in the code store: `inline` and library functions name an object
    (`package.module:attribute`), which this process or an environment of it can import.
    """

    runtime: str
    handler: str
    role: str
    code: CodeState | None = None
    description: str = ""
    timeout_s: int = 3
    memory_mib: int = 128
    tmp_mib: int = 512
    variables: dict[str, str] = {}
    layers: list[str] = []  # ARNs of layer versions, in the order they are merged
    dead_letter_arn: str | None = None
    tracing: Literal["Active", "PassThrough"] = "PassThrough"
    logging: LoggingState = LoggingState()
    architectures: list[str] = msgspec.field(default_factory=lambda: ["x86_64"])
    snap_start: Literal["None", "PublishedVersions"] = "None"
    kms_key_arn: str | None = None
    environment: EnvironmentKind | None = None  # None: as the server is set
    input: Input = "event"
    source: str | None = None


class Settling(msgspec.Struct, frozen=True):
    """A change that takes its time: it is over at `until_ms`, also if the server restarts before; then the version has
    `revision_id`. `Registry` hands out versions without it once it is over."""

    until_ms: int
    status: Literal["Pending", "InProgress"]  # Pending: just made; InProgress: updated
    revision_id: str


class VersionState(msgspec.Struct, frozen=True):
    """A published version, or $LATEST as it is now. `digest` of a published one: of the $LATEST it was made from."""

    version: str
    configuration: Configuration
    revision_id: str
    modified_at_ms: int
    settling: Settling | None = None
    digest: str = ""


class AliasState(msgspec.Struct, frozen=True):
    """A pointer to one published version, or to two: then `weights` has the second one's share, 0 to 1."""

    name: str
    version: str
    revision_id: str
    description: str = ""
    weights: dict[str, float] = {}


class EventInvokeState(msgspec.Struct, frozen=True):
    """How asynchronous invocations of a qualifier are treated. None: AWS's default."""

    modified_at_ms: int
    retries_max: int | None = None
    age_s_max: int | None = None
    on_success_arn: str | None = None
    on_failure_arn: str | None = None


class UrlState(msgspec.Struct, frozen=True):
    """A function URL. `id` is the first part of its host name."""

    id: str
    auth: Literal["NONE", "AWS_IAM"]
    created_at_ms: int
    modified_at_ms: int
    invoke_mode: Literal["BUFFERED", "RESPONSE_STREAM"] = "BUFFERED"
    cors: dict[str, Any] | None = None  # AWS's Cors structure, as given


class PolicyState(msgspec.Struct, frozen=True):
    """The resource policy of a qualifier or a layer version: AWS's statements, as JSON objects.

    `revision_id` is that of its last change. What AWS shows of a function's policy is the revision of the version or
    alias it belongs to, which changes with it.
    """

    statements: list[dict[str, Any]]
    revision_id: str


class RuntimeUpdates(msgspec.Struct, frozen=True):
    """AWS's runtime management of a version; remembered, and without effect on one machine."""

    update_on: Literal["Auto", "Manual", "FunctionUpdate"] = "Auto"
    version_arn: str | None = None


class FunctionState(msgspec.Struct, frozen=True):
    """One function. Keys of maps by qualifier are a version's number, an alias's name, or $LATEST."""

    id: str  # of this incarnation: 32 hex digits
    account: str
    region: str
    name: str
    created_at_ms: int
    latest: VersionState
    versions: dict[str, VersionState] = {}  # published ones, by number
    next_version: int = 1
    aliases: dict[str, AliasState] = {}
    reserved_concurrency: int | None = None
    provisioned: dict[str, int] = {}
    provisioned_at_ms: dict[str, int] = {}  # when each of them was set
    event_invoke: dict[str, EventInvokeState] = {}
    urls: dict[str, UrlState] = {}
    policies: dict[str, PolicyState] = {}
    tags: dict[str, str] = {}
    recursive_loop: Literal["Allow", "Terminate"] = "Terminate"
    runtime_updates: dict[str, RuntimeUpdates] = {}

    @property
    def scope(self) -> Scope:
        return Scope(self.account, self.region)

    @property
    def arn(self) -> FunctionArn:
        """Unqualified."""
        return FunctionArn(self.scope, self.name, None)


class LayerVersionState(msgspec.Struct, frozen=True):
    version: int
    code: CodeState
    created_at_ms: int
    description: str = ""
    license: str = ""
    runtimes: list[str] = []
    architectures: list[str] = []
    policy: PolicyState | None = None


class LayerState(msgspec.Struct, frozen=True):
    """A layer and its versions that were not deleted; numbers are not given again.

    `deleted` has the code of deleted versions: functions that were made with them keep them.
    """

    account: str
    region: str
    name: str
    next_version: int = 1
    versions: dict[str, LayerVersionState] = {}
    deleted: dict[str, CodeState] = {}

    @property
    def scope(self) -> Scope:
        return Scope(self.account, self.region)

    @property
    def arn(self) -> LayerArn:
        """Without a version."""
        return LayerArn(self.scope, self.name, None)
