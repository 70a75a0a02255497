"""Converts chunks of records: strictly and quickly what is as expected, exactly and one by one what is not.

Arrow's JSON reader is fast, and refuses whatever is not of the type it was told: a number that is text, a member that
is there twice. So what it reads is right, if it is asked for the types that the records have (`reading`), and if it is
kept from what it would overlook: that a record is not one object (it counts objects, and a record that is only `null`
ends the process), members whose keys are written otherwise, `NaN`, and nesting without end. It gives up at the first
record it refuses; then others that it would are sifted out at a fraction of the cost, by regular expressions
(`patterns`) and a decoder that keeps nothing. All those are read by `exact`, which also says what is wrong with them,
and rows are put in order again.

One object per record, and no others: records begin with `{` and end with `}`, and stand on lines of their own. In JSON
no string holds a line feed and no `}` is followed by `{`, so no object reaches from one record into the next. So if
there are as many objects as records, each record is one.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, islice, pairwise
from typing import Any, Final, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as arrow_json

from streamkit.delivery.convert import patterns
from streamkit.delivery.convert.columns import as_type, converted
from streamkit.delivery.convert.exact import Bad, Exact, coercion, likely_documents
from streamkit.delivery.convert.reading import Pruned, Reading
from streamkit.delivery.convert.shapes import Rules, StructOf, root_of_columns, root_of_schema, rules_of
from streamkit.delivery.plan import Conversion
from streamkit.delivery.processor import BadRow, Converted
from streamkit.delivery.rows import kept
from streamkit.model.limits import (
    CONVERSION_BLOCK_BYTES,
    CONVERSION_DOCUMENTS_MAX,
    CONVERSION_PIECE_RECORDS,
    CONVERSION_READS_MAX,
    CONVERSION_ROWS_HELD_MAX,
    CONVERSION_SAMPLE_RECORDS,
    RECORD_DEPTH_MAX,
)

_SPACE: Final = " \t\n\r"
_IN_ROW: Final = re.compile(r" in row (\d+)$")
_LARGE_BYTES: Final = 512  # of a record: an expression over all of it costs more than looking for quotes and decoding
_SAMPLED_IN_A_ROW: Final = 4
_MANY: Final = 20  # a part of so much of the records is odd: perhaps the stream has changed


def make_converter(columns: Sequence[tuple[str, str]], conversion: Conversion) -> TableConverter:
    """For columns with Hive's types; the batches have the types of `hive_types.to_arrow`. Raises InvalidArgument for
    types and timestamp formats that there are not."""
    rules = rules_of(conversion)
    root = root_of_columns(columns, conversion, rules)
    return TableConverter(root, rules, pa.schema(list(root.type)))


def make_converter_for(schema: pa.Schema, conversion: Conversion) -> TableConverter:
    """For the table of a destination: the batches have its schema. A record without a value that a field requires is
    bad. Raises InvalidArgument for types that JSON is not converted to."""
    rules = rules_of(conversion)
    return TableConverter(root_of_schema(schema, conversion, rules), rules, schema)


class TableConverter:
    """A `processor.Converter`. Any number of chunks may follow each other; what they have in common makes it faster."""

    def __init__(self, root: StructOf, rules: Rules, schema: pa.Schema) -> None:
        self._root = root
        self._schema = schema
        self._exact = Exact(root, rules)
        self._quick = _Quick(root, rules)

    @property
    def schema(self) -> pa.Schema:
        return self._schema

    def convert(self, data: pa.BinaryArray) -> Converted:
        batches: list[pa.RecordBatch] = []
        bad: list[BadRow] = []
        several: list[tuple[int, int]] = []
        for start, stop in pairwise(_bounds(data)):
            part = self._block(data.slice(start, stop - start))
            batches.append(part.batch)
            bad += [BadRow(start + row, code, message) for row, code, message in part.bad]
            several += [(start + row, count) for row, count in part.several]
        return Converted(_one(batches, self._schema), bad, several)

    def _block(self, data: pa.BinaryArray) -> Converted:
        columns, rows, odd, several = self._quick.read(data)
        parts, part_rows = [columns], [rows]
        found: list[dict[str, Any]] = []
        found_rows: list[int] = []
        bad: list[BadRow] = []
        for row, record in zip(odd, data.take(pa.array(odd, pa.int64())).to_pylist(), strict=True):
            try:
                made = self._exact.rows(record)
            except Bad as error:
                bad.append(BadRow(row, error.code, error.message))
                continue
            found += made
            found_rows += [row] * len(made)
            if len(made) > 1:
                several.append((row, len(made)))
            if len(found) >= CONVERSION_ROWS_HELD_MAX:
                parts.append(self._columns(found))
                part_rows.append(pa.array(found_rows, pa.int64()))
                found, found_rows = [], []
        if found:
            parts.append(self._columns(found))
            part_rows.append(pa.array(found_rows, pa.int64()))
        if len(parts) > 1:
            order = pc.array_sort_indices(pa.concat_arrays(part_rows))
            columns = [pa.concat_arrays(same).take(order) for same in zip(*parts, strict=True)]
        return Converted(self._batch(columns), bad, sorted(several))

    def _columns(self, rows: list[dict[str, Any]]) -> list[pa.Array]:
        return [pa.array([row[member.name] for row in rows], member.shape.type) for member in self._root.members]

    def _batch(self, columns: list[pa.Array]) -> pa.RecordBatch:
        made = [as_type(column, field.type) for field, column in zip(self._schema, columns, strict=True)]
        return pa.RecordBatch.from_arrays(made, schema=self._schema)


def _one(batches: list[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    if not batches:
        return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)
    return pa.concat_batches(batches)


def _bounds(data: pa.BinaryArray) -> list[int]:
    """Where blocks begin and end."""
    count = len(data)
    if not count:
        return [0]
    offsets = memoryview(data.buffers()[1]).cast("i")[data.offset : data.offset + count + 1]
    bounds = [0]
    while bounds[-1] < count:
        start = bounds[-1]
        stop = bisect_right(offsets, offsets[start] + CONVERSION_BLOCK_BYTES, start + 1) - 1
        bounds.append(max(stop, start + 1))
    return bounds


# -- quickly ----------------------------------------------------------------------------------------------------------


class _Nothing(msgspec.Struct):
    """Of an object, whatever is in it: its decoder looks at everything and makes nothing."""


_decode_nothing: Final = msgspec.json.Decoder(_Nothing).decode


class _Refused(Exception):
    """The strict reader gave up. `row`: at which record, where it tells."""

    def __init__(self, row: int | None, is_unknown_member: bool) -> None:
        super().__init__()
        self.row = row
        self.is_unknown_member = is_unknown_member


class _Quickly(NamedTuple):
    """Columns of the table, for the records at `rows` (int64, ascending), and the others' places, ascending. Records of
    `several` documents are at `rows` as often; they are listed with how often that is."""

    columns: list[pa.Array]
    rows: pa.Int64Array
    odd: list[int]
    several: list[tuple[int, int]]


class _Candidates(NamedTuple):
    """Records that may be read strictly, and their places."""

    text: pa.StringArray
    rows: pa.Int64Array

    def filter(self, mask: pa.BooleanArray) -> _Candidates:
        return _Candidates(self.text.filter(mask), self.rows.filter(mask))


class _Quick:
    def __init__(self, root: StructOf, rules: Rules) -> None:
        self._root = root
        self._rules = rules
        self._reading = Reading(root, rules)
        self._coercions: dict[int, Callable[[Any], Any]] = {}
        self._has_learned = False
        self._was_odd = False  # something in the block before: this one is sifted before it is read
        self._arrange()

    def read(self, data: pa.BinaryArray) -> _Quickly:
        if not self._has_learned and len(data):
            self._has_learned = True
            self._learn(data)
        if self._reading.has_several:
            return self._read_split(data)
        columns, left = self._read(data)
        odd = [] if len(left) == len(data) else _missing(left, len(data))
        return _Quickly(columns, left, odd, [])

    def _read(self, data: pa.BinaryArray) -> tuple[list[pa.Array], pa.Int64Array]:
        """Columns, and of which records they are."""
        will_sift = self._was_odd and not self._is_open
        columns, left = self._strictly(self._unsuspicious(_plain_objects(data, leaves_few=will_sift)), data)
        columns, left = self._with_others(columns, left)
        return columns, left.rows

    def _read_split(self, data: pa.BinaryArray) -> _Quickly:
        """Of records that may have several documents: a record counts if all that are likely to be one are."""
        pieces: list[bytes] = []
        counts: list[int] = []
        for record in data.to_pylist():
            found = list(islice(likely_documents(record), CONVERSION_DOCUMENTS_MAX + 1))
            counts.append(len(found))
            pieces += found
        parents = _repeated(counts)
        columns, left = self._read(pa.array(pieces, pa.binary()))
        odd = {row for row, count in enumerate(counts) if count > CONVERSION_DOCUMENTS_MAX}
        if len(left) < len(pieces):
            odd.update(parents.take(pa.array(_missing(left, len(pieces)), pa.int64())).to_pylist())
        rows = parents.take(left)
        if odd:
            mask = kept(len(counts), odd).take(rows)
            columns, rows = [column.filter(mask) for column in columns], rows.filter(mask)
        several = [(row, count) for row, count in enumerate(counts) if count > 1 and row not in odd]
        return _Quickly(columns, rows, sorted(odd), several)

    def _learn(self, data: pa.BinaryArray) -> bool:
        # Some in a row, from places all over: what alternates is seen, and what changes.
        count = len(data)
        step = max(_SAMPLED_IN_A_ROW, count * _SAMPLED_IN_A_ROW // CONVERSION_SAMPLE_RECORDS)
        places = [start + more for start in range(0, count, step) for more in range(_SAMPLED_IN_A_ROW)]
        sample = data.take(pa.array([place for place in places if place < count], pa.int64()))
        changed = self._reading.learn(sample.to_pylist())
        self._arrange()
        return changed

    def _arrange(self) -> None:
        reading, rules = self._reading, self._rules
        self._whole = patterns.whole(reading.schema, is_open=self._is_open)
        self._misfits = patterns.misfits(reading.schema)
        spellings = {key: reading.spelling(key) for key in _keys(self._root)}
        self._suspicion = patterns.suspicion(spellings, ignores_case=rules.ignores_case, dots=rules.dots_to_underscores)
        self._escaped_key = patterns.escaped_key(spellings)
        self._unusual_key = patterns.unusual_key(spellings) if len(self._suspicion) > 1 else None
        keys = [reading.spelling(self._root.members[place].key) for place in reading.exact]
        self._pruned = Pruned(list(dict.fromkeys(keys)))
        self._pruned_keys = keys

    @property
    def _is_open(self) -> bool:
        """Columns that are read value by value are members that the strict reader does not know."""
        return self._reading.is_open or bool(self._reading.exact)

    # -- strictly ------------------------------------------------------------------------------------------------------

    def _unsuspicious(self, candidates: _Candidates) -> _Candidates:
        """An open reader ignores what it does not know: without those in which that could be something. One that is not
        open refuses it."""
        if not self._is_open or not len(candidates.rows):
            return candidates
        text = candidates.text
        odd = self._suspicious(text)
        if self._rules.keys_vary and _has_backslash(text):
            odd = pc.or_(odd, pc.match_substring_regex(text, self._escaped_key))
        # An array takes two bytes: only records that are long enough can nest too deep.
        long = pc.greater(pc.binary_length(text), 2 * RECORD_DEPTH_MAX)
        if pc.any(long).as_py():
            records = text.filter(long).cast(pa.binary()).to_pylist()
            deep = [record.count(b"[") + record.count(b"{") > RECORD_DEPTH_MAX for record in records]
            if any(deep):
                odd = pc.or_(odd, pc.replace_with_mask(long, long, pa.array(deep)))
        return candidates.filter(pc.invert(odd)) if pc.any(odd).as_py() else candidates

    def _suspicious(self, text: pa.StringArray) -> pa.BooleanArray:
        first, *more = self._suspicion
        odd = pc.match_substring_regex(text, first)
        if not more:
            return odd
        # Of a wide table: only those with unusual keys are looked at once for each hundred of its columns.
        unusual = pa.repeat(True, len(text))
        if self._unusual_key is not None:
            unusual = pc.match_substring_regex(text, self._unusual_key)
        part = text.filter(unusual)
        found = pa.repeat(False, len(part))
        for pattern in more:
            found = pc.or_(found, pc.match_substring_regex(part, pattern))
        return pc.or_(odd, pc.replace_with_mask(unusual, unusual, found))

    def _strictly(self, left: _Candidates, data: pa.BinaryArray) -> tuple[list[pa.Array], _Candidates]:
        """The strict columns of the records that are left in the end."""
        begun_with, sifts, has_learned = left, self._sifts(left), False
        sifts_before, self._was_odd = self._was_odd, False
        for _ in range(CONVERSION_READS_MAX):
            row, is_unknown_member = None, False
            if not len(left.rows):
                break
            if not sifts_before:
                try:
                    return self._table(left), left
                except _Refused as refused:  # not kept: with it, its frames and their columns would be
                    row, is_unknown_member = refused.row, refused.is_unknown_member
            sifted, tries = left, 1 if sifts_before else len(sifts)
            while tries and sifts and len(sifted.rows) == len(left.rows):
                sifted, tries = sifts.pop(0)(left, row if row is not None and row < len(left.rows) else 0), tries - 1
            odd_count = len(left.rows) - len(sifted.rows)
            self._was_odd = self._was_odd or odd_count > 0
            if not has_learned and (is_unknown_member or odd_count * _MANY > len(left.rows)):
                has_learned = True
                if self._learn(data):
                    left, sifts_before = self._unsuspicious(begun_with), False
                    sifts = self._sifts(left)
                    continue
            if odd_count or sifts_before:
                left, sifts_before = sifted, False
            elif row is not None and row < len(left.rows):
                left = left.filter(kept(len(left.rows), [row]))
            else:
                break
        return self._in_pieces(left)

    def _sifts(self, left: _Candidates) -> list[Callable[[_Candidates, int], _Candidates]]:
        """Ways to find records that the strict reader is likely to refuse, to be tried in this order. They are called
        with the place before which it refused none, and leave only objects."""
        size_bytes = pc.sum(pc.binary_length(left.text)).as_py() or 0
        if size_bytes > _LARGE_BYTES * len(left.rows):
            return [self._without_misfits, self._without_others]
        return [self._without_others]

    def _without_misfits(self, left: _Candidates, first: int) -> _Candidates:
        """What is no JSON, and values that do not begin as their columns' do."""
        records = left.text[first:].cast(pa.binary())
        good = pa.array([_is_json(record) for record in records.to_pylist()], pa.bool_())
        for pattern in self._misfits:
            good = pc.and_not(good, pc.match_substring_regex(records, pattern))
        return left.filter(pa.concat_arrays([pa.repeat(True, first), good]))

    def _without_others(self, left: _Candidates, first: int) -> _Candidates:
        """All that is not written as is expected."""
        # In bytes: UTF-8 would make the expressions' states many more.
        records = left.text[first:].cast(pa.binary())
        good = pc.match_substring_regex(records, self._whole)
        if self._is_open or patterns.is_wide(self._reading.schema):
            for pattern in self._misfits:
                good = pc.and_not(good, pc.match_substring_regex(records, pattern))
        return left.filter(pa.concat_arrays([pa.repeat(True, first), good]))

    def _in_pieces(self, left: _Candidates) -> tuple[list[pa.Array], _Candidates]:
        """Without the pieces that have a record in them that nobody could tell from the others."""
        tables = [[pa.array([], field.type) for field in self._reading.schema]]
        good: list[pa.BooleanArray] = [pa.array([], pa.bool_())]
        for start in range(0, len(left.rows), CONVERSION_PIECE_RECORDS):
            piece = _Candidates(*(column[start : start + CONVERSION_PIECE_RECORDS] for column in left))
            try:
                tables.append(self._table(piece))
                good.append(pa.repeat(True, len(piece.rows)))
            except _Refused:
                good.append(pa.repeat(False, len(piece.rows)))
        columns = [pa.concat_arrays(same) for same in zip(*tables, strict=True)]
        return columns, left.filter(pa.concat_arrays(good))

    def _table(self, left: _Candidates) -> list[pa.Array]:
        """Raises _Refused."""
        lines = pc.binary_join(pa.ListArray.from_arrays(pa.array([0, len(left.text)], pa.int32()), left.text), "\n")
        buffer = lines[0].as_buffer()
        try:
            table = arrow_json.read_json(
                pa.BufferReader(buffer),
                read_options=arrow_json.ReadOptions(use_threads=False, block_size=buffer.size + 1),
                parse_options=arrow_json.ParseOptions(
                    explicit_schema=self._reading.schema,
                    unexpected_field_behavior="ignore" if self._is_open else "error",
                ),
            )
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            found = _IN_ROW.search(str(error))
            raise _Refused(int(found[1]) if found else None, "unexpected field" in str(error)) from None
        if table.num_rows != len(left.rows):
            raise _Refused(None, is_unknown_member=False)
        return [_chunk(column) for column in table.columns]

    # -- the other columns, and what does not fit ----------------------------------------------------------------------

    def _with_others(self, strict: list[pa.Array], left: _Candidates) -> tuple[list[pa.Array], _Candidates]:
        columns: list[pa.Array] = [None] * len(self._root.members)
        wrong: set[int] = set()
        for place, array in zip(self._reading.strict, strict, strict=True):
            columns[place], bad = converted(self._root.members[place].shape, array, self._rules)
            wrong.update(bad)
        for place, (array, bad) in zip(self._reading.exact, self._value_by_value(left), strict=True):
            columns[place] = array
            wrong.update(bad)
        for place, member in enumerate(self._root.members):
            if member.is_required and columns[place].null_count:
                wrong.update(pc.indices_nonzero(pc.is_null(columns[place])).to_pylist())
        if wrong:
            mask = kept(len(left.rows), wrong)
            return [column.filter(mask) for column in columns], left.filter(mask)
        return columns, left

    def _value_by_value(self, left: _Candidates) -> Iterator[tuple[pa.Array, list[int]]]:
        if not self._reading.exact:
            return
        unique = list(dict.fromkeys(self._pruned_keys))
        values: list[list[Any]] = [[] for _ in unique]
        broken: list[int] = []
        for row, record in enumerate(left.text.cast(pa.binary()).to_pylist()):
            try:
                found: Iterator[Any] = self._pruned.values(record)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                broken.append(row)
                found = iter([None] * len(unique))
            for place, value in enumerate(found):
                values[place].append(value)
        for place, key in zip(self._reading.exact, self._pruned_keys, strict=True):
            shape = self._root.members[place].shape
            coerce = self._coercions.setdefault(place, coercion(shape, self._rules))
            made: list[Any] = []
            wrong = list(broken)
            for row, value in enumerate(values[unique.index(key)]):
                try:
                    made.append(None if value is None else coerce(value))
                except (Bad, RecursionError):
                    made.append(None)
                    wrong.append(row)
            yield pa.array(made, shape.type), wrong


