"""From columns as JSON was read to columns of a table: a whole column at a time, and what is odd in it value by value.

Each function gives the column, and the places whose values do not fit, where it has null: those rows have to be left
out or read again. The rules are those of `exact`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from streamkit.delivery.convert.exact import Bad, leaf_coercion
from streamkit.delivery.convert.shapes import Leaf, ListOf, Rules, Shape, StructOf
from streamkit.delivery.convert.times import MILLISECONDS_FROM

Quick = Callable[[pa.Array], pa.Array]

_EXACT_DOUBLE: Final = (1 << 53) - 1  # integers up to here, and no others, are the same as doubles
_LONG_MAX: Final = (1 << 63) - 1
_LONG_DIGITS: Final = 19
_FIRST_DAY: Final = -719_162  # 0001-01-01: Arrow knows a year 0
_VALUES_AT_ONCE: Final = 128  # looking at each of so many costs as much as a few tries at all of them

_DATE: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_INTEGER: Final = r"^-?[0-9]{1,18}$"
_NUMBER: Final = r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?$"
_TIME: Final = r"[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?"
_SPACED: Final = rf"^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}} {_TIME}$"
_SPACED_OR_ISO: Final = rf"^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}(?: {_TIME}|T{_TIME}Z?)$"
_STAMP_BYTES: Final = 26  # with six digits of a second


class _Odd(Exception):
    """Not all values of a column are of the kind that is quickly converted."""


def converted(shape: Shape, array: pa.Array, rules: Rules) -> tuple[pa.Array, list[int]]:
    """`array` is of the type that `reading.Reading` asks for the shape; the result has the shape's."""
    match shape:
        case Leaf():
            return _leaf(shape, array, rules)
        case StructOf():
            return _struct(shape, array, rules)
        case ListOf():
            return _list(shape, array, rules)
    raise AssertionError(f"{shape.path}: maps are read value by value")


def _struct(shape: StructOf, array: pa.StructArray, rules: Rules) -> tuple[pa.Array, list[int]]:
    members, wrong = [], set[int]()
    for member, values in zip(shape.members, array.flatten(), strict=True):
        made, bad = converted(member.shape, values, rules)
        wrong.update(bad)
        if member.is_required and made.null_count:
            wrong.update(_places(pc.and_(pc.is_null(made), pc.is_valid(array))))
        members.append(made)
    mask = pc.is_null(array) if array.null_count else None
    fields = [pa.field(member.name, member.shape.type) for member in shape.members]
    return pa.StructArray.from_arrays(members, fields=fields, mask=mask), sorted(wrong)


def _list(shape: ListOf, array: pa.ListArray, rules: Rules) -> tuple[pa.Array, list[int]]:
    if array.offset:  # `values` and `offsets` are those of the whole, of which this is a part
        array = pa.concat_arrays([array, array[:0]])
    items, bad = converted(shape.item, array.values, rules)
    if shape.is_item_required and items.null_count:
        bad = sorted({*bad, *_places(pc.is_null(items))})
    mask = pc.is_null(array) if array.null_count else None
    made = pa.ListArray.from_arrays(array.offsets, items, type=shape.type, mask=mask)
    if not bad:
        return made, []
    parents = pc.list_parent_indices(array).take(pa.array(bad, pa.int64()))
    return made, pc.unique(parents).to_pylist()


# -- leaves -----------------------------------------------------------------------------------------------------------


def _leaf(leaf: Leaf, array: pa.Array, rules: Rules) -> tuple[pa.Array, list[int]]:
    types, was = pa.types, array.type
    if was == leaf.type and leaf.kind not in ("text", "floating", "integer"):
        return array, []
    match leaf.kind:
        case "integer" if types.is_int64(was):
            return _integers(leaf, array)
        case "floating" if types.is_float64(was):
            return _doubles(leaf, array)
        case "decimal" if types.is_int64(was):
            return _whole_decimals(leaf, array)
        case "decimal" if types.is_floating(was):
            return _decimals(leaf, array)
        case "timestamp" if types.is_floating(was):
            return _epochs(leaf, array)
        case "text" if types.is_string(was):
            return _cut(leaf, array), []
    quick = _QUICK.get((leaf.kind, str(was)))
    exact = leaf_coercion(leaf, rules)
    if leaf.kind == "timestamp" and ((types.is_int64(was) and rules.stamps.is_hive) or not rules.stamps.are_plain):
        quick = None
    wrong: list[int] = []
    if quick is None:
        return _value_by_value(leaf, array, exact, 0, wrong), wrong
    bound = quick
    return _in_pieces(leaf, array, lambda part: bound(leaf, part, rules), exact, 0, wrong), wrong


def _in_pieces(
    leaf: Leaf, array: pa.Array, quick: Quick, exact: Callable[[Any], Any], start: int, wrong: list[int]
) -> pa.Array:
    try:
        return quick(array)
    except (_Odd, pa.ArrowInvalid):
        pass
    if len(array) <= _VALUES_AT_ONCE:
        return _value_by_value(leaf, array, exact, start, wrong)
    pieces = [
        _in_pieces(leaf, array[place : place + _VALUES_AT_ONCE], quick, exact, start + place, wrong)
        for place in range(0, len(array), _VALUES_AT_ONCE)
    ]
    return pa.concat_arrays(pieces)


