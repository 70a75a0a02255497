"""Types of Hive, as the Data Catalog has them for columns: read from text, written as text, and as types of Arrow.

The text is `bigint`, `decimal(10,2)`, `array<struct<a:int,b:map<string,double>>>`. Case and space between words do not
matter; a member of a struct may stand in back quotes, in which a back quote is doubled. What Hive has and columnar
files do not (`uniontype`, `interval...`) is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from streamkit.model.errors import InvalidArgument
from streamkit.model.limits import (
    DECIMAL_PRECISION_MAX,
    HIVE_CHAR_MAX,
    HIVE_TYPE_CHARACTERS_MAX,
    HIVE_TYPE_DEPTH_MAX,
    HIVE_VARCHAR_MAX,
)

if TYPE_CHECKING:
    import pyarrow as pa

PrimitiveName = Literal[
    "boolean",
    "tinyint",
    "smallint",
    "int",
    "bigint",
    "float",
    "double",
    "string",
    "binary",
    "date",
    "timestamp",
    "timestamp with local time zone",
]


@dataclass(frozen=True, slots=True)
class Primitive:
    name: PrimitiveName


@dataclass(frozen=True, slots=True)
class Decimal:
    precision: int
    scale: int


@dataclass(frozen=True, slots=True)
class Text:
    """Text of at most `length` characters."""

    name: Literal["char", "varchar"]
    length: int


@dataclass(frozen=True, slots=True)
class Array:
    item: HiveType


@dataclass(frozen=True, slots=True)
class Map:
    """Keys are primitive."""

    key: HiveType
    value: HiveType


@dataclass(frozen=True, slots=True)
class Struct:
    """Members in order; no two names are the same but for case."""

    members: tuple[tuple[str, HiveType], ...]


HiveType = Primitive | Decimal | Text | Array | Map | Struct

_PRIMITIVES: Final[dict[str, PrimitiveName]] = {
    "boolean": "boolean",
    "tinyint": "tinyint",
    "smallint": "smallint",
    "int": "int",
    "integer": "int",
    "bigint": "bigint",
    "float": "float",
    "real": "float",
    "double": "double",
    "string": "string",
    "binary": "binary",
    "date": "date",
    "timestamp": "timestamp",
}
_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_QUOTE: Final = "`"


def parse(text: str) -> HiveType:
    """Raises InvalidArgument, which tells the place of what it does not understand, counted from 0."""
    return _Parser(text).whole()


def render(type_: HiveType) -> str:
    """The text of a type, in lower case but for members' names; `parse` reads it back."""
    match type_:
        case Primitive(name):
            return name
        case Decimal(precision, scale):
            return f"decimal({precision},{scale})"
        case Text(name, length):
            return f"{name}({length})"
        case Array(item):
            return f"array<{render(item)}>"
        case Map(key, value):
            return f"map<{render(key)},{render(value)}>"
        case Struct(members):
            return f"struct<{','.join(f'{_quoted(name)}:{render(member)}' for name, member in members)}>"


def _quoted(name: str) -> str:
    if name and _PLAIN.issuperset(name):
        return name
    return _QUOTE + name.replace(_QUOTE, _QUOTE * 2) + _QUOTE


