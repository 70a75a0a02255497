"""The ports of tables: where batches of rows come from, what turns their payloads into columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamkit.model.sequence import sequence_number
from streamkit_sql.types import TIMESTAMPS, Kind, SqlType

Int64s = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SourceBatch:
    """Some rows of one split, in its order.

    `rows` are payloads that a format decodes, or a ready table of the physical columns. `metadata` has the values of
    metadata columns by their keys: an Arrow array, one value each, or one value for all rows. `position` is where to
    read on after this batch, as `TableSource.read` takes it.
    """

    split: str
    rows: pa.BinaryArray | pa.Table
    arrived_ms: int | Int64s
    position: str
    metadata: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def __len__(self) -> int:
        return self.rows.num_rows if isinstance(self.rows, pa.Table) else len(self.rows)

    def arrivals_ms(self) -> Int64s:
        """One for each row."""
        if isinstance(self.arrived_ms, int):
            return np.full(len(self), self.arrived_ms, np.int64)
        return self.arrived_ms


def sequence_numbers(batch: SourceBatch, start: int = 0, stop: int | None = None) -> list[str] | None:
    """Of a stream's records, from row `start` to `stop`; None of what is no stream."""
    created_s = batch.metadata.get("shard-created-s")
    if created_s is None:
        return None
    shard = batch.metadata["shard-index"]
    offsets = batch.metadata["offset"][start:stop].to_pylist()
    arrivals_ms = batch.arrivals_ms()[start:stop].tolist()
    return [str(sequence_number(created_s, shard, *each)) for each in zip(offsets, arrivals_ms, strict=True)]


class TableSource(Protocol):
    """What a table is read from. A position is opaque text; `None` is where the table's options say to begin.

    The same positions give the same rows, in the same order, whatever `rows_max` is.
    """

    @property
    def is_bounded(self) -> bool:
        """Whether there is nothing behind what it has given, when it gives nothing."""
        ...

    async def splits(self) -> Sequence[str]:
        """The splits there are by now; each has an order of its own and is read by itself."""
        ...

    async def read(self, split: str, position: str | None, rows_max: int, bytes_max: int) -> SourceBatch | None:
        """The next rows, at least one; None at the end of a bounded split, or where no more are there yet."""
        ...


@dataclass(frozen=True, slots=True)
class Decoded:
    """`table` has the columns that were asked for, of the types of `storage`. `origins` says which payload a row came
    from, rising; None where it is row by row. `bad` are the payloads that gave no row, with the reason, in order;
    `skipped` counts those that gave none because the table's options say so."""

    table: pa.Table
    origins: Int64s | None
    bad: list[tuple[int, str]]
    skipped: int = 0


class Decoder(Protocol):
    def decode(self, payload: pa.BinaryArray) -> Decoded:
        """Never raises for what is in a payload. A NULL payload gives no row."""
        ...


def storage(of: SqlType) -> pa.DataType:
    """The Arrow type that DuckDB reads as `of.duckdb`: timestamps are naive, in us, or ns beyond six digits."""
    kind = of.kind
    if kind in TIMESTAMPS:
        return pa.timestamp("ns" if of.precision > 6 else "us")
    if kind is Kind.ARRAY:
        assert of.element is not None
        return pa.list_(storage(of.element))
    if kind in (Kind.MAP, Kind.MULTISET):
        assert of.element is not None
        if kind is Kind.MULTISET:
            return pa.map_(storage(of.element), pa.int32())
        assert of.key is not None
        return pa.map_(storage(of.key), storage(of.element))
    if kind is Kind.ROW:
        return pa.struct([pa.field(each.name, storage(each.type)) for each in of.fields])
    return of.arrow


@dataclass(frozen=True, slots=True)
class Wanted:
    """A column to decode: `name` in the result, `path` inside the table's row, `type` at its end."""

    name: str
    path: tuple[str, ...]
    type: SqlType


def pick(tables: pa.Table, wanted: Sequence[Wanted]) -> pa.Table:
    """The wanted columns, fields inside rows too, of a table that has all physical columns."""
    import pyarrow.compute as pc

    columns = []
    for each in wanted:
        column = tables[each.path[0]]
        for name in each.path[1:]:
            column = pc.struct_field(column, name)
        columns.append(column.cast(storage(each.type)) if column.type != storage(each.type) else column)
    return pa.table(columns, [each.name for each in wanted]) if columns else tables.select([])


def empty(wanted: Sequence[Wanted], count: int) -> pa.Table:
    """A table of NULLs; with no columns at all it still has `count` rows."""
    if not wanted:
        return pa.table({"": pa.nulls(count)}).select([])
    return pa.table({each.name: pa.nulls(count, storage(each.type)) for each in wanted})
