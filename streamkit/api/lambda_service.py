"""Lambda as one service on the wire, put together of parts: functions, invocations, event source mappings."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from streamkit.api.codec import Member
from streamkit.api.service_model import ServiceModel
from streamkit.model.names import Scope

UPLOAD_PATHS: Final = (b"/2015-03-31/functions", b"/2018-10-31/layers/")
"""Where packages are sent."""

# A runtime AWS does not know has an error and a text of its own, which the model's constraint would forestall.
_RUNTIME_REQUESTS: Final = ("CreateFunctionRequest", "UpdateFunctionConfigurationRequest")


class Part(Protocol):
    """Some operations of a service, by name: see `streamkit.api.gateway.RestService`."""

    @property
    def actions(self) -> Mapping[str, Callable[[Scope, dict[str, Any]], Awaitable[Any]]]: ...


class LambdaService:
    """See `streamkit.api.gateway.RestService`. No two parts have the same operation."""

    def __init__(self, model: ServiceModel, parts: Sequence[Part]) -> None:
        self.model = model
        self.actions: Mapping[str, Callable[[Scope, dict[str, Any]], Awaitable[Any]]] = _merged(parts)


def load_model() -> ServiceModel:
    """Lambda's model, but for constraints that AWS has in other words."""
    model = ServiceModel.load("lambda", "2015-03-31")
    shapes = dict(model.shapes)
    for name in _RUNTIME_REQUESTS:
        members = {**shapes[name].members, "Runtime": Member("String")}
        shapes[name] = msgspec.structs.replace(shapes[name], members=members)
    return dataclasses.replace(model, shapes=shapes)


def _merged(parts: Sequence[Part]) -> dict[str, Callable[[Scope, dict[str, Any]], Awaitable[Any]]]:
    merged: dict[str, Callable[[Scope, dict[str, Any]], Awaitable[Any]]] = {}
    for part in parts:
        twice = merged.keys() & part.actions.keys()
        assert not twice, f"two parts have {sorted(twice)}"
        merged.update(part.actions)
    return merged
