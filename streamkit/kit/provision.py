"""Brings a server to what a pipeline file says.

What is there and right is left alone, so that the second time nothing changes; what is there and not in the file is
left alone, too: nothing is ever deleted. `check` before anything else: it changes nothing, and tells of what is missing
on the server. What is made or changed is told as soon as it is, so that after an error everybody knows how far it came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import orjson

from streamkit.kit.backend import Backend
from streamkit.kit.delivery import Delivery
from streamkit.kit.delivery_client import DeliveryClient
from streamkit.kit.kit import Kit
from streamkit.kit.lambda_client import LambdaClient, Package, package_of
from streamkit.kit.pipeline import (
    ROLE,
    Faults,
    FunctionPart,
    MappingPart,
    Pipeline,
    StreamPart,
    destination_arn,
    did_you_mean,
)
from streamkit.model.errors import ResourceNotFound, UsageError
from streamkit.model.names import FunctionArn, Scope, StreamArn

Outcome = Literal["made", "changed", "left alone"]
Kind = Literal["stream", "function", "delivery", "mapping"]

_FUNCTION_MEMBERS: Final = {  # key: member of a function's configuration
    "runtime": "Runtime",
    "handler": "Handler",
    "timeout_s": "Timeout",
    "memory_mib": "MemorySize",
}


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a part. `changes`: what of it was changed, in words."""

    kind: Kind
    name: str
    outcome: Outcome
    changes: tuple[str, ...] = ()
    note: str = ""

    @property
    def text(self) -> str:
        """One line."""
        changes = f": {', '.join(self.changes)}" if self.changes else ""
        return f"{self.kind} {self.name} {self.outcome}{changes}{f' ({self.note})' if self.note else ''}"


