"""What one invocation gets: records of one shard, in order, as windows on the log's own batches."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate, chain
from typing import NamedTuple

from streamkit.model import sequence
from streamkit.model.batch import RecordBatch
from streamkit.model.hashkey import digest_of


class Part(NamedTuple):
    """Records of one log batch: all of them, or those in `rows` (ascending)."""

    batch: RecordBatch
    rows: Sequence[int] | None = None

    @property
    def size(self) -> int:
        return len(self.batch) if self.rows is None else len(self.rows)

    def slice(self, start: int, stop: int) -> Part:
        if self.rows is None:
            return Part(self.batch.slice(start, stop))
        return Part(self.batch, self.rows[start:stop])

    def offset(self, index: int) -> int:
        return self.batch.first_offset + (index if self.rows is None else self.rows[index])

    def offsets(self) -> Iterable[int]:
        first = self.batch.first_offset
        return range(first, first + len(self.batch)) if self.rows is None else (first + row for row in self.rows)

    def arrived_at_ms(self, index: int) -> int:
        if self.batch.arrivals_ms is None:
            return self.batch.arrived_at_ms
        return int(self.batch.arrivals_ms[self.batch.start + (index if self.rows is None else self.rows[index])])

    def count_before(self, arrived_at_ms: int) -> int:
        """How many records, from the first, arrived before this time: arrival times do not fall along a shard."""
        return bisect_right(range(self.size), arrived_at_ms - 1, key=self.arrived_at_ms)


class Batch:
    """Records in order. Cheap to cut: parts share the log's memory."""

    __slots__ = ("_starts", "parts")

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        self._starts = (0, *accumulate(part.size for part in self.parts))

    def __len__(self) -> int:
        return self._starts[-1]

    def slice(self, start: int, stop: int) -> Batch:
        """Records `start` to `stop` (exclusive)."""
        parts = []
        for part, first in zip(self.parts, self._starts, strict=False):
            low, high = max(start - first, 0), min(stop - first, part.size)
            if low < high:
                parts.append(part if high - low == part.size else part.slice(low, high))
        return Batch(parts)

    def joined(self, other: Batch) -> Batch:
        return Batch(self.parts + other.parts)

    def offset(self, index: int) -> int:
        place = bisect_right(self._starts, index) - 1
        return self.parts[place].offset(index - self._starts[place])

    @property
    def first_offset(self) -> int:
        return self.parts[0].offset(0)

    @property
    def last_offset(self) -> int:
        last = self.parts[-1]
        return last.offset(last.size - 1)

    def count_to(self, offset: int) -> int:
        """How many records lie at or before this offset."""
        if self.last_offset <= offset:
            return len(self)
        return bisect_right(range(len(self)), offset, key=self.offset)

    def arrived_at_ms(self, index: int) -> int:
        place = bisect_right(self._starts, index) - 1
        return self.parts[place].arrived_at_ms(index - self._starts[place])

    def count_before(self, arrived_at_ms: int) -> int:
        """How many records, from the first, arrived before this time."""
        return sum(part.count_before(arrived_at_ms) for part in self.parts)

    def sequence_number(self, index: int) -> str:
        place = bisect_right(self._starts, index) - 1
        part, within = self.parts[place], index - self._starts[place]
        return part.batch.sequence_number(within if part.rows is None else part.rows[within])

    def index_of(self, sequence_number: str) -> int | None:
        """Where the record with this sequence number stands; None if it is not in here."""
        position = sequence.parse(sequence_number)
        if position is None:
            return None
        index = self.count_to(position.offset) - 1
        return index if index >= 0 and self.sequence_number(index) == sequence_number else None

    def offsets(self) -> list[int]:
        return list(chain.from_iterable(part.offsets() for part in self.parts))

    def as_record_batch(self) -> RecordBatch:
        """One record batch: the log's own where that is all of it, otherwise a copy."""
        if len(self.parts) == 1 and self.parts[0].rows is None:
            return self.parts[0].batch
        keys, values, arrivals = array("i", [0]), array("i", [0]), array("q")
        key_bytes, data_bytes, hash_keys = bytearray(), bytearray(), bytearray()
        has_hash_keys = any(part.batch.hash_keys is not None for part in self.parts)
        for part in self.parts:
            batch = part.batch
            rows = range(part.size) if part.rows is None else part.rows
            part_keys, part_values, part_arrivals = batch.keys_bytes(), batch.values(), batch.arrivals()
            digests = (batch.digests() or [digest_of(key) for key in part_keys]) if has_hash_keys else None
            for row in rows:
                key_bytes += part_keys[row]
                data_bytes += part_values[row]
                keys.append(len(key_bytes))
                values.append(len(data_bytes))
                arrivals.append(part_arrivals[row])
                if digests is not None:
                    hash_keys += digests[row]
        first = self.parts[0].batch
        return RecordBatch(
            first.shard_index,
            first.shard_created_s,
            self.first_offset,
            0,
            len(self),
            arrivals[0],
            memoryview(keys),
            memoryview(key_bytes),
            memoryview(values),
            memoryview(data_bytes),
            memoryview(hash_keys) if has_hash_keys else None,
            arrivals_ms=memoryview(arrivals),
            offsets=memoryview(array("q", self.offsets())),
        )

    def __repr__(self) -> str:
        return f"Batch({self.offsets()})"
