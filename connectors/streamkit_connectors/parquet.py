"""Objects of Parquet, written by pyarrow so that Spark, Athena, Redshift, DuckDB, Iceberg and Delta read them.

What was chosen, and why:

- Timestamps are int64 microseconds. INT96, which Hive and parquet-mr used to write, is deprecated, has no statistics to
  skip row groups by, and neither Iceberg nor Delta takes it; nanoseconds are not read by Athena and older Spark. One
  with a time zone is marked as UTC, one without is not, as the column says.
- Statistics are written: they cost a fifth of the time at 280 B, and are what readers skip by. Neither the size
  of pages, version 2 of them, nor other encodings change the time.
- Dictionaries are for columns of few values, which the first records tell, unless they are asked for of all columns:
  on all they cost a quarter of the time.
- GZIP and ZSTD always get a level: without one pyarrow's GZIP is fifty times as slow.
- Row groups end at BlockSizeBytes, and earlier where memory would not hold them: readers that work in parallel like it.
- Nothing of Arrow or pandas is in the footer; ids of fields, which Iceberg knows columns by, are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from streamkit.delivery.formats import Encoder, Written
from streamkit.delivery.plan import ParquetFormat
from streamkit.model.limits import PARQUET_GROUP_BYTES_MAX, PARQUET_GROUP_ROWS_MAX, PARQUET_SAMPLE_VALUES

_LEVELS: Final = {"GZIP": 1, "ZSTD": 1}
_CODECS: Final = {"UNCOMPRESSED": "none", "SNAPPY": "snappy", "GZIP": "gzip", "ZSTD": "zstd"}
_REPEATED_MIN: Final = 4  # a value occurs so often where a dictionary pays


def make_encoder(format: ParquetFormat) -> Encoder:
    return _ParquetEncoder(format)


class _ParquetEncoder:
    def __init__(self, format: ParquetFormat) -> None:
        self._format = format

    def write(self, pieces: Iterable[pa.RecordBatch], path: Path) -> Written:
        """See `formats.Encoder.write`. Holds at most one row group of pieces. There has to be a piece, if an empty one:
        it says what the columns are."""
        writer: Any = None
        with pa.OSFile(str(path), "wb") as file:
            try:
                for group in _row_groups(pieces, min(self._format.row_group_bytes, PARQUET_GROUP_BYTES_MAX)):
                    if writer is None:
                        writer = self._writer(group, file)
                    writer.write_table(pa.Table.from_batches(group), row_group_size=PARQUET_GROUP_ROWS_MAX)
                assert writer is not None, "nothing says what the columns are"
            finally:
                if writer is not None:
                    writer.close()
        return Written(_synced(path), ".parquet")

    def _writer(self, first: list[pa.RecordBatch], file: Any) -> Any:
        format = self._format
        level = _LEVELS.get(format.compression) if format.level is None else format.level
        return pq.ParquetWriter(
            file,
            first[0].schema.remove_metadata(),
            version="1.0" if format.version == "V1" else "2.6",
            data_page_version="1.0" if format.version == "V1" else "2.0",
            compression=_CODECS[format.compression],
            compression_level=level if format.compression in _LEVELS else None,
            use_dictionary=True if format.dictionary else _repetitive_columns(first),
            data_page_size=format.page_bytes,
            write_statistics=True,
            store_schema=False,
            coerce_timestamps="us",
            allow_truncated_timestamps=True,
        )


def _row_groups(pieces: Iterable[pa.RecordBatch], bytes_max: int) -> Iterator[list[pa.RecordBatch]]:
    """Pieces that make a row group together. Where there are no rows at all, the first piece."""
    held: list[pa.RecordBatch] = []
    rows = size = 0
    for place, piece in enumerate(pieces):
        if place and not len(piece):
            continue
        held.append(piece)
        rows += len(piece)
        size += piece.nbytes
        if size >= bytes_max or rows >= PARQUET_GROUP_ROWS_MAX:
            yield held
            held, rows, size = [], 0, 0
    if held:
        yield held


def _repetitive_columns(pieces: list[pa.RecordBatch]) -> list[str]:
    """Paths of the leaves whose first values repeat."""
    found = []
    rows = pa.Table.from_batches(pieces).slice(0, PARQUET_SAMPLE_VALUES).combine_chunks()
    for batch in rows.to_batches():  # one, or none where there are no rows
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            for path, leaf in _leaves(name, column):
                sample = leaf.slice(0, PARQUET_SAMPLE_VALUES).drop_null()
                if pa.types.is_boolean(sample.type) or not len(sample):
                    continue
                if pc.count_distinct(sample).as_py() * _REPEATED_MIN <= len(sample):
                    found.append(path)
    return found


def _leaves(path: str, array: Any) -> Iterator[tuple[str, Any]]:
    """The columns that Parquet makes of one, by its names for them."""
    kind = array.type
    if pa.types.is_struct(kind):
        for field, child in zip(kind, array.flatten(), strict=True):
            yield from _leaves(f"{path}.{field.name}", child)
    elif pa.types.is_map(kind):
        yield from _leaves(f"{path}.key_value.key", array.keys)
        yield from _leaves(f"{path}.key_value.value", array.items)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _leaves(f"{path}.list.element", array.flatten())
    else:
        yield path, array


def _synced(path: Path) -> int:
    """Makes what is in the file durable; returns its size."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size
