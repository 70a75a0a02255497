"""Columns of texts to typed columns, by whole columns.

What Arrow reads just as Flink does is converted here; everything else is only found (`Leaf.odd`), for somebody to read
it exactly, one by one. So a form that Arrow would take and Flink would not must be told from the bytes beforehand.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamkit_sql.tables.source import storage
from streamkit_sql.types import INTEGERS, Kind, SqlType

Indexes = NDArray[np.intp]
_NONE: Final[Indexes] = np.empty(0, np.intp)


class Leaf(NamedTuple):
    """`odd` are the indexes of values that are not in `array` but NULL there."""

    array: pa.Array
    odd: Indexes


class Texts:
    """The bytes of a text column. Where it is NULL its value is empty, as DuckDB and Arrow's kernels leave it."""

    __slots__ = ("array", "data", "starts", "stops")

    def __init__(self, array: pa.StringArray) -> None:
        if array.null_count:
            # Only a copy is sure to have no bytes at NULLs; those that DuckDB made have none.
            lengths = pc.binary_length(array)
            if pc.sum(lengths, min_count=0).as_py() != _span(array):
                array = pa.array(array.to_pylist(), pa.string())
        self.array = array
        buffers = array.buffers()
        offsets = (
            np.frombuffer(buffers[1], np.int32, len(array) + 1, array.offset * 4)
            if len(array)
            else np.zeros(1, np.int32)
        )
        whole = np.frombuffer(buffers[2], np.uint8) if buffers[2] is not None else np.empty(0, np.uint8)
        self.data = whole[offsets[0] : offsets[-1]]
        self.starts = offsets[:-1] - offsets[0]
        self.stops = offsets[1:] - offsets[0]

    def only(self, table: NDArray[np.bool_]) -> bool:
        """Whether all bytes are of the class."""
        return bool(table[self.data].all())

    def filled(self) -> NDArray[np.bool_]:
        filled: NDArray[np.bool_] = self.stops > self.starts
        return filled

    def first_bytes(self, rows: Indexes) -> NDArray[np.uint8]:
        """Of values that are not empty."""
        found: NDArray[np.uint8] = self.data[self.starts[rows]]
        return found


def _span(array: pa.Array) -> int:
    offsets = np.frombuffer(array.buffers()[1], np.int32, len(array) + 1, array.offset * 4)
    return int(offsets[-1] - offsets[0])


def byte_class(characters: bytes) -> NDArray[np.bool_]:
    table = np.zeros(256, np.bool_)
    table[list(characters)] = True
    return table


_WHOLE = byte_class(b"-0123456789")
_REAL = byte_class(b"+-.0123456789eE")
_WIDTHS: Final = {Kind.TINYINT: pa.int8(), Kind.SMALLINT: pa.int16(), Kind.INTEGER: pa.int32(), Kind.BIGINT: pa.int64()}
_NUMBER = r"^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$"


