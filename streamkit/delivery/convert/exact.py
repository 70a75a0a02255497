"""What conversion means, one record at a time. `fast` does the same for many at once, and leaves to this what it does
not understand; where they differed, this would be right.

Where rules come from: [D] AWS's guide and API reference, [P] what floci saw AWS do (its PRs 3333 and 3521, and their
tests), [E] error documents of AWS that others published. What is not marked is our choice, AWS's being unknown.

- A record is one or more JSON objects, with nothing but space between them [D]: a row each. One bad document makes
  the whole record bad. Arrays of documents are refused [D]; so are a byte order mark, and text that is not UTF-8.
- Missing members are null, unknown ones are ignored [P]. Of several members with one name, the last counts.
- OpenX reads numbers and booleans from text [P, but for `0x` of OpenX's source], puts what is no array into an array of
  one, fills a struct from an array by position, and gives text the JSON of an object or array [P], with keys in lower
  case [P] and no space between. Hive refuses these four [P].
- Both write numbers as text [P]: integers as they are, others as Java writes a double.
- A number with a fraction or an exponent is refused for integer columns, as is whatever does not fit. Nothing is
  rounded but decimals, half up, to the column's scale [P: Hive's decimals]; doubles that would be infinite are refused.
- char(n) and varchar(n) cut text to n characters, as Hive does. Binary columns take the UTF-8 of text.
"""

from __future__ import annotations

import decimal
import re
import struct
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from itertools import accumulate, islice
from typing import Any, Final

import msgspec

from streamkit.delivery.convert.shapes import Leaf, ListOf, MapOf, Rules, Shape, StructOf
from streamkit.delivery.convert.times import (
    NO_TIMESTAMP,
    days,
    stamp_of_float,
    stamp_of_integer,
    stamp_of_text,
)
from streamkit.model.limits import CONVERSION_DOCUMENTS_MAX, RECORD_DEPTH_MAX

PARSE_ERROR: Final = "DataFormatConversion.ParseError"
MALFORMED_DATA: Final = "DataFormatConversion.MalformedData"

EMPTY: Final = "The record was empty or contained only whitespace."  # [E]
PRIMITIVE: Final = "The input JSON contained a primitive at the top level. The top level must be an object or array."
HIVE_NO_TEXT: Final = "One or more fields have incorrect format. Exception when validating field (root)"  # [P]

Coerce = Callable[[Any], Any]


class Bad(Exception):
    """The record cannot be converted; code and message are those of AWS's error document."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def mismatch(detail: str) -> Bad:
    return Bad(MALFORMED_DATA, f"Data does not match the schema. {detail}")


def no_number(text: str) -> Bad:
    """Java's NumberFormatException, which AWS passes on [P]."""
    return mismatch(f'For input string: "{_shown(text)}"')


class Float:
    """A number with a fraction or an exponent, as it was written."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


decode: Final = msgspec.json.Decoder(float_hook=Float).decode


class Exact:
    """Reads the records of one table."""

    def __init__(self, root: StructOf, rules: Rules) -> None:
        self._root = _by_name(_members(root, rules), rules)

    def rows(self, record: bytes) -> list[dict[str, Any]]:
        """One for each document; values are what pyarrow takes for the columns' types. Raises Bad."""
        rows = []
        try:
            for document in documents(record):
                if isinstance(document, list):
                    raise mismatch("An array of JSON documents is not a valid input.")
                if not isinstance(document, dict):
                    raise Bad(MALFORMED_DATA, PRIMITIVE)
                rows.append(self._root(document))
        except RecursionError:
            raise _too_deep() from None
        return rows


# -- documents --------------------------------------------------------------------------------------------------------

_BETWEEN: Final = re.compile(rb"\}[ \t\n\r]*(?=\{)")
# Strings end at the end of the text where they are not closed, and what was looked at is not looked at again: the time
# is linear in the size, whatever the text is.
_STRINGS: Final = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_MARKS: Final = re.compile(_STRINGS.pattern + rb"|[][{}]", re.DOTALL)
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


def documents(record: bytes) -> list[Any]:
    """The JSON documents of a record, at least one, decoded. Raises Bad."""
    if not record.strip():
        raise Bad(MALFORMED_DATA, EMPTY)
    if record.count(b"[") + record.count(b"{") > RECORD_DEPTH_MAX and _depth(record) > RECORD_DEPTH_MAX:
        raise _too_deep()
    try:
        return [decode(record)]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if "trailing characters" not in str(error):
            raise _malformed(str(error)) from None
    for split in (likely_documents, _split):
        pieces = list(islice(split(record), CONVERSION_DOCUMENTS_MAX + 1))
        if len(pieces) > CONVERSION_DOCUMENTS_MAX:
            raise Bad(MALFORMED_DATA, f"The record has more than {CONVERSION_DOCUMENTS_MAX:,} JSON documents.")
        try:
            return [decode(piece) for piece in pieces]
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            why = str(error)
    raise _malformed(why)


