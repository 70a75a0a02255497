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

import orjson

from streamkit.functions.service import FunctionSettings
from streamkit.functions.state import Configuration, EnvironmentKind
from streamkit.kit.embedded import EmbeddedBackend
from streamkit.kit.kit import DEFAULT_ACCOUNT, DEFAULT_REGION, Kit
from streamkit.mappings import rules
from streamkit.mappings.state import MappingState
from streamkit.model.batch import RecordBatch
from streamkit.model.errors import ResourceNotFound, StreamkitError, UsageError
from streamkit.model.names import FunctionArn, Scope, StreamArn
from streamkit.node import Node, NodeSettings
from streamkit.shards.disk import Durability

if TYPE_CHECKING:
    from streamkit.api.server import Server

F = TypeVar("F", bound=Callable[..., Any])
Start = Literal["TRIM_HORIZON", "LATEST"] | datetime

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
    mapping: dict[str, Any]  # as the API takes it
    on_failure: str | None
    environment: EnvironmentKind


class App:
    """Functions over a data directory. Use it with `async with`, or call `run`.

    The directory belongs to this process while it is open. With `port` it is also served there, to any AWS SDK, as
    `streamkit serve` does; 0 takes a free port, and `endpoint` says which.
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
        environment: EnvironmentKind = "inline",
        timeout_s: int = 60,
        memory_mib: int = 512,
        variables: Mapping[str, str] | None = None,
    ) -> Callable[[F], F]:
        """Makes a function of a handler; with a `stream`, also the mapping that feeds it. The handler
        stays what it is.

        A handler takes `(event, context)`, as on Lambda. If its first parameter is annotated with `RecordBatch`, it
        gets the records as they are, without JSON and base64. It may be `async` (`inline` only).

        `environment`: `inline` runs it in a thread of this process; `fork` in a process of its own, which has to be
        able to import it, and can be killed: timeouts and memory limits hold there. `shards` is for a stream that is
        not there yet. `on_failure` names a stream, or is the ARN of a bucket. The other options are the mapping's (see
        `streamkit.mappings.state`); what is changed here changes the mapping that is stored.
        """
        position: dict[str, Any] = {"StartingPosition": start}
        if isinstance(start, datetime):
            at_ms = round(start.timestamp() * 1000)
            position = {"StartingPosition": "AT_TIMESTAMP", "StartingPositionTimestamp": at_ms}
        mapping = {
            **position,
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
            configuration: dict[str, Any] = {
                "timeout_s": timeout_s,
                "memory_mib": memory_mib,
                "variables": dict(variables or {}),
                "input": "batch" if _takes_batches(handler) else "event",
            }
            own_name = name or handler.__name__
            self._define(
                _Definition(own_name, handler, configuration, stream, shards, mapping, on_failure, environment)
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
        if self._port is None:
            self._node = Node(
                self._path, NodeSettings(self._durability, functions=FunctionSettings(environment="inline"))
            )
            self._node.before_mappings = self._make_functions
            await self._node.start()
        else:
            from streamkit.api.server import Server, ServerSettings

            settings = ServerSettings(
                self._path,
                port=self._port,
                durability=self._durability,
                account_id=self._scope.account,
                region=self._scope.region,
            )
            self._server = Server(settings)
            self._node = self._server.node
            self._node.before_mappings = self._make_functions
            await self._server.start()
        try:
            self._kit = Kit(EmbeddedBackend.over(self._node.directory, self._scope))
            await self._kit.__aenter__()
            await self._make_mappings()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        node, self._node = self._node, None
        if self._server is not None:
            await self._server.stop()
        elif node is not None:
            await node.close()

    @property
    def kit(self) -> Kit:
        """Streams of the same directory: to put records, to read them."""
        assert self._kit is not None, "the app is not started"
        return self._kit

    @property
    def endpoint(self) -> str:
        """Where it is served."""
        if self._server is None:
            raise UsageError("this app is not served; give it a port=")
        return self._server.endpoint

    async def invoke(self, name: str, event: Any = None) -> Any:
        """Runs a function once, with an event that can be JSON; returns what it returns. Raises FunctionFailed."""
        arn = FunctionArn(self._scope, name, None)
        result = await self._started.functions.invocations.invoke(arn, [orjson.dumps(event)])
        payload = orjson.loads(result.payload or b"null")
        if result.function_error is not None:
            raise FunctionFailed(name, payload)
        return payload

    async def caught_up(self) -> None:
        """Returns when the functions are done with every record that is in their streams now."""
        await self._started.mappings.caught_up()

    def run(self) -> None:
        """Runs until Ctrl-C; then finishes what is under way."""
        import uvloop

        uvloop.run(self._run())

    async def _run(self) -> None:
        stopped = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        async with self:
            await stopped.wait()

    @property
    def _started(self) -> Node:
        if self._node is None:
            raise UsageError("the app is not started; use `async with app`, or `app.run()`")
        return self._node

    # -- making ------------------------------------------------------------------------------------------------------

    async def _make_functions(self, node: Node) -> None:
        """Before mappings start: what they run has to be there."""
        for definition in self._definitions.values():
            await self._make_function(node, definition)

    async def _make_function(self, node: Node, definition: _Definition) -> None:
        registry = node.functions.registry
        if definition.environment == "inline":
            source = node.functions.inline.register(definition.name, definition.handler)
        else:
            source = _importable(definition.handler)
        configuration = Configuration(
            runtime=_RUNTIME,
            handler=f"{definition.handler.__module__.replace('__', '') or 'app'}.{definition.handler.__name__}",
            role=_ROLE.format(account=self._scope.account),
            environment=definition.environment,
            source=source,
            **definition.configuration,
        )
        try:
            found = registry.find(self._scope, definition.name)
        except ResourceNotFound:
            await registry.create(self._scope, definition.name, configuration)
            return
        if found.latest.configuration.source != source or found.latest.configuration.code is not None:
            await registry.update_code(self._scope, definition.name, source=source)
        changes = {**definition.configuration, "environment": definition.environment, "handler": configuration.handler}
        latest = registry.find(self._scope, definition.name).latest.configuration
        if any(getattr(latest, name) != value for name, value in changes.items()):
            await registry.update_configuration(self._scope, definition.name, changes)

    async def _make_mappings(self) -> None:
        for definition in self._definitions.values():
            if definition.stream is not None:
                await self.kit.create_stream(definition.stream, shards=definition.shards, exist_ok=True)
                await self._make_mapping(definition)

    async def _make_mapping(self, definition: _Definition) -> None:
        registry = self._started.mappings.registry
        assert definition.stream is not None
        given = {**definition.mapping, "DestinationConfig": {"OnFailure": {}}}
        if definition.on_failure is not None:
            arn = definition.on_failure
            if not arn.startswith("arn:"):
                await self.kit.create_stream(arn, exist_ok=True)
                arn = str(StreamArn(self._scope, arn))
            given["DestinationConfig"] = {"OnFailure": {"Destination": arn}}
        source = str(StreamArn(self._scope, definition.stream))
        function = str(FunctionArn(self._scope, definition.name, None))
        known = [
            state
            for state in registry.all()
            if state.source_arn == source and state.settings.function_arn == function and state.status != "Deleting"
        ]
        if not known:
            await registry.create(self._scope, {**given, "EventSourceArn": source, "FunctionName": definition.name})
        else:
            await self._update_mapping(known[0], given)

    async def _update_mapping(self, state: MappingState, given: dict[str, Any]) -> None:
        changes = {name: value for name, value in given.items() if not name.startswith("StartingPosition")}
        if rules.with_changes(state.settings, changes) != state.settings:
            await self._started.mappings.registry.update(self._scope, state.id, changes)


def _takes_batches(handler: Callable[..., Any]) -> bool:
    parameters = list(inspect.signature(handler, eval_str=False).parameters.values())
    if not parameters:
        raise UsageError(f"{handler.__name__} takes no event; a handler has the parameters (event, context)")
    annotation = parameters[0].annotation
    return annotation is RecordBatch or (isinstance(annotation, str) and annotation.split(".")[-1] == "RecordBatch")


def _importable(handler: Callable[..., Any]) -> str:
    """Where an environment of its own finds the handler."""
    name = handler.__qualname__
    if "<" in name:
        raise UsageError(f"{name} cannot be imported by another process: define it at the top of a module")
    if handler.__module__ != "__main__":
        return f"{handler.__module__}:{name}"
    path = inspect.getsourcefile(handler)
    if path is None:
        raise UsageError(f"{name} is in no file, so another process cannot import it; use environment='inline'")
    return f"{Path(path).resolve()}:{name}"
