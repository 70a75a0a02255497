"""Bytes to values and back, compiled per shape from a service's model, with AWS's validation and error texts.

A request is read in three steps, in AWS's order: the body is parsed; every value is converted to the type the model
gives it, and the first that cannot be is a SerializationError; then all constraints are checked, and the first ten
that fail are one ValidationError. So `Readers` convert, `Checkers` know nothing of any wire format, and `Writers`
turn an answer into what the wire wants. `Json` puts them together for AWS JSON 1.1; another wire format (CBOR,
query) is another class with the methods of `WireFormat`, its own reading and writing, and the same checks. REST-JSON
also uses a request's path, query and headers: `streamkit.api.rest` puts it together.

Values are plain: str, bytes, int, float, bool, list, dict; a timestamp is an int, epoch milliseconds.
"""

from __future__ import annotations

import functools
import re
import string
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from email.utils import formatdate, parsedate_to_datetime
from typing import Any, ClassVar, Final, Generic, Literal, NamedTuple, Protocol, TypeVar

import msgspec
import orjson
import pybase64

from streamkit.model.errors import SerializationError, ValidationError
from streamkit.model.limits import ECHO_CHARACTERS_MAX, JSON_DEPTH_MAX, VIOLATIONS_MAX

_INTEGER_MIN: Final = -(1 << 31)
_INTEGER_MAX: Final = (1 << 31) - 1
_LONG_MIN: Final = -(1 << 63)
_LONG_MAX: Final = (1 << 63) - 1
_INTEGERS: Final = frozenset(("integer", "long"))
_BOOLEANS: Final = dict.fromkeys(("true", "yes", "y", "t", "1"), True) | dict.fromkeys(
    ("false", "no", "n", "f", "0"), False
)


TimestampFormat = Literal["iso8601", "rfc822", "unixTimestamp"]
Location = Literal["uri", "querystring", "header", "headers", "statusCode"]


class Member(msgspec.Struct, frozen=True, rename="camel"):
    """What a structure, a list or a map holds: a shape, by name, and where and how it is on the wire.

    Without a location it is in the body, and without a name of its own it has the member's name there.
    """

    shape: str
    location: Location | None = None
    location_name: str | None = None
    timestamp_format: TimestampFormat | None = None
    jsonvalue: bool = False  # a header that holds JSON, in base64
    eventpayload: bool = False  # is the whole payload of its event


class ErrorTrait(msgspec.Struct, frozen=True, rename="camel"):
    """How an error's shape is on the wire; without a code, its shape's name is the code."""

    code: str | None = None
    http_status_code: int | None = None


class Shape(msgspec.Struct, frozen=True, rename="camel"):
    """A type of a service's model, with its constraints. Documentation is not kept."""

    type: str
    members: dict[str, Member] = {}
    required: tuple[str, ...] = ()
    member: Member | None = None
    key: Member | None = None
    value: Member | None = None
    enum: tuple[str, ...] = ()
    pattern: str | None = None
    min: int | float | None = None
    max: int | float | None = None
    sensitive: bool = False
    eventstream: bool = False
    payload: str | None = None  # the member that is the whole body
    streaming: bool = False
    timestamp_format: TimestampFormat | None = None
    exception: bool = False
    fault: bool = False
    error: ErrorTrait | None = None

    def code(self, name: str) -> str:
        """An error's code on the wire; `name` is the shape's."""
        return (self.error and self.error.code) or name


Shapes = Mapping[str, Shape]
Decode = Callable[[bytes], dict[str, Any]]
Encode = Callable[[Mapping[str, Any]], bytes]


class WireFormat(Protocol):
    """How requests and answers look on the wire. Compiling is done when a decoder or an encoder is asked for."""

    content_type: ClassVar[str]

    def __init__(self, shapes: Shapes) -> None: ...

    def decoder(self, shape: str | None) -> Decode:
        """A body to the values of an input shape; raises SerializationError or ValidationError, nothing else."""

    def encoder(self, shape: str | None) -> Encode:
        """The values of an output shape to a body. Members that are None or absent are left out."""


