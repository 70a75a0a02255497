"""One invocation: a version is chosen, concurrency taken, an environment found or made, and what happened is logged."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from streamkit.clock import Clock, Timer
from streamkit.functions.concurrency import Concurrency
from streamkit.functions.environments.port import Answer, Buffer, Environments, Invocation, OnChunk, Spec
from streamkit.functions.logs import FunctionLogs, Writer, stream_name
from streamkit.functions.pool import Pool, Slot
from streamkit.functions.registry import Registry
from streamkit.functions.reports import Report
from streamkit.functions.state import LATEST, Configuration, EnvironmentKind, FunctionState, VersionState
from streamkit.functions.tracing import Tracing
from streamkit.metrics import Registry as Metrics
from streamkit.model.batch import RecordBatch
from streamkit.model.errors import RequestTooLarge
from streamkit.model.limits import INVOCATION_BYTES_MAX
from streamkit.model.names import FunctionArn

SWEEP_MS: Final = 100


@dataclass(frozen=True, slots=True)
class Result:
    """What an invocation gave. `function_error` is AWS's X-Amz-Function-Error, None where the handler returned."""

    request_id: str
    version: str
    payload: bytes
    function_error: str | None
    error_type: str = ""
    log_tail: bytes = b""
    is_cold: bool = False  # an environment was made for it


