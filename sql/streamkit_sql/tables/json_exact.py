"""One JSON document to values, exactly as Flink's JSON format reads it; slow, and the measure of the fast way.

Rules: JsonParserToRowDataConverters of Flink 2.3 (the default, `json.decode.json-parser.enabled`). Known differences:
of equal keys the first counts (in Flink it depends on which columns a query reads); an object or array in a BOOLEAN
column is false without derailing what follows it; a comma before a closing bracket, and NaN and Infinity where no
number is read, are let pass (the fast way cannot see them); a document in another encoding than UTF-8 is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, TypeAlias

from streamkit_sql.errors import NotSupported
from streamkit_sql.tables import java_text
from streamkit_sql.types import Kind, SqlType

_BITS: Final = {Kind.TINYINT: 8, Kind.SMALLINT: 16, Kind.INTEGER: 32, Kind.BIGINT: 64}
_BITS_OF_INTERVAL: Final = {Kind.INTERVAL_MONTHS: 32, Kind.INTERVAL_MS: 64}
_LOOSE = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])|(?i:-?\b(?:nan|inf(?:inity)?)\b)', re.DOTALL)
_ESCAPED: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
_TO_ESCAPE = re.compile(r'["\\\x00-\x1f]')

Converter: TypeAlias = Callable[[Any], Any]


class Whole(str):
    """A number without fraction or exponent, as it was written."""

    __slots__ = ()


class Real(str):
    """A number with fraction or exponent, as it was written."""

    __slots__ = ()


class Word(str):
    """NaN and its like."""

    __slots__ = ()


class Object(list[tuple[str, Any]]):
    """Members in the order they were written, equal keys and all."""

    __slots__ = ()

    def first(self) -> dict[str, Any]:
        members: dict[str, Any] = {}
        for name, value in self:
            members.setdefault(name, value)
        return members


_DECODER = json.JSONDecoder(
    object_pairs_hook=Object, parse_int=Whole, parse_float=Real, parse_constant=Word, strict=False
)


def _loosened(match: re.Match[str]) -> str:
    if match[1]:
        return match[1]
    word = match[0].lower()
    return "" if word == "," else "NaN" if word.endswith("nan") else "-Infinity" if word[0] == "-" else "Infinity"


def parse(payload: bytes) -> Any:
    """Raises ValueError. What stands behind the first value is not looked at, as in Flink."""
    try:
        text = payload.decode("utf-8").removeprefix("\ufeff").lstrip(" \t\n\r")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from None
    try:
        return _DECODER.raw_decode(text)[0]
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:
        try:
            return _DECODER.raw_decode(_LOOSE.sub(_loosened, text))[0]
        except (ValueError, RecursionError):
            raise ValueError(f"it is no JSON: {error}") from None


def scalar_text(value: Any) -> str:
    """As Jackson's `getText`, which for an object or array is only its bracket."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode() if not isinstance(value, Whole | Real | Word) else str(value)
    if value is True or value is False:
        return "true" if value else "false"
    return "{" if isinstance(value, Object) else "["


def document_text(value: Any) -> str:
    """As Jackson's `JsonNode.toString`: without blanks, doubles in Java's form, of equal keys the last."""
    if isinstance(value, Object):
        members = [f"{_quoted(scalar_text(name))}:{document_text(each)}" for name, each in dict(value).items()]
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(document_text, value)) + "]"
    if value is None:
        return "null"
    if isinstance(value, Real):
        return java_text.double_text(float(value))
    if isinstance(value, bool | Whole | Word):
        return scalar_text(value)
    return _quoted(scalar_text(value))


def _quoted(text: str) -> str:
    return '"' + _TO_ESCAPE.sub(lambda found: _ESCAPED.get(found[0]) or f"\\u{ord(found[0]):04X}", text) + '"'


@dataclass(frozen=True, slots=True)
class JsonReading:
    """Of `json.*` options, what reading depends on."""

    standard: str = "SQL"
    ignore_errors: bool = False
    fail_on_missing: bool = False


class ExactJson:
    """Documents to tuples of the values of `fields`, each a top-level name with its type."""

    def __init__(self, fields: Sequence[tuple[str, SqlType]], reading: JsonReading = JsonReading()) -> None:
        self._reading = reading
        self._row = _row(fields, reading)

    def rows(self, payload: bytes) -> list[tuple[Any, ...]]:
        """None, one, or those of an array. Raises ValueError for a bad document, also where errors are ignored."""
        if not payload:
            return []
        root = parse(payload)
        if isinstance(root, Object):
            return [self._row(root)]
        if not isinstance(root, list):
            raise ValueError("it is neither an object nor an array")
        return [self._row(each) for each in root if each is not None]