def _value_by_value(leaf: Leaf, array: pa.Array, exact: Callable[[Any], Any], start: int, wrong: list[int]) -> pa.Array:
    found: list[Any] = []
    for place, value in enumerate(array.to_pylist(), start):
        try:
            found.append(None if value is None else exact(value))
        except Bad:
            found.append(None)
            wrong.append(place)
    return pa.array(found, leaf.type)


def _integers(leaf: Leaf, array: pa.Array) -> tuple[pa.Array, list[int]]:
    if leaf.type == array.type:
        return array, []
    try:
        return array.cast(leaf.type), []
    except pa.ArrowInvalid:
        fits = pc.and_(pc.greater_equal(array, leaf.low), pc.less_equal(array, leaf.high))
        return _where(fits, array).cast(leaf.type), _places(pc.invert(fits))


def _doubles(leaf: Leaf, array: pa.Array) -> tuple[pa.Array, list[int]]:
    made = array if leaf.type == array.type else array.cast(leaf.type, safe=False)
    finite = pc.is_finite(made)
    if pc.all(finite, min_count=0).as_py():
        return made, []
    return _where(finite, made), _places(pc.invert(finite))


def _epochs(leaf: Leaf, array: pa.Array) -> tuple[pa.Array, list[int]]:
    """Of doubles, as long as they are exact."""
    is_ms = pc.greater_equal(array, float(MILLISECONDS_FROM))
    scaled = pc.if_else(is_ms, pc.multiply(array, 1_000.0), pc.multiply(array, 1_000_000.0))
    rounded = pc.round(scaled, round_mode="half_to_even")
    low, high = max(leaf.low, -_EXACT_DOUBLE), min(leaf.high, _EXACT_DOUBLE)
    fits = pc.and_(pc.greater_equal(rounded, float(low)), pc.less_equal(rounded, float(high)))
    made = _where(fits, rounded).cast(pa.int64()).cast(leaf.type)
    return made, _places(pc.invert(fits))


def _whole_decimals(leaf: Leaf, array: pa.Array) -> tuple[pa.Array, list[int]]:
    factor = 10**leaf.type.scale
    most = min(10**leaf.type.precision - 1, _LONG_MAX) // factor
    fits = pc.and_(pc.greater_equal(array, -most), pc.less_equal(array, most))
    scaled = array if factor == 1 or not most else pc.multiply(_where(fits, array), factor)
    return _unscaled(leaf, _where(fits, scaled)), _places(pc.invert(fits))


def _decimals(leaf: Leaf, array: pa.Array) -> tuple[pa.Array, list[int]]:
    """Of doubles that are the nearest to a decimal of the column's scale: then the text they were read from is, when it
    is rounded, this decimal and no other."""
    factor = float(10**leaf.type.scale)
    scaled = pc.round(pc.multiply(array, factor))
    most = float(min(10**leaf.type.precision - 1, _EXACT_DOUBLE))
    fits = pc.and_(
        pc.equal(pc.divide(scaled, factor), array),
        pc.and_(pc.greater_equal(scaled, -most), pc.less_equal(scaled, most)),
    )
    return _unscaled(leaf, _where(fits, scaled).cast(pa.int64())), _places(pc.invert(fits))


def _unscaled(leaf: Leaf, array: pa.Array) -> pa.Array:
    """Integers as the digits of decimals."""
    wide = array.cast(pa.decimal128(_LONG_DIGITS, 0))
    return pa.Array.from_buffers(leaf.type, len(wide), wide.buffers(), wide.null_count, wide.offset)


def _cut(leaf: Leaf, array: pa.Array) -> pa.Array:
    length = leaf.length
    if length is None or (pc.max(pc.binary_length(array)).as_py() or 0) <= length:
        return array
    return pc.utf8_slice_codeunits(array, 0, length)


def _all_match(array: pa.Array, pattern: str) -> None:
    if not pc.all(pc.match_substring_regex(array, pattern), min_count=0).as_py():
        raise _Odd


def _text_to_integer(leaf: Leaf, array: pa.Array, rules: Rules) -> pa.Array:
    _refuse_under_hive(rules)
    _all_match(array, _INTEGER)
    return array.cast(pa.int64()).cast(leaf.type)


def _text_to_double(leaf: Leaf, array: pa.Array, rules: Rules) -> pa.Array:
    _refuse_under_hive(rules)
    _all_match(array, _NUMBER)
    made, wrong = _doubles(leaf, array.cast(pa.float64()))
    if wrong:
        raise _Odd
    return made


def _text_to_boolean(leaf: Leaf, array: pa.Array, rules: Rules) -> pa.Array:
    _refuse_under_hive(rules)
    _all_match(array, "^(?:true|false)$")
    return pc.equal(array, "true")


def _text_to_date(leaf: Leaf, array: pa.Array, rules: Rules) -> pa.Array:
    _all_match(array, _DATE)
    made = array.cast(leaf.type)
    if (pc.min(made.cast(pa.int32())).as_py() or 0) < _FIRST_DAY:
        raise _Odd
    return made


