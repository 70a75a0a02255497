"""What a record has to look like: the columns of a table as a tree, and the rules by which values find their place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import pyarrow as pa

from streamkit.catalog import hive_types
from streamkit.catalog.hive_types import Array, Decimal, HiveType, Map, Primitive, Struct, Text
from streamkit.delivery.convert.times import Stamps, stamps_of
from streamkit.delivery.plan import Conversion
from streamkit.model.errors import InvalidArgument

LeafKind = Literal["boolean", "integer", "floating", "decimal", "text", "binary", "date", "timestamp"]

_KINDS: Final[dict[str, LeafKind]] = {
    "boolean": "boolean",
    "tinyint": "integer",
    "smallint": "integer",
    "int": "integer",
    "bigint": "integer",
    "float": "floating",
    "double": "floating",
    "string": "text",
    "binary": "binary",
    "date": "date",
    "timestamp": "timestamp",
    "timestamp with local time zone": "timestamp",
}
_INTEGER_BITS: Final = {"tinyint": 8, "smallint": 16, "int": 32, "bigint": 64}

FIRST_US: Final = -62_135_596_800_000_000  # 0001-01-01T00:00:00
LAST_US: Final = 253_402_300_799_999_999  # 9999-12-31T23:59:59.999999
_NANOSECONDS_US: Final = 9_223_372_036_854_775  # what 64 bits of nanoseconds reach


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """`type` is what columns have while they are made. `low` and `high`, both inclusive, bound integers, and timestamps
    in microseconds. `length`: of text in characters, which is cut; of binary in bytes, which is required."""

    path: str
    kind: LeafKind
    name: str
    type: pa.DataType
    low: int = 0
    high: int = 0
    length: int | None = None

    @property
    def is_zoned(self) -> bool:
        return self.kind == "timestamp" and self.type.tz is not None


@dataclass(frozen=True, slots=True, eq=False)
class ListOf:
    path: str
    item: Shape
    type: pa.DataType
    is_item_required: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class MapOf:
    path: str
    key: Leaf
    value: Shape
    type: pa.DataType
    is_value_required: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """`key` is what JSON keys are compared with, after `Rules.key_of`."""

    name: str
    key: str
    shape: Shape
    is_required: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class StructOf:
    path: str
    members: tuple[Member, ...]
    type: pa.DataType


Shape = Leaf | ListOf | MapOf | StructOf


@dataclass(frozen=True, slots=True)
class Rules:
    """How one of AWS's two deserializers reads. `is_lenient` is OpenX."""

    is_lenient: bool
    ignores_case: bool
    dots_to_underscores: bool
    lowers_keys: bool  # of maps, and in JSON that becomes text
    stamps: Stamps
    key_of: Callable[[str], str] = field(repr=False)

    @property
    def keys_vary(self) -> bool:
        """Whether a key can be written in more than one way."""
        return self.ignores_case or self.dots_to_underscores


def rules_of(conversion: Conversion) -> Rules:
    """AWS's Hive deserializer ignores the case of names too, and leaves the keys of maps as they are (observed by
    floci, PR 3521)."""
    is_lenient = conversion.serde == "openx"
    ignores_case = conversion.case_insensitive or not is_lenient
    dots = conversion.dots_to_underscores and is_lenient
    return Rules(
        is_lenient,
        ignores_case,
        dots,
        is_lenient and conversion.case_insensitive,
        stamps_of(conversion),
        _key_of(ignores_case, dots),
    )


def folded(text: str) -> str:
    """In lower case, character by character: so the length stays."""
    if text.isascii():
        return text.lower()
    return "".join(low if len(low := character.lower()) == 1 else character for character in text)


def _key_of(ignores_case: bool, dots: bool) -> Callable[[str], str]:
    if ignores_case and dots:
        return lambda key: folded(key.replace(".", "_"))
    if ignores_case:
        return folded
    if dots:
        return lambda key: key.replace(".", "_")
    return lambda key: key


# -- made of a schema -------------------------------------------------------------------------------------------------


def root_of_columns(columns: Sequence[tuple[str, str]], conversion: Conversion, rules: Rules) -> StructOf:
    """Of columns with Hive's types. Raises InvalidArgument, which names the column."""
    members = []
    for name, text in columns:
        try:
            type_ = hive_types.parse(text)
        except InvalidArgument as error:
            raise InvalidArgument(f"column {name!r}: {error.message}") from error
        members.append(_column(name, shape_of(name, type_, rules), conversion, rules))
    return _root(members)


def root_of_schema(schema: pa.Schema, conversion: Conversion, rules: Rules) -> StructOf:
    """Of a destination's table. Raises InvalidArgument where it has types that JSON is not converted to."""
    members = []
    for column in schema:
        shape = _shape_of_arrow(column.name, column.type, rules)
        members.append(_column(column.name, shape, conversion, rules, is_required=not column.nullable))
    return _root(members)


