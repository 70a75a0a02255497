"""The frame: one append group of one shard, as bytes.

A frame is a 64-byte header and columns in Arrow's layout, so that a frame in a memory map is an Arrow batch.
All numbers are little-endian. Frames are never changed; a segment is a run of them.

    byte  field
     0    u32  magic "SKF1" (the digit is the format's version)
     4    u32  length of the frame with header and padding; a multiple of 8
     8    u64  checksum: xxh3_64 of bytes 16..length, seeded with the place (see `seed_of`)
    16    u32  shard index
    20    u32  count of records (for a POSITIONS frame: of shards)
    24    u64  offset of the first record in its shard
    32    u64  arrival time, epoch milliseconds; of the last record where the frame has arrival times of its own
    40    u32  durable position: every byte of the segment before it was synced before this frame was written
    44    u32  bytes of partition keys
    48    u32  bytes of data
    52    u32  flags: 1 HASH_KEYS, 2 ARRIVALS, 4 POSITIONS
    56    u32  creation second of the shard, part of its sequence numbers
    60    u32  reserved, zero
    64    i64[count]    arrival times, if ARRIVALS
          i32[count+1]  offsets of partition keys
          i32[count+1]  offsets of data
          16 x count    hash keys, if HASH_KEYS
          bytes         partition keys (UTF-8), data, zeros up to a multiple of 8

The checksum is seeded with the segment and the position, so that a whole and valid frame in the wrong place (swapped
pages, a block of another file) does not verify. The durable position tells a torn write from damage after a crash:
bytes at or after the largest one may never have been acknowledged, bytes before it were.

A POSITIONS frame opens each segment: it holds the next offset of every shard (i32 shard, padded, then i64 offsets), so
that offsets never start again when all earlier segments were trimmed.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

import xxhash

from streamkit.model.batch import Columns, RecordBatch

HEADER_BYTES: Final = 64
MAGIC: Final = int.from_bytes(b"SKF1", "little")

HASH_KEYS: Final = 1
ARRIVALS: Final = 2
POSITIONS: Final = 4

_PREFIX: Final = struct.Struct("<IIQ")
_REST: Final = struct.Struct("<IIQQIIIIII")
_CHECKSUM_START: Final = _PREFIX.size
_PADDING: Final = tuple(bytes(-size % 8) for size in range(8))

Buffer = bytes | bytearray | memoryview


class Header(NamedTuple):
    length: int
    checksum: int
    shard_index: int
    records_count: int
    first_offset: int
    arrived_at_ms: int
    durable_position: int
    key_bytes: int
    data_bytes: int
    flags: int
    shard_created_s: int


class Damage(Exception):
    """The bytes at this place are no valid frame. The message says why; the caller knows where."""


def seed_of(segment_seed: int, position: int) -> int:
    return (segment_seed + position) & 0xFFFFFFFFFFFFFFFF


def segment_seed_of(stream: str, segment_number: int) -> int:
    return xxhash.xxh3_64_intdigest(f"{stream}/{segment_number}".encode())


def encode(
    seed: int,
    *,
    shard_index: int,
    shard_created_s: int,
    first_offset: int,
    arrived_at_ms: int,
    durable_position: int,
    columns: Columns,
    arrivals_ms: Buffer | None = None,
) -> tuple[bytes, bytes]:
    """Columns as a frame, in two buffers to be written one after the other. The columns are copied once, by one join.

    Offsets that do not start at zero (a slice of an Arrow array) are rebased.
    """
    key_offsets, keys = _rebased(columns.key_offsets, columns.keys, columns.count)
    data_offsets, data = _rebased(columns.data_offsets, columns.data, columns.count)
    hash_keys = columns.hash_keys
    flags = (HASH_KEYS if hash_keys is not None else 0) | (ARRIVALS if arrivals_ms is not None else 0)
    rest = (shard_index, columns.count, first_offset, arrived_at_ms, durable_position)
    return _sealed(
        seed,
        _REST.pack(*rest, len(keys), len(data), flags, shard_created_s, 0),
        (arrivals_ms or b"", key_offsets, data_offsets, hash_keys or b"", keys, data),
    )


def encode_rows(
    seed: int,
    *,
    shard_index: int,
    shard_created_s: int,
    first_offset: int,
    arrived_at_ms: int,
    durable_position: int,
    keys: Sequence[bytes],
    values: Sequence[bytes],
    hash_keys: Sequence[bytes] | None = None,
) -> tuple[bytes, bytes]:
    """The same from lists of keys and values: what puts arrive as. One join, no columns in between."""
    key_offsets = array("i", accumulate(map(len, keys), initial=0))
    data_offsets = array("i", accumulate(map(len, values), initial=0))
    flags = HASH_KEYS if hash_keys is not None else 0
    rest = (shard_index, len(keys), first_offset, arrived_at_ms, durable_position)
    return _sealed(
        seed,
        _REST.pack(*rest, key_offsets[-1], data_offsets[-1], flags, shard_created_s, 0),
        (key_offsets, data_offsets, *(hash_keys or ()), *keys, *values),
    )


def encode_positions(seed: int, next_offsets: Iterable[tuple[int, int]], created_at_ms: int) -> tuple[bytes, bytes]:
    """The frame that opens a segment: the next offset of each shard that has had a record."""
    pairs = sorted(next_offsets)
    shards = array("i", (shard for shard, _ in pairs))
    if len(shards) % 2:
        shards.append(0)
    offsets = array("q", (offset for _, offset in pairs))
    return _sealed(seed, _REST.pack(0, len(pairs), 0, created_at_ms, 0, 0, 0, POSITIONS, 0, 0), (shards, offsets))


def read_header(buffer: Buffer, position: int) -> Header:
    """The header at this place. Raises `Damage` where there is none; says nothing about the checksum."""
    if len(buffer) - position < HEADER_BYTES:
        raise Damage("the file ends inside a frame's header")
    magic, length, checksum = _PREFIX.unpack_from(buffer, position)
    if magic != MAGIC:
        raise Damage("no frame starts here")
    if length < HEADER_BYTES or length % 8:
        raise Damage(f"a frame cannot be {length} bytes long")
    fields = _REST.unpack_from(buffer, position + _CHECKSUM_START)
    return Header(length, checksum, *fields[:-1])


def length_of(header: Header) -> int:
    """The length that the header's other fields add up to."""
    count, flags = header.records_count, header.flags
    if flags & POSITIONS:
        size = HEADER_BYTES + 4 * (count + count % 2) + 8 * count
    else:
        per_record = 8 + (8 if flags & ARRIVALS else 0) + (16 if flags & HASH_KEYS else 0)
        size = HEADER_BYTES + per_record * count + 8 + header.key_bytes + header.data_bytes
    return size + -size % 8