class Provisioner:
    """Over a server, or over a node of this process. Every call may raise a StreamkitError."""

    def __init__(
        self,
        backend: Backend,
        functions: LambdaClient,
        deliveries: DeliveryClient,
        scope: Scope,
        on_done: Callable[[Done], None] = lambda _: None,
    ) -> None:
        """`on_done` hears of each part, and may be changed."""
        self._backend = backend
        self._kit = Kit(backend)
        self._functions = functions
        self._deliveries = deliveries
        self._scope = scope
        self.on_done = on_done

    # -- before ------------------------------------------------------------------------------------------------------

    async def check(self, pipeline: Pipeline) -> None:
        """That everything the file refers to is in the file or on the server. Raises UsageError with all faults."""
        faults = Faults(pipeline.path)
        streams = {*await self._kit.streams(), *(part.name for part in pipeline.streams)}
        own = {part.name for part in pipeline.functions}
        there = await self._function_names()
        for function in pipeline.functions:
            for index, arn in enumerate(function.layers):
                if not await self._is_there("GetLayerVersionByArn", {"Arn": arn}):
                    place = ["function", function.name, "layers", f"[{index}]"]
                    faults.add(place, f"is {arn}, which is not there")
        for mapping in pipeline.mappings:
            place = ["mapping", mapping.name]
            if mapping.stream not in streams:
                faults.add([*place, "stream"], _missing("stream", mapping.stream, streams))
            await self._check_function([*place, "function"], mapping.function, own, there, faults)
            target = StreamArn.parse(destination_arn(mapping.on_failure or "", self._scope))
            if target is not None and target.scope == self._scope and target.name not in streams:
                faults.add([*place, "on_failure"], _missing("stream", target.name, streams))
        for delivery in pipeline.deliveries:
            await self._check_delivery(delivery, streams, own, there, faults)
        faults.finish()

    async def _check_delivery(
        self,
        delivery: Delivery,
        streams: Collection[str],
        own: Collection[str],
        there: Collection[str],
        faults: Faults,
    ) -> None:
        place = ["delivery", delivery.name]
        if delivery.stream is not None and delivery.stream not in streams:
            faults.add([*place, "stream"], _missing("stream", delivery.stream, streams))
        if delivery.transform is not None:
            await self._check_function([*place, "transform"], delivery.transform, own, there, faults)
        found = await self._deliveries.settled(delivery.name)
        if found is not None:
            try:
                self._deliveries.require_same_source(delivery, found)
            except UsageError as error:
                faults.add(place, f"will not do: {error}")

    async def _check_function(
        self, place: list[str], function: str, own: Collection[str], there: Collection[str], faults: Faults
    ) -> None:
        arn = FunctionArn.parse(function, self._scope)
        assert arn is not None, "a file is checked when it is loaded"
        if arn.name not in {*own, *there}:
            faults.add(place, _missing("function", arn.name, {*own, *there}))
        elif arn.qualifier not in (None, "$LATEST"):
            values = {"FunctionName": arn.name, "Qualifier": arn.qualifier}
            if arn.name not in there or not await self._is_there("GetFunctionConfiguration", values):
                faults.add(
                    place,
                    f'is "{function}", and {arn.name} has no version or alias {arn.qualifier} yet; '
                    f"`streamkit functions alias {arn.name} {arn.qualifier} VERSION` makes one",
                )

    async def _is_there(self, operation: str, values: Mapping[str, Any]) -> bool:
        try:
            await self._functions.call(operation, values)
        except ResourceNotFound:
            return False
        return True

    async def _function_names(self) -> set[str]:
        return {each["FunctionName"] for each in await self._functions.all("ListFunctions", "Functions")}

    async def make(self, pipeline: Pipeline) -> None:
        """All of it, in the order in which parts need each other."""
        await self.make_streams(pipeline)
        await self.make_functions(pipeline)
        await self.make_deliveries(pipeline)
        await self.make_mappings(pipeline)

    # -- streams -----------------------------------------------------------------------------------------------------

    async def make_streams(self, pipeline: Pipeline) -> None:
        there = set(await self._kit.streams())
        for part in pipeline.streams:
            self.on_done(await (self._change_stream(part) if part.name in there else self._make_stream(part)))

    async def _make_stream(self, part: StreamPart) -> Done:
        shards, hours = part.shards or 1, part.retention_hours or 24
        await self._kit.create_stream(part.name, shards=shards, retention_hours=hours)
        return Done("stream", part.name, "made", note=f"{shards} shard{'' if shards == 1 else 's'}")

    async def _change_stream(self, part: StreamPart) -> Done:
        info = await self._kit.describe(part.name)
        changes = []
        if part.retention_hours not in (None, info.retention_hours):
            direction = "Increase" if part.retention_hours > info.retention_hours else "Decrease"
            values = {"StreamName": part.name, "RetentionPeriodHours": part.retention_hours}
            await self._backend.call(f"{direction}StreamRetentionPeriod", values)
            changes.append(_change("retention_hours", info.retention_hours, part.retention_hours))
        count = len(info.open_shards)
        if part.shards not in (None, count):
            changes.append(_change("shards", count, part.shards))
            while count != part.shards:  # one step at most doubles or halves it
                count = min(part.shards, 2 * count) if part.shards > count else max(part.shards, -(-count // 2))
                await self._kit.update_shard_count(part.name, count)
        return _done("stream", part.name, changes)

    # -- functions ---------------------------------------------------------------------------------------------------

    async def make_functions(self, pipeline: Pipeline) -> None:
        there = await self._function_names() if pipeline.functions else set()
        for part in pipeline.functions:
            package = await asyncio.to_thread(package_of, part.code)
            make = self._change_function if part.name in there else self._make_function
            self.on_done(await make(part, package))

    async def _make_function(self, part: FunctionPart, package: Package) -> Done:
        values = {
            "FunctionName": part.name,
            "Role": ROLE.format(account=self._scope.account),
            "Code": package.values,
            **{member: getattr(part, key) for key, member in _FUNCTION_MEMBERS.items()},
            "Environment": {"Variables": part.variables},
            "Layers": part.layers,
        }
        await self._functions.call("CreateFunction", values)
        await self._functions.settled_function(part.name)
        await self._reserve(part, None)
        return Done("function", part.name, "made")

    async def _change_function(self, part: FunctionPart, package: Package) -> Done:
        await self._functions.settled_function(part.name)
        found = await self._functions.call("GetFunction", {"FunctionName": part.name})
        before = found["Configuration"]
        changes = ["code"] if await self._give_code(part.name, package, before) else []
        values: dict[str, Any] = {}
        for key, member in _FUNCTION_MEMBERS.items():
            if before[member] != getattr(part, key):
                changes.append(_change(key, before[member], getattr(part, key)))
                values[member] = getattr(part, key)
        if before.get("Environment", {}).get("Variables", {}) != part.variables:
            changes.append("variables")  # what they say may be a secret
            values["Environment"] = {"Variables": part.variables}
        if [layer["Arn"] for layer in before.get("Layers", [])] != [*part.layers]:
            changes.append("layers")
            values["Layers"] = part.layers
        if values:
            await self._functions.call("UpdateFunctionConfiguration", {"FunctionName": part.name, **values})
            await self._functions.settled_function(part.name)
        changes += await self._reserve(part, found.get("Concurrency", {}).get("ReservedConcurrentExecutions"))
        return _done("function", part.name, changes)

    async def _reserve(self, part: FunctionPart, before: int | None) -> list[str]:
        wanted = part.reserved_concurrency
        if wanted == before:
            return []
        values = {"FunctionName": part.name}
        if wanted is None:
            await self._functions.call("DeleteFunctionConcurrency", values)
        else:
            await self._functions.call("PutFunctionConcurrency", {**values, "ReservedConcurrentExecutions": wanted})
        return [_change("reserved_concurrency", before, wanted)]

    async def give_code(self, part: FunctionPart) -> bool:
        """The code as it is now, to a function that is there; False if it has it already."""
        package = await asyncio.to_thread(package_of, part.code)
        return await self._give_code(part.name, package, await self._functions.settled_function(part.name))

    async def _give_code(self, name: str, package: Package, before: Mapping[str, Any]) -> bool:
        if before["CodeSha256"] == package.sha256:
            return False
        await self._functions.call("UpdateFunctionCode", {"FunctionName": name, **package.values})
        await self._functions.settled_function(name)
        return True

    # -- deliveries --------------------------------------------------------------------------------------------------

    async def make_deliveries(self, pipeline: Pipeline) -> None:
        for part in pipeline.deliveries:
            ensured = await self._deliveries.ensure(part)
            self.on_done(Done("delivery", part.name, *ensured))

    # -- mappings ----------------------------------------------------------------------------------------------------

    async def make_mappings(self, pipeline: Pipeline) -> None:
        for part in pipeline.mappings:
            found = await self._found(part)
            self.on_done(await (self._make_mapping(part) if found is None else self._change_mapping(part, found)))

    async def _found(self, part: MappingPart) -> Mapping[str, Any] | None:
        values = {"EventSourceArn": str(StreamArn(self._scope, part.stream)), "FunctionName": part.function}
        for each in await self._functions.all("ListEventSourceMappings", "EventSourceMappings", values):
            settled = await self._functions.settled_mapping(each["UUID"])
            if settled is not None:
                return settled
        return None

    async def _make_mapping(self, part: MappingPart) -> Done:
        start: dict[str, Any] = {"StartingPosition": part.start}
        if isinstance(part.start, datetime):
            start = {"StartingPosition": "AT_TIMESTAMP", "StartingPositionTimestamp": part.start.timestamp()}
        made = await self._functions.call(
            "CreateEventSourceMapping",
            {
                "EventSourceArn": str(StreamArn(self._scope, part.stream)),
                "FunctionName": part.function,
                **start,
                **{member: value for each in part.settings(self._scope).values() for member, value in each.items()},
            },
        )
        await self._functions.settled_mapping(made["UUID"])
        return Done("mapping", part.name, "made", note=f"{part.stream} to {part.function}")

    async def _change_mapping(self, part: MappingPart, found: Mapping[str, Any]) -> Done:
        changes, values = [], {}
        for key, wanted in part.settings(self._scope).items():
            for member, value in wanted.items():
                before = _comparable(member, found.get(member))
                if before != _comparable(member, value):
                    is_plain = isinstance(value, int)
                    changes.append(_change(key, before, getattr(part, key)) if is_plain else key)
                    values[member] = value
        if values:
            await self._functions.call("UpdateEventSourceMapping", {"UUID": found["UUID"], **values})
            await self._functions.settled_mapping(found["UUID"])
        position = "AT_TIMESTAMP" if isinstance(part.start, datetime) else part.start
        note = "" if found["StartingPosition"] == position else "start counts only when a mapping is made"
        if found["State"] == "Disabled":
            note = f"it is disabled{'; ' if note else ''}{note}"
        return _done("mapping", part.name, changes, note)


def _comparable(member: str, value: Any) -> Any:
    """A member so that equal ones are equal, however they were written; an absent one as an empty one."""
    if member == "FilterCriteria":
        return [orjson.loads(each["Pattern"]) for each in (value or {}).get("Filters", [])]
    if member == "DestinationConfig":
        return (value or {}).get("OnFailure", {}).get("Destination")
    return value


def _change(key: str, before: object, after: object) -> str:
    return f"{key} {_shown(before)} to {_shown(after)}"


def _shown(value: object) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _done(kind: Kind, name: str, changes: list[str], note: str = "") -> Done:
    return Done(kind, name, "changed" if changes else "left alone", tuple(changes), note)


def _missing(kind: str, name: str, known: Collection[str]) -> str:
    near = did_you_mean(name, known)
    hint = f"did you mean {near}?" if near else f"write a section [{kind}.{name}], or make it first"
    return f'is "{name}", which is neither in the file nor on the server; {hint}'
