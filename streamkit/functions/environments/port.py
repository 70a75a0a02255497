"""The port: what runs a function's code. Three kinds come with the core; all run `testing.environment_contract`.

An environment is started once (INIT), serves one invocation at a time (INVOKE), and is stopped (SHUTDOWN). It is lost
when its process dies, when an invocation runs past its deadline, or when it uses more memory than it may: then it has
ended itself, killed whatever the handler had started, and answers the invocation with AWS's error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import asyncio

    from streamkit.model.batch import RecordBatch

Buffer = bytes | bytearray | memoryview
OnChunk = Callable[[bytes], "asyncio.Future[None] | None"]
"""Gets a piece of a streamed response. Where it returns a future, `fork` takes no further piece before that is done: a
handler then waits for a slow reader, as long as its time allows."""


@dataclass(frozen=True, slots=True)
class Spec:
    """All that an environment is made of. Equal specs make interchangeable environments."""

    function_name: str
    version: str
    arn: str  # unqualified
    account: str
    region: str
    runtime: str
    handler: str
    code: Path | None  # the unpacked package, read-only; None where `source` says it all
    source: str | None  # "package.module:attribute", or "path/to/file.py:attribute", of a library function
    layers: tuple[Path, ...]  # unpacked, in the order they are merged: later ones win
    variables: Mapping[str, str]
    timeout_ms: int
    memory_mib: int
    tmp_mib: int
    log_group: str
    log_stream: str
    role: str = ""
    log_format: str = "Text"
    log_level: str | None = None
    endpoint: str | None = None  # of this server, for AWS_ENDPOINT_URL; None where there is none
    provisioned: bool = False
    init_timeout_ms: int | None = None  # None: AWS's 10 s


@dataclass(slots=True)
class Invocation:
    """One event for a function. `payload` is JSON in pieces, sent one after the other without being joined; or, for a
    function that takes typed batches, None, and `batch` has the records.

    `deadline_ms` is an instant of the wall clock, for the context object; the environment's own timer counts
    `timeout_ms` from the start. `on_chunk` gets the pieces of a streamed response as they come.
    """

    request_id: str
    payload: Sequence[Buffer] | None
    deadline_ms: int
    arn: str  # as invoked, with qualifier
    trace_id: str
    timeout_ms: int
    batch: RecordBatch | None = None
    client_context: str | None = None  # JSON
    cognito_identity: str | None = None  # JSON
    on_chunk: OnChunk | None = None


Ending = Literal["answered", "failed", "timeout", "exited", "out of memory"]


@dataclass(slots=True)
class Answer:
    """How an invocation ended. `payload` is what AWS returns: the handler's result, or the error as a JSON object.

    `ending` other than "answered" and "failed" (the handler raised) means that the environment is lost.
    """

    ending: Ending
    payload: bytes
    duration_ms: float
    max_memory_mib: int
    error_type: str = ""  # AWS's name, where it failed

    @property
    def is_error(self) -> bool:
        return self.ending != "answered"


@dataclass(slots=True)
class Init:
    """How INIT ended. A failed one has the error that every invocation of it gets, and the environment is lost."""

    duration_ms: float
    error: bytes | None = None  # AWS's error object, JSON
    error_type: str = ""
    ending: Ending = "answered"
    max_memory_mib: int = 0
    imported: tuple[str, ...] = field(default=())  # top-level packages of ours that the code imported


class Environment(Protocol):
    """Calls are made on the event loop, none while another is under way."""

    @property
    def is_lost(self) -> bool:
        """Whether it can take no more invocations. It may become so at any time, also while idle."""
        ...

    @property
    def pid(self) -> int | None:
        """Of its process; None where it has none of its own."""
        ...

    async def start(self) -> Init:
        """INIT: makes the process, imports the code. Takes 10 s at most (AWS's bound), or what the spec says."""
        ...

    async def invoke(self, invocation: Invocation) -> Answer:
        """Never raises for what the handler does. Output the handler wrote before it answered has been handed to the
        environment's `LogSink` when this returns."""
        ...

    def freeze(self) -> None:
        """Stops the process while it is idle (threads the handler left running stop with it); `invoke` thaws it."""
        ...

    async def stop(self) -> None:
        """SHUTDOWN: ends the process and whatever it started; returns when they are gone. Can be called at any time,
        more than once."""
        ...


LogSink = Callable[[bytes], None]
"""Gets what the code writes to standard output and error: whole lines where they end, pieces of very long ones. Called
on the event loop."""


class Environments(Protocol):
    """Makes environments of one kind."""

    def prepare(self) -> None:
        """Makes ready, in the background, what a first environment would wait for."""
        ...

    def make(self, spec: Spec, log: LogSink) -> Environment: ...

    async def close(self) -> None:
        """Ends what they share. All environments were stopped before."""
        ...