class Json:
    """AWS JSON 1.1."""

    content_type: ClassVar[str] = "application/x-amz-json-1.1"

    def __init__(self, shapes: Shapes) -> None:
        self._readers = Readers(shapes)
        self._checkers = Checkers(shapes)
        self._writers = Writers(shapes)

    def decoder(self, shape: str | None) -> Decode:
        if shape is None:
            return _decode_nothing
        read = self._readers[shape]
        check = self._checkers[shape].inside

        def decode(body: bytes) -> dict[str, Any]:
            values: dict[str, Any] = read(parse_object(body))
            if check is not None:
                violations = Violations()
                check(values, "", violations)
                violations.finish()
            return values

        return decode

    def encoder(self, shape: str | None) -> Encode:
        """An operation without an output shape answers with an empty body, as AWS does."""
        if shape is None:
            return _encode_nothing
        write = self._writers[shape]
        assert write is not None, f"{shape} is no structure"
        return lambda output: orjson.dumps(write(output))


def _decode_nothing(body: bytes) -> dict[str, Any]:
    parse_object(body)
    return {}


def _encode_nothing(output: Mapping[str, Any]) -> bytes:
    assert not output, "this operation has no output"
    return b""


# -- JSON to values --------------------------------------------------------------------------------------------------


def parse_object(body: bytes | bytearray, broken: str = "") -> dict[str, Any]:
    """The JSON object of a body; `broken` is the text for what is no JSON, or a scalar. JSON 1.1 has none for it."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise SerializationError(broken) from None
    if type(document) is not dict:
        raise SerializationError(_LIST_UNEXPECTED if type(document) is list else broken)
    if body.count(b"{") + body.count(b"[") > JSON_DEPTH_MAX:
        _refuse_depth(document)
    return document


def _refuse_depth(document: Any) -> None:
    """Also what the model does not know must not be deep: it is parsed before it is ignored."""
    level = [document]
    for _ in range(JSON_DEPTH_MAX):
        level = [
            child
            for parent in level
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return
    raise SerializationError(f"the document is nested deeper than {JSON_DEPTH_MAX} levels")


_LIST_UNEXPECTED: Final = "Start of list found where not expected"
_STRUCTURE_UNEXPECTED: Final = "Start of structure or map found where not expected."


def _wrong_type(value: Any, otherwise: str) -> SerializationError:
    """AWS's text for a value of the wrong JSON type; `otherwise` is the one for scalars."""
    if type(value) is list:
        return SerializationError(_LIST_UNEXPECTED)
    if type(value) is dict:
        return SerializationError(_STRUCTURE_UNEXPECTED)
    return SerializationError(otherwise)


def _not_convertible(value: Any, target: str) -> SerializationError:
    if type(value) is bool:
        token = "TRUE_VALUE" if value else "FALSE_VALUE"
    else:
        token = "STRING_VALUE" if type(value) is str else "NUMBER_VALUE"
    return _wrong_type(value, f"{token} can not be converted to {target}")


def _read_string(value: Any) -> str:
    if type(value) is str:
        return value
    raise _not_convertible(value, "a String")


def _read_blob(value: Any) -> bytes:
    if type(value) is not str:
        raise _not_convertible(value, "a Blob")
    try:
        blob: bytes = pybase64.b64decode(value, validate=True)
    except ValueError:
        raise _not_base64(value) from None
    # Bits that the padding cuts off must be zero for AWS; the decoder does not look at them.
    if value.endswith("=") and value[-4:] != pybase64.b64encode_as_string(blob[-((len(blob) - 1) % 3 + 1) :]):
        raise _not_base64(value)
    return blob


def _not_base64(value: str) -> SerializationError:
    stray = re.search(r"[^A-Za-z0-9+/=]|=(?!=|\Z)", value)
    if len(value) % 4:
        why = f"Base64 encoded length is expected a multiple of 4 bytes but found: {len(value)}"
    elif stray:
        why = f"Invalid Base64 character: '{stray[0]}'"
    else:
        why = "Invalid last non-pad Base64 character dectected"  # AWS's spelling
    return SerializationError(f"'{_shortened(value)}' can not be converted to a Blob: {why}")


def _read_boolean(value: Any) -> bool:
    """AWS takes a boolean's name in a string, too."""
    if type(value) is bool:
        return value
    if type(value) is str:
        named = _BOOLEANS.get(value.lower())
        if named is not None:
            return named
        raise SerializationError("STRING_VALUE can not be converted to an Boolean")  # AWS's grammar
    raise _not_convertible(value, "a Boolean")


