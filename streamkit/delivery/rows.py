"""Records on their way through a delivery: a chunk of them as Arrow columns, and those that failed on the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from streamkit.model import sequence
from streamkit.model.batch import RecordBatch
from streamkit.model.names import shard_id

IPC_SCHEMA: Final = pa.schema(
    [
        ("data", pa.binary()),
        ("arrived_ms", pa.int64()),
        ("shard", pa.int32()),
        ("shard_created_s", pa.int64()),
        ("offset", pa.int64()),
        ("sub", pa.int32()),
        ("partition_key", pa.binary()),
    ]
)


@dataclass(frozen=True, slots=True)
class Rows:
    """Columns of equal length, none of them with nulls but `partition_key`, which may also be missing.

    `data` (binary), `arrived_ms` (int64, epoch milliseconds), `shard` (int32), `offset` (int64, in its shard), `sub`
    (int32: which of the records that were one record in the stream; 0 in one that was not split). Rows of one shard are
    in order. `created_s` has each shard's creation second, which sequence numbers are made of. `keys` are partition
    keys by where they come from (`partitionKeyFromQuery:day`): string columns without nulls. `raw` is the data as it
    came, where error documents show that instead: before decompression.
    """

    data: pa.BinaryArray
    arrived_ms: pa.Int64Array
    shard: pa.Int32Array
    offset: pa.Int64Array
    sub: pa.Int32Array
    created_s: Mapping[int, int]
    partition_key: pa.BinaryArray | None = None
    keys: Mapping[str, pa.StringArray] = field(default_factory=dict)
    raw: pa.BinaryArray | None = None

    def __len__(self) -> int:
        return len(self.data)

    @property
    def data_bytes(self) -> int:
        """Of the records alone."""
        if not len(self.data):
            return 0
        offsets = self.data.buffers()[1]
        bounds = memoryview(offsets).cast("i")
        start = self.data.offset
        return int(bounds[start + len(self.data)] - bounds[start])

    @classmethod
    def of(cls, batches: Sequence[RecordBatch]) -> Rows:
        """The records of some batches, of any shards, as they are; the data is copied once where there are several."""
        return cls(
            _joined([_binary(batch, batch.data_offsets, batch.data) for batch in batches], pa.binary()),
            _joined([_arrivals(batch) for batch in batches], pa.int64()),
            _joined([pa.repeat(pa.scalar(batch.shard_index, pa.int32()), len(batch)) for batch in batches], pa.int32()),
            _joined([_offsets(batch) for batch in batches], pa.int64()),
            pa.repeat(pa.scalar(0, pa.int32()), sum(map(len, batches))),
            {batch.shard_index: batch.shard_created_s for batch in batches},
            _joined([_binary(batch, batch.key_offsets, batch.keys) for batch in batches], pa.binary()),
        )

    def take(self, indices: Any) -> Rows:
        """The rows at these places (anything Arrow takes for indices), in that order."""
        return self._each(lambda column: column.take(indices))

    def filter(self, mask: pa.BooleanArray) -> Rows:
        """The rows where the mask is true."""
        return self._each(lambda column: column.filter(mask))

    def slice(self, start: int, stop: int) -> Rows:
        """Rows `start` to `stop` (exclusive); shares the columns."""
        return self._each(lambda column: column.slice(start, stop - start))

    def with_data(self, data: pa.BinaryArray) -> Rows:
        """The same records with other data, one for one."""
        assert len(data) == len(self)
        return replace(self, data=data)

    def with_keys(self, keys: Mapping[str, pa.StringArray]) -> Rows:
        """With partition keys beside those it has."""
        return replace(self, keys={**self.keys, **keys})

    def sequence_number(self, row: int) -> str:
        shard = self.shard[row].as_py()
        return sequence.sequence_number(
            self.created_s[shard], shard, self.offset[row].as_py(), self.arrived_ms[row].as_py()
        )

    def shard_id(self, row: int) -> str:
        return shard_id(self.shard[row].as_py())

    def to_batch(self) -> pa.RecordBatch:
        """With the schema IPC_SCHEMA; `keys` are not part of it."""
        shards = pa.array(list(self.created_s), pa.int32())
        created = pa.array(list(self.created_s.values()), pa.int64()).take(pc.index_in(self.shard, shards))
        keys = self.partition_key if self.partition_key is not None else pa.nulls(len(self), pa.binary())
        columns = [self.data, self.arrived_ms, self.shard, created, self.offset, self.sub, keys]
        return pa.RecordBatch.from_arrays(columns, schema=IPC_SCHEMA)

    @classmethod
    def from_batch(cls, batch: pa.RecordBatch) -> Rows:
        """What `to_batch` gave."""
        data, arrived, shard, created, offset, sub, keys = batch.columns
        shards = pc.unique(shard)
        firsts = created.take(pc.index_in(shards, shard))
        created_s = dict(zip(shards.to_pylist(), firsts.to_pylist(), strict=True))
        return cls(data, arrived, shard, offset, sub, created_s, keys if not keys.null_count else None)

    def _each(self, change: Any) -> Rows:
        return Rows(
            change(self.data),
            change(self.arrived_ms),
            change(self.shard),
            change(self.offset),
            change(self.sub),
            self.created_s,
            None if self.partition_key is None else change(self.partition_key),
            {name: change(column) for name, column in self.keys.items()},
            None if self.raw is None else change(self.raw),
        )


@dataclass(frozen=True, slots=True)
class Failed:
    """Records that end in the error output. `output_type` is what `!{firehose:error-output-type}` gives, such as
    `processing-failed`; `errors` has a code and a message for each row; `members` are further members of each error
    document, such as lambdaARN."""

    rows: Rows
    output_type: str
    errors: Sequence[tuple[str, str]]
    attempts: int = 1
    members: Mapping[str, Any] = field(default_factory=dict)


def _binary(batch: RecordBatch, offsets: memoryview, values: memoryview) -> pa.BinaryArray:
    """A column of the batch, over the log's own bytes."""
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(values)]
    return pa.Array.from_buffers(pa.binary(), batch.stop, buffers).slice(batch.start)


def _arrivals(batch: RecordBatch) -> pa.Int64Array:
    if batch.arrivals_ms is None:
        return pa.repeat(pa.scalar(batch.arrived_at_ms, pa.int64()), len(batch))
    return pa.Array.from_buffers(pa.int64(), batch.stop, [None, pa.py_buffer(batch.arrivals_ms)]).slice(batch.start)


def _offsets(batch: RecordBatch) -> pa.Int64Array:
    if batch.offsets is not None:
        return pa.Array.from_buffers(pa.int64(), batch.stop, [None, pa.py_buffer(batch.offsets)]).slice(batch.start)
    ones = pa.repeat(pa.scalar(1, pa.int64()), len(batch))
    return pc.cumulative_sum(ones, start=pa.scalar(batch.first_offset - 1, pa.int64()))


def _joined(arrays: list[Any], kind: pa.DataType) -> Any:
    if len(arrays) == 1:
        return arrays[0]
    return pa.concat_arrays(arrays) if arrays else pa.array([], kind)


def kept(count: int, places: Iterable[int]) -> pa.BooleanArray:
    """A mask over so many rows: false at `places`."""
    keep = bytearray(b"\x01") * count
    for place in places:
        keep[place] = 0
    return pa.array(memoryview(keep), pa.uint8()).cast(pa.bool_())
