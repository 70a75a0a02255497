"""Plain Python functions that read streams, in this process.

    app = streamkit.App("./data")

    @app.function(stream="clicks", batch_size=500)
    def count(batch: streamkit.RecordBatch, context):
        ...

    app.run()

Each becomes a function with a mapping, with all that they promise: batches in order per key, retries, failure
destinations, and a checkpoint that survives a restart.
"""

from __future__ import annotations

import asyncio
import inspect
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeVar

import msgspec
import orjson

from streamkit.functions.service import FunctionSettings
from streamkit.functions.state import Configuration, Input
from streamkit.kit.embedded import EmbeddedBackend
from streamkit.kit.kit import DEFAULT_ACCOUNT, DEFAULT_REGION, Kit
from streamkit.mappings import rules
from streamkit.mappings.state import MappingPending, MappingState
from streamkit.mappings.store import MappingStore
from streamkit.model.batch import RecordBatch
from streamkit.model.errors import ResourceNotFound, StreamkitError, UsageError
from streamkit.model.names import FUNCTION_NAME, FunctionArn, Scope, StreamArn
from streamkit.node import Node, NodeSettings
from streamkit.shards.disk import Durability

if TYPE_CHECKING:
    from streamkit.api.server import Server
    from streamkit.kit.delivery_client import DeliveryClient

F = TypeVar("F", bound=Callable[..., Any])
Start = Literal["TRIM_HORIZON", "LATEST"] | datetime
Environment = Literal["inline", "fork"]

_RUNTIME: Final = f"python{sys.version_info.major}.{sys.version_info.minor}"
_ROLE: Final = "arn:aws:iam::{account}:role/streamkit-app"


class FunctionFailed(StreamkitError):
    """A function that was invoked directly raised, timed out or died. `error` is AWS's error object."""

    code = "FunctionError"

    def __init__(self, name: str, error: Mapping[str, Any]) -> None:
        super().__init__(f"{name} failed: {error.get('errorType', 'Error')}: {error.get('errorMessage', '')}")
        self.error = dict(error)


@dataclass(frozen=True, slots=True)
class _Definition:
    name: str
    handler: Callable[..., Any]
    configuration: dict[str, Any]
    stream: str | None
    shards: int
    start: dict[str, Any]  # these two as the API takes them
    settings: dict[str, Any]
    on_failure: str | None
    source: str | None  # where an environment of its own finds the handler


