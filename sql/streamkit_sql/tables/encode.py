"""Rows to payloads, in Flink's forms: one document, line or value per row.

Rules: JsonRowDataSerializationSchema and CsvRowDataSerializationSchema of Flink 2.3, asked for what they write. Texts
are made by whole columns and joined once.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamkit_sql.errors import NotSupported
from streamkit_sql.tables import java_text, leaves
from streamkit_sql.tables.csv_format import CsvOptions, csv_options
from streamkit_sql.tables.definition import TableDefinition
from streamkit_sql.tables.options import is_true
from streamkit_sql.tables.raw_format import charset_of, packing_of
from streamkit_sql.tables.source import storage
from streamkit_sql.types import BYTES, INTEGERS, INTERVALS, TEXTS, Field, Kind, SqlType

_PLAIN = ~leaves.byte_class(bytes([*range(32), ord('"'), ord("\\"), *range(0xF0, 0x100)]))
_QUOTE_CHECKED_MAX: Final = 24  # Jackson quotes longer texts without a look
_ESCAPED: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
_TO_ESCAPE = re.compile('["\\\\\x00-\x1f\U00010000-\U0010ffff]')


class Encoder(Protocol):
    """`rows` has the columns that the table writes, in its order, of any Arrow type that stands for theirs."""

    def encode(self, rows: pa.Table) -> pa.BinaryArray:
        """One payload each."""
        ...


@dataclass(frozen=True, slots=True)
class JsonWriting:
    standard: str = "SQL"
    plain_decimals: bool = False
    ignore_nulls: bool = False


def encoder_of(table: TableDefinition) -> Encoder:
    """Of a table with a format of payloads; Parquet's are whole files (`parquet_bytes`)."""
    options = table.format_options
    if table.format == "json":
        return JsonEncoder(
            table.written,
            JsonWriting(
                options.get("timestamp-format.standard", "SQL"),
                is_true(options.get("encode.decimal-as-plain-number", "false")),
                is_true(options.get("encode.ignore-null-fields", "false")),
            ),
        )
    if table.format == "csv":
        return CsvEncoder(table.written, csv_options(options), in_files=table.connector == "filesystem")
    assert table.format == "raw", table.format
    return RawEncoder(table.written[0], dict(options))


def parquet_bytes(rows: pa.Table, columns: Sequence[Field]) -> bytes:
    """A whole file; timestamps in the unit of their columns."""
    import pyarrow.parquet as pq

    target = pa.schema([pa.field(each.name, each.type.arrow) for each in columns])
    sink = io.BytesIO()
    pq.write_table(rows.rename_columns([each.name for each in columns]).cast(target), sink)
    return sink.getvalue()