def _read_timestamp(value: Any) -> int:
    """Seconds to milliseconds; what is finer is cut off, so that "now" never becomes the future. No string is taken."""
    if type(value) is int:
        epoch_ms = value * 1000
    elif type(value) is float:
        epoch_ms = int(Decimal(repr(value)) * 1000)  # a product of floats may fall short of the millisecond
    else:
        raise _not_convertible(value, "milliseconds since epoch")
    return max(_LONG_MIN, min(_LONG_MAX, epoch_ms))


def _read_dated_timestamp(value: Any) -> int:
    """Where the model wants text. Seconds are taken, too: clients that know no format send them."""
    return parse_timestamp(value) if type(value) is str else _read_timestamp(value)


def parse_timestamp(text: str) -> int:
    """A timestamp that was written as text, in any of AWS's three formats, to milliseconds."""
    try:
        if text[:1].isdigit() and "-" not in text[:5]:
            too_late = float(text) * 1000 > _LONG_MAX  # asked first: 1e999999 makes an int that fills the memory
            return _LONG_MAX if too_late else int(Decimal(text) * 1000)
        at = datetime.fromisoformat(text) if text[:1].isdigit() else parsedate_to_datetime(text)
        since = (at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime.fromtimestamp(0, UTC)
    except (ValueError, OverflowError, InvalidOperation):
        raise SerializationError(f"'{_shortened(text)}' can not be converted to a timestamp") from None
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


def _read_float(value: Any) -> float:
    if type(value) is float or type(value) is int:
        return float(value)
    raise _not_convertible(value, "a Double")


def _integer_reader(low: int, high: int, target: str) -> Callable[[Any], int]:
    """Fractions are cut off, as AWS does; what does not fit becomes the nearest number that does."""

    def read(value: Any) -> int:
        if type(value) is int or type(value) is float:
            return low if value < low else high if value > high else int(value)
        raise _not_convertible(value, target)

    return read


_SCALAR_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "string": _read_string,
    "blob": _read_blob,
    "boolean": _read_boolean,
    "timestamp": _read_timestamp,
    "float": _read_float,
    "double": _read_float,
    "integer": _integer_reader(_INTEGER_MIN, _INTEGER_MAX, "an Integer"),
    "long": _integer_reader(_LONG_MIN, _LONG_MAX, "a Long"),
}

Compiled = TypeVar("Compiled")


class _Compiler(Generic[Compiled]):
    """Compiles each shape once, when it is first asked for; a shape may contain itself."""

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes
        self._compiled: dict[str, Compiled] = {}

    def __getitem__(self, name: str) -> Compiled:
        if name not in self._compiled:
            self._compiled[name] = self._forward(name)  # found by a shape that contains itself
            self._compiled[name] = self._compile(name, self._shapes[name])
        return self._compiled[name]

    def _forward(self, name: str) -> Compiled:
        """Stands for a shape that is still being compiled."""
        raise NotImplementedError

    def _compile(self, name: str, shape: Shape) -> Compiled:
        raise NotImplementedError


Read = Callable[[Any], Any]


class Readers(_Compiler[Read]):
    """JSON values to values. Unknown members are ignored, and a null member is an absent one.

    Values are read in the order of the document, so that the first wrong one is the one reported. A null in a list or
    a map stays, as None: it is for the checks to refuse.
    """

    def _forward(self, name: str) -> Read:
        return lambda value: self._compiled[name](value)

    def _compile(self, name: str, shape: Shape) -> Read:
        if shape.type == "structure":
            return self.structure(shape.members)
        if shape.type == "list":
            assert shape.member is not None
            return self._list(self._member(shape.member))
        if shape.type == "map":
            assert shape.value is not None
            return self._map(self._member(shape.value))
        return _SCALAR_READERS[shape.type]

    def _member(self, member: Member) -> Read:
        shape = self._shapes[member.shape]
        if shape.type == "timestamp" and timestamp_format(member, shape) != "unixTimestamp":
            return _read_dated_timestamp
        return self[member.shape]

    def structure(self, members: Mapping[str, Member]) -> Read:
        """Reads a structure of these members."""
        readers = {member.location_name or name: (name, self._member(member)) for name, member in members.items()}
        find = readers.get

        def read(value: Any) -> dict[str, Any]:
            if type(value) is not dict:
                raise _wrong_type(value, "Expected null")
            values = {}
            for name, item in value.items():
                if item is not None and (found := find(name)) is not None:
                    member, reader = found
                    values[member] = reader(item)
            return values

        return read

    def _list(self, reader: Read) -> Read:
        def read(value: Any) -> list[Any]:
            if type(value) is not list:
                raise _wrong_type(value, "Expected list or null")
            return [None if item is None else reader(item) for item in value]

        return read

    def _map(self, reader: Read) -> Read:
        def read(value: Any) -> dict[str, Any]:
            if type(value) is not dict:
                raise _wrong_type(value, "Expected map or null")
            return {key: None if item is None else reader(item) for key, item in value.items()}

        return read


