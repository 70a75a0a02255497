"""Functions: everything Lambda does, put together over one data directory."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from streamkit.clock import Clock
from streamkit.control import ControlFile
from streamkit.functions.code import CodeStore
from streamkit.functions.destinations import Delivery, RecordDestinations
from streamkit.functions.environments.fork import ForkEnvironments
from streamkit.functions.environments.inline import InlineEnvironments
from streamkit.functions.environments.port import Environments
from streamkit.functions.environments.ric import RicEnvironments
from streamkit.functions.environments.sandbox import Isolation, Sandbox
from streamkit.functions.invoke import Invocations
from streamkit.functions.logs import FunctionLogs
from streamkit.functions.outcomes import Outcome, is_loop, pass_by
from streamkit.functions.queue import AsyncSettings, EventQueue
from streamkit.functions.registry import Registry
from streamkit.functions.state import LATEST, EnvironmentKind, FunctionState
from streamkit.functions.store import FunctionStore
from streamkit.functions.tracing import Tracing, from_environment
from streamkit.metrics import Registry as Metrics
from streamkit.model.errors import RequestTooLarge, ResourceNotFound, StreamkitError, TooManyRequests
from streamkit.model.limits import ASYNC_AGE_S_DEFAULT, ASYNC_RETRIES_DEFAULT
from streamkit.model.names import FunctionArn


@dataclass(frozen=True, slots=True)
class FunctionSettings:
    """`environment`: the kind that functions made over the API run in. `commands`: how to start the runtimes of other
    languages, by their prefix (see `environments.ric`). `isolation` and `cgroup`, a delegated cgroup v2 directory, bind
    `ric` environments further."""

    transition_delay_ms: int = 0
    environment: EnvironmentKind = "fork"
    isolation: Isolation = "none"
    cgroup: Path | None = None
    commands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Functions:
    """Started after the destinations are known, stopped after everything that invokes."""

    def __init__(
        self,
        directory: Path,
        control: ControlFile,
        destinations: RecordDestinations,
        *,
        clock: Clock,
        random: random.Random,
        metrics: Metrics,
        settings: FunctionSettings | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        """`tracing` None: what the environment variables of this process ask for. Whoever stops this closes it."""
        settings = settings or FunctionSettings()
        self.tracing = tracing or from_environment(os.environ)
        self.settings = settings
        self.registry = Registry(
            FunctionStore(control),
            CodeStore(directory / "code"),
            clock=clock,
            random=random,
            transition_delay_ms=settings.transition_delay_ms,
        )
        self.logs = FunctionLogs(directory / "logs", clock)
        self.inline = InlineEnvironments()
        kinds: dict[EnvironmentKind, Environments] = {
            "fork": ForkEnvironments(clock),
            "ric": RicEnvironments(
                clock=clock, commands=settings.commands, sandbox=Sandbox(settings.isolation), cgroup=settings.cgroup
            ),
            "inline": self.inline,
        }
        self.invocations = Invocations(
            self.registry,
            self.logs,
            kinds,
            clock=clock,
            random=random,
            metrics=metrics,
            kind=settings.environment,
            tracing=self.tracing,
        )
        self.queue = EventQueue(control, self._attempt, self._async_settings, destinations, clock=clock, random=random)
        self.destinations = destinations
        destinations.add("lambda", lambda arn: FunctionDestination(self, arn))
        self.registry.on_change.append(self._changed)
        self.registry.settings.warm = self.invocations.warm
        self.registry.settings.check_destination = destinations.find

    async def start(self) -> None:
        """From here on functions can be made and invoked."""
        await self.registry.start()
        self.invocations.start()

    async def run(self) -> None:
        """Lets events that wait be tried, and environments be made that shall be ready."""
        self.invocations.provision()
        self.queue.start()

    async def stop(self) -> None:
        """Environments are ended; events that were under way are tried again after the next start."""
        await self.queue.close()
        await self.invocations.stop()
        await self.registry.close()
        self.logs.close()

    async def reset(self) -> None:
        """Removes all functions, layers, logs, and events that wait; ends what runs, so that it writes no more logs."""
        await self.queue.clear()
        await self.registry.delete_all()
        await self.invocations.end_all()
        self.logs.delete_all()

    # -- asynchronous invocations ------------------------------------------------------------------------------------

    async def accept(
        self, arn: FunctionArn, payload: bytes, *, trace_id: str | None = None, client_context: str | None = None
    ) -> str:
        """Takes an event to be run soon; returns its request id when it is on disk."""
        self.registry.resolve(arn)
        request_id = self.invocations.new_id()
        header = trace_id or self.invocations.new_trace_id()
        await self.queue.accept(arn, payload, request_id, trace_header=header, client_context=client_context)
        return request_id

    async def _attempt(
        self,
        arn: FunctionArn,
        payload: bytes,
        request_id: str,
        attempt: int,
        /,
        *,
        trace_header: str,
        client_context: str | None,
    ) -> Outcome:
        header, count = pass_by(trace_header, arn)
        try:
            function, _, _ = self.registry.resolve(arn)
            if is_loop(count) and function.recursive_loop == "Terminate":
                return Outcome("looping")
            result = await self.invocations.invoke(
                arn, [payload], request_id=request_id, trace_id=header, client_context=client_context
            )
        except TooManyRequests:
            return Outcome("throttled")
        except (ResourceNotFound, RequestTooLarge):
            raise
        except StreamkitError:
            return Outcome("unavailable")
        ending: Literal["succeeded", "failed"] = "succeeded" if result.function_error is None else "failed"
        return Outcome(ending, result.payload, result.version, result.error_type)

    def _changed(self, before: FunctionState | None, after: FunctionState | None) -> None:
        """Events of what was deleted are dropped, as in AWS."""
        if before is None:
            return
        if after is None:
            self.queue.forget(before.arn)
        else:
            for alias in before.aliases.keys() - after.aliases.keys():
                self.queue.forget(before.arn._replace(qualifier=alias))

    def _async_settings(self, arn: FunctionArn) -> AsyncSettings | None:
        try:
            function, version, _ = self.registry.resolve(arn)
        except ResourceNotFound:
            return None
        configured = function.event_invoke.get(arn.qualifier or LATEST)
        dead_letter = version.configuration.dead_letter_arn
        is_stopped = function.reserved_concurrency == 0
        if configured is None:
            return AsyncSettings(dead_letter_arn=dead_letter, is_stopped=is_stopped)
        retries, age_s = configured.retries_max, configured.age_s_max
        return AsyncSettings(
            retries_max=ASYNC_RETRIES_DEFAULT if retries is None else retries,
            age_s_max=ASYNC_AGE_S_DEFAULT if age_s is None else age_s,
            on_success_arn=configured.on_success_arn,
            on_failure_arn=configured.on_failure_arn,
            dead_letter_arn=dead_letter,
            is_stopped=is_stopped,
        )


class FunctionDestination:
    """A function that is told of another's outcome: the document is its event, asynchronously."""

    def __init__(self, functions: Functions, arn: str) -> None:
        parsed = FunctionArn.parse(arn)
        if parsed is None:
            raise ResourceNotFound(f"Function not found: {arn}")
        self._functions = functions
        self._arn = parsed

    async def position(self) -> str | None:
        return None

    async def deliver(self, delivery: Delivery, *, since: str | None = None, may_be_there: bool = False) -> None:
        """At least once: after a crash the function may be told twice, as with AWS."""
        trace_id = delivery.attributes.get("AWSTraceHeader")  # it counts how often this chain came by a function
        await self._functions.accept(self._arn, delivery.body, trace_id=trace_id)