def _malformed(why: str) -> Bad:
    """AWS passes on what Jackson says [P]; we what our parser says."""
    return Bad(PARSE_ERROR, f"Encountered malformed JSON. {why}")


def _too_deep() -> Bad:
    return Bad(PARSE_ERROR, f"Encountered malformed JSON. Documents nest no deeper than {RECORD_DEPTH_MAX} here.")


def _depth(record: bytes) -> int:
    """Of arrays and objects."""
    brackets = _STRINGS.sub(b"", record).translate(_STEPS, _NO_BRACKETS)
    return max(accumulate(memoryview(brackets).cast("b")), default=0)


def likely_documents(record: bytes) -> Iterator[bytes]:
    """Split where an object would not go on. That may be in a string: then a part is no JSON."""
    start = 0
    for between in _BETWEEN.finditer(record):
        yield record[start : between.end()]
        start = between.end()
    yield record[start:]


def _split(record: bytes) -> Iterator[bytes]:
    """After each object or array that is not in another."""
    depth = start = 0
    for mark in _MARKS.finditer(record):
        first = record[mark.start()]
        if first in b"[{":
            depth += 1
        elif first in b"]}":
            depth -= 1
            if depth <= 0:
                yield record[start : mark.end()]
                depth, start = 0, mark.end()
    rest = record[start:]
    if rest.strip():
        yield rest


# -- values -----------------------------------------------------------------------------------------------------------


def coercion(shape: Shape, rules: Rules) -> Coerce:
    """From a value of `decode` that is not None to one that pyarrow takes for the shape's type. Raises Bad."""
    match shape:
        case Leaf():
            return leaf_coercion(shape, rules)
        case ListOf():
            return _list(shape, rules)
        case MapOf():
            return _map(shape, rules)
        case StructOf():
            return _struct(shape, rules)


def _list(shape: ListOf, rules: Rules) -> Coerce:
    item = _or_null(shape.item, rules, is_required=shape.is_item_required)

    def coerce(value: Any) -> list[Any]:
        if type(value) is not list:
            if not rules.is_lenient:
                raise mismatch("java.io.IOException: Start of Array expected")
            return [item(value)]
        return [item(each) for each in value]

    return coerce


def _map(shape: MapOf, rules: Rules) -> Coerce:
    """Keys that are not text are read from text by both: JSON has no others."""
    key = leaf_coercion(shape.key, rules, is_key=True)
    item = _or_null(shape.value, rules, is_required=shape.is_value_required)

    def coerce(value: Any) -> list[tuple[Any, Any]]:
        if type(value) is not dict:
            if not rules.is_lenient:
                raise mismatch("java.io.IOException: Start of Object expected")
            raise mismatch(f"Column {shape.path} of type map cannot hold {_json_name(value)}.")
        entries: dict[Any, Any] = {}
        for name, each in value.items():
            entries[key(name.lower() if rules.lowers_keys else name)] = item(each)
        return list(entries.items())

    return coerce


def _struct(shape: StructOf, rules: Rules) -> Coerce:
    members = _members(shape, rules)
    by_name = _by_name(members, rules)

    def coerce(value: Any) -> dict[str, Any]:
        if type(value) is dict:
            return by_name(value)
        if not rules.is_lenient:
            raise mismatch("java.io.IOException: Start of Object expected")
        if type(value) is not list:
            raise mismatch(f"Data is not JSONObject  but {_java_name(value)} with value {_shown(_plain(value))}")
        return {
            name: item(value[place] if place < len(value) else None) for place, (name, _, item) in enumerate(members)
        }

    return coerce


def _members(shape: StructOf, rules: Rules) -> list[tuple[str, str, Coerce]]:
    """Names, keys, and coercions that take None."""
    return [(each.name, each.key, _or_null(each.shape, rules, is_required=each.is_required)) for each in shape.members]


def _by_name(members: list[tuple[str, str, Coerce]], rules: Rules) -> Callable[[dict[str, Any]], dict[str, Any]]:
    key_of, keys_vary = rules.key_of, rules.keys_vary

    def coerce(value: dict[str, Any]) -> dict[str, Any]:
        if keys_vary:
            value = {key_of(name): each for name, each in value.items()}
        return {name: item(value.get(key)) for name, key, item in members}

    return coerce


def _or_null(shape: Shape, rules: Rules, *, is_required: bool) -> Coerce:
    item = coercion(shape, rules)

    def coerce(value: Any) -> Any:
        if value is not None:
            return item(value)
        if is_required:
            raise mismatch(f"Column {shape.path} has no value, and the table requires one.")
        return None

    return coerce