def _keys(shape: StructOf) -> set[str]:
    """Of the columns, and of the members of structs in them."""
    found: set[str] = set()
    pending: list[Any] = [shape]
    while pending:
        each = pending.pop()
        if isinstance(each, StructOf):
            found.update(member.key for member in each.members)
            pending += [member.shape for member in each.members]
        elif hasattr(each, "item"):
            pending.append(each.item)
    return found


def _plain_objects(data: pa.BinaryArray, *, leaves_few: bool) -> _Candidates:
    """Records in UTF-8 that begin and end as objects do; without the space around them where many have such. With
    `leaves_few` those that do not are left among them if they are few: a sift, which takes only objects, leaves them
    out together with what else it finds, and records are copied once less."""
    rows = _range(len(data))
    try:
        text = data.cast(pa.string())
    except pa.ArrowInvalid:
        mask = pa.array([_is_utf8(record) for record in data.to_pylist()], pa.bool_())
        text, rows = data.filter(mask).cast(pa.string()), rows.filter(mask)
    candidates = _Candidates(text, rows)
    good = pc.and_(pc.starts_with(text, "{"), pc.or_(pc.ends_with(text, "}"), pc.ends_with(text, "}\n")))
    others = len(text) - (pc.sum(good).as_py() or 0)
    if others * _MANY > len(text):
        candidates = _Candidates(pc.utf8_trim(text, _SPACE), rows)
        good = pc.and_(pc.starts_with(candidates.text, "{"), pc.ends_with(candidates.text, "}"))
        return candidates.filter(good)
    return candidates if leaves_few or not others else candidates.filter(good)


