"""De-aggregation: several records that were put as one.

Firehose developer guide, "Apply dynamic partitioning to aggregated data": JSON objects one after the other, on a line
or on a line each, or records between delimiters; not more than 500 of them in a record, and no array. A record that
cannot be split by these rules goes on as it is, which is what users find that AWS does: where keys are extracted next,
it ends in the error output as `Non JSON record provided`. White space around JSON objects and nothing between two
delimiters are left out (AWS: not known).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from streamkit.delivery.plan import Deaggregation
from streamkit.delivery.processor import Offload, Processed
from streamkit.delivery.processors import kpl
from streamkit.delivery.processors.columns import binary, integers
from streamkit.delivery.rows import Rows
from streamkit.model.limits import SUB_RECORDS_MAX


class SplitAggregates:
    """A `processor.Step` for aggregates of the Kinesis Producer Library. Each record gets the partition key that it has
    in the aggregate, and its number there as `sub`."""

    def __init__(self, *, offload: Offload) -> None:
        self._offload = offload

    async def process(self, rows: Rows) -> Processed:
        are_aggregates = pc.starts_with(rows.data, pattern=kpl.MAGIC)
        if not pc.any(are_aggregates).as_py():
            return Processed(rows)
        return Processed(await self._offload(lambda: self._split(rows, are_aggregates)))

    @staticmethod
    def _split(rows: Rows, are_aggregates: pa.BooleanArray) -> Rows:
        documents = rows.data.to_pylist()
        split: list[list[kpl.UserRecord] | None] = [
            kpl.split(data) if is_aggregate else None
            for data, is_aggregate in zip(documents, are_aggregates.to_pylist(), strict=True)
        ]
        pieces = [None if records is None else [record.data for record in records] for records in split]
        expanded = _expand(rows, documents, pieces)
        if rows.partition_key is None:
            return expanded
        keys: list[bytes] = []
        for key, records in zip(rows.partition_key.to_pylist(), split, strict=True):
            keys += [key] if records is None else [record.partition_key for record in records]
        return replace(expanded, partition_key=binary(keys))


class SplitRecords:
    """A `processor.Step` for JSON and for delimiters. `sub` numbers the records that one became."""

    def __init__(self, plan: Deaggregation, *, offload: Offload) -> None:
        assert plan.kind != "KPL"
        self._delimiter = plan.delimiter
        self._is_json = plan.kind == "JSON"
        self._offload = offload

    async def process(self, rows: Rows) -> Processed:
        return Processed(await self._offload(lambda: self._split(rows)))

    def _split(self, rows: Rows) -> Rows:
        if self._is_json:
            rows = rows.with_data(_trimmed(rows.data))
            may_split = pc.match_substring_regex(rows.data, _SEVERAL)
        elif self._delimiter:
            may_split = pc.match_substring(rows.data, pattern=self._delimiter)
        else:
            return rows
        if not pc.any(may_split).as_py():
            return rows
        values = rows.data.to_pylist()
        pieces = [
            self._pieces(value) if is_candidate else None
            for value, is_candidate in zip(values, may_split.to_pylist(), strict=True)
        ]
        return _expand(rows, values, pieces)

    def _pieces(self, value: bytes) -> Sequence[bytes] | None:
        pieces = documents(value) if self._is_json else [piece for piece in value.split(self._delimiter) if piece]
        return pieces if pieces is not None and len(pieces) <= SUB_RECORDS_MAX else None


# -- JSON -------------------------------------------------------------------------------------------------------------

_SPACE: Final = b" \t\r\n"
_SEVERAL: Final = r"\}\s*\{"
_BETWEEN: Final = re.compile(rb"\}(\s*)\{")
_NEXT: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+("|\Z)|[{}]', re.DOTALL)
"""A string, whole or without an end, or a brace."""
_TRIES_MAX: Final = 16
_is_json: Final = msgspec.json.Decoder(msgspec.Raw).decode


def _trimmed(data: pa.BinaryArray) -> pa.BinaryArray:
    """Without the white space around what looks like objects."""
    text = pa.Array.from_buffers(pa.string(), len(data), data.buffers(), offset=data.offset)
    trimmed = pc.ascii_trim_whitespace(text)
    if pc.equal(pc.binary_length(data), pc.binary_length(trimmed)).false_count == 0:
        return data
    are_objects = pc.and_(pc.starts_with(trimmed, pattern="{"), pc.ends_with(trimmed, pattern="}"))
    return pc.if_else(are_objects, trimmed.cast(pa.binary()), data)


def documents(value: bytes) -> Sequence[bytes] | None:
    """The JSON objects that a record consists of; None where it does not."""
    found: list[bytes] = []
    value = value.strip(_SPACE)
    start, tries = 0, 0
    for match in _BETWEEN.finditer(value):
        document = value[start : match.start() + 1]
        if _is_object(document):
            found.append(document)
            start = match.end() - 1
        else:  # in a string, most likely
            tries += 1
            if tries > _TRIES_MAX:
                return _scanned(value)
    found.append(value[start:])
    return found if found[0].startswith(b"{") and _is_object(found[-1]) else None


def _scanned(value: bytes) -> Sequence[bytes] | None:
    """The same in a time that only grows with the length, whatever stands in strings."""
    found: list[bytes] = []
    depth = start = end = 0
    for match in _NEXT.finditer(value):
        token = match.group()
        if token == b"{":
            if not depth:
                if value[end : match.start()].strip(_SPACE):
                    return None
                start = match.start()
            depth += 1
        elif token == b"}":
            depth -= 1
            if depth < 0:
                return None
            if not depth:
                end = match.end()
                found.append(value[start:end])
        elif not depth or not match.group(1):
            return None
    if depth or value[end:].strip(_SPACE) or not found:
        return None
    return found if all(map(_is_object, found)) else None


def _is_object(document: bytes) -> bool:
    try:
        _is_json(document)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


# -- rows -------------------------------------------------------------------------------------------------------------


def _expand(rows: Rows, values: Sequence[bytes], pieces: Sequence[Sequence[bytes] | None]) -> Rows:
    """Each row as its pieces, or as it is where there are None. Subs count anew what was one record in the stream."""
    data: list[bytes] = []
    places: list[int] = []
    for place, (value, each) in enumerate(zip(values, pieces, strict=True)):
        if each is None:
            data.append(value)
            places.append(place)
        else:
            data += each
            places += [place] * len(each)
    taken = rows.take(integers(pa.int64(), places)).with_data(binary(data))
    return _with_subs(taken)


def _with_subs(rows: Rows) -> Rows:
    subs: list[int] = []
    before: tuple[int, int] | None = None
    sub = 0
    for record in zip(rows.shard.to_pylist(), rows.offset.to_pylist(), strict=True):
        sub = sub + 1 if record == before else 0
        subs.append(sub)
        before = record
    return replace(rows, sub=integers(pa.int32(), subs))