def _text_to_stamp(leaf: Leaf, array: pa.Array, rules: Rules) -> pa.Array:
    plain = pa.timestamp("us")
    lengths = pc.min_max(pc.binary_length(array)).as_py()
    made = None
    if lengths["min"] is None or (lengths["min"] >= 19 and lengths["max"] <= _STAMP_BYTES and not rules.stamps.is_hive):
        # Text of this length that Arrow reads as a time without a zone has a date and a time with seconds.
        try:
            made = array.cast(plain)
        except pa.ArrowInvalid:
            made = None
    if made is None:
        _all_match(array, _SPACED if rules.stamps.is_hive else _SPACED_OR_ISO)
        digits = pc.utf8_rtrim(array, "Z").cast(pa.binary())
        made = pc.binary_slice(digits, 0, _STAMP_BYTES).cast(pa.string()).cast(plain)
    return _within(leaf, made.cast(pa.int64())).cast(leaf.type)


def _integer_to_stamp(leaf: Leaf, array: pa.Array, rules: Rules) -> pa.Array:
    is_ms = pc.greater_equal(array, MILLISECONDS_FROM)
    factors = pc.if_else(is_ms, pa.scalar(1_000, pa.int64()), pa.scalar(1_000_000, pa.int64()))
    return _within(leaf, pc.multiply_checked(array, factors)).cast(leaf.type)


def _within(leaf: Leaf, array: pa.Array) -> pa.Array:
    bounds = pc.min_max(array).as_py()
    if bounds["min"] is not None and not (leaf.low <= bounds["min"] and bounds["max"] <= leaf.high):
        raise _Odd
    return array


def _to_text(leaf: Leaf, array: pa.Array, rules: Rules) -> pa.Array:
    return _cut(leaf, array.cast(pa.string()))


def _to_binary(leaf: Leaf, array: pa.Array, rules: Rules) -> pa.Array:
    made = array.cast(pa.binary())
    if leaf.length is not None and not pc.all(pc.equal(pc.binary_length(made), leaf.length), min_count=0).as_py():
        raise _Odd
    return made


def _refuse_under_hive(rules: Rules) -> None:
    if not rules.is_lenient:
        raise _Odd


_QUICK: Final[dict[tuple[str, str], Callable[[Leaf, pa.Array, Rules], pa.Array]]] = {
    ("boolean", "string"): _text_to_boolean,
    ("integer", "string"): _text_to_integer,
    ("floating", "string"): _text_to_double,
    ("text", "int64"): _to_text,
    ("text", "bool"): _to_text,
    ("binary", "string"): _to_binary,
    ("date", "string"): _text_to_date,
    ("timestamp", "string"): _text_to_stamp,
    ("timestamp", "int64"): _integer_to_stamp,
}


# -- what a destination wants instead ----------------------------------------------------------------------------------


def as_type(array: pa.Array, type_: pa.DataType) -> pa.Array:
    """The same values as the type of a table: wider text and lists, other units of time (nanoseconds are cut), fields
    that have to have values. Those have them, or are in what is null itself."""
    types = pa.types
    if array.type == type_:
        return array
    mask = pc.is_null(array) if array.null_count else None
    if types.is_struct(type_):
        fields = list(type_)
        members = [_for_field(each, field) for each, field in zip(array.flatten(), fields, strict=True)]
        return pa.StructArray.from_arrays(members, fields=fields, mask=mask)
    if types.is_map(type_):
        items = _for_field(array.items, type_.item_field)
        return pa.MapArray.from_arrays(array.offsets, as_type(array.keys, type_.key_type), items, type=type_, mask=mask)
    if types.is_list(type_) or types.is_large_list(type_):
        items = _for_field(array.values, type_.value_field)
        if types.is_list(type_):
            return pa.ListArray.from_arrays(array.offsets, items, type=type_, mask=mask)
        return pa.LargeListArray.from_arrays(array.offsets.cast(pa.int64()), items, type=type_, mask=mask)
    return array.cast(type_, safe=False)


def _for_field(array: pa.Array, field: pa.Field) -> pa.Array:
    made = as_type(array, field.type)
    if field.nullable or not made.null_count:
        return made
    if pa.types.is_struct(made.type):
        members = [made.field(place) for place in range(made.type.num_fields)]
        return pa.StructArray.from_arrays(members, fields=list(made.type))
    if pa.types.is_map(made.type):
        return pa.MapArray.from_arrays(made.offsets, made.keys, made.items, type=made.type)
    if pa.types.is_nested(made.type):
        return type(made).from_arrays(made.offsets, made.values, type=made.type)
    _, *values = made.buffers()
    return pa.Array.from_buffers(made.type, len(made), [None, *values], 0, made.offset)


# -- places -----------------------------------------------------------------------------------------------------------


def _where(mask: pa.BooleanArray, array: pa.Array) -> pa.Array:
    return pc.if_else(mask, array, pa.scalar(None, array.type))


def _places(mask: pa.BooleanArray) -> list[int]:
    found: list[int] = pc.indices_nonzero(mask).to_pylist()
    return found
