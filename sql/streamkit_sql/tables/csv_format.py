"""CSV payloads to columns: one line is one row.

Rules: CsvRowDataDeserializationSchema of Flink 2.3 over Jackson, asked for what they accept. Lines without quotes,
escapes and comments are split by whole batches and typed as JSON's are (`leaves`); the others, and values that are not
sure, are read one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamkit_sql.errors import NotSupported
from streamkit_sql.tables import java_text, leaves
from streamkit_sql.tables.json_exact import JsonReading, converter
from streamkit_sql.tables.leaves import Indexes
from streamkit_sql.tables.options import is_true, unescaped
from streamkit_sql.tables.source import Decoded, Wanted, storage
from streamkit_sql.tables.splice import splice
from streamkit_sql.types import TEXTS, Field, Kind, SqlType

Parser: TypeAlias = Callable[[str], Any]
_READING = JsonReading()
_NESTED = (Kind.ARRAY, Kind.ROW)


@dataclass(frozen=True, slots=True)
class CsvOptions:
    delimiter: str = ","
    quote: str | None = '"'
    escape: str | None = None
    comments: bool = False
    ignore_errors: bool = False
    element_delimiter: str = ";"
    null_literal: str | None = None
    trim: bool = False
    ignore_trailing: bool = False
    trailing_comma: bool = True
    fail_on_missing: bool = False
    empty_as_null: bool = False
    scientific: bool = True


def csv_options(options: Mapping[str, str]) -> CsvOptions:
    """From the options of the format, checked before."""

    def flag(key: str, default: str = "false") -> bool:
        return is_true(options.get(key, default))

    escape = options.get("escape-character")
    return CsvOptions(
        delimiter=unescaped(options.get("field-delimiter", ",")),
        quote=None if flag("disable-quote-character") else unescaped(options.get("quote-character", '"')),
        escape=None if escape is None else unescaped(escape),
        comments=flag("allow-comments"),
        ignore_errors=flag("ignore-parse-errors"),
        element_delimiter=unescaped(options.get("array-element-delimiter", ";")),
        null_literal=options.get("null-literal"),
        trim=flag("trim-spaces"),
        ignore_trailing=flag("ignore-trailing-unmappable"),
        trailing_comma=flag("allow-trailing-comma", "true"),
        fail_on_missing=flag("fail-on-missing-columns"),
        empty_as_null=flag("empty-string-as-null"),
        scientific=flag("write-bigdecimal-in-scientific-notation", "true"),
    )


class CsvDecoder:
    def __init__(self, wanted: Sequence[Wanted], physical: Sequence[Field], options: CsvOptions) -> None:
        self._wanted = tuple(wanted)
        self._physical = tuple(physical)
        self._options = options
        self._parsers = [value_parser(each.type, options) for each in physical]
        names = {each.path[0] for each in wanted}
        self._needed = [index for index, each in enumerate(physical) if each.name in names]
        self._schema = pa.schema([pa.field(physical[i].name, storage(physical[i].type)) for i in self._needed])
        special = (options.quote or "") + (options.escape or "") + "\n\r" + ("#" if options.comments else "")
        self._special = leaves.byte_class(special.encode())
        self._is_fast = all(ord(mark) < 128 for mark in special + options.delimiter)

    def decode(self, payload: pa.BinaryArray) -> Decoded:
        count = len(payload)
        texts = self._plain(payload) if self._is_fast and count else None
        if texts is None:
            return self._read_exactly(payload, np.arange(count), None)
        fields = pc.split_pattern(texts, self._options.delimiter)
        offsets = fields.offsets.to_numpy()
        lengths = np.diff(offsets)
        width = len(self._physical)
        # A line of the right number of values is as it seems; Flink reads an empty line as no row.
        good = (lengths == width) & texts.is_valid().to_numpy(zero_copy_only=False)
        if width == 1:
            good &= pc.fill_null(pc.greater(pc.binary_length(texts), 0), False).to_numpy(zero_copy_only=False)
        starts = np.where(good, offsets[:-1], 0)
        suspects = ~good
        columns = []
        for index in self._needed:
            column = (
                fields.values.take(pa.array(starts + index * good))
                if len(fields.values)
                else pa.nulls(count, pa.string())
            )
            columns.append(self._typed(self._physical[index].type, column, suspects))
        table = (
            pa.Table.from_arrays(columns, schema=self._schema)
            if columns
            else pa.table({"": pa.nulls(count)}).select([])
        )
        # Columns that nobody needs are not looked at: a query does not fail for them here, as it would in Flink.
        if not suspects.any():
            return Decoded(self._answer(table), None, [])
        return self._read_exactly(payload, np.flatnonzero(suspects), table)

    def _plain(self, payload: pa.BinaryArray) -> pa.StringArray | None:
        """Lines as texts; NULL for those with marks. None where it is better to read all one by one."""
        try:
            texts = payload.cast(pa.string())
        except pa.ArrowInvalid:
            return None
        shape = leaves.Texts(texts)
        marks = np.flatnonzero(self._special[shape.data])
        if not len(marks):
            return texts
        rows = np.unique(np.searchsorted(shape.stops, marks, side="right"))
        if len(rows) * 2 > len(texts):
            return None
        keep = np.ones(len(texts), np.bool_)
        keep[rows] = False
        return pc.if_else(pa.array(keep), texts, None)

    def _typed(self, of: SqlType, texts: pa.StringArray, suspects: Any) -> pa.Array:
        options = self._options
        if options.trim:
            texts = pc.utf8_trim(texts, " \t")
        if options.null_literal is not None:
            texts = pc.if_else(pc.equal(texts, options.null_literal), None, texts)
        if options.empty_as_null:
            texts = pc.if_else(pc.equal(texts, ""), None, texts)
        if of.kind in TEXTS:
            return texts
        if of.kind in _NESTED:
            suspects |= texts.is_valid().to_numpy(zero_copy_only=False)
            return pa.nulls(len(texts), storage(of))
        leaf = leaves.convert(of, texts)
        suspects[leaf.odd] = True
        if of.kind is Kind.TIME and of.precision < 3:
            step = 1000 * 10 ** (3 - of.precision)
            return pc.multiply(pc.divide(leaf.array.cast(pa.int64()), step), step).cast(pa.time64("us"))
        return leaf.array

    def _read_exactly(self, payload: pa.BinaryArray, rows: Indexes, fast: pa.Table | None) -> Decoded:
        values: list[tuple[Any, ...]] = []
        origins: list[int] = []
        bad: list[tuple[int, str]] = []
        skipped = 0
        for index in rows.tolist():
            line = payload[index].as_py()
            if line is None:
                continue
            try:
                values.append(self._row(line))
                origins.append(index)
            except ValueError as error:
                if self._options.ignore_errors:
                    skipped += 1
                else:
                    bad.append((index, str(error)))
        columns = list(zip(*values, strict=True)) if values else [()] * len(self._needed)
        arrays = [pa.array(cells, each.type) for cells, each in zip(columns, self._schema, strict=True)]
        exact = pa.Table.from_arrays(arrays, schema=self._schema) if arrays else pa.table({"": pa.nulls(len(values))})
        spliced, where = splice(fast, len(payload), rows, exact, np.array(origins, np.int64))
        return Decoded(self._answer(spliced), where, bad, skipped)

    def _row(self, line: bytes) -> tuple[Any, ...]:
        """Raises ValueError; with `ignore-parse-errors` a value that does not fit is NULL."""
        options = self._options
        try:
            text = line.decode("utf-8").removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            raise ValueError(f"byte {error.start} is not UTF-8") from None
        cells = parse_line(text, options, len(self._physical))
        if len(cells) < len(self._physical) and (not options.ignore_errors or options.fail_on_missing):
            raise ValueError(f"the line has {len(cells)} values; the table has {len(self._physical)} columns")
        row: list[Any] = []
        for index in self._needed:
            text_of = cells[index] if index < len(cells) else None
            if text_of is None:
                row.append(None)
                continue
            try:
                row.append(self._parsers[index](text_of))
            except ValueError as error:
                if not options.ignore_errors:
                    raise ValueError(f"column {self._physical[index].name!r}: {error}") from None
                row.append(None)
        return tuple(row)

    def _answer(self, table: pa.Table) -> pa.Table:
        columns = []
        for each in self._wanted:
            column = table[each.path[0]]
            for name in each.path[1:]:
                column = pc.struct_field(column, name)
            columns.append(column)
        names = [each.name for each in self._wanted]
        return pa.Table.from_arrays(columns, names) if columns else table.select([])


def parse_line(text: str, options: CsvOptions, width: int) -> list[str | None]:
    """The values of the first line of `text`. Raises ValueError for quotes that do not close and too many values."""
    if options.comments:
        while text.startswith("#"):
            text = text.partition("\n")[2]
    if not text:
        raise ValueError("the line is empty")
    cells: list[str | None] = []
    at = 0
    while True:
        cell, at = _cell(text, at, options)
        cells.append(cell)
        if at >= len(text) or text[at] in "\r\n":
            break
        at += 1  # the delimiter
    if len(cells) > width:
        is_trailing_comma = options.trailing_comma and len(cells) == width + 1 and cells[-1] in ("", None)
        if not is_trailing_comma and not options.ignore_trailing:
            raise ValueError(f"the line has more than {width} values")
        del cells[width:]
    return cells


def _cell(text: str, at: int, options: CsvOptions) -> tuple[str | None, int]:
    """A value, and where its end stands: a delimiter, a line end or the end."""
    if options.trim:
        while at < len(text) and text[at] in " \t" and text[at] != options.delimiter:
            at += 1
    if options.quote is not None and text.startswith(options.quote, at):
        value, at = _quoted(text, at + 1, options)
        while at < len(text) and text[at] == " " and options.delimiter != " ":
            at += 1
        if at < len(text) and text[at] not in options.delimiter + "\r\n":
            raise ValueError(f"behind a closing quote stands {text[at]!r}")
        return _null(value, options), at
    pieces: list[str] = []
    while at < len(text) and text[at] not in options.delimiter + "\r\n":
        if text[at] == options.escape and at + 1 < len(text):
            at += 1
        pieces.append(text[at])
        at += 1
    value = "".join(pieces)
    return _null(value.strip(" \t") if options.trim else value, options), at


def _quoted(text: str, at: int, options: CsvOptions) -> tuple[str, int]:
    pieces: list[str] = []
    while at < len(text):
        mark = text[at]
        if mark == options.escape and at + 1 < len(text):
            at += 1
            mark = text[at]
        elif mark == options.quote:
            at += 1
            if not text.startswith(mark, at):
                return "".join(pieces), at
        pieces.append(mark)
        at += 1
    raise ValueError("a quote is not closed")


def _null(value: str, options: CsvOptions) -> str | None:
    if value == options.null_literal or (not value and options.empty_as_null):
        return None
    return value


def value_parser(of: SqlType, options: CsvOptions) -> Parser:
    """A text to a value; raises ValueError."""
    kind = of.kind
    if kind is Kind.DATE:
        return java_text.sql_date_days
    if kind is Kind.TIME:
        step = 10 ** (3 - min(of.precision, 3))
        return lambda text: java_text.local_time_ms(text) // step * step * 1000
    if kind is Kind.DECIMAL:
        return lambda text: java_text.fit_decimal(java_text.exact_decimal(text), of.precision, of.scale)
    if kind is Kind.ARRAY:
        assert of.element is not None
        element = value_parser(of.element, options)
        return lambda text: [element(each) for each in text.split(options.element_delimiter)] if text else []
    if kind is Kind.ROW:
        return _row_parser(of, options)
    if kind in (Kind.MAP, Kind.MULTISET):
        raise NotSupported(f"the CSV format has no {of}.")
    return converter(of, _READING)


def _row_parser(of: SqlType, options: CsvOptions) -> Parser:
    names = [each.name for each in of.fields]
    parsers = [value_parser(each.type, options) for each in of.fields]

    def parse(text: str) -> dict[str, Any] | None:
        if not text:
            return None
        parts = text.split(options.element_delimiter)
        if len(parts) < len(names):
            raise ValueError(f"it has {len(parts)} values for {len(names)} fields")
        return {name: parser(part) for name, parser, part in zip(names, parsers, parts, strict=False)}

    return parse
