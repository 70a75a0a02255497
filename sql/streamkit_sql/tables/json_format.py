"""JSON payloads to columns, by whole batches.

DuckDB finds the fields that a query needs (`from_json`, every scalar as a text), Arrow types them (`leaves`). Neither
says where it deviates from Flink, so rows that might are found by cheap signs and read anew by `json_exact`, which
decides about the value, or why the record is bad. The signs:

| sign | what may have happened |
|---|---|
| the document gives no row | it is no JSON, or an array of rows |
| an object whose needed fields are all NULL | something else stands where an object is expected |
| a NULL array or map, and the key is there | the same, or a map with equal keys |
| a text like `1.5` or `{..}` where a text is needed | a number or object, written otherwise |
| a text that Arrow's cast does not take | a number such as ` 7 ` or 1.5 where an INT is needed, or nothing that fits |
| a number of 16 digits or more, and DECIMAL columns | digits that a double has lost |

Measured on one core, 20,000 Nexmark events of 257 bytes: see tests/bench/sql_formats.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamkit_sql.tables import leaves
from streamkit_sql.tables.json_exact import ExactJson, JsonReading, check_key
from streamkit_sql.tables.leaves import Indexes
from streamkit_sql.tables.source import Decoded, Wanted, storage
from streamkit_sql.tables.splice import splice
from streamkit_sql.types import TEXTS, Field, Kind, SqlType, row, text_literal

if TYPE_CHECKING:
    import duckdb

SMALL_BATCH_ROWS: Final = 192
"""Up to so many rows the exact way is the faster one: a statement costs DuckDB one or two milliseconds."""
PIECE_ROWS: Final = 256
"""A bad document makes DuckDB run its vector again row by row, so vectors are kept short once there was one."""
CAREFUL_BATCHES: Final = 64

_LONG_NUMBER = re.compile(rb"(?<![0-9.eE+-])-?(?=[0-9.]*[.eE])(?=(?:\.?[0-9]){16})[0-9]")
_VIEW = "json_payload"


class JsonDecoder:
    """Needs a connection of its own thread; leaves nothing in it but a view."""

    def __init__(
        self,
        wanted: Sequence[Wanted],
        physical: Sequence[Field],
        reading: JsonReading,
        database: duckdb.DuckDBPyConnection,
    ) -> None:
        self._wanted = tuple(wanted)
        self._reading = reading
        self._database = database
        self._careful = 0
        self._fields = _pruned(physical, [each.path for each in wanted], whole=reading.fail_on_missing)
        self._exact = ExactJson([(each.name, each.type) for each in self._fields], reading)
        self._schema = pa.schema([pa.field(each.name, storage(each.type)) for each in self._fields])
        # With nothing to decode, or where a missing field is an error, DuckDB's silence about it would not do.
        self._is_fast = bool(self._fields) and not reading.fail_on_missing and _is_expressible(self._fields)
        self._has_decimal = any(_has(each.type, Kind.DECIMAL) for each in self._fields)
        structure = json.dumps({each.name: _structure(each.type) for each in self._fields}, ensure_ascii=False)
        self._sql = f"SELECT TRY(from_json(data, {text_literal(structure)})) AS document FROM {_VIEW}"

    def decode(self, payload: pa.BinaryArray) -> Decoded:
        count = len(payload)
        if not self._is_fast or count <= SMALL_BATCH_ROWS:
            return self._read_exactly(payload, np.arange(count), None)
        texts = _as_texts(payload)
        documents = self._documents(texts)
        suspects = _Suspects(count)
        suspects.add(np.flatnonzero(documents.is_null().to_numpy(zero_copy_only=False)))
        if suspects.count:
            self._careful = CAREFUL_BATCHES
        elif self._careful:
            self._careful -= 1
        table = self._typed(documents, texts, suspects)
        if self._has_decimal:
            suspects.add(_long_numbers(texts))
        rows = suspects.rows()
        if not len(rows):
            return Decoded(self._answer(table), None, [])
        return self._read_exactly(payload, rows, table)

    def _documents(self, texts: pa.StringArray) -> pa.StructArray:
        pieces = [texts]
        if self._careful:
            pieces = [texts[start : start + PIECE_ROWS] for start in range(0, len(texts), PIECE_ROWS)]
        self._database.register(_VIEW, pa.table({"data": pa.chunked_array(pieces)}))
        chunks = self._database.sql(self._sql).to_arrow_table().column(0).chunks
        return chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks)

    def _typed(self, documents: pa.StructArray, texts: pa.StringArray, suspects: _Suspects) -> pa.Table:
        """The needed fields. What is not sure goes to `suspects` and is NULL."""
        reader = _Reader(texts, suspects, self._reading.standard)
        columns = []
        nothing = None
        for index, each in enumerate(self._fields):
            child = documents.field(index)
            columns.append(reader.read(each.type, child, None, (each.name,)))
            is_null = columns[-1].is_null()
            nothing = is_null if nothing is None else pc.and_(nothing, is_null)
        assert nothing is not None
        empty = np.flatnonzero(nothing.to_numpy(zero_copy_only=False))
        if len(empty):
            suspects.add(reader.not_objects(empty))
        return pa.Table.from_arrays(columns, schema=self._schema)

    def _read_exactly(self, payload: pa.BinaryArray, rows: Indexes, fast: pa.Table | None) -> Decoded:
        """`rows` anew, the others as they are in `fast`."""
        values: list[tuple[Any, ...]] = []
        origins: list[int] = []
        bad: list[tuple[int, str]] = []
        skipped = 0
        for index in rows.tolist():
            document = payload[index].as_py()
            try:
                found = [] if document is None else self._exact.rows(document)
            except ValueError as error:
                if self._reading.ignore_errors:
                    skipped += 1
                else:
                    bad.append((index, str(error)))
                continue
            values += found
            origins += [index] * len(found)
        columns = list(zip(*values, strict=True)) if values else [()] * len(self._fields)
        arrays = [pa.array(cells, each.type) for cells, each in zip(columns, self._schema, strict=True)]
        exact = pa.Table.from_arrays(arrays, schema=self._schema) if arrays else pa.table({"": pa.nulls(len(values))})
        spliced, where = splice(fast, len(payload), rows, exact, np.array(origins, np.int64))
        return Decoded(self._answer(spliced), where, bad, skipped)

    def _answer(self, table: pa.Table) -> pa.Table:
        if not self._wanted:
            return table.select([])
        columns = []
        for each in self._wanted:
            column = table[each.path[0]]
            for name in each.path[1:]:
                column = pc.struct_field(column, name)
            columns.append(column)
        return pa.Table.from_arrays(columns, [each.name for each in self._wanted])


class _Suspects:
    """Rows to be read exactly."""

    __slots__ = ("_marked", "count")

    def __init__(self, count: int) -> None:
        self._marked = np.zeros(count, np.bool_)
        self.count = 0

    def add(self, rows: Indexes) -> None:
        if len(rows):
            self._marked[rows] = True
            self.count += len(rows)

    def rows(self) -> Indexes:
        return np.flatnonzero(self._marked) if self.count else np.empty(0, np.intp)


class _Reader:
    """Types what DuckDB found. `rows` maps elements to rows of the batch; None where they are the same."""

    def __init__(self, payload: pa.StringArray, suspects: _Suspects, standard: str) -> None:
        self._payload = payload
        self._suspects = suspects
        self._standard = standard

    def read(self, of: SqlType, array: pa.Array, rows: Indexes | None, path: tuple[str, ...]) -> pa.Array:
        if of.kind is Kind.ROW:
            return self._row(of, array, rows, path)
        if of.kind is Kind.ARRAY:
            return self._array(of, array, rows, path)
        if of.kind in (Kind.MAP, Kind.MULTISET):
            return self._map(of, array, rows, path)
        if of.kind in TEXTS:
            self._check_texts(array, rows, path[-1])
            return array
        if of.kind is Kind.NULL:
            return pa.nulls(len(array), storage(of))
        leaf = leaves.convert(of, array, self._standard)
        self._suspect(leaf.odd, rows)
        return leaf.array

    def _suspect(self, indexes: Indexes, rows: Indexes | None) -> None:
        if len(indexes):
            self._suspects.add(indexes if rows is None else rows[indexes])

    def _row(self, of: SqlType, array: pa.StructArray, rows: Indexes | None, path: tuple[str, ...]) -> pa.Array:
        children = []
        nothing = array.is_valid()
        for index, each in enumerate(of.fields):
            texts = array.field(index)
            children.append(self.read(each.type, texts, rows, (*path, each.name)))
            nothing = pc.and_(nothing, texts.is_null())
        found = np.flatnonzero(nothing.to_numpy(zero_copy_only=False))
        if len(found):
            # Inside arrays and maps there is no key to look for.
            self._suspects.add(self.lacking(found, path[-1], rb"\{") if rows is None else rows[found])
        mask = array.is_null() if array.null_count else None
        return pa.StructArray.from_arrays(children, fields=list(storage(of)), mask=mask)

    def _array(self, of: SqlType, array: pa.ListArray, rows: Indexes | None, path: tuple[str, ...]) -> pa.Array:
        assert of.element is not None
        self._check_nulls(array, rows, path[-1])
        values, offsets, lengths = _elements(array)
        owners = np.repeat(np.arange(len(array)) if rows is None else rows, lengths)
        inner = self.read(of.element, values, owners, path)
        mask = array.is_null() if array.null_count else None
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), inner, type=storage(of), mask=mask)

    def _map(self, of: SqlType, array: pa.MapArray, rows: Indexes | None, path: tuple[str, ...]) -> pa.Array:
        self._check_nulls(array, rows, path[-1])
        entries, offsets, lengths = _elements(array)
        owners = np.repeat(np.arange(len(array)) if rows is None else rows, lengths)
        value_type = SqlType(Kind.INTEGER) if of.kind is Kind.MULTISET else of.element
        assert value_type is not None
        values = self.read(value_type, entries.field(1), owners, path)
        mask = array.is_null() if array.null_count else None
        return pa.MapArray.from_arrays(
            pa.array(offsets, pa.int32()), entries.field(0), values, type=storage(of), mask=mask
        )

    def _check_nulls(self, array: pa.Array, rows: Indexes | None, key: str) -> None:
        """NULL is right where the key is missing or null."""
        if not array.null_count:
            return
        found = np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))
        at = np.unique(found if rows is None else rows[found])
        payload = self._payload.take(pa.array(at))
        quoted = json.dumps(key, ensure_ascii=False)
        # An escaped key is not found by its text; a backslash anywhere is sign enough.
        named = pc.or_(pc.match_substring(payload, quoted), pc.match_substring(payload, "\\u"))
        at = at[pc.fill_null(named, True).to_numpy(zero_copy_only=False)]
        clean = re.compile(re.escape(quoted).encode() + rb"[ \t\r\n]*:[ \t\r\n]*(null)?")
        self._suspects.add(np.array([row for row in at.tolist() if not self._all_null(row, clean)], np.intp))

    def _all_null(self, row: int, pattern: re.Pattern[bytes]) -> bool:
        text = (self._payload[row].as_py() or "").encode()
        found = pattern.findall(text)
        return b"\\u" not in text and bool(found) and all(found)

    def lacking(self, at: Indexes, key: str, what: bytes) -> Indexes:
        """Of these rows, those in which the key stands before something else than `what`."""
        pattern = re.compile(
            re.escape(json.dumps(key, ensure_ascii=False)).encode() + rb"[ \t\r\n]*:[ \t\r\n]*(" + what + rb"|null)?"
        )
        return np.array([row for row in np.unique(at).tolist() if not self._all_null(row, pattern)], np.intp)

    def not_objects(self, rows: Indexes) -> Indexes:
        """Of these rows, those whose document does not begin with a curly bracket."""
        chosen = self._payload.take(pa.array(rows))
        ok = pc.fill_null(pc.match_substring_regex(chosen, r"^[ \t\r\n]*\{"), False)
        found: Indexes = rows[~ok.to_numpy(zero_copy_only=False)]
        return found

    def _check_texts(self, array: pa.StringArray, rows: Indexes | None, key: str) -> None:
        """Numbers and documents that became a text may have been written otherwise; texts like them are left alone."""
        shape = leaves.Texts(array)
        found = np.concatenate([leaves.number_like(shape.array, shape), leaves.bracketed(shape)])
        if len(found):
            at = found if rows is None else rows[found]
            self._suspects.add(self.lacking(at, key, rb'"') if rows is None else at)


def _elements(array: pa.Array) -> tuple[pa.Array, Any, Any]:
    """The elements of a list or map array, offsets from 0, and how many each has."""
    offsets = np.frombuffer(array.buffers()[1], np.int32, len(array) + 1, array.offset * 4)
    inner = (
        array.values
        if not isinstance(array, pa.MapArray)
        else pa.StructArray.from_arrays([array.keys, array.items], ["k", "v"])
    )
    return inner[offsets[0] : offsets[-1]], offsets - offsets[0], np.diff(offsets)


def _as_texts(payload: pa.BinaryArray) -> pa.StringArray:
    """The same bytes as texts; NULL where they are not UTF-8."""
    try:
        return payload.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([_text(each) for each in payload.to_pylist()], pa.string())


def _text(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _long_numbers(texts: pa.StringArray) -> Indexes:
    """Rows with a number of at least 16 digits that has a fraction or exponent.

    Such a number has 17 bytes in a row that are digits or points, so every eighth byte shows it twice in succession;
    one of an exponent and 16 digits likewise.
    """
    shape = leaves.Texts(texts)
    hits = _NUMERIC[shape.data[::8]]
    pairs = np.flatnonzero(hits[:-1] & hits[1:])
    if not len(pairs):
        return np.empty(0, np.intp)
    pairs = pairs[_NUMERIC[shape.data[pairs * 8 + 4]]]
    rows = np.unique(np.searchsorted(shape.stops, pairs * 8, side="right"))
    data = shape.data
    return np.array(
        [row for row in rows.tolist() if _LONG_NUMBER.search(data[shape.starts[row] : shape.stops[row]].tobytes())],
        np.intp,
    )


_NUMERIC = leaves.byte_class(b".0123456789")


def _pruned(physical: Sequence[Field], paths: Sequence[tuple[str, ...]], *, whole: bool) -> list[Field]:
    """The fields that paths lead to, rows with only what is needed of them; all of them with `whole`."""
    if whole:
        return list(physical)
    kept = []
    for each in physical:
        rests = [path[1:] for path in paths if path[0] == each.name]
        if not rests:
            continue
        if () in rests or each.type.kind is not Kind.ROW:
            kept.append(each)
        else:
            fields = _pruned(each.type.fields, rests, whole=False)
            of = row(*((inner.name, inner.type) for inner in fields), nullable=each.type.nullable)
            kept.append(Field(each.name, of))
    return kept


def _structure(of: SqlType) -> Any:
    """As `from_json` takes it: every scalar a text."""
    if of.kind is Kind.ROW:
        return {each.name: _structure(each.type) for each in of.fields}
    if of.kind is Kind.ARRAY:
        assert of.element is not None
        return [_structure(of.element)]
    if of.kind in (Kind.MAP, Kind.MULTISET):
        value = SqlType(Kind.INTEGER) if of.kind is Kind.MULTISET else of.element
        check_key(of.element if of.kind is Kind.MULTISET else of.key, of)
        assert value is not None
        return f"MAP(VARCHAR, {_text_type(value).duckdb})"
    return "VARCHAR"


def _text_type(of: SqlType) -> SqlType:
    """The type with texts for its scalars."""
    from streamkit_sql.types import STRING, array, map_of

    if of.kind is Kind.ROW:
        return row(*((each.name, _text_type(each.type)) for each in of.fields))
    if of.kind is Kind.ARRAY:
        assert of.element is not None
        return array(_text_type(of.element))
    if of.kind is Kind.MAP:
        assert of.element is not None
        return map_of(STRING, _text_type(of.element))
    return STRING if of.kind is not Kind.MULTISET else map_of(STRING, STRING)


def _is_expressible(fields: Sequence[Field]) -> bool:
    """DuckDB's names do not differ by case, and are not empty."""
    names = [each.name.lower() for each in fields]
    return "" not in names and len(set(names)) == len(names) and all(_inner(each.type) for each in fields)


def _inner(of: SqlType) -> bool:
    if of.kind is Kind.ROW:
        return bool(of.fields) and _is_expressible(of.fields)
    return of.element is None or _inner(of.element)


def _has(of: SqlType, kind: Kind) -> bool:
    inner = [each.type for each in of.fields] + [each for each in (of.element,) if each is not None]
    return of.kind is kind or any(_has(each, kind) for each in inner)