# -- leaves -----------------------------------------------------------------------------------------------------------

_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,40}")
_HEXADECIMAL: Final = re.compile(r"0[xX]([+-]?[0-9a-fA-F]{1,32})")
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_EPOCH_DAY: Final = date(1970, 1, 1)
_DECIMALS: Final = decimal.Context(
    prec=100, rounding=decimal.ROUND_HALF_UP, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN
)


def leaf_coercion(leaf: Leaf, rules: Rules, *, is_key: bool = False) -> Coerce:
    """`is_key`: from text, whatever the deserializer."""
    reads_text = rules.is_lenient or is_key
    match leaf.kind:
        case "boolean":
            return _boolean(leaf, reads_text)
        case "integer":
            return _integer(leaf, reads_text)
        case "floating":
            return _floating(leaf, reads_text)
        case "decimal":
            return _decimal(leaf, reads_text)
        case "text":
            return _text(leaf, rules)
        case "binary":
            return _binary(leaf)
        case "date":
            return _date(leaf)
        case "timestamp":
            return _timestamp(leaf, rules)


def _boolean(leaf: Leaf, reads_text: bool) -> Coerce:
    def coerce(value: Any) -> bool:
        if type(value) is bool:
            return value
        if type(value) is str and reads_text:
            if value.lower() in ("true", "false"):
                return value.lower() == "true"
            raise no_number(value)
        if not reads_text:
            raise mismatch(f"Current token ({_token(value)}) not of boolean type")
        raise _misfit(leaf, value)

    return coerce


def _integer(leaf: Leaf, reads_text: bool) -> Coerce:
    low, high = leaf.low, leaf.high

    def coerce(value: Any) -> int:
        if type(value) is int:
            found = value
        elif type(value) is str and reads_text:
            if _WHOLE.fullmatch(value):
                found = int(value)
            elif hexadecimal := _HEXADECIMAL.fullmatch(value):
                found = int(hexadecimal[1], 16)
            else:
                raise no_number(value)
        elif type(value) is Float:
            raise no_number(value.text)
        else:
            raise _misfit_number(leaf, value, reads_text)
        if not low <= found <= high:
            raise _out_of_range(leaf, str(found))
        return found

    return coerce


def _floating(leaf: Leaf, reads_text: bool) -> Coerce:
    is_single = leaf.name == "float"

    def coerce(value: Any) -> float:
        if type(value) is Float:
            text = value.text
        elif type(value) is int:
            text = str(value)
        elif type(value) is str and reads_text:
            if not _NUMBER.fullmatch(value):
                raise no_number(value)
            text = value
        else:
            raise _misfit_number(leaf, value, reads_text)
        found = float(text)
        if found - found != 0.0 or (is_single and not _is_single(found)):
            raise _out_of_range(leaf, text)
        return found

    return coerce


def _is_single(value: float) -> bool:
    try:
        struct.pack("<f", value)
    except OverflowError:
        return False
    return True


def _decimal(leaf: Leaf, reads_text: bool) -> Coerce:
    precision, scale = leaf.type.precision, leaf.type.scale
    unit = decimal.Decimal(1).scaleb(-scale)
    zero = decimal.Decimal(0).scaleb(-scale)

    def coerce(value: Any) -> decimal.Decimal:
        if type(value) is Float:
            text = value.text
        elif type(value) is int:
            text = str(value)
        elif type(value) is str and reads_text:
            if not _NUMBER.fullmatch(value):
                raise no_number(value)
            text = value
        else:
            raise _misfit_number(leaf, value, reads_text)
        try:
            found = _DECIMALS.create_decimal(text) if len(text) <= 100 else decimal.Decimal(text)
        except decimal.InvalidOperation:  # an exponent of 19 digits
            raise _out_of_range(leaf, text) from None
        # Told from the exponent: writing out the digits of 1e1000000000 would take all memory.
        if found.is_zero() or found.adjusted() < -scale - 1:
            return zero
        if found.adjusted() >= precision - scale:
            raise _out_of_range(leaf, text)
        found = found.quantize(unit, context=_DECIMALS)
        if found.adjusted() >= precision - scale:
            raise _out_of_range(leaf, text)
        return found

    return coerce


def _text(leaf: Leaf, rules: Rules) -> Coerce:
    length = leaf.length

    def coerce(value: Any) -> str:
        if type(value) is str:
            text = value
        elif type(value) in (dict, list):
            if not rules.is_lenient:
                raise Bad(MALFORMED_DATA, HIVE_NO_TEXT)
            text = _json(value, rules.lowers_keys)
        else:
            text = _plain(value)
        return text if length is None or len(text) <= length else text[:length]

    return coerce


