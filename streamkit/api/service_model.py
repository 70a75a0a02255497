"""A service's operations, from the model that botocore ships.

Only the installed data file is read; botocore itself is never imported (it costs over 100 ms). Codecs are
compiled when an operation is first used.
"""

from __future__ import annotations

import functools
import gzip
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from streamkit.api.codec import Decode, Encode, Json, Shape, Shapes, WireFormat


class _Reference(msgspec.Struct):
    shape: str


class _OperationModel(msgspec.Struct):
    input: _Reference | None = None
    output: _Reference | None = None


class _Metadata(msgspec.Struct, rename="camel"):
    target_prefix: str = ""


class _ModelFile(msgspec.Struct):
    metadata: _Metadata
    operations: dict[str, _OperationModel]
    shapes: dict[str, Shape]


class Operation:
    """One action of a service."""

    def __init__(self, name: str, input_shape: str | None, output_shape: str | None, wire: WireFormat) -> None:
        self.name = name
        self.input_shape = input_shape
        self.output_shape = output_shape
        self._wire = wire

    @functools.cached_property
    def decode(self) -> Decode:
        """A request's body to its values; raises SerializationError or ValidationError, nothing else."""
        return self._wire.decoder(self.input_shape)

    @functools.cached_property
    def encode(self) -> Encode:
        """An answer's values to its body. Members that are None or absent are left out."""
        return self._wire.encoder(self.output_shape)


@dataclass(frozen=True, slots=True)
class ServiceModel:
    """A service in one wire format. `wire` also compiles what is no whole answer: the events of an event stream."""

    target_prefix: str
    operations: Mapping[str, Operation]
    shapes: Shapes
    wire: WireFormat

    @classmethod
    def load(cls, service: str, version: str, wire_format: type[WireFormat] = Json) -> ServiceModel:
        """The model of a service as `wire_format` speaks it; FileNotFoundError where botocore has none."""
        model = msgspec.json.decode(gzip.decompress(_model_path(service, version).read_bytes()), type=_ModelFile)
        wire = wire_format(model.shapes)
        operations = {
            name: Operation(name, _shape_of(operation.input), _shape_of(operation.output), wire)
            for name, operation in model.operations.items()
        }
        return cls(model.metadata.target_prefix, operations, model.shapes, wire)


def _model_path(service: str, version: str) -> Path:
    package = importlib.util.find_spec("botocore")
    assert package is not None, "botocore is a dependency of streamkit"
    assert package.origin is not None
    return Path(package.origin).parent / "data" / service / version / "service-2.json.gz"


def _shape_of(reference: _Reference | None) -> str | None:
    return None if reference is None else reference.shape
