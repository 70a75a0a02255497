"""Batches of a table to the rows of its relation: decoded, with computed and metadata columns, with watermarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamkit_sql.expressions.bound import Bound, Column
from streamkit_sql.runtime.duck import table_of
from streamkit_sql.runtime.operator import NO_WATERMARK_MS
from streamkit_sql.tables.definition import BoundTable, TableDefinition
from streamkit_sql.tables.formats import decoder_of
from streamkit_sql.tables.source import Decoded, Int64s, SourceBatch, Wanted, pick, sequence_numbers, storage
from streamkit_sql.tables.watermark import Marks
from streamkit_sql.types import Kind, SqlType, quoted, text_literal

if TYPE_CHECKING:
    import duckdb

_VIEW = "scan_rows"
_MICROSECONDS = pa.timestamp("us")
_HIDDEN = frozenset(("$n", "$wm", "$at"))


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that could not be read: which one of which batch, and why. Its payload is in the batch."""

    batch: int
    index: int
    reason: str


@dataclass(frozen=True, slots=True)
class Scanned:
    """`rows` has the columns that were asked for and `$n`, `$wm`, `$at`; `arrived_ms` is the latest arrival, None
    without rows. `skipped` counts what the table's options say to pass over."""

    rows: pa.Table
    bad: list[BadRow]
    arrived_ms: int | None
    skipped: int = 0