class _Parser:
    __slots__ = ("_at", "_text")

    def __init__(self, text: str) -> None:
        if len(text) > HIVE_TYPE_CHARACTERS_MAX:
            raise InvalidArgument(
                f"a column's type has {len(text):,} characters; at most {HIVE_TYPE_CHARACTERS_MAX:,} are accepted"
            )
        self._text = text
        self._at = 0

    def whole(self) -> HiveType:
        found = self._type(0)
        self._skip_space()
        if self._at != len(self._text):
            raise self._error("the type ends here, but there is more text")
        return found

    def _type(self, depth: int) -> HiveType:
        if depth > HIVE_TYPE_DEPTH_MAX:
            raise self._error(f"types nest deeper than {HIVE_TYPE_DEPTH_MAX}")
        start = self._start()
        word = self._word().lower()
        match word:
            case "array":
                self._expect("<")
                item = self._type(depth + 1)
                self._expect(">")
                return Array(item)
            case "map":
                return self._map(depth)
            case "struct":
                return self._struct(depth)
            case "decimal" | "numeric" | "dec":
                return self._decimal()
            case "char":
                return Text("char", self._length(HIVE_CHAR_MAX))
            case "varchar":
                return Text("varchar", self._length(HIVE_VARCHAR_MAX))
            case "double":
                self._accept_words("precision")
            case "timestamp":
                if self._accept_words("with", "local", "time", "zone"):
                    return Primitive("timestamp with local time zone")
        if word not in _PRIMITIVES:
            self._at = start
            raise self._error(f"{word!r} is no type that can be converted to" if word else "a type is expected")
        return Primitive(_PRIMITIVES[word])

    def _map(self, depth: int) -> Map:
        self._expect("<")
        start = self._start()
        key = self._type(depth + 1)
        if isinstance(key, Array | Map | Struct):
            self._at = start
            raise self._error("the key of a map is a primitive type")
        self._expect(",")
        value = self._type(depth + 1)
        self._expect(">")
        return Map(key, value)

    def _struct(self, depth: int) -> Struct:
        self._expect("<")
        members: list[tuple[str, HiveType]] = []
        names: set[str] = set()
        while True:
            start = self._start()
            name = self._name()
            if name.lower() in names:
                self._at = start
                raise self._error(f"the struct has a member {name!r} already")
            names.add(name.lower())
            self._expect(":")
            members.append((name, self._type(depth + 1)))
            if not self._accept(","):
                break
        self._expect(">")
        return Struct(tuple(members))

    def _decimal(self) -> Decimal:
        if not self._accept("("):
            return Decimal(10, 0)  # Hive's default
        start = self._start()
        precision, scale = self._number(), 0
        if self._accept(","):
            scale = self._number()
        self._expect(")")
        if not 1 <= precision <= DECIMAL_PRECISION_MAX or scale > precision:
            self._at = start
            raise self._error(
                f"decimal({precision},{scale}) is not possible: the precision is 1 to {DECIMAL_PRECISION_MAX}, "
                f"the scale 0 to the precision"
            )
        return Decimal(precision, scale)

    def _length(self, most: int) -> int:
        self._expect("(")
        start = self._start()
        length = self._number()
        self._expect(")")
        if not 1 <= length <= most:
            self._at = start
            raise self._error(f"a length of {length} is not possible: it is 1 to {most}")
        return length

    def _name(self) -> str:
        self._skip_space()
        if not self._text.startswith(_QUOTE, self._at):
            name = self._word()
            if not name:
                raise self._error("the name of a member is expected")
            return name
        start, found, at = self._at, "", self._at + 1
        while True:
            end = self._text.find(_QUOTE, at)
            if end < 0:
                raise self._error("the back quote is never closed")
            found += self._text[at:end]
            if not self._text.startswith(_QUOTE, end + 1):
                break
            found += _QUOTE
            at = end + 2
        if not found:
            self._at = start
            raise self._error("the name of a member is expected")
        self._at = end + 1
        return found

    def _word(self) -> str:
        """What Glue's own names may have without quotes is wider than Hive's: all but what has a meaning in types."""
        self._skip_space()
        start = self._at
        while self._at < len(self._text) and not (self._text[self._at] in "<>(),:`" or self._text[self._at].isspace()):
            self._at += 1
        return self._text[start : self._at]

    def _number(self) -> int:
        self._skip_space()
        start = self._at
        while self._at < len(self._text) and self._text[self._at] in "0123456789":
            self._at += 1
        digits = self._text[start : self._at]
        if not digits or len(digits) > 9:
            self._at = start
            raise self._error("a number is expected" if not digits else "the number is too large")
        return int(digits)

    def _accept_words(self, *words: str) -> bool:
        start = self._at
        for word in words:
            if self._word().lower() != word:
                self._at = start
                return False
        return True

    def _accept(self, mark: str) -> bool:
        self._skip_space()
        if not self._text.startswith(mark, self._at):
            return False
        self._at += 1
        return True

    def _expect(self, mark: str) -> None:
        if not self._accept(mark):
            raise self._error(f"{mark!r} is expected")

    def _start(self) -> int:
        self._skip_space()
        return self._at

    def _skip_space(self) -> None:
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1

    def _error(self, why: str) -> InvalidArgument:
        shown = self._text if len(self._text) <= 200 else self._text[:200] + "..."
        return InvalidArgument(f"the type {shown!r} cannot be read: at {self._at}, {why}")


