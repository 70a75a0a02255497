"""Records on their way through a delivery: a chunk of them as Arrow columns, and those that failed on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pyarrow as pa

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
    keys by where they come from (`partitionKeyFromQuery:day`): string columns without nulls.
    """

    data: pa.BinaryArray
    arrived_ms: pa.Int64Array
    shard: pa.Int32Array
    offset: pa.Int64Array
    sub: pa.Int32Array
    created_s: Mapping[int, int]
    partition_key: pa.BinaryArray | None = None
    keys: Mapping[str, pa.StringArray] = field(default_factory=dict)

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
        tables = [batch.to_arrow() for batch in batches]
        shards = pa.array([batch.shard_index for batch in batches], pa.int32())
        counts = [len(batch) for batch in batches]
        which = pa.array([place for place, count in enumerate(counts) for _ in range(count)], pa.int32())
        count = sum(counts)
        return cls(
            _joined([table.column("data") for table in tables], pa.binary()),
            _joined([table.column("arrived_at").cast(pa.int64()) for table in tables], pa.int64()),
            shards.take(which),
            _joined([table.column("offset") for table in tables], pa.int64()),
            pa.array(memoryview(bytes(4 * count)).cast("i"), pa.int32()) if count else pa.array([], pa.int32()),
            {batch.shard_index: batch.shard_created_s for batch in batches},
            _joined([table.column("partition_key").cast(pa.binary()) for table in tables], pa.binary()),
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
        created = pa.array([self.created_s[shard] for shard in self.shard.to_pylist()], pa.int64())
        keys = self.partition_key if self.partition_key is not None else pa.nulls(len(self), pa.binary())
        columns = [self.data, self.arrived_ms, self.shard, created, self.offset, self.sub, keys]
        return pa.RecordBatch.from_arrays(columns, schema=IPC_SCHEMA)

    @classmethod
    def from_batch(cls, batch: pa.RecordBatch) -> Rows:
        """What `to_batch` gave."""
        data, arrived, shard, created, offset, sub, keys = batch.columns
        created_s = dict(zip(shard.to_pylist(), created.to_pylist(), strict=True))
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


def _joined(arrays: list[Any], kind: pa.DataType) -> Any:
    if len(arrays) == 1:
        return arrays[0]
    return pa.concat_arrays(arrays) if arrays else pa.array([], kind)