class Invocations:
    """Runs functions. Raises ResourceNotFound, TooManyRequests, RequestTooLarge; what the handler does is a Result."""

    def __init__(
        self,
        registry: Registry,
        logs: FunctionLogs,
        kinds: Mapping[EnvironmentKind, Environments],
        *,
        clock: Clock,
        random: random.Random,
        metrics: Metrics,
        concurrency: Concurrency | None = None,
        tracing: Tracing | None = None,
        kind: EnvironmentKind = "fork",
    ) -> None:
        """`kind`: of environments for functions that do not say which they want."""
        self.endpoint: str | None = None
        """Of this server, for what functions call. Set when it is known."""
        self.registry = registry
        self.concurrency = concurrency or Concurrency()
        self._logs = logs
        self._kinds = kinds
        self._kind: EnvironmentKind = kind
        self._clock = clock
        self._random = random
        self._tracing = tracing
        self._pools: dict[tuple[str, str], tuple[Configuration, Pool]] = {}
        self._retired: set[Pool] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeper: Timer | None = None
        self._metrics = metrics
        labels = ("function",)
        self._count = metrics.counter("streamkit_invocations_total", "Invocations (CloudWatch: Invocations).", labels)
        self._errors = metrics.counter("streamkit_invocation_errors_total", "Failed ones (Errors).", labels)
        self._throttles = metrics.counter("streamkit_invocation_throttles_total", "Refused ones (Throttles).", labels)
        self._cold_starts = metrics.counter("streamkit_cold_starts_total", "Environments made.", labels)
        self._durations = metrics.histogram("streamkit_invocation_seconds", "Handler time (Duration).", labels)
        self._running = metrics.gauge("streamkit_concurrent_invocations", "Running now (ConcurrentExecutions).", labels)

    def start(self) -> None:
        self.registry.on_change.append(self._changed)
        for function in self.registry.all():
            self.concurrency.reserve(function)
        self._sweep()

    def provision(self) -> None:
        """Makes the environments that shall be ready. They are told where this server is: it has to be known."""
        for function in self.registry.all():
            self._prepare(function)
            self._provision(None, function)

    async def stop(self) -> None:
        """Ends all environments, also busy ones."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        self.registry.on_change.remove(self._changed)
        await self.end_all()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for kind in self._kinds.values():
            await kind.close()

    async def end_all(self) -> None:
        """Ends all environments. Invocations under way are answered as AWS does where the process is gone."""
        pools = [pool for _, pool in self._pools.values()] + list(self._retired)
        self._pools.clear()
        self._retired.update(pools)
        await asyncio.gather(*(pool.close() for pool in pools))

    async def invoke(
        self,
        arn: FunctionArn,
        payload: Sequence[Buffer] | None,
        *,
        batch: RecordBatch | None = None,
        request_id: str | None = None,
        trace_id: str | None = None,
        client_context: str | None = None,
        wants_tail: bool = False,
        on_chunk: OnChunk | None = None,
        on_version: Callable[[str], None] | None = None,
    ) -> Result:
        """Runs a function once and returns when it has answered. `payload` is its event, JSON in pieces; a function
        that takes typed batches gets `batch` instead."""
        if payload is not None and sum(map(len, payload)) > INVOCATION_BYTES_MAX:
            raise RequestTooLarge(
                f"Request must be smaller than {INVOCATION_BYTES_MAX} bytes for the InvokeFunction operation"
            )
        function, version, _ = self.registry.resolve(arn)
        if on_version is not None:  # an alias with weights drew it just now
            on_version(version.version)
        invocation = Invocation(
            request_id=request_id or self.new_id(),
            payload=payload,
            deadline_ms=0,  # it begins when an environment is there
            arn=str(arn),
            trace_id=trace_id or "",
            timeout_ms=0,
            batch=batch,
            client_context=client_context,
            on_chunk=on_chunk,
        )
        if self._tracing is None:
            invocation.trace_id = trace_id or self.new_trace_id()
            return await self._admit(function, version, invocation, wants_tail=wants_tail)
        with self._tracing.invocation(
            name=function.name,
            version=version.version,
            arn=invocation.arn,
            request_id=invocation.request_id,
            trace_header=trace_id,
        ) as span:
            invocation.trace_id = span.header
            result = await self._admit(function, version, invocation, wants_tail=wants_tail)
            span.answered(is_cold=result.is_cold, error_type=result.error_type)
            return result

    async def _admit(
        self, function: FunctionState, version: VersionState, invocation: Invocation, *, wants_tail: bool
    ) -> Result:
        name = function.name
        try:
            reservation = self.concurrency.acquire(function)
        except Exception:
            self._throttles.add(1, name)
            raise
        self._count.add(1, name)
        try:
            pool = self._pool(function, version)
            slot = await pool.acquire()
            try:
                invocation.timeout_ms = slot.spec.timeout_ms
                invocation.deadline_ms = self._clock.now_ms() + slot.spec.timeout_ms
                return await self._run(slot, invocation, wants_tail=wants_tail)
            finally:
                pool.release(slot)
        finally:
            self.concurrency.release(reservation)

    async def _run(self, slot: Slot, invocation: Invocation, *, wants_tail: bool) -> Result:
        spec, reports = slot.spec, slot.reports
        init, slot.init = slot.init, None
        is_cold = init is not None
        if is_cold:
            self._cold_starts.add(1, spec.function_name)
        slot.tail = bytearray() if wants_tail else None
        slot.write(reports.start(invocation.request_id, spec.version))
        if init is not None and init.error is not None:
            answer = Answer(
                init.ending if init.ending != "answered" else "failed",
                init.error.replace(b"RequestId:  Error", b"RequestId: %b Error" % invocation.request_id.encode()),
                init.duration_ms,
                init.max_memory_mib,
                init.error_type,
            )
            init = None  # its time is the invocation's
        else:
            answer = await slot.environment.invoke(invocation)
        report = Report(invocation.request_id, spec.version, spec.memory_mib, answer, init)
        slot.write(reports.end(report))
        self._durations.observe(answer.duration_ms / 1000, spec.function_name)
        if answer.is_error:
            self._errors.add(1, spec.function_name)
        return Result(
            invocation.request_id,
            spec.version,
            answer.payload,
            "Unhandled" if answer.is_error else None,
            answer.error_type,
            slot.take_tail() if wants_tail else b"",
            is_cold,
        )

    def new_id(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def new_trace_id(self) -> str:
        """An X-Ray trace header of our own: not sampled; with tracing, for the invocation to decide."""
        bits = self._random.getrandbits(160)
        root, parent = bits >> 64, bits & 0xFFFF_FFFF_FFFF_FFFF
        header = f"Root=1-{self._clock.now_ms() // 1000:08x}-{root:024x}"
        return f"{header};Sampled=?" if self._tracing is not None else f"{header};Parent={parent:016x};Sampled=0"

    # -- pools -------------------------------------------------------------------------------------------------------

    def warm(self, function: FunctionState, qualifier: str) -> tuple[int, int]:
        """Provisioned concurrency of a qualifier: how many environments are there for it, and how many are idle."""
        wanted = function.provisioned.get(qualifier, 0)
        version = self.registry.version(function, qualifier)
        found = self._pools.get((function.id, version.version))
        if found is None:
            return 0, 0
        pool = found[1]
        return min(pool.warm_count, wanted), min(pool.idle_count, wanted)

    def _pool(self, function: FunctionState, version: VersionState) -> Pool:
        key = function.id, version.version
        configuration = version.configuration
        found = self._pools.get(key)
        if found is not None:
            if found[0] is configuration or found[0] == configuration:
                return found[1]
            self._retire(key)
        environments = self._kinds[self._kind_of(configuration)]

        def new_spec() -> Spec:
            stream = stream_name(self._clock.now_ms(), version.version, self._random.getrandbits)
            if configuration.logging.group is not None:  # several functions may share it
                day, _, rest = stream.rpartition("/")
                stream = f"{day}/{function.name}{rest}"
            return self.registry.spec_of(function, version, log_stream=stream, endpoint=self.endpoint)

        def open_log(spec: Spec) -> Writer:
            return self._logs.open(function.scope, spec.log_group, spec.log_stream)

        pool = Pool(environments, new_spec, open_log, self._clock)
        self._pools[key] = configuration, pool
        return pool

    def _kind_of(self, configuration: Configuration) -> EnvironmentKind:
        """Only runtime clients of their own can run other languages."""
        if configuration.environment is not None:
            return configuration.environment
        return self._kind if configuration.runtime.startswith("python") else "ric"

    def _retire(self, key: tuple[str, str]) -> None:
        _, pool = self._pools.pop(key)
        self._retired.add(pool)

        async def retire() -> None:
            await pool.retire()

        task = asyncio.get_running_loop().create_task(retire())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _changed(self, before: FunctionState | None, after: FunctionState | None) -> None:
        """Follows the registry: reservations, provisioned environments, and versions that are no more."""
        function = after or before
        assert function is not None
        if after is None:
            self.concurrency.forget(function)
            self._metrics.forget("function", function.name)
        else:
            self.concurrency.reserve(after)
        for key, (configuration, _) in list(self._pools.items()):
            if key[0] != function.id:
                continue
            now = None if after is None else _version_of(after, key[1])
            if now is None or now.configuration != configuration:
                self._retire(key)
        if after is not None:
            if before is None:
                self._prepare(after)
            self._provision(before, after)

    def _prepare(self, function: FunctionState) -> None:
        """So that a first cold start is as quick as others."""
        self._kinds[self._kind_of(function.latest.configuration)].prepare()

    def _provision(self, before: FunctionState | None, after: FunctionState) -> None:
        wanted: dict[str, int] = {}
        for qualifier, count in after.provisioned.items():
            version = self.registry.version(after, qualifier).version
            wanted[version] = wanted.get(version, 0) + count
        for version_name in {*wanted, *(() if before is None else before.versions)}:
            version_state = _version_of(after, version_name)
            if version_state is None:
                continue
            count = wanted.get(version_name, 0)
            if count or (after.id, version_name) in self._pools:
                self._pool(after, version_state).keep_warm(count)

    def _sweep(self) -> None:
        now_ms = self._clock.now_ms()
        for _, pool in list(self._pools.values()):
            pool.sweep(now_ms)
        self._retired = {pool for pool in self._retired if not pool.is_empty}
        self._sweeper = self._clock.call_later(SWEEP_MS, self._sweep)

    def measure(self) -> None:
        """Brings gauges up to date, for /metrics."""
        for function in self.registry.all():
            self._running.set(self.concurrency.running(function.id), function.name)


def _version_of(function: FunctionState, version: str) -> VersionState | None:
    return function.latest if version == LATEST else function.versions.get(version)