def _row(fields: Sequence[tuple[str, SqlType]], reading: JsonReading) -> Callable[[Any], tuple[Any, ...]]:
    converters = [(name, converter(of, reading)) for name, of in fields]
    fail_on_missing, ignore_errors = reading.fail_on_missing, reading.ignore_errors

    def convert(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, Object):
            raise ValueError("it is no object")
        members = value.first()
        cells = []
        for name, convert_field in converters:
            if fail_on_missing and name not in members:
                raise ValueError(f"the field {name!r} is missing")
            try:
                cells.append(convert_field(members.get(name)))
            except ValueError as error:
                if not ignore_errors:
                    raise ValueError(f"field {name!r}: {error}") from None
                cells.append(None)
        return tuple(cells)

    return convert


def converter(of: SqlType, reading: JsonReading) -> Converter:
    """NULL gives NULL; ValueError where the value does not fit, or NULL where errors are ignored."""
    convert = _converter(of, reading)

    def nullable(value: Any) -> Any:
        if value is None:
            return None
        try:
            return convert(value)
        except ValueError:
            if reading.ignore_errors:
                return None
            raise

    return nullable


def _converter(of: SqlType, reading: JsonReading) -> Converter:
    kind = of.kind
    if kind in _BITS or kind in _BITS_OF_INTERVAL:
        return _integers(_BITS.get(kind) or _BITS_OF_INTERVAL[kind])
    if kind in (Kind.CHAR, Kind.VARCHAR):
        return lambda value: document_text(value) if isinstance(value, list) else scalar_text(value)
    if kind is Kind.BOOLEAN:
        return lambda value: java_text.boolean(scalar_text(value))
    if kind in (Kind.FLOAT, Kind.DOUBLE):
        return _doubles
    if kind is Kind.DECIMAL:
        return _decimals(of)
    if kind in (Kind.BINARY, Kind.VARBINARY):
        return _bytes
    if kind is Kind.DATE:
        return lambda value: java_text.date_days(scalar_text(value))
    if kind is Kind.TIME:
        return lambda value: java_text.time_ms(scalar_text(value)) * 1000
    if kind in (Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ):
        standard, has_zone, precision = reading.standard, kind is Kind.TIMESTAMP_LTZ, of.precision
        return lambda value: java_text.timestamp_stored(
            java_text.timestamp_ns(scalar_text(value), standard, has_zone=has_zone), precision
        )
    return _collection(of, reading)


def _collection(of: SqlType, reading: JsonReading) -> Converter:
    if of.kind is Kind.ROW:
        names = [each.name for each in of.fields]
        row = _row([(each.name, each.type) for each in of.fields], reading)
        return lambda value: dict(zip(names, row(value), strict=True))
    if of.kind is Kind.ARRAY:
        assert of.element is not None
        element = converter(of.element, reading)

        def array(value: Any) -> list[Any]:
            if not isinstance(value, list) or isinstance(value, Object):
                raise ValueError("it is no array")
            return [element(each) for each in value]

        return array
    if of.kind is Kind.NULL:
        return lambda value: None
    assert of.element is not None, of
    key, value_type = (of.element, SqlType(Kind.INTEGER)) if of.kind is Kind.MULTISET else (of.key, of.element)
    check_key(key, of)
    convert = converter(value_type, reading)

    def entries(value: Any) -> list[tuple[str, Any]]:
        if not isinstance(value, Object):
            raise ValueError("it is no object")
        return list({scalar_text(name): convert(each) for name, each in value}.items())

    return entries


def check_key(key: SqlType | None, of: SqlType) -> None:
    if key is None or key.kind not in (Kind.CHAR, Kind.VARCHAR):
        raise NotSupported(f"the JSON format has only texts as keys of a map, not those of {of}.")


def _integers(bits: int) -> Converter:
    # Jackson casts a number with a fraction to INT and BIGINT, but not to the smaller ones.
    top = 1 << (bits - 1)

    def convert(value: Any) -> int:
        if isinstance(value, Real) and bits >= 32:
            number = float(value)
            if not -top <= number <= top - (bits == 32):
                raise ValueError(f"{value} is out of range")
            return min(int(number), top - 1)
        if isinstance(value, Whole):
            return java_text.in_range(int(value), bits)
        return java_text.integer(scalar_text(value), bits)

    return convert


def _doubles(value: Any) -> float:
    if isinstance(value, Word):
        raise ValueError(f"{value} is no JSON number")
    return java_text.double(scalar_text(value))


def _decimals(of: SqlType) -> Converter:
    precision, scale = of.precision, of.scale

    def convert(value: Any) -> Decimal | None:
        if not isinstance(value, str) or isinstance(value, Word):
            raise ValueError("it is neither a number nor a text")
        return java_text.fit_decimal(java_text.exact_decimal(java_text.trim(value)), precision, scale)

    return convert


def _bytes(value: Any) -> bytes:
    if not isinstance(value, str) or isinstance(value, Whole | Real | Word):
        raise ValueError("it is no text")
    return java_text.bytes_of(value)