# -- Arrow ------------------------------------------------------------------------------------------------------------


def to_arrow(type_: HiveType) -> pa.DataType:
    """With every field nullable. Timestamps are microseconds without a zone, which Parquet, Iceberg and Delta have."""
    import pyarrow as pa

    match type_:
        case Primitive(name):
            return _arrow_primitive(name)
        case Decimal(precision, scale):
            return pa.decimal128(precision, scale)
        case Text():
            return pa.string()
        case Array(item):
            return pa.list_(to_arrow(item))
        case Map(key, value):
            return pa.map_(to_arrow(key), to_arrow(value))
        case Struct(members):
            return pa.struct([(name, to_arrow(member)) for name, member in members])


def _arrow_primitive(name: PrimitiveName) -> pa.DataType:
    import pyarrow as pa

    match name:
        case "boolean":
            return pa.bool_()
        case "tinyint":
            return pa.int8()
        case "smallint":
            return pa.int16()
        case "int":
            return pa.int32()
        case "bigint":
            return pa.int64()
        case "float":
            return pa.float32()
        case "double":
            return pa.float64()
        case "string":
            return pa.string()
        case "binary":
            return pa.binary()
        case "date":
            return pa.date32()
        case "timestamp":
            return pa.timestamp("us")
        case "timestamp with local time zone":
            return pa.timestamp("us", "UTC")


def from_arrow(type_: pa.DataType) -> str:
    """The Hive type whose values are those of an Arrow type: the next wider one where Hive has not the same, `string`
    for a type that has only nulls. Raises InvalidArgument where there is none."""
    return render(of_arrow(type_))


def of_arrow(type_: pa.DataType) -> HiveType:
    """What `from_arrow` writes as text."""
    import pyarrow as pa

    types = pa.types
    if types.is_dictionary(type_):
        return of_arrow(type_.value_type)
    if types.is_struct(type_):
        fields = [type_.field(place) for place in range(type_.num_fields)]
        if len({field.name.lower() for field in fields}) != max(len(fields), 1):
            raise InvalidArgument(f"Hive has no structs without members, or with two of one name: {type_}")
        return Struct(tuple((field.name, of_arrow(field.type)) for field in fields))
    if types.is_map(type_):
        return Map(of_arrow(type_.key_type), of_arrow(type_.item_type))
    if types.is_list(type_) or types.is_large_list(type_) or types.is_fixed_size_list(type_):
        return Array(of_arrow(type_.value_type))
    if types.is_decimal(type_) and type_.precision <= DECIMAL_PRECISION_MAX and 0 <= type_.scale <= type_.precision:
        return Decimal(type_.precision, type_.scale)
    if types.is_uint64(type_):
        return Decimal(20, 0)
    if types.is_timestamp(type_):
        return Primitive("timestamp with local time zone" if type_.tz else "timestamp")
    return Primitive(_primitive_of_arrow(type_))


def _primitive_of_arrow(type_: pa.DataType) -> PrimitiveName:
    import pyarrow as pa

    types = pa.types
    tests: list[tuple[PrimitiveName, bool]] = [
        ("string", types.is_string(type_) or types.is_large_string(type_) or types.is_string_view(type_)),
        ("string", types.is_null(type_)),
        ("bigint", types.is_int64(type_) or types.is_uint32(type_)),
        ("int", types.is_int32(type_) or types.is_uint16(type_)),
        ("smallint", types.is_int16(type_) or types.is_uint8(type_)),
        ("tinyint", types.is_int8(type_)),
        ("double", types.is_float64(type_)),
        ("float", types.is_float32(type_) or types.is_float16(type_)),
        ("boolean", types.is_boolean(type_)),
        ("date", types.is_date(type_)),
        ("binary", types.is_binary(type_) or types.is_large_binary(type_) or types.is_binary_view(type_)),
        ("binary", types.is_fixed_size_binary(type_)),
    ]
    for name, is_it in tests:
        if is_it:
            return name
    raise InvalidArgument(f"Hive has no type for Arrow's {type_}")