def _binary(leaf: Leaf) -> Coerce:
    def coerce(value: Any) -> bytes:
        if type(value) is not str:
            raise _misfit(leaf, value)
        data = value.encode()
        if leaf.length is not None and len(data) != leaf.length:
            raise mismatch(f"Column {leaf.path} takes {leaf.length} bytes, not {len(data)}.")
        return data

    return coerce


def _date(leaf: Leaf) -> Coerce:
    def coerce(value: Any) -> date:
        if type(value) is not str:
            raise _misfit(leaf, value)
        found = days(value)
        if found is None:
            raise no_number(value)
        return _EPOCH_DAY + timedelta(days=found)

    return coerce


def _timestamp(leaf: Leaf, rules: Rules) -> Coerce:
    stamps, is_zoned, low, high = rules.stamps, leaf.is_zoned, leaf.low, leaf.high

    def coerce(value: Any) -> int:
        if type(value) in (bool, dict, list):
            raise _misfit(leaf, value)
        text = _written(value)
        if type(value) is str or stamps.is_hive:
            found = stamp_of_text(text, stamps, is_zoned=is_zoned)
            if found is None:
                raise mismatch(NO_TIMESTAMP)
        else:
            found = stamp_of_integer(value) if type(value) is int else stamp_of_float(float(text))
        if found is None or not low <= found <= high:
            raise _out_of_range(leaf, text)
        return found

    return coerce


# -- how values are written -------------------------------------------------------------------------------------------


def _written(value: Any) -> str:
    return value.text if type(value) is Float else str(value)


def _plain(value: Any) -> str:
    """A value that is no array and no object as text."""
    if type(value) is bool:
        return "true" if value else "false"
    return java_double(float(value.text)) if type(value) is Float else str(value)


def java_double(value: float) -> str:
    """As Java's `Double.toString`: at least one digit after the point, an exponent below 1e-3 and from 1e7 on."""
    if value - value != 0.0:
        return "Infinity" if value > 0 else "-Infinity"  # a number of JSON that is too large for a double
    if value == 0.0 or 1e-3 <= abs(value) < 1e7:
        text = repr(value)
        return text if "e" not in text else format(value, "f")
    digits, _, exponent = format(decimal.Decimal(repr(value)).normalize(), "e").partition("e")
    return f"{digits if '.' in digits else digits + '.0'}E{int(exponent)}"


def _json(value: Any, lowers_keys: bool) -> str:
    """JSON without space; numbers as they were written."""
    parts: list[str] = []
    _write(value, lowers_keys, parts.append)
    return "".join(parts)


def _write(value: Any, lowers_keys: bool, write: Callable[[str], None]) -> None:
    if type(value) is dict:
        mark = "{"
        for key, each in value.items():
            write(mark)
            write(msgspec.json.encode(key.lower() if lowers_keys else key).decode())
            write(":")
            _write(each, lowers_keys, write)
            mark = ","
        write("{}" if mark == "{" else "}")
    elif type(value) is list:
        mark = "["
        for each in value:
            write(mark)
            _write(each, lowers_keys, write)
            mark = ","
        write("[]" if mark == "[" else "]")
    elif type(value) is Float:
        write(value.text)
    else:
        write(msgspec.json.encode(value).decode())


# -- what is said of a bad value --------------------------------------------------------------------------------------


def _shown(text: str) -> str:
    return text if len(text) <= 200 else text[:200] + "..."


def _misfit(leaf: Leaf, value: Any) -> Bad:
    return mismatch(f"Column {leaf.path} of type {leaf.name} cannot hold {_json_name(value)}.")


def _misfit_number(leaf: Leaf, value: Any, is_lenient: bool) -> Bad:
    """Jackson's words under Hive [P for text]."""
    if is_lenient:
        return _misfit(leaf, value)
    return mismatch(f"Current token ({_token(value)}) not numeric, can not use numeric value accessors")


def _out_of_range(leaf: Leaf, text: str) -> Bad:
    return mismatch(f"Value {_shown(text)} is out of range for column {leaf.path} of type {leaf.name}.")


def _json_name(value: Any) -> str:
    names = {
        dict: "an object",
        list: "an array",
        str: "text",
        bool: "true or false",
        int: "a number",
        Float: "a number",
    }
    return names[type(value)]


def _java_name(value: Any) -> str:
    names = {bool: "Boolean", int: "Long", Float: "Double", str: "String"}
    return f"java.lang.{names[type(value)]}"


def _token(value: Any) -> str:
    """Jackson's names."""
    if type(value) is bool:
        return "VALUE_TRUE" if value else "VALUE_FALSE"
    names = {dict: "START_OBJECT", list: "START_ARRAY", str: "VALUE_STRING", int: "VALUE_NUMBER_INT"}
    return names.get(type(value), "VALUE_NUMBER_FLOAT")