class JsonEncoder:
    def __init__(self, columns: Sequence[Field], writing: JsonWriting = JsonWriting()) -> None:
        self._columns = tuple(columns)
        self._writing = writing
        for each in columns:
            _check_json(each.type)

    def encode(self, rows: pa.Table) -> pa.BinaryArray:
        arrays = [_array(rows.column(index), each.type) for index, each in enumerate(self._columns)]
        return self._object(self._columns, arrays, rows.num_rows).cast(pa.binary())

    def _object(self, fields: Sequence[Field], arrays: Sequence[pa.Array], count: int) -> pa.StringArray:
        if not fields:
            return pa.array(["{}"] * count, pa.string())
        parts: list[Any] = []
        for index, (each, array) in enumerate(zip(fields, arrays, strict=True)):
            key = quoted(each.name) + ":"
            texts = self._texts(each.type, array)
            if self._writing.ignore_nulls:
                member = pc.binary_join_element_wise("," + key, texts, "")
                parts.append(pc.fill_null(member, ""))
            else:
                parts += [("," if index else "{") + key, pc.fill_null(texts, "null")]
        joined = pc.binary_join_element_wise(*parts, "}", "")
        if self._writing.ignore_nulls:
            # Members all begin with a comma; the first becomes the bracket.
            body = pc.binary_join_element_wise(*parts, "", "")
            joined = pc.binary_join_element_wise("{", pc.utf8_slice_codeunits(body, 1), "}", "")
        return joined

    def _texts(self, of: SqlType, array: pa.Array) -> pa.StringArray:
        """JSON texts; NULL where the value is."""
        if of.kind is Kind.ROW:
            children = [array.field(index) for index in range(len(of.fields))]
            made = self._object(of.fields, children, len(array))
            return pc.if_else(array.is_valid(), made, None)
        if of.kind is Kind.ARRAY:
            assert of.element is not None
            values, offsets = _elements(array)
            inner = pc.fill_null(self._texts(of.element, values), "null")
            return self._joined(array, inner, offsets, "[", "]")
        if of.kind in (Kind.MAP, Kind.MULTISET):
            return self._map(of, array)
        return self._scalar(of, array)

    def _map(self, of: SqlType, array: pa.MapArray) -> pa.StringArray:
        value_type = SqlType(Kind.INTEGER) if of.kind is Kind.MULTISET else of.element
        assert value_type is not None
        offsets = array.offsets.to_numpy()
        start, stop = int(offsets[0]), int(offsets[-1])
        keys, values = array.keys[start:stop], array.items[start:stop]
        texts = pc.fill_null(self._texts(value_type, values), "null")
        # No key is NULL: neither DuckDB nor Arrow has such maps, so `json.map-null-key.*` has nothing to say here.
        members = pc.binary_join_element_wise(_json_texts(keys), texts, ":")
        return self._joined(array, members, offsets - start, "{", "}")

    @staticmethod
    def _joined(array: pa.Array, texts: pa.StringArray, offsets: Any, left: str, right: str) -> pa.StringArray:
        lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), texts)
        made = pc.binary_join_element_wise(left, pc.binary_join(lists, ","), right, "")
        return pc.if_else(array.is_valid(), made, None)

    def _scalar(self, of: SqlType, array: pa.Array) -> pa.StringArray:
        kind = of.kind
        if kind in TEXTS:
            return _json_texts(array)
        if kind is Kind.DECIMAL:
            return _each(array, _plain_decimal if self._writing.plain_decimals else _decimal)
        if kind in (Kind.FLOAT, Kind.DOUBLE):
            texts = scalar_texts(of, array)
            if pc.all(pc.is_finite(array), min_count=0).as_py():
                return texts
            return pc.if_else(pc.is_finite(array), texts, _wrapped(texts))
        texts = scalar_texts(of, array, self._writing.standard)
        bare = kind in INTEGERS or kind in INTERVALS or kind is Kind.BOOLEAN or kind is Kind.NULL
        return texts if bare else _wrapped(texts)


def _check_json(of: SqlType) -> None:
    key = of.element if of.kind is Kind.MULTISET else of.key
    if key is not None and key.kind not in TEXTS:
        raise NotSupported(f"the JSON format has only texts as keys of a map, not those of {of}.")
    for each in (*(field.type for field in of.fields), of.element):
        if each is not None:
            _check_json(each)


def _array(column: pa.ChunkedArray, of: SqlType) -> pa.Array:
    target = storage(of)
    return (column if column.type == target else column.cast(target)).combine_chunks()


def _elements(array: pa.Array) -> tuple[pa.Array, Any]:
    offsets = array.offsets.to_numpy()
    return array.values[int(offsets[0]) : int(offsets[-1])], offsets - offsets[0]


def _wrapped(texts: pa.StringArray) -> pa.StringArray:
    return pc.binary_join_element_wise('"', texts, '"', "")


def quoted(text: str) -> str:
    """A JSON text as Jackson writes it: beyond the first plane of Unicode as two escapes."""
    return '"' + _TO_ESCAPE.sub(_escape, text) + '"'