def _is_utf8(record: bytes) -> bool:
    try:
        record.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_json(record: bytes) -> bool:
    try:
        _decode_nothing(record)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _range(count: int) -> pa.Int64Array:
    if not count:
        return pa.array([], pa.int64())
    return pc.cumulative_sum(pa.repeat(pa.scalar(1, pa.int64()), count), start=pa.scalar(-1, pa.int64()))


def _repeated(counts: list[int]) -> pa.Int64Array:
    """Each place as often as its count says."""
    if not counts:
        return pa.array([], pa.int64())
    offsets = pa.array([0, *accumulate(counts)], pa.int32())
    return pc.list_parent_indices(pa.ListArray.from_arrays(offsets, pa.nulls(sum(counts))))


def _has_backslash(text: pa.StringArray) -> bool:
    """Anywhere in the records. A look at all their bytes at once is a hundred times faster than one at each record."""
    bounds = memoryview(text.buffers()[1]).cast("i")
    data = text.buffers()[2]
    start, stop = bounds[text.offset], bounds[text.offset + len(text)]
    return data is not None and b"\\" in memoryview(data)[start:stop].tobytes()


def _missing(rows: pa.Int64Array, count: int) -> list[int]:
    found: list[int] = pc.indices_nonzero(pc.invert(pc.is_in(_range(count), value_set=rows))).to_pylist()
    return found
