"""Objects of ORC, written by pyarrow.

All of AWS's options have an effect but one: padding is about the blocks of HDFS, and this writer knows none. Bloom
filters are for columns of the table, whatever the case of their names; AWS's answer to one that is not there is not
known, here it is passed over. Timestamps are ORC's: nanoseconds, with a time zone where the column has one.

pyarrow 26 writes wrong values, without a word, where structs that have nulls are slices, or lie in structs that have
none: members that belong to a null are written all the same, and those that follow are shifted. ORC's own reader in
Java sees the same. So nested columns are made anew before they are written; see `_without_traps`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.orc as orc

from streamkit.delivery.formats import Encoder, Written
from streamkit.delivery.plan import OrcFormat

_CODECS: Final = {"NONE": "uncompressed", "ZLIB": "zlib", "SNAPPY": "snappy", "ZSTD": "zstd"}
_VERSIONS: Final = {"V0_11": "0.11", "V0_12": "0.12"}


def make_encoder(format: OrcFormat) -> Encoder:
    return _OrcEncoder(format)


class _OrcEncoder:
    def __init__(self, format: OrcFormat) -> None:
        self._format = format

    def write(self, pieces: Iterable[pa.RecordBatch], path: Path) -> Written:
        """See `formats.Encoder.write`. The writer holds a stripe, encoded. There has to be a piece, if an empty one: it
        says what the columns are."""
        rest = map(_without_traps, pieces)
        first = next(rest, None)
        assert first is not None, "nothing says what the columns are"
        with pa.OSFile(str(path), "wb") as file:
            writer = self._writer(first.schema, file)
            try:
                for piece in chain([first], rest):
                    writer.write(pa.Table.from_batches([piece]))
            finally:
                writer.close()
        with path.open("rb") as written:
            os.fsync(written.fileno())
            return Written(os.fstat(written.fileno()).st_size, ".orc")

    def _writer(self, schema: pa.Schema, file: Any) -> Any:
        format = self._format
        return orc.ORCWriter(
            file,
            file_version=_VERSIONS[format.version],
            stripe_size=format.stripe_bytes,
            compression=_CODECS[format.compression],
            row_index_stride=format.row_index_stride,
            padding_tolerance=format.padding_tolerance,
            dictionary_key_size_threshold=format.dictionary_threshold,
            bloom_filter_columns=_column_ids(schema, format.bloom_columns),
            bloom_filter_fpp=format.bloom_false_positives,
        )


def _without_traps(piece: pa.RecordBatch) -> pa.RecordBatch:
    """The same rows; members of structs that are null are null too, and nothing is a slice of anything."""
    nested = [place for place, field in enumerate(piece.schema) if pa.types.is_nested(field.type)]
    if not nested:
        return piece
    chosen = piece.select(nested)
    whole = pa.ipc.read_record_batch(chosen.serialize(), chosen.schema)  # leaves behind what is not in the slice
    columns = piece.columns
    for place, column in zip(nested, whole.columns, strict=True):
        columns[place] = _nulls_pushed_down(column)
    return pa.RecordBatch.from_arrays(columns, piece.schema.names)


def _nulls_pushed_down(array: Any) -> Any:
    kind = array.type
    mask = array.is_null() if array.null_count else None
    if pa.types.is_struct(kind):
        members = [_nulls_pushed_down(member) for member in array.flatten()]
        return pa.StructArray.from_arrays(members, names=[field.name for field in kind], mask=mask)
    if pa.types.is_map(kind):
        return pa.MapArray.from_arrays(array.offsets, array.keys, _nulls_pushed_down(array.items), mask=mask)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return type(array).from_arrays(array.offsets, _nulls_pushed_down(array.values), mask=mask)
    return array


def _column_ids(schema: pa.Schema, names: Iterable[str]) -> list[int]:
    """ORC numbers columns and what they consist of in one row, the whole record being 0."""
    wanted = {name.lower() for name in names}
    found = []
    number = 1
    for field in schema:
        if field.name.lower() in wanted:
            found.append(number)
        number += _width(field.type)
    return found


def _width(kind: Any) -> int:
    if pa.types.is_map(kind):
        return 1 + _width(kind.key_type) + _width(kind.item_type)
    return 1 + sum(_width(kind.field(place).type) for place in range(kind.num_fields))