class Scan:
    """One reading of one table. `columns` are what is needed of it: columns, or fields in rows as `column.field`."""

    def __init__(
        self,
        table: TableDefinition,
        bound: BoundTable,
        columns: Mapping[str, Column],
        database: duckdb.DuckDBPyConnection,
    ) -> None:
        self.table = table
        self._database = database
        self._columns = dict(columns)
        self.has_watermark = bound.watermark is not None
        self._computed = {name: text for name in columns if (text := _computed_text(name, bound.computed)) is not None}
        cells = [f"{text.sql} AS {quoted(name)}" for name, text in self._computed.items()]
        reads = [text.columns for text in self._computed.values()]
        if bound.watermark is not None:
            self._bind_time(bound, cells, reads)
        self._metadata: dict[str, SqlType] = {}
        self._wanted: list[Wanted] = []
        physical = {each.name: each.type for each in table.physical}
        needed = frozenset().union(*reads) | (columns.keys() - self._computed.keys())
        for name in sorted(needed - _HIDDEN):
            self._resolve(name, physical)
        self._cells = cells
        self._decoder = decoder_of(table, self._wanted, database) if table.format not in (None, "parquet") else None

    def _bind_time(self, bound: BoundTable, cells: list[str], reads: list[frozenset[str]]) -> None:
        """The watermark's expression may name computed columns: their texts stand in a subquery's place."""
        assert bound.watermark is not None
        assert bound.watermark_column is not None
        inner = {name: bound.computed[name] for name in bound.watermark.columns if name in bound.computed}
        column = bound.watermark_column
        if column in bound.computed:
            inner[column] = bound.computed[column]
        self._time_inner = [f"{text.sql} AS {quoted(name)}" for name, text in inner.items()]
        self._time_cells = [
            f'epoch_us({bound.watermark.sql}) AS "$t"',
            f'{quoted(column)} IS NULL AS "$late"',
        ]
        reads += [bound.watermark.columns - inner.keys(), *(text.columns for text in inner.values())]
        if column not in bound.computed:
            reads.append(frozenset([column]))

    def _resolve(self, name: str, physical: Mapping[str, SqlType]) -> None:
        metadata = self.table.metadata
        if name in metadata:
            self._metadata[name] = metadata[name].type
            return
        if name in physical:
            self._wanted.append(Wanted(name, (name,), physical[name]))
            return
        path = _path(name, physical)
        assert path is not None, name
        self._wanted.append(Wanted(name, *path))

    @property
    def split_prefix(self) -> str:
        """Splits are named `table/split` in watermarks, where those of several tables are together."""
        return f"{self.table.name}/"

    def rows(self, batches: Sequence[SourceBatch], first_number: int, watermarks: Marks) -> Scanned:
        """The rows in the order of the batches, numbered from `first_number`; the last number is below that and the
        rows there are, of which a payload may give none or, as a JSON array, several.

        `watermarks.take` is called once for each batch that is not empty, in their order, under the split's prefixed
        name, also where the table has no watermark: then its times say nothing. Does not raise for what payloads hold,
        but for what an expression cannot go on with (DuckDB's error, with the text of a ValueProblem).
        """
        batches = [batch for batch in batches if len(batch)]
        if not batches:
            return Scanned(self._empty(), [], None)
        decoded = self._decoded(batches)
        lengths = np.array([len(batch) for batch in batches])
        ends = np.cumsum(lengths)
        bad = [self._located(index, reason, ends, lengths) for index, reason in decoded.bad]
        arrivals = np.concatenate([batch.arrivals_ms() for batch in batches])
        origins = decoded.origins
        table = decoded.table
        table = self._with_metadata(table, batches, origins)
        if origins is not None:
            arrivals = arrivals[origins]
        count = len(arrivals)
        owners = np.repeat(np.arange(len(batches)), lengths)
        owners = owners if origins is None else owners[origins]
        hidden = {
            "$n": pa.array(np.arange(first_number, first_number + count)),
            "$at": pa.array(arrivals * 1000).view(_MICROSECONDS),
        }
        for name, array in hidden.items():
            table = table.append_column(name, array) if table.num_columns else pa.table({name: array})
        computed, times, missing = self._compute(table)
        if missing is not None:
            reason = "the column of the watermark is NULL"
            sources = origins if origins is not None else np.arange(count)
            bad += [self._located(int(index), reason, ends, lengths) for index in sources[missing]]
            keep = pa.array(~missing)
            table, computed = table.filter(keep), computed.filter(keep)
            times, owners, arrivals = times[~missing], owners[~missing], arrivals[~missing]
        marks = self._marks(batches, owners, times, arrivals, watermarks)
        bad.sort(key=lambda each: (each.batch, each.index))
        answer = self._answer(table, computed, marks)
        return Scanned(answer, bad, int(arrivals.max()) if len(arrivals) else None, decoded.skipped)

    # -- steps -------------------------------------------------------------------------------------------------------

    def _decoded(self, batches: Sequence[SourceBatch]) -> Decoded:
        if self._decoder is None:
            tables = [pick(batch.rows, self._wanted) for batch in batches]
            if not self._wanted:
                return Decoded(tables[0], None, [])
            return Decoded(pa.concat_tables(tables), None, [])
        payloads = [batch.rows for batch in batches]
        return self._decoder.decode(payloads[0] if len(payloads) == 1 else pa.concat_arrays(payloads))

    @staticmethod
    def _located(index: int, reason: str, ends: Any, lengths: Any) -> BadRow:
        batch = int(np.searchsorted(ends, index, side="right"))
        return BadRow(batch, index - int(ends[batch] - lengths[batch]), reason)

    def _with_metadata(self, table: pa.Table, batches: Sequence[SourceBatch], origins: Int64s | None) -> pa.Table:
        for name, of in self._metadata.items():
            key = self.table.metadata[name].key or name
            parts = [_column(batch, key) for batch in batches]
            column = _as_type(pa.chunked_array(parts), of)
            if origins is not None:
                column = column.take(pa.array(origins))
            table = table.append_column(name, column) if table.num_columns else pa.table({name: column})
        return table

    def _compute(self, table: pa.Table) -> tuple[pa.Table, Int64s, Any]:
        """Computed columns, the watermark's values, and which rows lack a time (None for none)."""
        times = np.empty(0, np.int64)
        cells = list(self._cells)
        if self.has_watermark:
            cells += ['"$t"', '"$late"']
        if not cells:
            return table.select([]), times, None
        self._database.register(_VIEW, table)
        source = _VIEW
        if self.has_watermark:
            # Computed columns hide physical ones of no name of theirs, so `*` and they never collide.
            inner = ", ".join(["*", *self._time_inner])
            source = f"(SELECT *, {', '.join(self._time_cells)} FROM (SELECT {inner} FROM {_VIEW}))"
        computed = table_of(self._database, f"SELECT {', '.join(cells)} FROM {source}")
        missing = None
        if self.has_watermark:
            column = computed["$t"].combine_chunks()
            times = np.floor_divide(pc.fill_null(column, NO_WATERMARK_MS).to_numpy(zero_copy_only=False), 1000)
            if column.null_count:
                times[column.is_null().to_numpy(zero_copy_only=False)] = NO_WATERMARK_MS
            absent = computed["$late"].to_numpy()
            missing = absent if absent.any() else None
            computed = computed.drop_columns(["$t", "$late"])
        return computed, times, missing

    def _marks(
        self, batches: Sequence[SourceBatch], owners: Any, times: Int64s, arrivals: Int64s, watermarks: Marks
    ) -> Int64s:
        if not self.has_watermark:
            times = np.full(len(arrivals), NO_WATERMARK_MS, np.int64)
        parts = []
        edges = np.searchsorted(owners, np.arange(len(batches) + 1))
        for index, batch in enumerate(batches):
            part = slice(edges[index], edges[index + 1])
            parts.append(watermarks.take(self.split_prefix + batch.split, times[part], arrivals[part]))
        return np.concatenate(parts)

    def _answer(self, table: pa.Table, computed: pa.Table, marks: Int64s) -> pa.Table:
        names, columns = [], []
        for name in self._columns:
            names.append(name)
            columns.append((computed if name in self._computed else table)[name])
        columns += [table["$n"], pa.array(marks), table["$at"]]
        return pa.Table.from_arrays(columns, [*names, "$n", "$wm", "$at"])

    def _empty(self) -> pa.Table:
        fields = [pa.field(name, storage(column.type)) for name, column in self._columns.items()]
        hidden = [pa.field("$n", pa.int64()), pa.field("$wm", pa.int64()), pa.field("$at", _MICROSECONDS)]
        return pa.schema([*fields, *hidden]).empty_table()