def timestamp_format(member: Member, shape: Shape, default: TimestampFormat = "unixTimestamp") -> TimestampFormat:
    """How a timestamp is written where it stands; `default` is that of the place."""
    return member.timestamp_format or shape.timestamp_format or default


# -- constraints -----------------------------------------------------------------------------------------------------


class Violations:
    """The constraints a request broke, in the order they were found."""

    def __init__(self) -> None:
        self._clauses: list[str] = []

    def add(self, value: str | None, path: str, constraint: str) -> None:
        """`value` is as AWS prints it, quoted; None if it must not be shown. Raises once there are enough."""
        shown = "Value" if value is None else f"Value {value}"
        self._clauses.append(f"{shown} at '{path}' failed to satisfy constraint: {constraint}")
        if len(self._clauses) == VIOLATIONS_MAX:
            self.finish()

    def finish(self) -> None:
        """Raises ValidationError if there was any."""
        count = len(self._clauses)
        if count:
            errors = "error" if count == 1 else "errors"
            raise ValidationError(f"{count} validation {errors} detected: {'; '.join(self._clauses)}")


Broken = Callable[[Any], Iterable[str]]  # a value to the texts of the constraints it breaks
Inside = Callable[[Any, str, Violations], None]  # checks what a value holds; the path ends in a dot, or is empty

_NOT_NULL: Final = "Member must not be null"


class Checker(NamedTuple):
    """What is to be checked of a shape: the value itself, and what it holds. None where there is nothing to check."""

    broken: Broken | None
    inside: Inside | None