def checksum_of(prefix: bytes) -> int:
    """The checksum in the first buffer of an encoded frame."""
    checksum: int = _PREFIX.unpack(prefix)[2]
    return checksum


def check(frame: memoryview, header: Header, seed: int) -> None:
    """Raises `Damage` unless the frame, which starts this view, is whole and every byte is what was written there."""
    if len(frame) < header.length:
        raise Damage("the file ends inside a frame")
    if xxhash.xxh3_64_intdigest(frame[_CHECKSUM_START : header.length], seed) != header.checksum:
        raise Damage("the checksum does not match the frame")


def batch_of(frame: memoryview, header: Header) -> RecordBatch:
    """A checked frame as a record batch over the same memory."""
    count = header.records_count
    at = HEADER_BYTES

    def column(size: int) -> memoryview:
        nonlocal at
        at += size
        return frame[at - size : at]

    arrivals = column(8 * count).cast("q") if header.flags & ARRIVALS else None
    key_offsets = column(4 * count + 4).cast("i")
    data_offsets = column(4 * count + 4).cast("i")
    hash_keys = column(16 * count) if header.flags & HASH_KEYS else None
    return RecordBatch(
        header.shard_index,
        header.shard_created_s,
        header.first_offset,
        0,
        count,
        header.arrived_at_ms,
        key_offsets,
        column(header.key_bytes),
        data_offsets,
        column(header.data_bytes),
        hash_keys,
        arrivals,
    )


def positions_of(frame: memoryview, header: Header) -> dict[int, int]:
    """What a checked POSITIONS frame says: shard index to next offset."""
    count = header.records_count
    offsets_at = HEADER_BYTES + 4 * (count + count % 2)
    shards = frame[HEADER_BYTES : HEADER_BYTES + 4 * count].cast("i").tolist()
    offsets = frame[offsets_at : offsets_at + 8 * count].cast("q").tolist()
    return dict(zip(shards, offsets, strict=True))


def _rebased(offsets: memoryview, values: Buffer, count: int) -> tuple[Buffer, memoryview]:
    offsets = offsets[: count + 1]
    first, last = offsets[0], offsets[count]
    window = memoryview(values)[first:last]
    return (offsets if not first else memoryview(array("i", (each - first for each in offsets)))), window


def _sealed(seed: int, rest: bytes, columns: Iterable[Buffer | array[int]]) -> tuple[bytes, bytes]:
    body = b"".join((rest, *columns))
    padding = _PADDING[len(body) % 8]
    if padding:
        body += padding
    length = _CHECKSUM_START + len(body)
    return _PREFIX.pack(MAGIC, length, xxhash.xxh3_64_intdigest(body, seed)), body