class App:
    """Functions over a data directory. Use it with `async with`, or call `run`.

        app = streamkit.App("./data", port=4566)

        @app.function(stream="clicks", shards=2, retries_max=3, bisect=True, on_failure="clicks-failed")
        def count(batch: streamkit.RecordBatch, context):
            print(batch.shard_id, len(batch), batch.to_arrow())

        @app.function(timeout_s=5)
        async def greet(event, context):
            return {"hello": event["name"]}

        async def main():
            async with app:
                await app.kit.put("clicks", b"...", partition_key="user-1")
                await app.caught_up()
                print(await app.invoke("greet", {"name": "you"}))

    The directory belongs to this process while it is open. With `port` it is also served there, to any AWS SDK, as
    `streamkit serve` does; 0 takes a free port, and `endpoint` says which.

    What an earlier run defined and this one does not stays in the directory: a function, its mapping, its checkpoint.
    Where such a function was `inline`, its records wait until it is defined again; that counts as no attempt. A
    function that is given another `stream` keeps its mapping with the one before, too.
    """

    def __init__(
        self,
        where: str | Path,
        *,
        port: int | None = None,
        account: str = DEFAULT_ACCOUNT,
        region: str = DEFAULT_REGION,
        durability: Durability = "fsync",
    ) -> None:
        if isinstance(where, str) and where.startswith(("http://", "https://")):
            raise UsageError(
                f"an App runs functions of this process, so it needs a data directory of its own, not {where}; "
                "functions of a server are made with boto3, or `streamkit functions`"
            )
        self._scope = Scope(account, region)
        self._definitions: dict[str, _Definition] = {}
        self._path = Path(where)
        self._durability: Durability = durability
        self._port = port
        self._server: Server | None = None
        self._node: Node | None = None
        self._kit: Kit | None = None

    # -- defining ----------------------------------------------------------------------------------------------------

    def function(
        self,
        *,
        stream: str | None = None,
        name: str | None = None,
        shards: int = 1,
        start: Start = "TRIM_HORIZON",
        batch_size: int = 100,
        batching_window_s: int = 0,
        parallelization_factor: int = 1,
        retries_max: int = -1,
        record_age_s_max: int = -1,
        bisect: bool = False,
        report_item_failures: bool = False,
        tumbling_window_s: int = 0,
        filters: Sequence[Mapping[str, Any]] = (),
        on_failure: str | None = None,
        environment: Environment = "inline",
        timeout_s: int = 60,
        memory_mib: int = 512,
        variables: Mapping[str, str] | None = None,
    ) -> Callable[[F], F]:
        """Makes a function of a handler; with a `stream`, also the mapping that feeds it. The handler stays what it is.
        Raises UsageError where it cannot be one.

        A handler takes `(event, context)`, as on Lambda. If its first parameter is annotated with `RecordBatch`, it
        gets the records as they are, without JSON and base64; not with `tumbling_window_s`, whose state is in the
        event. It may be `async` (`inline` only). It runs for several batches at once where the stream has several
        shards, or `parallelization_factor` is more than 1; never for two with records of the same partition key.

        `environment`: `inline` runs a plain function in a thread of this process, an `async` one on the event loop. A
        thread cannot be ended: after a timeout the batch counts as failed, and the thread goes on. `fork` runs it in a
        process of its own, which has to be able to import it (a script calls `run` under `if __name__ ==
        "__main__"`), and can be killed: timeouts and memory limits hold there, and `variables` are its environment.

        `shards` is for a stream that is not there yet, `start` for a mapping that is not; a datetime without a zone
        is local time. `on_failure` names a stream, made if it is missing, or is the ARN of a bucket: a folder in the
        directory. The other options are the mapping's (see `streamkit.mappings.state`): what is changed here changes
        the mapping that is stored, before it reads on.
        """
        position: dict[str, Any] = {"StartingPosition": start}
        if isinstance(start, datetime):
            at_ms = round(start.timestamp() * 1000)
            position = {"StartingPosition": "AT_TIMESTAMP", "StartingPositionTimestamp": at_ms}
        settings = {
            "BatchSize": batch_size,
            "MaximumBatchingWindowInSeconds": batching_window_s,
            "ParallelizationFactor": parallelization_factor,
            "MaximumRetryAttempts": retries_max,
            "MaximumRecordAgeInSeconds": record_age_s_max,
            "BisectBatchOnFunctionError": bisect,
            "TumblingWindowInSeconds": tumbling_window_s,
            "FunctionResponseTypes": ["ReportBatchItemFailures"] if report_item_failures else [],
            "FilterCriteria": {"Filters": [{"Pattern": orjson.dumps(each).decode()} for each in filters]},
        }

        def define(handler: F) -> F:
            own_name = name or str(getattr(handler, "__name__", ""))
            if not FUNCTION_NAME.fullmatch(own_name):
                raise UsageError(f"{own_name or handler!r} cannot be the name of a function; give it another: name=")
            configuration: dict[str, Any] = {
                "runtime": _RUNTIME,
                "handler": f"{_module_of(handler)}.{own_name}",
                "timeout_s": timeout_s,
                "memory_mib": memory_mib,
                "variables": dict(variables or {}),
                "environment": environment,
                "input": _input_of(handler, own_name),
            }
            if configuration["input"] == "batch" and tumbling_window_s:
                raise UsageError(f"{own_name} takes batches, but a window's state is in the event; take events instead")
            source = None if environment == "inline" else _importable(handler)
            self._define(
                _Definition(own_name, handler, configuration, stream, shards, position, settings, on_failure, source)
            )
            return handler

        return define

    def _define(self, definition: _Definition) -> None:
        if self._node is not None:
            raise UsageError("functions are defined before the app is started")
        if definition.name in self._definitions:
            raise UsageError(f"there are two functions called {definition.name!r}; give one of them another name=")
        self._definitions[definition.name] = definition

    # -- running -----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._node is not None:
            raise UsageError("the app is started already")
        try:
            self._node = await self._open()
            await self._make_mappings(self._node)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def _open(self) -> Node:
        if self._port is None:
            node = Node(self._path, NodeSettings(self._durability, functions=FunctionSettings(environment="inline")))
            node.before_mappings = self._prepare
            await node.start()
            return node

        from streamkit.api.server import Server, ServerSettings

        settings = ServerSettings(
            self._path,
            port=self._port,
            durability=self._durability,
            account_id=self._scope.account,
            region=self._scope.region,
        )
        server = Server(settings)
        server.node.before_mappings = self._prepare
        try:
            await server.start()
        except OSError as error:
            raise UsageError(f"cannot listen on port {self._port}: {error.strerror}") from error
        self._server = server
        return server.node

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Invocations under way are finished, for 10 s at most; what they did is on disk then."""
        node, self._node = self._node, None
        server, self._server = self._server, None
        self._kit = None
        if server is not None:
            await server.stop()
        elif node is not None:
            await node.close()

    @property
    def kit(self) -> Kit:
        """Streams of the same directory: to put records, to read them, to have them delivered."""
        if self._kit is None:
            raise _not_started()
        return self._kit

    @property
    def endpoint(self) -> str:
        """Where it is served."""
        if self._port is None:
            raise UsageError("this app is not served; give it a port=")
        if self._server is None:
            raise _not_started()
        return self._server.endpoint

    async def invoke(self, name: str, event: Any = None) -> Any:
        """Runs a function once and returns what it returned, as JSON has it.

        `event` is something that can be JSON; for a function that takes batches, a `RecordBatch`. Raises FunctionFailed
        where the function did, ResourceNotFound where there is none of this name.
        """
        functions, arn = self._started.functions, FunctionArn(self._scope, name, None)
        takes_batches = functions.registry.resolve(arn)[1].configuration.input == "batch"
        if takes_batches != isinstance(event, RecordBatch):
            raise UsageError(f"{name} takes {'a RecordBatch' if takes_batches else 'an event that can be JSON'}")
        if takes_batches:
            result = await functions.invocations.invoke(arn, None, batch=event)
        else:
            result = await functions.invocations.invoke(arn, [orjson.dumps(event)])
        payload = orjson.loads(result.payload or b"null")
        if result.function_error is not None:
            raise FunctionFailed(name, payload)
        return payload

    async def caught_up(self) -> None:
        """Returns when the functions are done with every record that is in their streams now: processed, filtered out
        or given up. Functions that only an earlier run defined are not waited for."""
        await self._started.mappings.caught_up(self._is_run_here)

    def _is_run_here(self, state: MappingState) -> bool:
        arn = FunctionArn.parse(state.settings.function_arn)
        if arn is None or (arn.scope == self._scope and arn.name in self._definitions):
            return True
        try:
            configuration = self._started.functions.registry.resolve(arn)[1].configuration
        except ResourceNotFound:
            return False
        return configuration.environment != "inline" or configuration.code is not None

    def run(self) -> None:
        """Runs until Ctrl-C or SIGTERM; then finishes what is under way, for 10 s at most. What was dropped comes again
        after the next start."""
        import uvloop

        uvloop.run(self._run())

    async def _run(self) -> None:
        stopping = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        async with self:
            await stopping.wait()

    @property
    def _started(self) -> Node:
        if self._node is None:
            raise _not_started()
        return self._node

    # -- making ------------------------------------------------------------------------------------------------------

    async def _prepare(self, node: Node) -> None:
        """Before mappings read: what they run has to be there, and what was changed has to hold for the first batch."""

        def deliveries() -> DeliveryClient:
            from streamkit.kit.delivery_client import DeliveryClient
            from streamkit.kit.lambda_client import InProcess

            return DeliveryClient(InProcess(node, self._scope), self._scope)

        self._kit = Kit(EmbeddedBackend.over(node.directory, self._scope, deliveries))
        await self._kit.__aenter__()
        node.functions.inline.echoes = True  # who runs a program expects what it prints
        store = MappingStore(node.directory.control)
        for definition in self._definitions.values():
            await self._make_function(node, definition)
            if definition.stream is not None:
                await self._kit.create_stream(definition.stream, shards=definition.shards, exist_ok=True)
                await self._make_destination(node, definition)
                self._change_stored(store, node.clock.now_ms(), definition)

    async def _make_function(self, node: Node, definition: _Definition) -> None:
        registry = node.functions.registry
        source = definition.source or node.functions.inline.register(definition.name, definition.handler)
        try:
            found = registry.find(self._scope, definition.name)
        except ResourceNotFound:
            role = _ROLE.format(account=self._scope.account)
            configuration = Configuration(role=role, source=source, **definition.configuration)
            await registry.create(self._scope, definition.name, configuration)
            return
        if found.latest.configuration.source != source or found.latest.configuration.code is not None:
            await registry.update_code(self._scope, definition.name, source=source)
        latest = registry.find(self._scope, definition.name).latest.configuration
        if any(getattr(latest, name) != value for name, value in definition.configuration.items()):
            await registry.update_configuration(self._scope, definition.name, definition.configuration)

    async def _make_destination(self, node: Node, definition: _Definition) -> None:
        name = definition.on_failure
        if name is not None and not name.startswith("arn:"):
            assert self._kit is not None
            await self._kit.create_stream(name, exist_ok=True)
        arn = self._destination_arn(definition)
        if arn is not None:
            node.functions.destinations.find(arn)

    def _change_stored(self, store: MappingStore, now_ms: int, definition: _Definition) -> None:
        """A change that is accepted while no mapping runs takes effect before any of them does."""
        given = self._settings_of(definition)
        for state in store.mappings():
            settings = state.settings if state.pending is None else state.pending.settings
            if settings is None or not self._feeds(state, definition):  # None: it is being deleted
                continue
            changed = rules.with_changes(settings, given)
            if changed != settings:
                status = "Updating" if state.pending is None else state.status
                pending = MappingPending(now_ms, changed)
                store.save(msgspec.structs.replace(state, status=status, pending=pending))

    async def _make_mappings(self, node: Node) -> None:
        registry = node.mappings.registry
        for definition in self._definitions.values():
            if definition.stream is None:
                continue
            if not any(self._feeds(state, definition) and state.status != "Deleting" for state in registry.all()):
                source = str(StreamArn(self._scope, definition.stream))
                names = {"EventSourceArn": source, "FunctionName": definition.name}
                await registry.create(self._scope, {**names, **definition.start, **self._settings_of(definition)})

    def _feeds(self, state: MappingState, definition: _Definition) -> bool:
        assert definition.stream is not None
        source = str(StreamArn(self._scope, definition.stream))
        function = str(FunctionArn(self._scope, definition.name, None))
        return state.source_arn == source and state.settings.function_arn == function

    def _settings_of(self, definition: _Definition) -> dict[str, Any]:
        on_failure = self._destination_arn(definition)
        destination = {} if on_failure is None else {"Destination": on_failure}
        return {**definition.settings, "DestinationConfig": {"OnFailure": destination}}

    def _destination_arn(self, definition: _Definition) -> str | None:
        name = definition.on_failure
        return name if name is None or name.startswith("arn:") else str(StreamArn(self._scope, name))


def _not_started() -> UsageError:
    return UsageError("the app is not started; use `async with app`, or `app.run()`")


def _module_of(handler: Callable[..., Any]) -> str:
    return str(getattr(handler, "__module__", "")).replace("__", "") or "app"


def _input_of(handler: Callable[..., Any], name: str) -> Input:
    try:
        signature = inspect.signature(handler)
        signature.bind(None, None)
    except TypeError:
        raise UsageError(f"{name} cannot be called with (event, context), which is how a handler is called") from None
    annotation = next(iter(signature.parameters.values())).annotation
    if isinstance(annotation, str):
        annotation = _evaluated(annotation, handler)
    return "batch" if annotation is RecordBatch else "event"


def _evaluated(annotation: str, handler: Callable[..., Any]) -> object:
    """What an annotation means that is a text, as all are under `from __future__ import annotations`. Where only type
    checkers know the name, it is taken at its word."""
    function = inspect.unwrap(handler)
    names = getattr(getattr(function, "__func__", function), "__globals__", {})
    try:
        return eval(annotation, names)
    except Exception:
        return RecordBatch if annotation in ("RecordBatch", "streamkit.RecordBatch") else None


def _importable(handler: Callable[..., Any]) -> str:
    """Where an environment of its own finds the handler."""
    name = getattr(handler, "__qualname__", None)
    if name is None or "<" in name or inspect.ismethod(handler):
        raise UsageError(f"{name or handler!r} cannot be imported by another process: define it at the top of a module")
    if inspect.iscoroutinefunction(handler):
        raise UsageError(f"{name} is async, which only functions with environment='inline' can be")
    if handler.__module__ != "__main__":
        return f"{handler.__module__}:{name}"
    path = inspect.getsourcefile(handler)
    if path is None:
        raise UsageError(f"{name} is in no file, so another process cannot import it; use environment='inline'")
    return f"{Path(path).resolve()}:{name}"