class Checkers(_Compiler[Checker]):
    """Constraints of the model, in the model's order: AWS's own varies from one of its servers to another.

    A value that holds a blob is not shown in the text (AWS stopped showing them about 2022).
    """

    def _forward(self, name: str) -> Checker:
        def broken(value: Any) -> Iterable[str]:
            own = self._compiled[name].broken
            return () if own is None else own(value)

        def inside(value: Any, path: str, violations: Violations) -> None:
            if (own := self._compiled[name].inside) is not None:
                own(value, path, violations)

        return Checker(broken, inside)

    def _compile(self, name: str, shape: Shape) -> Checker:
        if shape.type == "structure":
            return Checker(None, self._structure(shape))
        if shape.type == "list":
            return self._list(shape)
        if shape.type == "map":
            return self._map(shape)
        return Checker(_scalar(shape), None)

    def _structure(self, shape: Shape) -> Inside | None:
        checks = []
        for name, member in shape.members.items():
            checker = self[member.shape]
            required = name in shape.required
            if required or checker.broken or checker.inside:
                checks.append((name, _path_name(name), required, checker.broken, checker.inside, member.shape))
        if not checks:
            return None

        def inside(values: dict[str, Any], path: str, violations: Violations) -> None:
            for name, path_name, required, broken, inner, shape_name in checks:
                value = values.get(name)
                if value is None:
                    if required:
                        violations.add("null", path + path_name, _NOT_NULL)
                    continue
                if broken is not None:
                    for constraint in broken(value):
                        violations.add(self._shown(value, shape_name), path + path_name, constraint)
                if inner is not None:
                    inner(value, f"{path}{path_name}.", violations)

        return inside

    def _list(self, shape: Shape) -> Checker:
        assert shape.member is not None
        length = _limits(shape, "length")
        element = self[shape.member.shape]
        of_element = self._all_constraints(shape.member.shape)

        def broken(value: list[Any]) -> Iterable[str]:
            yield from length(len(value))
            if element.broken is not None and _any_broken(element.broken, value):
                yield f"Member must satisfy constraint: [{of_element}]"

        def inside(value: list[Any], path: str, violations: Violations) -> None:
            for index, item in enumerate(value, 1):
                if item is None:
                    violations.add("null", f"{path}{index}.member", _NOT_NULL)
                elif element.inside is not None:
                    element.inside(item, f"{path}{index}.member.", violations)

        return Checker(broken, inside)

    def _map(self, shape: Shape) -> Checker:
        assert shape.key is not None
        assert shape.value is not None
        length = _limits(shape, "length")
        key, element = self[shape.key.shape], self[shape.value.shape]
        of_key, of_element = (self._all_constraints(each.shape) for each in (shape.key, shape.value))

        def broken(value: dict[str, Any]) -> Iterable[str]:
            yield from length(len(value))
            if key.broken is not None and _any_broken(key.broken, value):
                yield f"Map keys must satisfy constraint: [{of_key}]"
            if element.broken is not None and _any_broken(element.broken, value.values()):
                yield f"Map value must satisfy constraint: [{of_element}]"

        def inside(value: dict[str, Any], path: str, violations: Violations) -> None:
            for name, item in value.items():
                if item is None:
                    violations.add("null", f"{path}{_shortened(name)}.member", _NOT_NULL)
                elif element.inside is not None:
                    element.inside(item, f"{path}{_shortened(name)}.member.", violations)

        return Checker(broken, inside)

    def _all_constraints(self, name: str) -> str:
        """All constraints of a list's or a map's element: AWS prints them together, whichever was broken."""
        shape = self._shapes[name]
        kind = "value" if shape.type in _INTEGERS else "length"
        texts = []
        if shape.max is not None:
            texts.append(f"Member must have {kind} less than or equal to {shape.max}")
        if shape.min is not None:
            texts.append(f"Member must have {kind} greater than or equal to {shape.min}")
        if shape.pattern is not None:
            texts.append(f"Member must satisfy regular expression pattern: {shape.pattern}")
        if shape.enum:
            texts.append(f"Member must satisfy enum value set: [{', '.join(shape.enum)}]")
        return ", ".join(texts)

    def _shown(self, value: Any, name: str) -> str | None:
        return None if self._hidden(name, ()) else f"'{_shortened(self._java_text(value, name))}'"

    def _hidden(self, name: str, seen: tuple[str, ...]) -> bool:
        shape = self._shapes[name]
        if shape.sensitive or shape.type == "blob":
            return True
        held = [*shape.members.values(), *(each for each in (shape.member, shape.value) if each is not None)]
        return any(each.shape not in seen and self._hidden(each.shape, (*seen, name)) for each in held)

    def _java_text(self, value: Any, name: str) -> str:
        """A value as Java's toString has it."""
        shape = self._shapes[name]
        if value is None:
            return "null"
        if shape.type == "structure":
            texts = (
                f"{_path_name(each)}={self._java_text(value.get(each), member.shape)}"
                for each, member in shape.members.items()
            )
            return f"{name}({', '.join(texts)})"
        if shape.type == "list":
            assert shape.member is not None
            return f"[{', '.join(self._java_text(each, shape.member.shape) for each in value)}]"
        if shape.type == "map":
            assert shape.value is not None
            inner = shape.value.shape
            return f"{{{', '.join(f'{key}={self._java_text(each, inner)}' for key, each in value.items())}}}"
        return str(value).lower() if shape.type == "boolean" else str(value)


def _scalar(shape: Shape) -> Broken | None:
    if shape.enum:
        return _enum(shape.enum)
    if shape.type == "string":
        return _text(shape) if shape.pattern or shape.min is not None or shape.max is not None else None
    if shape.type == "blob":
        length = _limits(shape, "length")
        return lambda value: length(len(value))
    return _limits(shape, "value") if shape.type in _INTEGERS else None


def _enum(allowed: tuple[str, ...]) -> Broken:
    members = frozenset(allowed)
    texts = (f"Member must satisfy enum value set: [{', '.join(allowed)}]",)
    return lambda value: () if value in members else texts


def _limits(shape: Shape, kind: str) -> Callable[[int], Iterable[str]]:
    """`kind` is "length" or "value"."""
    low = float("-inf") if shape.min is None else shape.min
    high = float("inf") if shape.max is None else shape.max
    too_small = (f"Member must have {kind} greater than or equal to {low}",)
    too_large = (f"Member must have {kind} less than or equal to {high}",)
    return lambda number: too_small if number < low else too_large if number > high else ()