def _column(name: str, shape: Shape, conversion: Conversion, rules: Rules, is_required: bool = False) -> Member:
    mapped = conversion.mappings.get(name, name) if rules.is_lenient else name
    return Member(name, rules.key_of(mapped), shape, is_required)


def _root(members: list[Member]) -> StructOf:
    if not members:
        raise InvalidArgument("a table that records are converted for has at least one column")
    names = [member.name for member in members]
    if len(set(names)) != len(names):
        raise InvalidArgument(f"the column {next(name for name in names if names.count(name) > 1)!r} is there twice")
    type_ = pa.struct([pa.field(member.name, member.shape.type) for member in members])
    return StructOf("", tuple(members), type_)


def shape_of(path: str, type_: HiveType, rules: Rules) -> Shape:
    match type_:
        case Primitive(name):
            return _primitive(path, name)
        case Decimal():
            return Leaf(path, "decimal", hive_types.render(type_), hive_types.to_arrow(type_))
        case Text(_, length):
            return Leaf(path, "text", hive_types.render(type_), pa.string(), length=length)
        case Array(item):
            inner = shape_of(f"{path}[]", item, rules)
            return ListOf(path, inner, pa.list_(inner.type))
        case Map(key, value):
            keys = shape_of(f"{path}{{key}}", key, rules)
            values = shape_of(f"{path}{{}}", value, rules)
            assert isinstance(keys, Leaf)
            return MapOf(path, keys, values, pa.map_(keys.type, values.type))
        case Struct(pairs):
            members = tuple(
                Member(name, rules.key_of(name), shape_of(f"{path}.{name}", member, rules)) for name, member in pairs
            )
            return _struct(path, members)


def _primitive(path: str, name: str) -> Leaf:
    kind = _KINDS[name]
    type_ = hive_types.to_arrow(hive_types.parse(name))
    if kind == "integer":
        half = 1 << (_INTEGER_BITS[name] - 1)
        return Leaf(path, kind, name, type_, -half, half - 1)
    if kind == "timestamp":
        return Leaf(path, kind, name, type_, FIRST_US, LAST_US)
    return Leaf(path, kind, name, type_)


def _struct(path: str, members: tuple[Member, ...]) -> StructOf:
    return StructOf(path, members, pa.struct([pa.field(member.name, member.shape.type) for member in members]))


def _shape_of_arrow(path: str, type_: pa.DataType, rules: Rules) -> Shape:
    types = pa.types
    if types.is_struct(type_):
        fields = [type_.field(place) for place in range(type_.num_fields)]
        return _struct(
            path,
            tuple(
                Member(
                    each.name,
                    rules.key_of(each.name),
                    _shape_of_arrow(f"{path}.{each.name}", each.type, rules),
                    not each.nullable,
                )
                for each in fields
            ),
        )
    if types.is_map(type_):
        keys = _shape_of_arrow(f"{path}{{key}}", type_.key_type, rules)
        values = _shape_of_arrow(f"{path}{{}}", type_.item_type, rules)
        if not isinstance(keys, Leaf):
            raise InvalidArgument(f"column {path!r}: the keys of a map are of a primitive type, not {type_.key_type}")
        return MapOf(path, keys, values, pa.map_(keys.type, values.type), not type_.item_field.nullable)
    if types.is_list(type_) or types.is_large_list(type_):
        item = _shape_of_arrow(f"{path}[]", type_.value_type, rules)
        return ListOf(path, item, pa.list_(item.type), not type_.value_field.nullable)
    return _leaf_of_arrow(path, type_, rules)


def _leaf_of_arrow(path: str, type_: pa.DataType, rules: Rules) -> Leaf:
    types = pa.types
    refused = types.is_unsigned_integer(type_) or types.is_dictionary(type_) or types.is_fixed_size_list(type_)
    if refused or types.is_null(type_) or types.is_float16(type_) or types.is_decimal256(type_):
        raise InvalidArgument(f"column {path!r}: records are not converted to {type_}")
    try:
        leaf = shape_of(path, hive_types.of_arrow(type_), rules)
    except InvalidArgument as error:
        raise InvalidArgument(f"column {path!r}: records are not converted to {type_}") from error
    assert isinstance(leaf, Leaf)
    if types.is_fixed_size_binary(type_):
        return Leaf(path, leaf.kind, str(type_), leaf.type, length=type_.byte_width)
    if types.is_timestamp(type_) and type_.unit == "ns":
        return Leaf(path, leaf.kind, str(type_), leaf.type, -_NANOSECONDS_US, _NANOSECONDS_US)
    return leaf