def _escape(found: re.Match[str]) -> str:
    mark = found[0]
    if mark >= "\U00010000":
        rest = ord(mark) - 0x10000
        return f"\\u{0xD800 + (rest >> 10):04X}\\u{0xDC00 + (rest & 0x3FF):04X}"
    return _ESCAPED.get(mark) or f"\\u{ord(mark):04X}"


def _json_texts(array: pa.StringArray) -> pa.StringArray:
    if leaves.Texts(array).only(_PLAIN):
        return _wrapped(array)
    return _each(array, quoted)


def _each(array: pa.Array, make: Any) -> pa.StringArray:
    return pa.array([None if value is None else make(value) for value in array.to_pylist()], pa.string())


def _plain_decimal(value: Decimal) -> str:
    return f"{value:f}"


def _decimal(value: Decimal) -> str:
    """Without zeros at the end, as `BigDecimal.stripTrailingZeros().toString()`: 100.00 is 1E+2."""
    return str(value.normalize(java_text.WIDE)) if value else "0"


def scalar_texts(of: SqlType, array: pa.Array, standard: str = "SQL") -> pa.StringArray:
    """Values as texts, without quotes; NULL where they are."""
    kind = of.kind
    if kind is Kind.BOOLEAN:
        return pc.if_else(array, "true", "false")
    if kind in INTEGERS or kind in INTERVALS or kind is Kind.NULL:
        return array.cast(pa.string())
    if kind is Kind.DOUBLE:
        return _each(array, java_text.double_text)
    if kind is Kind.FLOAT:
        return _each(array, lambda value: java_text.double_text(float(str(np.float32(value)))))
    if kind in BYTES:
        return _each(array, lambda value: base64.b64encode(value).decode())
    if kind is Kind.DATE:
        return _dates(array.cast(pa.date32()))
    if kind is Kind.TIME:
        return _trimmed(array.cast(pa.time64("us")).cast(pa.string()))
    if kind is Kind.DECIMAL:
        return _each(array, _plain_decimal)
    assert kind in (Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ), of
    return _timestamps(of, array, standard)


def _trimmed(texts: pa.StringArray) -> pa.StringArray:
    """A fraction without zeros at its end, or none."""
    return pc.utf8_rtrim(pc.utf8_rtrim(texts, "0"), ".") if _has_points(texts) else texts


def _has_points(texts: pa.StringArray) -> bool:
    # Arrow writes all fractions of a column with the same digits, so one tells.
    first = next((text for text in texts.to_pylist() if text is not None), None) if len(texts) else None
    return first is not None and "." in first


_FOUR_DIGITS = (-719_528, 2_932_896)
"""Days of 0000-01-01 and 9999-12-31: outside, years have a sign."""


def _dates(array: pa.Date32Array) -> pa.StringArray:
    days = array.view(pa.int32())
    bounds = pc.min_max(days)
    low, high = bounds["min"].as_py(), bounds["max"].as_py()
    if low is None or (low >= _FOUR_DIGITS[0] and high <= _FOUR_DIGITS[1]):
        return array.cast(pa.string())
    return _each(days, java_text.date_text)