def _text(shape: Shape) -> Broken:
    """AWS names the pattern before the length.

    A value that is too long is not matched at all: the model's patterns may cost the square of the length.
    """
    length = _limits(shape, "length")
    if shape.pattern is None:
        return lambda value: length(len(value))
    matches = java_matcher(shape.pattern)
    mismatch = (f"Member must satisfy regular expression pattern: {shape.pattern}",)
    longest = float("inf") if shape.max is None else shape.max

    def broken(value: str) -> Iterable[str]:
        if len(value) > longest or matches(value):
            return length(len(value))
        return (*mismatch, *length(len(value)))

    return broken


# -- Java's patterns -------------------------------------------------------------------------------------------------

_JAVA_TOKEN: Final = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\[pP](?:\{\w+\}|\w)|\\.|&&|\[\^?|.", re.DOTALL
)
_DOT: Final = "[^\\n\\r\\x85\\u2028\\u2029]"  # Java's dot stops at more line ends than Python's
_CATEGORIES: Final = {"L": "ultmo", "M": "nce", "N": "dlo", "P": "cdseifo", "S": "mcko", "Z": "slp", "C": "cfson"}
_STAND_INS: Final = {
    major + minor: chr(0xE000 + index)
    for index, (major, minor) in enumerate((major, minor) for major, minors in _CATEGORIES.items() for minor in minors)
}
_ASCII: Final = "".join(map(chr, range(128)))
_POSIX: Final = {
    "Lower": string.ascii_lowercase,
    "Upper": string.ascii_uppercase,
    "Alpha": string.ascii_letters,
    "Digit": string.digits,
    "Alnum": string.ascii_letters + string.digits,
    "Punct": string.punctuation,
    "Graph": string.ascii_letters + string.digits + string.punctuation,
    "Print": string.ascii_letters + string.digits + string.punctuation + " ",
    "Blank": " \t",
    "Space": string.whitespace,
    "XDigit": string.hexdigits,
    "Cntrl": _ASCII[:32] + "\x7f",
    "ASCII": _ASCII,
}


def java_matcher(pattern: str) -> Callable[[str], object]:
    r"""What tells whether a whole value matches a pattern of the model, which is a Java regular expression.

    Python has no classes of Unicode properties, such as \p{L}, and spelling one out takes half of Unicode. So where a
    pattern has one, every character of a value beyond ASCII is first replaced by a stand-in for its general category.
    Raises ValueError for what cannot be translated.
    """
    translated, has_properties = _python_pattern(pattern)
    matches = re.compile(translated, re.ASCII).fullmatch  # Java's \d and \w are ASCII, and it must match all
    if not has_properties:
        return matches
    return lambda value: matches(value if value.isascii() else "".join(map(_stand_in, value)))


def _python_pattern(pattern: str) -> tuple[str, bool]:
    has_properties = re.search(r"(?<!\\)(?:\\\\)*\\[pP]", pattern) is not None
    parts: list[str] = []
    in_class = False
    before = ""
    for match in _JAVA_TOKEN.finditer(pattern):
        token = match[0]
        if token[:2] in ("\\p", "\\P"):
            members = _property_members(token[2:].strip("{}"), token[1] == "P")
            token = members if in_class else f"[{members}]"
        elif len(token) == 12:  # a character beyond 16 bits, as Java's two
            high, low = int(token[2:6], 16), int(token[8:], 16)
            token = f"\\U{0x10000 + (high - 0xD800) * 0x400 + low - 0xDC00:08x}"
        elif in_class and (token == "&&" or token[0] == "["):
            raise ValueError(f"a class within a class cannot be translated: {pattern}")
        elif in_class and token == "-" and before[:1] == "\\" and before[1] in "wWdDsSpP":
            token = "\\-"  # Java knows that no range starts at a class
        elif in_class:
            in_class = token != "]"
        elif token[0] == "[":
            in_class = True
        elif token == ".":
            token = _DOT
        if has_properties and (match[0] > "\x7f" or match[0].startswith("\\u")):
            raise ValueError(f"a character beyond ASCII beside a Unicode property cannot be translated: {pattern}")
        parts.append(token)
        before = match[0]
    return "".join(parts), has_properties