def _computed_text(name: str, computed: Mapping[str, Bound]) -> Bound | None:
    """The text of a computed column, or of a field inside one."""
    if name in computed:
        return computed[name]
    for root, bound in computed.items():
        if name.startswith(f"{root}.") and (path := _path(name, {root: bound.type})) is not None:
            sql = bound.sql
            for part in path[0][1:]:
                sql = f"struct_extract({sql}, {text_literal(part)})"
            return Bound(sql, path[1], bound.columns)
    return None


def _path(name: str, roots: Mapping[str, SqlType]) -> tuple[tuple[str, ...], SqlType] | None:
    """`a.b.c` as names, which may have points themselves."""
    for root, of in roots.items():
        if name == root:
            return (root,), of
        if of.kind is Kind.ROW and name.startswith(f"{root}."):
            inner = _path(name[len(root) + 1 :], {each.name: each.type for each in of.fields})
            if inner is not None:
                return (root, *inner[0]), inner[1]
    return None


def _column(batch: SourceBatch, key: str) -> pa.Array:
    value = batch.metadata.get(key)
    if isinstance(value, pa.Array):
        return value
    if value is None and key == "timestamp":
        return pa.array(batch.arrivals_ms() * 1000).view(_MICROSECONDS)
    if key == "sequence-number":  # made where it is asked for: 56 digits a row
        return pa.array(sequence_numbers(batch) or pa.nulls(len(batch)), pa.string())
    return pa.repeat(pa.scalar(value), len(batch))


def _as_type(column: pa.ChunkedArray, of: SqlType) -> pa.ChunkedArray:
    target = storage(of)
    if pa.types.is_timestamp(column.type) and of.kind is Kind.BIGINT:
        return pc.divide(column.cast(pa.timestamp("us")).cast(pa.int64()), 1000)
    if pa.types.is_timestamp(column.type) and of.is_text:
        return pc.strftime(column.cast(pa.timestamp("ms")), "%Y-%m-%d %H:%M:%S")
    return column.cast(target) if column.type != target else column