def _timestamps(of: SqlType, array: pa.Array, standard: str) -> pa.StringArray:
    zone = "Z" if of.kind is Kind.TIMESTAMP_LTZ else ""
    separator = " " if standard == "SQL" else "T"
    unit = array.type.unit
    ticks = array.view(pa.int64())
    per_day = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit] * 86_400
    bounds = pc.min_max(ticks)
    low, high = bounds["min"].as_py(), bounds["max"].as_py()
    if low is not None and (low < _FOUR_DIGITS[0] * per_day or high >= (_FOUR_DIGITS[1] + 1) * per_day):
        return _each(
            ticks, lambda value: java_text.timestamp_text(value * (86_400 * 10**9 // per_day), separator) + zone
        )
    naive = ticks.view(pa.timestamp(unit))
    texts = _trimmed(naive.cast(pa.string()))
    if separator != " ":
        texts = pc.replace_substring(texts, " ", separator)
    return pc.binary_join_element_wise(texts, zone, "") if zone else texts


class CsvEncoder:
    def __init__(self, columns: Sequence[Field], options: CsvOptions, *, in_files: bool = False) -> None:
        self._in_files = in_files
        self._columns = tuple(columns)
        self._options = options
        for each in columns:
            self._check(each.type, each.name)
        # Jackson quotes a text with any character up to the highest of those that mean something.
        marks = [options.delimiter, options.quote or "\0", "\n", "\r"]
        self._safe_from = max(map(ord, marks)) + 1

    def _check(self, of: SqlType, name: str) -> None:
        if of.kind in (Kind.MAP, Kind.MULTISET):
            raise NotSupported(f"the CSV format has no {of}; {name!r} is one.")

    def encode(self, rows: pa.Table) -> pa.BinaryArray:
        missing = self._options.null_literal or ""
        cells = []
        for index, each in enumerate(self._columns):
            texts = self._texts(each.type, _array(rows.column(index), each.type))
            cells.append(pc.fill_null(texts, missing))
        return pc.binary_join_element_wise(*cells, self._options.delimiter).cast(pa.binary())

    def _texts(self, of: SqlType, array: pa.Array) -> pa.StringArray:
        if of.kind is Kind.ROW or of.kind is Kind.ARRAY:
            return self._quoted(_each(array, lambda value: self._nested(of, value)))
        if of.kind in TEXTS:
            return self._quoted(array)
        if (
            of.kind is Kind.DECIMAL and self._in_files
        ):  # Flink's file writer writes the shortest form, its others do not
            return _each(array, lambda value: str(value.normalize()))
        texts = scalar_texts(of, array)
        is_number = of.is_number or of.kind in INTERVALS or of.kind is Kind.BOOLEAN
        return texts if is_number else self._quoted(texts)

    def _nested(self, of: SqlType, value: Any) -> str:
        if of.kind is Kind.ARRAY:
            assert of.element is not None
            pairs = [(of.element, each) for each in value]
        else:
            pairs = [(each.type, value[each.name]) for each in of.fields]
        return self._options.element_delimiter.join(self._one(each, inner) for each, inner in pairs)

    def _one(self, of: SqlType, value: Any) -> str:
        if value is None:
            return self._options.null_literal or ""
        if of.kind in TEXTS:
            return str(value)
        if of.kind in (Kind.ROW, Kind.ARRAY):
            return self._nested(of, value)
        text: str = scalar_texts(of, pa.array([value], storage(of)))[0].as_py()
        return text

    def _quoted(self, texts: pa.StringArray) -> pa.StringArray:
        if self._options.quote is None:
            return texts
        return _each(texts, self._quote)

    def _quote(self, text: str) -> str:
        quote = self._options.quote or ""
        if len(text) <= _QUOTE_CHECKED_MAX and all(ord(mark) >= self._safe_from for mark in text):
            return text
        doubled = text
        if self._options.escape is not None:
            escape = self._options.escape
            doubled = text.replace(escape, escape + escape).replace(quote, escape + quote)
        else:
            doubled = text.replace(quote, quote + quote)
        return quote + doubled + quote


class RawEncoder:
    def __init__(self, column: Field, options: dict[str, str]) -> None:
        self._type = column.type
        self._kind = column.type.kind
        self._charset = charset_of(options)
        self._packing = None if self._kind in (*TEXTS, *BYTES) else packing_of(column, options)

    def encode(self, rows: pa.Table) -> pa.BinaryArray:
        """A NULL is no payload."""
        array = _array(rows.column(0), self._type)
        if self._kind in BYTES:
            return array.cast(pa.binary())
        if self._kind in TEXTS:
            if self._charset == "utf-8":
                return array.cast(pa.binary())
            return pa.array(
                [None if each is None else each.encode(self._charset, "replace") for each in array.to_pylist()]
            )
        assert self._packing is not None
        pack = self._packing.pack
        return pa.array([None if each is None else pack(each) for each in array.to_pylist()], pa.binary())