def _property_members(name: str, negated: bool) -> str:
    """A property, as a class's members: ASCII characters and stand-ins."""
    category = name.removeprefix("Is")
    posix = _POSIX.get(name)
    if posix is not None:
        members = set(posix)
    else:
        members = {char for char in _ASCII if unicodedata.category(char).startswith(category)}
        stand_ins = {stand_in for each, stand_in in _STAND_INS.items() if each.startswith(category)}
        if len(category) not in (1, 2) or not stand_ins:
            raise ValueError(f"the property \\p{{{name}}} is not known")
        members |= stand_ins
    if negated:
        members = {*_ASCII, *_STAND_INS.values()} - members
    return "".join(re.escape(char) for char in sorted(members))


@functools.lru_cache(maxsize=1024)
def _stand_in(char: str) -> str:
    return char if char < "\x80" else _STAND_INS[unicodedata.category(char)]


# -- texts -----------------------------------------------------------------------------------------------------------


def _any_broken(broken: Broken, values: Iterable[Any]) -> bool:
    return any(value is not None and any(broken(value)) for value in values)


def _path_name(name: str) -> str:
    """A member's name as AWS's texts have it: StreamARN is streamARN."""
    return name[0].lower() + name[1:]


def _shortened(text: str) -> str:
    return text if len(text) <= ECHO_CHARACTERS_MAX else f"{text[:ECHO_CHARACTERS_MAX]}..."


# -- values to JSON --------------------------------------------------------------------------------------------------


def json_seconds(epoch_ms: int) -> str:
    """A timestamp as AWS's JSON has it, exact: 1441215410867 is 1.441215410867E9, as Java prints a double."""
    digits = str(epoch_ms)
    if len(digits) < 11 or epoch_ms < 0:  # Java has no exponent below ten million
        return repr(epoch_ms / 1000)
    return f"{digits[0]}.{digits[1:].rstrip('0') or '0'}E{len(digits) - 4}"


def _write_timestamp(epoch_ms: int) -> orjson.Fragment:
    return orjson.Fragment(json_seconds(epoch_ms))


def format_timestamp(epoch_ms: int, how: TimestampFormat) -> str:
    """A timestamp as text. RFC 822 has no fractions of a second."""
    if how == "unixTimestamp":
        return json_seconds(epoch_ms)
    if how == "rfc822":
        return formatdate(epoch_ms // 1000, usegmt=True)
    at = datetime.fromtimestamp(epoch_ms // 1000, UTC).replace(tzinfo=None)
    fraction = f".{epoch_ms % 1000:03}" if epoch_ms % 1000 else ""
    return f"{at.isoformat()}{fraction}Z"


Write = Callable[[Any], Any]

_SCALAR_WRITERS: Final[Mapping[str, Write]] = {
    "blob": pybase64.b64encode_as_string,
    "timestamp": _write_timestamp,
}


class Writers(_Compiler[Write | None]):
    """Values to what orjson takes. None for a shape whose values it takes as they are."""

    def _forward(self, name: str) -> Write:
        def write(value: Any) -> Any:
            writer = self._compiled[name]
            return value if writer is None else writer(value)

        return write

    def _compile(self, name: str, shape: Shape) -> Write | None:
        if shape.type == "structure":
            return self._structure(name, shape.members)
        held = shape.member or shape.value
        writer = None if held is None else self._member(held)
        if writer is None:
            return _SCALAR_WRITERS.get(shape.type)
        if shape.type == "list":
            return lambda value: [writer(item) for item in value]
        return lambda value: {key: writer(item) for key, item in value.items()}

    def _member(self, member: Member) -> Write | None:
        shape = self._shapes[member.shape]
        if shape.type == "timestamp" and (how := timestamp_format(member, shape)) != "unixTimestamp":
            return lambda epoch_ms: format_timestamp(epoch_ms, how)
        return self[member.shape]

    def _structure(self, structure: str, members: Mapping[str, Member]) -> Write:
        writers = {name: (member.location_name or name, self._member(member)) for name, member in members.items()}

        def write(values: Mapping[str, Any]) -> dict[str, Any]:
            written = {}
            for name, value in values.items():
                assert name in writers, f"{structure} has no member {name}"
                if value is not None:
                    wire_name, writer = writers[name]
                    written[wire_name] = value if writer is None else writer(value)
            return written

        return write
