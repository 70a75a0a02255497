"""What readers borrow of sealed segments: memory maps and frame tables, bounded over all logs of a store."""

from __future__ import annotations

import mmap
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from streamkit.model.limits import INDEX_BYTES_MAX, MAPPED_BYTES_MAX, MAPPED_BYTES_RESIDENT
from streamkit.shards.files import Files
from streamkit.shards.index import FrameTable
from streamkit.shards.segment import Segment, covers, load_index, scan

V = TypeVar("V")


class _Bounded(Generic[V]):
    """Least recently used first out, by size. The newest stays whatever its size."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._values: OrderedDict[Segment, tuple[V, int]] = OrderedDict()

    def get(self, segment: Segment, make: Callable[[], tuple[V, int]]) -> V:
        known = self._values.get(segment)
        if known is not None:
            self._values.move_to_end(segment)
            return known[0]
        value, size = make()
        self.put(segment, value, size)
        return value

    def put(self, segment: Segment, value: V, size: int) -> None:
        self.drop(segment)
        self._values[segment] = (value, size)
        self._bytes += size
        while self._bytes > self._bytes_max and len(self._values) > 1:
            self._bytes -= self._values.popitem(last=False)[1][1]

    def __iter__(self) -> Iterator[V]:
        return (value for value, _ in self._values.values())

    def drop(self, segment: Segment) -> None:
        _, size = self._values.pop(segment, (None, 0))
        self._bytes -= size


class SegmentCache:
    """Maps and frame tables of sealed segments. A batch read from a map keeps it alive after it left the cache."""

    def __init__(
        self, files: Files, mapped_bytes_max: int = MAPPED_BYTES_MAX, index_bytes_max: int = INDEX_BYTES_MAX
    ) -> None:
        self._files = files
        self._maps: _Bounded[memoryview] = _Bounded(mapped_bytes_max)
        self._tables: _Bounded[FrameTable] = _Bounded(index_bytes_max)
        self._lent_bytes = 0  # since pages were given back

    def map(self, segment: Segment) -> memoryview:
        def make() -> tuple[memoryview, int]:
            view = self._files.map(segment.path)
            return view, len(view)

        return self._maps.get(segment, make)

    def window(self, segment: Segment, position: int, length: int) -> memoryview:
        """A part of the map. Pages that were read count as this process's memory until they are given back, which
        costs whoever still looks at them a minor fault: the kernel has them in its own cache."""
        view = self.map(segment)
        self._lent_bytes += length
        if self._lent_bytes > MAPPED_BYTES_RESIDENT:
            self._lent_bytes = length
            for each in self._maps:
                if isinstance(each.obj, mmap.mmap):
                    each.obj.madvise(mmap.MADV_DONTNEED)
        return view[position : position + length]

    def table(self, segment: Segment) -> FrameTable:
        def make() -> tuple[FrameTable, int]:
            buffer = self.map(segment)
            index = load_index(self._files, segment)
            table = index if covers(index, buffer) else scan(buffer, segment.seed).table
            return table, table.memory_bytes

        return self._tables.get(segment, make)

    def keep_table(self, segment: Segment, table: FrameTable) -> None:
        self._tables.put(segment, table, table.memory_bytes)

    def drop(self, segment: Segment) -> None:
        self._maps.drop(segment)
        self._tables.drop(segment)