def convert(of: SqlType, texts: pa.StringArray, standard: str = "SQL") -> Leaf:
    """A scalar column that is no text. `standard` is the form of timestamps: SQL or ISO-8601."""
    kind = of.kind
    if kind in INTEGERS or kind in (Kind.INTERVAL_MS, Kind.INTERVAL_MONTHS):
        return _integers(storage(of), texts)
    if kind is Kind.BOOLEAN:
        return Leaf(pc.equal(pc.utf8_lower(pc.utf8_trim(texts, "".join(map(chr, range(33))))), "true"), _NONE)
    if kind in (Kind.FLOAT, Kind.DOUBLE):
        return _checked(storage(of), texts, _REAL, _NUMBER)
    if kind is Kind.DECIMAL:
        return _decimals(of, texts)
    if kind in (Kind.BINARY, Kind.VARBINARY):
        return _bytes(texts)
    if kind is Kind.DATE:
        return _patterned(pa.date32(), texts, r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")
    if kind is Kind.TIME:
        # Arrow has no cast from texts to times of a day: with a day before it, it is a timestamp.
        moments = pc.binary_join_element_wise("1970-01-01", texts, " ")
        leaf = _patterned(pa.timestamp("us"), moments, r"^1970-01-01 [0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?$")
        milliseconds = _floored(leaf.array.view(pa.int64()), 1000)  # Flink's formats keep no more
        return Leaf(milliseconds.view(pa.time64("us")), leaf.odd)
    assert kind in (Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ), of
    return _timestamps(of, texts, standard)


def _integers(target: pa.DataType, texts: pa.StringArray) -> Leaf:
    return _checked(target, texts, _WHOLE, r"^-?[0-9]+$")


def _checked(target: pa.DataType, texts: pa.StringArray, allowed: NDArray[np.bool_], pattern: str) -> Leaf:
    """Arrow's cast, after it is sure that Arrow's own extras (hexadecimal numbers, `inf`) do not occur."""
    if Texts(texts).only(allowed):
        try:
            array = texts.cast(target)
            if not pa.types.is_floating(target) or _is_finite(array):
                return Leaf(array, _NONE)
        except pa.ArrowInvalid:
            pass
    good = pc.fill_null(pc.match_substring_regex(texts, pattern), True)
    return _one_by_one(target, texts, good)


def _is_finite(array: pa.Array) -> bool:
    return bool(pc.all(pc.is_finite(array), min_count=0).as_py())


def _one_by_one(target: pa.DataType, texts: pa.StringArray, good: pa.BooleanArray) -> Leaf:
    """Those that are good by their pattern; among them the ones that Arrow refuses are found by halving."""
    kept = pc.if_else(good, texts, None)
    refused = _refused(target, kept, 0)
    if refused:
        good = pc.and_(good, pa.array(~np.isin(np.arange(len(texts)), refused)))
        kept = pc.if_else(good, texts, None)
    array = kept.cast(target)
    odd = np.flatnonzero(~good.to_numpy(zero_copy_only=False))
    return Leaf(array, odd)


def _refused(target: pa.DataType, texts: pa.StringArray, start: int) -> list[int]:
    try:
        array = texts.cast(target)
        if not pa.types.is_floating(target) or _is_finite(array):
            return []
    except pa.ArrowInvalid:
        pass
    if len(texts) == 1:
        return [start]
    middle = len(texts) // 2
    return _refused(target, texts[:middle], start) + _refused(target, texts[middle:], start + middle)


def _decimals(of: SqlType, texts: pa.StringArray) -> Leaf:
    target = storage(of)
    if Texts(texts).only(_REAL):
        try:
            return Leaf(texts.cast(target), _NONE)
        except pa.ArrowInvalid:
            pass
    # Only what fits without rounding; rounding and overflow are Java's.
    whole, scale = of.precision - of.scale, of.scale
    fraction = rf"(\.[0-9]{{1,{scale}}})?" if scale else ""
    digits = f"[0-9]{{1,{whole}}}" if whole else "0"
    good = pc.fill_null(pc.match_substring_regex(texts, f"^-?{digits}{fraction}$"), True)
    return _one_by_one(target, texts, good)


def _bytes(texts: pa.StringArray) -> Leaf:
    values: list[bytes | None] = []
    odd = []
    for index, text in enumerate(texts.to_pylist()):
        try:
            # A number or a word stands for something that was no text: whoever has the record can tell.
            if text is not None and (
                text.lower() in ("true", "false", "nan", "infinity", "inf") or text[:1] in "-0123456789[{"
            ):
                raise binascii.Error
            values.append(None if text is None else base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError):
            values.append(None)
            odd.append(index)
    return Leaf(pa.array(values, pa.binary()), np.array(odd, np.intp))


def _patterned(target: pa.DataType, texts: pa.StringArray, pattern: str) -> Leaf:
    good = pc.fill_null(pc.match_substring_regex(texts, pattern), True)
    return _one_by_one(target, texts, good)


def _timestamps(of: SqlType, texts: pa.StringArray, standard: str) -> Leaf:
    has_zone = of.kind is Kind.TIMESTAMP_LTZ
    separator = " " if standard == "SQL" else "T"
    target = storage(of)
    shape = Texts(texts)
    filled = shape.filled()
    if not filled.any():
        if texts.null_count == len(texts):
            return Leaf(pa.nulls(len(texts), target), _NONE)
    elif filled.sum() == len(texts) - texts.null_count:
        starts = shape.starts[filled]
        lengths = shape.stops[filled] - starts - has_zone
        digits_max = int(lengths.max()) - 20
        unit = "ns" if digits_max > 6 or target.unit == "ns" else "us"
        if (
            lengths.min() >= 19
            and digits_max <= 9
            and (shape.data[starts + 10] == ord(separator)).all()
            and (not has_zone or (shape.data[shape.stops[filled] - 1] == ord("Z")).all())
            and _fractions(shape, starts, lengths)
        ):
            try:
                parsed = texts.cast(pa.timestamp(unit, "UTC" if has_zone else None))
                return Leaf(_cut_digits(parsed, of, digits_max, target), _NONE)
            except pa.ArrowInvalid:
                pass
    zone = "Z" if has_zone else ""
    digits = 9 if target.unit == "ns" else 6
    pattern = (
        rf"^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}{separator}[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}(\.[0-9]{{1,{digits}}})?{zone}$"
    )
    leaf = _patterned(pa.timestamp(target.unit, "UTC" if has_zone else None), texts, pattern)
    return Leaf(_cut_digits(leaf.array, of, digits, target), leaf.odd)


def _fractions(shape: Texts, starts: NDArray[np.int32], lengths: NDArray[np.int32]) -> bool:
    """Behind the seconds there is nothing, or a point and a digit."""
    longer = starts[lengths > 19]
    return not len(longer) or bool((lengths != 20).all() and (shape.data[longer + 19] == ord(".")).all())


def _cut_digits(array: pa.Array, of: SqlType, digits: int, target: pa.DataType) -> pa.Array:
    """To the column's digits, and naive."""
    step = 10 ** ((9 if array.type.unit == "ns" else 6) - of.precision) if digits > of.precision else 1
    ticks = array.view(pa.int64())
    if step > 1:
        ticks = _floored(ticks, step)
    if array.type.unit != target.unit:
        ticks = _floored(ticks, 1000, scale=False)
    return ticks.view(target)


def _floored(ticks: pa.Int64Array, step: int, *, scale: bool = True) -> pa.Int64Array:
    """Rounded down to a multiple of `step`, or to how many steps it is."""
    values = np.frombuffer(ticks.buffers()[1], np.int64, len(ticks), ticks.offset * 8)
    cut = np.floor_divide(values, step)
    if scale:
        cut *= step
    mask = None if not ticks.null_count else pc.is_null(ticks).to_numpy(zero_copy_only=False)
    return pa.array(cut, pa.int64(), mask=mask)


def number_like(texts: pa.StringArray, shape: Texts) -> Indexes:
    """Values that look like a number with a fraction or exponent: as a text they may have been written otherwise."""
    starting = _starting(shape, b"-0123456789")
    if not len(starting):
        return _NONE
    found = pc.match_substring_regex(
        texts.take(pa.array(starting)), r"^-?[0-9]+(\.[0-9]+([eE][+-]?[0-9]+)?|[eE][+-]?[0-9]+)$"
    )
    numbers: Indexes = starting[found.to_numpy(zero_copy_only=False)]
    return numbers


def bracketed(shape: Texts) -> Indexes:
    """Values that begin like an object or an array."""
    return _starting(shape, b"[{")


def _starting(shape: Texts, characters: bytes) -> Indexes:
    filled = np.flatnonzero(shape.filled())
    found: Indexes = filled[byte_class(characters)[shape.first_bytes(filled)]]
    return found
