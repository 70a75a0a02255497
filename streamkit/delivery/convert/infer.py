"""Columns for records that nobody made a table for: found in the first of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from streamkit.catalog import hive_types
from streamkit.catalog.hive_types import Array, HiveType, Primitive, Struct
from streamkit.delivery.convert.exact import Bad, Float, documents
from streamkit.delivery.convert.shapes import folded
from streamkit.model.limits import (
    HIVE_TYPE_CHARACTERS_MAX,
    HIVE_TYPE_DEPTH_MAX,
    INFERRED_COLUMNS_MAX,
    INFERRED_NAME_CHARACTERS_MAX,
)

# RFC 3339 in UTC. Offsets are left as text: AWS's deserializers do not read them.
_STAMP: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z", re.ASCII)
_STRING: Final = Primitive("string")
_INTEGERS: Final = range(-(1 << 63), 1 << 63)


def infer_columns(data: pa.BinaryArray, *, records_max: int) -> tuple[tuple[str, str], ...]:
    """Names and Hive's types of columns for records such as the first `records_max` of these, in the order in which
    their keys appear, as they are written first; keys that differ in case alone are one column.

    Whole numbers are `bigint`, or `double` where one is larger or has a fraction; text is `timestamp` where all of it
    is RFC 3339 in UTC. What does not fit together, what is only null, an object without members or with more than
    INFERRED_COLUMNS_MAX is `string`. Empty where no record is an object.
    """
    root = _Seen()
    for record in data.slice(0, records_max).to_pylist():
        try:
            for document in documents(record):
                if isinstance(document, dict):
                    root.add(document, 0)
        except (Bad, RecursionError):
            continue
    columns = []
    for name, seen in list(root.members.values())[:INFERRED_COLUMNS_MAX]:
        text = hive_types.render(seen.type())
        columns.append((name, text if len(text) <= HIVE_TYPE_CHARACTERS_MAX else "string"))
    return tuple(columns)


@dataclass(slots=True)
class _Seen:
    """Of all values at one place: which kinds there were."""

    kinds: set[str] = field(default_factory=set)
    members: dict[str, tuple[str, _Seen]] = field(default_factory=dict)
    item: _Seen | None = None

    def add(self, value: Any, depth: int) -> None:
        if value is None:
            return
        kind = _kind(value)
        if depth >= HIVE_TYPE_DEPTH_MAX and kind in ("object", "array"):
            kind = "text"
        self.kinds.add(kind)
        if kind == "object":
            for name, each in value.items():
                key = folded(name)
                if key not in self.members:
                    if not _is_name(name) or len(self.members) > INFERRED_COLUMNS_MAX:
                        continue
                    self.members[key] = (name, _Seen())
                self.members[key][1].add(each, depth + 1)
        elif kind == "array":
            self.item = self.item or _Seen()
            for each in value:
                self.item.add(each, depth + 1)

    def type(self) -> HiveType:
        match sorted(self.kinds):
            case ["boolean"]:
                return Primitive("boolean")
            case ["integer"]:
                return Primitive("bigint")
            case ["number"] | ["integer", "number"]:
                return Primitive("double")
            case ["stamp"]:
                return Primitive("timestamp")
            case ["array"] if self.item is not None:
                return Array(self.item.type())
            case ["object"] if 0 < len(self.members) <= INFERRED_COLUMNS_MAX:
                return Struct(tuple((name, seen.type()) for name, seen in self.members.values()))
        return _STRING


def _kind(value: Any) -> str:
    if type(value) is bool:
        return "boolean"
    if type(value) is int:
        return "integer" if value in _INTEGERS else "number"
    if type(value) is Float:
        return "number"
    if type(value) is str:
        return "stamp" if _STAMP.fullmatch(value) else "text"
    return "object" if type(value) is dict else "array"


def _is_name(name: str) -> bool:
    """Glue's names of columns."""
    return 0 < len(name) <= INFERRED_NAME_CHARACTERS_MAX and name.isprintable()
