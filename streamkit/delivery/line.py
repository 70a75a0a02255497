"""What a chunk of records goes through: processors, partitions, conversion; out come pieces for buffers."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil
from typing import Final, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from streamkit.clock import Clock
from streamkit.delivery.buffers import BufferKey, Piece
from streamkit.delivery.convert import infer_columns, make_converter, make_converter_for
from streamkit.delivery.error_documents import documents
from streamkit.delivery.partition import ACTIVE_PARTITIONS_EXCEEDED, partitions
from streamkit.delivery.plan import (
    CatalogTable,
    Conversion,
    DeliveryPlan,
    FromDestination,
    InlineColumns,
    OrcFormat,
    ParquetFormat,
    RecordsFormat,
)
from streamkit.delivery.processor import Converter, Offload, Partition, Step
from streamkit.delivery.processors.delimiter import AppendDelimiter
from streamkit.delivery.rows import Failed, Rows, kept
from streamkit.log import DELIVERY_STREAM, RECORDS
from streamkit.model.batch import RecordBatch
from streamkit.model.errors import StreamkitError
from streamkit.model.limits import (
    ACTIVE_PARTITIONS_MAX,
    DELIVERY_CHUNK_CELLS_MAX,
    DELIVERY_CHUNK_RECORDS_MAX,
    INFERRED_RECORDS_MAX,
    SCHEMA_CHECK_MS,
)

_log = logging.getLogger(__name__)

Columns = tuple[tuple[str, str], ...]
PartitionKey = tuple[tuple[str, str], ...]

CONVERSION_FAILED: Final = "format-conversion-failed"
KEY_TOO_LONG: Final = (
    "metadata-extraction-failed",
    "DynamicPartitioning.ObjectKeyTooLong",
    "The values of the partition keys make the name of an object longer than it can be",
)
"""Error type, code and message; what AWS does with them is not known."""

_LEAVES_SUPPOSED: Final = 1_024  # until the first chunk tells
_LEAVES_MIN: Final = 16  # of fewer nothing would be gained
_NEVER_MS: Final = 2**63 - 1  # in the place of the arrivals that do not count
_TRIED_APART_MAX: Final = 8  # records that fail one by one, before those of a whole chunk are taken for innocent


class Schemas(Protocol):
    """Where conversions find the columns of tables. Raises ResourceNotFound."""

    def columns(self, table: CatalogTable) -> Columns: ...

    def keep(self, name: str, columns: Columns) -> CatalogTable:
        """Remembers what was inferred for a delivery stream; what was kept for it before stays."""
        ...

    def kept(self, name: str) -> CatalogTable | None: ...


@dataclass(slots=True)
class Output:
    """What became of a chunk, in order. Counts are records."""

    pieces: list[Piece] = field(default_factory=list)
    taken: int = 0
    taken_bytes: int = 0
    converted: int = 0
    failed: dict[str, int] = field(default_factory=dict)  # by error type
    admitted: Counter[PartitionKey] = field(default_factory=Counter)  # active until this is in buffers


class _Shape(NamedTuple):
    """How records are converted just now. `tag` tells one schema from another."""

    make: Callable[[], Converter]
    tag: str
    members: Mapping[str, object]  # of error documents


class Line:
    """One plan at work. Chunks may be under way at the same time; each gives its output when it is through."""

    def __init__(
        self,
        plan: DeliveryPlan,
        steps: Sequence[Step],
        *,
        schemas: Schemas,
        table_schema: Callable[[], Awaitable[pa.Schema | None]],
        active: Callable[[], Collection[PartitionKey]],
        clock: Clock,
        offload: Offload,
        fits: Callable[[Mapping[str, str]], bool] = lambda values: True,
    ) -> None:
        """`table_schema` is the destination's; `active` tells which partitions have a buffer now, `fits` whether an
        object of these partition values can have its name."""
        self._plan = plan
        # Delimiters are put between what is delivered: a record that fails before that is told as it came.
        self._steps = [step for step in steps if not isinstance(step, AppendDelimiter)]
        self._delimiters = [step for step in steps if isinstance(step, AppendDelimiter)]
        self._schemas = schemas
        self._table_schema = table_schema
        self._active = active
        self._clock = clock
        self._offload = offload
        self._fits = fits
        self._converters: list[tuple[str, Converter]] = []  # idle ones, with their shape's tag
        self._shape: _Shape | None = None
        self._shaped_at_ms = 0
        self._leaves_count = _LEAVES_SUPPOSED  # of the schema
        self._admitted: Counter[PartitionKey] = Counter()  # in chunks that are not in buffers yet

    @property
    def records_max(self) -> int:
        """Of a chunk. What columns take is bounded, however little is in the records: `{}` is a value for each."""
        if self._plan.conversion is None:
            return DELIVERY_CHUNK_RECORDS_MAX
        return max(DELIVERY_CHUNK_CELLS_MAX // self._leaves_count, 1)

    async def process(self, batches: Sequence[RecordBatch]) -> Output:
        """Raises what processors and destinations raise; then nothing of the chunk counts, and it may come again."""
        output = Output()
        try:
            rows: Rows = await self._offload(lambda: Rows.of(batches))
            output.taken, output.taken_bytes = len(rows), rows.data_bytes
            backup = self._plan.backup
            if backup is not None and backup.mode == "all" and len(rows):
                output.pieces.append(_piece(BufferKey("backup"), rows, _text_batch(rows)))
            await self._through(rows, output)
        except BaseException:
            self.applied(output)
            raise
        return output

    async def process_apart(self, batches: Sequence[RecordBatch], *, gives_up: bool = False) -> Output:
        """For a chunk that fails for a reason that nobody foresaw: halves of it, and halves of those, until the records
        are found that are the reason. They end in the error output, the others go on.

        Where none goes through it raises what the last failed of, for the fault is hardly theirs; unless it `gives_up`:
        then all of them end in the error output. Functions see records several times. Raises StreamkitError and OSError
        at once, as `process` does."""
        output = Output()
        parts = [list(batches)]
        total, worked, failed = sum(map(len, batches)), 0, 0
        try:
            while parts:
                part = parts.pop()
                count = sum(map(len, part))
                try:
                    one = await self.process(part)
                    worked += count
                except (StreamkitError, OSError):
                    raise
                except Exception as error:
                    if count > 1:
                        left, right = _halves(part)
                        parts += [right, left]
                        continue
                    failed += count
                    if not worked and failed >= min(total, _TRIED_APART_MAX):
                        if not gives_up:
                            if total > 1:
                                raise
                        else:
                            part = [*part, *(batch for rest in reversed(parts) for batch in rest)]
                            parts = []
                    one = await self._given_up(part, error)
                _add(output, one)
        except BaseException:
            self.applied(output)
            raise
        return output

    async def _given_up(self, batches: Sequence[RecordBatch], error: Exception) -> Output:
        output = Output()
        rows: Rows = await self._offload(lambda: Rows.of(batches))
        output.taken, output.taken_bytes = len(rows), rows.data_bytes
        backup = self._plan.backup
        if backup is not None and backup.mode == "all":
            output.pieces.append(_piece(BufferKey("backup"), rows, _text_batch(rows)))
        told = ("Streamkit.InternalFailure", repr(error))
        await self._fail(Failed(rows, "processing-failed", [told] * len(rows)), output)
        fields = {DELIVERY_STREAM: self._plan.name, RECORDS: len(rows)}
        _log.error("records went to the error output, for they cannot be processed", extra=fields, exc_info=error)
        return output

    def applied(self, output: Output) -> None:
        """What was admitted for a chunk is in buffers now, or never will be."""
        self._admitted -= output.admitted  # a Counter: others may have been admitted to the same
        output.admitted = Counter()

    async def _through(self, rows: Rows, output: Output) -> None:
        for step in self._steps:
            if not len(rows):
                return
            rows, failed = await step.process(rows)
            for each in failed:
                await self._fail(each, output)
        if not len(rows):
            return
        parts: list[Partition] | None = None
        if self._plan.is_partitioned:
            parts = await self._admit(rows, await self._offload(lambda: partitions(rows)), output)
            if not parts:
                return
        shape = await self._current_shape(rows)
        if shape is None:
            for delimiter in self._delimiters:
                rows, _ = await delimiter.process(rows)
            output.pieces += await self._offload(lambda: list(self._as_they_are(rows, parts)))
            return
        converter = self._converter(shape)
        pieces, failed_rows = await self._offload(lambda: self._converted(converter, shape, rows, parts))
        self._converters.append((shape.tag, converter))  # one that failed is not used again
        self._leaves_count = max(sum(map(_leaves_count, converter.schema.types)), _LEAVES_MIN)
        output.pieces += pieces
        output.converted += sum(piece.batch.num_rows for piece in pieces)
        if failed_rows is not None:
            await self._fail(failed_rows, output)

    async def _fail(self, failed: Failed, output: Output) -> None:
        rows, at_ms = failed.rows, self._clock.now_ms()
        lines = await self._offload(lambda: documents(failed, at_ms=at_ms))
        output.failed[failed.output_type] = output.failed.get(failed.output_type, 0) + len(rows)
        output.pieces.append(
            Piece(
                BufferKey("error", failed.output_type),
                pa.RecordBatch.from_arrays([lines], ["data"]),
                rows.with_data(lines).data_bytes,
                pc.min(rows.arrived_ms).as_py(),
            )
        )

    # -- partitions --------------------------------------------------------------------------------------------------

    async def _admit(self, rows: Rows, parts: list[Partition], output: Output) -> list[Partition]:
        """Those whose partition is active or can be; the records of others go to the error output."""
        active = {*self._active(), *self._admitted}
        admitted: list[Partition] = []
        refused: dict[tuple[str, str, str], list[Partition]] = {}
        for part in parts:
            key = tuple(part.values.items())
            if key not in active:
                if not self._fits(part.values):
                    refused.setdefault(KEY_TOO_LONG, []).append(part)
                    continue
                if len(active) >= ACTIVE_PARTITIONS_MAX:
                    refused.setdefault(ACTIVE_PARTITIONS_EXCEEDED, []).append(part)
                    continue
            active.add(key)
            self._admitted[key] += 1
            output.admitted[key] += 1
            admitted.append(part)
        for (error_type, *told), those in refused.items():
            places = pc.sort_indices(pa.concat_arrays([part.rows for part in those]))
            over = rows.take(pa.concat_arrays([part.rows for part in those]).take(places))
            await self._fail(Failed(over, error_type, [(told[0], told[1])] * len(over)), output)
        return admitted

    # -- shapes ------------------------------------------------------------------------------------------------------

    async def _current_shape(self, rows: Rows) -> _Shape | None:
        conversion = self._plan.conversion
        if conversion is None:
            return None
        now_ms = self._clock.now_ms()
        source = conversion.schema
        if isinstance(source, FromDestination):
            if self._shape is None or now_ms - self._shaped_at_ms >= SCHEMA_CHECK_MS:
                schema = await self._table_schema()
                if schema is not None:
                    self._shape = _Shape(lambda: make_converter_for(schema, conversion), _tag(str(schema)), {})
                    self._shaped_at_ms = now_ms
                    return self._shape
            else:
                return self._shape
        columns, members = await self._columns(conversion, rows)
        tag = _tag(repr(columns))
        if self._shape is None or self._shape.tag != tag:
            self._shape = _Shape(lambda: make_converter(columns, conversion), tag, members)
        return self._shape

    async def _columns(self, conversion: Conversion, rows: Rows) -> tuple[Columns, Mapping[str, object]]:
        source = conversion.schema
        if isinstance(source, InlineColumns):
            return source.columns, {}
        table = source if isinstance(source, CatalogTable) else self._schemas.kept(self._plan.name)
        if table is None:  # to be inferred, and these are the first records
            found = await self._offload(lambda: infer_columns(rows.data, records_max=INFERRED_RECORDS_MAX))
            table = self._schemas.keep(self._plan.name, found)
        return self._schemas.columns(table), {"dataCatalogTable": table}

    def _converter(self, shape: _Shape) -> Converter:
        self._converters = [each for each in self._converters if each[0] == shape.tag]
        return self._converters.pop()[1] if self._converters else shape.make()

    # -- pieces ------------------------------------------------------------------------------------------------------

    def _as_they_are(self, rows: Rows, parts: list[Partition] | None) -> Iterator[Piece]:
        whole = _records_batch if isinstance(self._plan.format, RecordsFormat) else _text_batch
        if parts is None:
            yield _piece(BufferKey("main"), rows, whole(rows))
            return
        taken, bounds = _sorted(rows, parts)
        batch = whole(taken)
        for part, (start, stop) in zip(parts, pairwise(bounds), strict=True):
            key = BufferKey("main", "", tuple(part.values.items()))
            yield _piece(key, taken.slice(start, stop), batch.slice(start, stop - start))

    def _converted(
        self, converter: Converter, shape: _Shape, rows: Rows, parts: list[Partition] | None
    ) -> tuple[list[Piece], Failed | None]:
        assert isinstance(self._plan.format, ParquetFormat | OrcFormat)
        # Only what pieces need is put in order: the data, and when it arrived.
        order, bounds = None, [0, len(rows)]
        data, arrived_ms = rows.data, rows.arrived_ms
        if parts is not None:
            order, bounds = _order(parts)
            data, arrived_ms = data.take(order), arrived_ms.take(order)
        batch, bad, several = converter.convert(data)
        changes = {row: count - 1 for row, count in several}  # rows of the table are more than the records
        failed = None
        sizes = _sizes(data, bounds)
        if bad:
            places = [each.row for each in bad]
            indices = pa.array(places, pa.int64())
            refused = rows.take(indices if order is None else order.take(indices))
            errors = [(each.code, each.message) for each in bad]
            failed = Failed(refused, CONVERSION_FAILED, errors, members=shape.members)
            good = kept(len(data), places)
            arrived_ms = pc.if_else(good, arrived_ms, pa.scalar(_NEVER_MS, pa.int64()))
            for place, size in zip(places, pc.binary_length(refused.data).to_pylist(), strict=True):
                sizes[bisect_right(bounds, place) - 1] -= size
            changes |= dict.fromkeys(places, -1)
        pieces = []
        oldest_ms, row_bytes = _oldest(arrived_ms, bounds), batch.nbytes / max(batch.num_rows, 1)
        partition_keys = [()] if parts is None else [tuple(part.values.items()) for part in parts]
        for values, (first, last), size, at_ms in zip(
            partition_keys, pairwise(_shifted(bounds, changes)), sizes, oldest_ms, strict=True
        ):
            if last > first:
                key = BufferKey("main", "", values, shape.tag)
                taken_bytes = ceil(row_bytes * (last - first))
                pieces.append(Piece(key, batch.slice(first, last - first), size, at_ms, taken_bytes))
        return pieces, failed


def _leaves_count(kind: pa.DataType) -> int:
    return sum(_leaves_count(kind.field(each).type) for each in range(kind.num_fields)) or 1


def _text_batch(rows: Rows) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([rows.data], ["data"])


def _records_batch(rows: Rows) -> pa.RecordBatch:
    return rows.to_batch()


def _piece(key: BufferKey, rows: Rows, batch: pa.RecordBatch) -> Piece:
    return Piece(key, batch, rows.data_bytes, pc.min(rows.arrived_ms).as_py())


def _order(parts: Sequence[Partition]) -> tuple[pa.Int64Array, list[int]]:
    """The places of the rows partition by partition, and where each begins and ends."""
    bounds = [0]
    for part in parts:
        bounds.append(bounds[-1] + len(part.rows))
    return pa.concat_arrays([part.rows for part in parts]) if parts else pa.array([], pa.int64()), bounds


def _sorted(rows: Rows, parts: Sequence[Partition]) -> tuple[Rows, list[int]]:
    """The rows partition by partition: one copy, from which pieces are windows."""
    order, bounds = _order(parts)
    return rows.take(order), bounds


def _sizes(data: pa.BinaryArray, bounds: Sequence[int]) -> list[int]:
    """Bytes of each part of the data."""
    if not len(data):
        return [0] * (len(bounds) - 1)
    offsets = memoryview(data.buffers()[1]).cast("i")
    return [offsets[data.offset + stop] - offsets[data.offset + start] for start, stop in pairwise(bounds)]


def _oldest(arrived_ms: pa.Int64Array, bounds: Sequence[int]) -> list[int]:
    """Of each part; parts without rows have none that counts."""
    if len(bounds) == 2:
        return [pc.min(arrived_ms).as_py()]
    times = memoryview(arrived_ms.buffers()[1]).cast("q")[arrived_ms.offset :] if len(arrived_ms) else ()
    return [min(times[start:stop], default=_NEVER_MS) for start, stop in pairwise(bounds)]


def _shifted(bounds: Sequence[int], changes: Mapping[int, int]) -> list[int]:
    """Where parts begin when the rows that `changes` names have become more by so much, or fewer."""
    shifted, moved = [], 0
    rows = sorted(changes, reverse=True)
    for bound in bounds:
        while rows and rows[-1] < bound:
            moved += changes[rows.pop()]
        shifted.append(bound + moved)
    return shifted


def _add(output: Output, more: Output) -> None:
    output.pieces += more.pieces
    output.taken += more.taken
    output.taken_bytes += more.taken_bytes
    output.converted += more.converted
    output.admitted += more.admitted
    for kind, count in more.failed.items():
        output.failed[kind] = output.failed.get(kind, 0) + count


def _halves(batches: Sequence[RecordBatch]) -> tuple[list[RecordBatch], list[RecordBatch]]:
    """Of more than one record, in order."""
    left: list[RecordBatch] = []
    room = sum(map(len, batches)) // 2
    for place, batch in enumerate(batches):
        if len(batch) > room:
            if room:
                left.append(batch.slice(0, room))
            return left, [batch.slice(room, len(batch)), *batches[place + 1 :]]
        left.append(batch)
        room -= len(batch)
    raise AssertionError


def _tag(text: str) -> str:
    return xxhash.xxh3_64_hexdigest(text.encode())
