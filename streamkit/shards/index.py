"""Where the frames of a segment lie, per shard: a cache of what the segment says itself.

The table of the segment being written is kept in memory; a sealed segment's is stored beside it (`.idx`) and loaded
when a reader needs it. A missing, stale or damaged index is built again from the segment.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Final, NamedTuple

import xxhash

_MAGIC: Final = b"SKX1"
_PREFIX: Final = struct.Struct("<4sQ")  # magic, checksum of all that follows
_HEAD: Final = struct.Struct("<IQQ")  # shards, covered bytes, checksum of the last frame
_SHARD: Final = struct.Struct("<IIqq")  # shard index, frames, next offset, last arrival
_FRAME_BYTES: Final = 8 + 8 + 4 + 4


class Place(NamedTuple):
    """A frame's place in its segment."""

    first_offset: int
    position: int
    length: int


class ShardFrames:
    """The frames of one shard in one segment, in order; about 24 bytes each."""

    __slots__ = ("arrivals_ms", "first_offsets", "last_arrived_at_ms", "lengths", "next_offset", "positions")

    def __init__(self) -> None:
        self.first_offsets = array("q")
        self.arrivals_ms = array("q")  # of a frame's last record
        self.positions = array("I")
        self.lengths = array("I")
        self.next_offset = 0
        self.last_arrived_at_ms = 0

    def add(self, first_offset: int, count: int, arrived_at_ms: int, position: int, length: int) -> None:
        self.first_offsets.append(first_offset)
        self.arrivals_ms.append(arrived_at_ms)
        self.positions.append(position)
        self.lengths.append(length)
        self.next_offset = first_offset + count
        self.last_arrived_at_ms = arrived_at_ms

    def __len__(self) -> int:
        return len(self.positions)

    def at(self, index: int) -> Place:
        return Place(self.first_offsets[index], self.positions[index], self.lengths[index])

    def with_offset(self, offset: int) -> int:
        """The index of the last frame that starts at or before this offset; the first frame if none does."""
        return max(bisect_right(self.first_offsets, offset) - 1, 0)

    def after(self, position: int) -> Place:
        """The first frame behind this position; there must be one."""
        return self.at(bisect_right(self.positions, position))

    def from_time(self, at_ms: int) -> int:
        """The index of the first frame with a record that arrived at or after this time; `len` if there is none."""
        return bisect_left(self.arrivals_ms, at_ms)


class FrameTable:
    """All frames of one segment, by shard, and how far into the segment that goes."""

    __slots__ = ("covered_bytes", "last_checksum", "shards")

    def __init__(self) -> None:
        self.shards: dict[int, ShardFrames] = {}
        self.covered_bytes = 0
        self.last_checksum = 0

    def add(
        self, shard: int, first_offset: int, count: int, arrived_at_ms: int, position: int, length: int, checksum: int
    ) -> None:
        frames = self.shards.get(shard)
        if frames is None:
            frames = self.shards[shard] = ShardFrames()
        frames.add(first_offset, count, arrived_at_ms, position, length)
        self.covered_bytes = position + length
        self.last_checksum = checksum

    @property
    def memory_bytes(self) -> int:
        return sum(_FRAME_BYTES * len(frames) + 500 for frames in self.shards.values())

    def encode(self, seed: int) -> bytes:
        """The table as a file of its own. The seed is the segment's, so that no other's index is taken for it."""
        parts = [_HEAD.pack(len(self.shards), self.covered_bytes, self.last_checksum)]
        for shard, frames in sorted(self.shards.items()):
            parts.append(_SHARD.pack(shard, len(frames), frames.next_offset, frames.last_arrived_at_ms))
            parts += (column.tobytes() for column in _columns(frames))
        rest = b"".join(parts)
        return _PREFIX.pack(_MAGIC, xxhash.xxh3_64_intdigest(rest, seed)) + rest

    @classmethod
    def decode(cls, data: bytes, seed: int) -> FrameTable | None:
        """None where the bytes are no whole index: then the segment is scanned."""
        if len(data) < _PREFIX.size + _HEAD.size:
            return None
        magic, checksum = _PREFIX.unpack_from(data)
        rest = memoryview(data)[_PREFIX.size :]
        if magic != _MAGIC or xxhash.xxh3_64_intdigest(rest, seed) != checksum:
            return None
        table = cls()
        shards_count, table.covered_bytes, table.last_checksum = _HEAD.unpack_from(rest)
        at = _HEAD.size
        for _ in range(shards_count):
            shard, frames_count, next_offset, last_arrived_at_ms = _SHARD.unpack_from(rest, at)
            at += _SHARD.size
            frames = table.shards[shard] = ShardFrames()
            frames.next_offset, frames.last_arrived_at_ms = next_offset, last_arrived_at_ms
            for column in _columns(frames):
                size = column.itemsize * frames_count
                column.frombytes(rest[at : at + size])
                at += size
        return table


def _columns(frames: ShardFrames) -> Iterator[array[int]]:
    yield frames.first_offsets
    yield frames.arrivals_ms
    yield frames.positions
    yield frames.lengths
