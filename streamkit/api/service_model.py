"""A service's operations, from the model that botocore ships.

Only the installed data file is read; botocore itself is never imported (it costs over 100 ms). Codecs are
compiled when an operation is first used.
"""

from __future__ import annotations

import functools
import gzip
import importlib.util
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from streamkit.api.codec import Decode, Encode, Json, Shape, Shapes, WireFormat
from streamkit.api.eventstream import EventStream


class _Reference(msgspec.Struct):
    shape: str


class Http(msgspec.Struct, frozen=True, rename="camel"):
    """How a REST protocol addresses an operation, and the status of its answers."""

    method: str = "POST"
    request_uri: str = "/"
    response_code: int = 200


class _OperationModel(msgspec.Struct):
    http: Http = Http()
    input: _Reference | None = None
    output: _Reference | None = None


class _Metadata(msgspec.Struct, rename="camel"):
    target_prefix: str = ""
    service_id: str = ""


class _ModelFile(msgspec.Struct):
    metadata: _Metadata
    operations: dict[str, _OperationModel]
    shapes: dict[str, Shape]


class Operation:
    """One action of a service. `decode` and `encode` are for protocols that have everything in the body."""

    def __init__(
        self, name: str, input_shape: str | None, output_shape: str | None, http: Http, shapes: Shapes, wire: WireFormat
    ) -> None:
        self.name = name
        self.input_shape = input_shape
        self.output_shape = output_shape
        self.http = http
        self._shapes = shapes
        self._wire = wire

    @functools.cached_property
    def decode(self) -> Decode:
        """A request's body to its values; raises SerializationError or ValidationError, nothing else."""
        return self._wire.decoder(self.input_shape)

    @functools.cached_property
    def encode(self) -> Encode:
        """An answer's values to its body. Members that are None or absent are left out."""
        return self._wire.encoder(self.output_shape)

    @functools.cached_property
    def event_stream(self) -> str | None:
        """The member of the output that is an event stream: an asynchronous iterator of events."""
        members = {} if self.output_shape is None else self._shapes[self.output_shape].members
        return next((name for name, member in members.items() if self._shapes[member.shape].eventstream), None)

    def events(self, content_type: str) -> EventStream:
        """Encodes the events of `event_stream`."""
        assert self.output_shape is not None
        assert self.event_stream is not None
        stream = self._shapes[self.output_shape].members[self.event_stream].shape
        return EventStream(self._shapes, stream, self._wire, content_type)

    def encode_stream(self, output: Mapping[str, Any]) -> AsyncIterator[bytes]:
        """An answer's values to its messages: its further members make the first, then follow the events."""
        assert self.event_stream is not None
        further = {name: value for name, value in output.items() if name != self.event_stream}
        events = self._events
        return events.encode_all(output[self.event_stream], events.initial_response(self.encode(further)))

    @functools.cached_property
    def _events(self) -> EventStream:
        return self.events(self._wire.content_type)


@dataclass(frozen=True)
class ServiceModel:
    """A service in one wire format. `wire` also compiles what is no whole answer: the events of an event stream."""

    target_prefix: str
    service_id: str
    operations: Mapping[str, Operation]
    shapes: Shapes
    wire: WireFormat

    @classmethod
    def load(cls, service: str, version: str, wire_format: type[WireFormat] = Json) -> ServiceModel:
        """The model of a service as `wire_format` speaks it; FileNotFoundError where botocore has none."""
        model = msgspec.json.decode(gzip.decompress(_model_path(service, version).read_bytes()), type=_ModelFile)
        wire = wire_format(model.shapes)
        operations = {
            name: Operation(
                name, _shape_of(operation.input), _shape_of(operation.output), operation.http, model.shapes, wire
            )
            for name, operation in model.operations.items()
        }
        metadata = model.metadata
        return cls(metadata.target_prefix, metadata.service_id, operations, model.shapes, wire)

    @functools.cached_property
    def errors(self) -> Mapping[str, Shape]:
        """The shapes of errors, by their codes."""
        return {shape.code(name): shape for name, shape in self.shapes.items() if shape.exception}


def _model_path(service: str, version: str) -> Path:
    package = importlib.util.find_spec("botocore")
    assert package is not None, "botocore is a dependency of streamkit"
    assert package.origin is not None
    return Path(package.origin).parent / "data" / service / version / "service-2.json.gz"


def _shape_of(reference: _Reference | None) -> str | None:
    return None if reference is None else reference.shape
