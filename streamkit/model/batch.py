"""The record batch: the unit of flow.

Records are grouped once, when they are appended, and stay grouped: on disk, in memory, into Arrow. A batch is a window
on columns in Arrow's own layout (int32 offsets and bytes), usually straight over a memory map; making one copies
nothing, and no object per record exists until somebody asks for records.
"""

from __future__ import annotations

import itertools
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from streamkit.model import sequence
from streamkit.model.names import shard_id
from streamkit.model.sequence import SequenceNumber

if TYPE_CHECKING:
    import pyarrow as pa


class Record(NamedTuple):
    """One record, as an edge that needs objects sees it."""

    partition_key: str
    data: bytes
    sequence_number: SequenceNumber
    arrived_at_ms: int


@dataclass(frozen=True, slots=True)
class Columns:
    """Records to append to one shard, not yet placed: two binary columns, and explicit hash keys where any was given.

    The offsets are int32 and start anywhere; value i lies between offsets i and i + 1. `hash_keys`, if present, holds
    16 bytes a record.
    """

    count: int
    key_offsets: memoryview
    keys: memoryview | bytes
    data_offsets: memoryview
    data: memoryview | bytes
    hash_keys: memoryview | bytes | None = None

    def windows(self, records_max: int, bytes_max: int) -> Iterator[Columns]:
        """The columns in parts within both limits, as far as one record can be; the bytes are shared."""
        start = 0
        while start < self.count:
            stop = min(start + records_max, self.count)
            while stop - start > 1 and self.bytes_between(start, stop) > bytes_max:
                stop = start + (stop - start) // 2
            yield Columns(
                stop - start,
                self.key_offsets[start : stop + 1],
                self.keys,
                self.data_offsets[start : stop + 1],
                self.data,
                None if self.hash_keys is None else self.hash_keys[16 * start : 16 * stop],
            )
            start = stop

    def bytes_between(self, start: int, stop: int) -> int:
        """Of keys and data; what else lies in the buffers does not count."""
        data, keys = self.data_offsets, self.key_offsets
        return int(data[stop] - data[start] + keys[stop] - keys[start])


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Records of one shard, in order: consecutive ones, unless `offsets` says where each stands.

    `start` and `stop` cut a window out of the columns, so that a slice shares them. `arrived_at_ms` is one instant for
    the whole batch; where records that arrived apart were merged, `arrivals_ms` (int64) has one for each.
    A batch keeps the memory it looks at alive, also after its segment was trimmed from disk.
    """

    shard_index: int
    shard_created_s: int
    first_offset: int  # of record `start`
    start: int
    stop: int
    arrived_at_ms: int
    key_offsets: memoryview
    keys: memoryview
    data_offsets: memoryview
    data: memoryview
    hash_keys: memoryview | None = None
    arrivals_ms: memoryview | None = None
    offsets: memoryview | None = None  # int64, where records between them were left out

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def next_offset(self) -> int:
        """The offset after the last record: where a reader goes on."""
        if self.offsets is not None and len(self):
            return self.offset(len(self) - 1) + 1
        return self.first_offset + self.stop - self.start

    def offset(self, index: int) -> int:
        """Where record `index` of this window stands in its shard."""
        return self.first_offset + index if self.offsets is None else int(self.offsets[self.start + index])

    @property
    def shard_id(self) -> str:
        return shard_id(self.shard_index)

    @property
    def data_bytes(self) -> int:
        """Bytes of record data, without partition keys."""
        return int(self.data_offsets[self.stop] - self.data_offsets[self.start])

    @property
    def last_arrived_at_ms(self) -> int:
        return self.arrivals_ms[self.stop - 1] if self.arrivals_ms is not None else self.arrived_at_ms

    @property
    def last_sequence_number(self) -> SequenceNumber:
        """What a checkpoint after this batch holds. The batch must not be empty."""
        return self.sequence_number(len(self) - 1)

    def sequence_number(self, index: int) -> SequenceNumber:
        """The sequence number of record `index` of this window."""
        arrived = self.arrivals_ms[self.start + index] if self.arrivals_ms is not None else self.arrived_at_ms
        return sequence.sequence_number(self.shard_created_s, self.shard_index, self.offset(index), arrived)

    def sequence_numbers(self) -> list[str]:
        if self.arrivals_ms is not None or self.offsets is not None:
            return [self.sequence_number(index) for index in range(len(self))]
        number = sequence.number_of(self.shard_created_s, self.shard_index, self.first_offset, self.arrived_at_ms)
        step = sequence.OFFSET_STEP
        return [str(each) for each in range(number, number + len(self) * step, step)]

    def slice(self, start: int, stop: int) -> RecordBatch:
        """Records `start` to `stop` (exclusive) of this window; shares the columns."""
        assert 0 <= start <= stop <= len(self)
        return RecordBatch(
            self.shard_index,
            self.shard_created_s,
            self.offset(start) if start < len(self) else self.next_offset,
            self.start + start,
            self.start + stop,
            self.arrived_at_ms,
            self.key_offsets,
            self.keys,
            self.data_offsets,
            self.data,
            self.hash_keys,
            self.arrivals_ms,
            self.offsets,
        )

    def cut_to(self, records_max: int, bytes_max: int, *, at_least: int = 0) -> tuple[RecordBatch, int]:
        """As many records as both limits leave room for, but `at_least` that many; and their bytes, keys included."""
        data, keys = self.data_offsets, self.key_offsets
        base = data[self.start] + keys[self.start]

        def size_to(row: int) -> int:
            return int(data[row] + keys[row] - base)

        stop = self.start + min(len(self), records_max)
        if size_to(stop) > bytes_max:
            stop = bisect_right(range(stop + 1), bytes_max, lo=self.start, key=size_to) - 1
            stop = max(stop, self.start + at_least)
        return self.slice(0, stop - self.start), size_to(stop)

    def partition_keys(self) -> list[str]:
        return [key.decode() for key in self.keys_bytes()]

    def keys_bytes(self) -> list[bytes]:
        """The partition keys, in UTF-8."""
        bounds = self.key_offsets[self.start : self.stop + 1].tolist()
        text = bytes(self.keys[bounds[0] : bounds[-1]])
        base = bounds[0]
        return [text[a - base : b - base] for a, b in itertools.pairwise(bounds)]

    def values(self) -> list[memoryview]:
        """The data of each record, as views: nothing is copied, and each view keeps the batch's memory alive."""
        bounds = self.data_offsets[self.start : self.stop + 1].tolist()
        data = self.data
        return [data[a:b] for a, b in itertools.pairwise(bounds)]

    def digests(self) -> list[bytes] | None:
        """The hash keys, 16 bytes each, where the batch has any that was explicit."""
        if self.hash_keys is None:
            return None
        return [bytes(self.hash_keys[16 * row : 16 * row + 16]) for row in range(self.start, self.stop)]

    def arrivals(self) -> list[int]:
        """Arrival times, one a record, in epoch milliseconds."""
        if self.arrivals_ms is not None:
            return self.arrivals_ms[self.start : self.stop].tolist()
        return [self.arrived_at_ms] * len(self)

    def records(self) -> Iterator[Record]:
        """One object per record, with its data copied."""
        columns = zip(self.partition_keys(), self.values(), self.sequence_numbers(), self.arrivals(), strict=True)
        for key, value, number, arrived in columns:
            yield Record(key, bytes(value), SequenceNumber(number), arrived)

    def _offsets_column(self) -> array[int] | memoryview:
        if self.offsets is not None:
            return self.offsets[self.start : self.stop]
        return array("q", range(self.first_offset, self.next_offset))

    def to_arrow(self) -> pa.RecordBatch:
        """The batch as Arrow: `partition_key` string, `data` binary, `offset` int64, `arrived_at` timestamp(ms, UTC).

        Keys and data are the log's own bytes, not copies; with arrival times kept per record those are, too.
        """
        import pyarrow as pa

        def binary(kind: pa.DataType, offsets: memoryview, values: memoryview) -> pa.Array:
            buffers = [None, pa.py_buffer(offsets), pa.py_buffer(values)]
            return pa.Array.from_buffers(kind, self.stop, buffers).slice(self.start)

        def integers(kind: pa.DataType, values: array[int] | memoryview) -> pa.Array:
            return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])

        arrived_at = pa.timestamp("ms", "UTC")
        if self.arrivals_ms is not None:
            arrivals = integers(arrived_at, self.arrivals_ms[self.start : self.stop])
        else:
            arrivals = pa.repeat(pa.scalar(self.arrived_at_ms, arrived_at), len(self))
        return pa.RecordBatch.from_arrays(
            [
                binary(pa.string(), self.key_offsets, self.keys),
                binary(pa.binary(), self.data_offsets, self.data),
                integers(pa.int64(), self._offsets_column()),
                arrivals,
            ],
            names=["partition_key", "data", "offset", "arrived_at"],
        )
