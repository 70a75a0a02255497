"""The segment: one file of a stream's log, a run of frames of all its shards.

A segment is appended to until it is large or old enough, then sealed: its index is stored beside it and it never
changes again. It is removed as a whole when its last record has left the retention.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, TypeGuard

from streamkit.model.errors import DamagedLog
from streamkit.model.limits import KIB
from streamkit.shards import frame
from streamkit.shards.files import AppendFile, Files
from streamkit.shards.frame import Buffer, Damage, Header
from streamkit.shards.index import FrameTable

SUFFIX: Final = ".seg"
INDEX_SUFFIX: Final = ".idx"
_SEARCH_BYTES: Final = 64 * KIB  # a multiple of 8: frames start at such places, so none starts across two windows
_MAGIC_BYTES: Final = frame.MAGIC.to_bytes(4, "little")


class Hole(NamedTuple):
    """Bytes of a segment that are no valid frame, up to the next one that is or the end."""

    start: int
    end: int
    why: str


class Span(NamedTuple):
    """What a segment holds of one shard."""

    next_offset: int
    last_arrived_at_ms: int


@dataclass(slots=True)
class Scan:
    """What a pass over a segment's bytes found."""

    table: FrameTable
    positions: dict[int, int] = field(default_factory=dict)
    holes: list[Hole] = field(default_factory=list)
    opened_at_ms: int = 0
    durable_position: int = 0
    end: int = 0


def path_of(directory: Path, number: int) -> Path:
    return directory / f"{number:012d}{SUFFIX}"


def number_of(name: str) -> int | None:
    digits = name.removesuffix(SUFFIX)
    return int(digits) if name.endswith(SUFFIX) and digits.isdecimal() else None


class Segment:
    """A segment's place and summary. Small: frame tables and maps are lent by the store's caches."""

    __slots__ = ("_spans", "file", "is_damaged", "number", "opened_at_ms", "path", "seed", "size", "table")

    def __init__(self, stream: str, path: Path, number: int, opened_at_ms: int) -> None:
        self.number = number
        self.path = path
        self.seed = frame.segment_seed_of(stream, number)
        self.opened_at_ms = opened_at_ms
        self.size = 0  # durable bytes
        # No index is left for a damaged segment: each start scans it, and finds again what its holes may have held.
        self.is_damaged = False
        # While the segment is written: its open file and all its frames. Afterwards: a span for each shard.
        self.file: AppendFile | None = None
        self.table: FrameTable | None = None
        self._spans: dict[int, Span] = {}

    @property
    def index_path(self) -> Path:
        return self.path.with_suffix(INDEX_SUFFIX)

    @property
    def shards(self) -> Collection[int]:
        """The shards it holds records of."""
        return self.table.shards.keys() if self.table is not None else self._spans.keys()

    @property
    def last_arrived_at_ms(self) -> int:
        """0 where no record is in it."""
        return max(map(self.last_arrival_of, self.shards), default=0)

    def last_arrival_of(self, shard_index: int) -> int:
        if self.table is not None:
            return self.table.shards[shard_index].last_arrived_at_ms
        return self._spans[shard_index].last_arrived_at_ms

    def seal(self) -> FrameTable:
        """The segment will not be written again. What it knows shrinks to its spans; its table is handed out."""
        table = self.table
        assert table is not None
        self.summarize(table)
        self.table = None
        if self.file is not None:
            self.file.close()
            self.file = None
        return table

    def summarize(self, table: FrameTable) -> None:
        self._spans = {
            shard: Span(frames.next_offset, frames.last_arrived_at_ms) for shard, frames in table.shards.items()
        }

    def damaged(self, position: int, why: str, next_offset: int | None = None) -> DamagedLog:
        return DamagedLog(str(self.path), position, why, next_offset)


def scan(buffer: Buffer, segment_seed: int, start: int = 0, table: FrameTable | None = None) -> Scan:
    """Reads the frames of a segment from `start` on, checking every byte, and continues past what is damaged.

    Costs one checksum over the bytes and about 2 µs a frame. `table` is extended if given.
    """
    found = Scan(table or FrameTable())
    view = memoryview(buffer)
    position = start
    while position < len(buffer):
        try:
            header = frame.read_header(view, position)
            frame.check(view[position:], header, frame.seed_of(segment_seed, position))
        except Damage as damage:
            end = _next_frame(view, position + 8, segment_seed)
            found.holes.append(Hole(position, end, str(damage)))
            position = end
            continue
        end = position + header.length
        if header.flags & frame.POSITIONS:
            found.positions = frame.positions_of(view[position:end], header)
            found.opened_at_ms = header.arrived_at_ms
        else:
            found.table.add(
                header.shard_index,
                header.first_offset,
                header.records_count,
                header.arrived_at_ms,
                position,
                header.length,
                header.checksum,
            )
        found.durable_position = max(found.durable_position, header.durable_position)
        found.end = position = end
    return found


def load_index(files: Files, segment: Segment) -> FrameTable | None:
    """The stored index, if there is a whole one. It may not fit the segment: see `covers`."""
    try:
        return FrameTable.decode(bytes(files.map(segment.index_path)), segment.seed)
    except FileNotFoundError:
        return None


def covers(table: FrameTable | None, buffer: memoryview) -> TypeGuard[FrameTable]:
    """Whether an index fits these bytes: its last frame must be where it says."""
    if table is None or table.covered_bytes > len(buffer):
        return False
    last = max(
        ((frames.positions[-1], frames.lengths[-1]) for frames in table.shards.values() if len(frames)), default=None
    )
    if last is None:
        return False
    try:
        header = frame.read_header(buffer, last[0])
    except Damage:
        return False
    return header.checksum == table.last_checksum and last[0] + header.length == table.covered_bytes


UNHEARD: Final = -1
"""Stands for all shards nothing is known of, among next offsets."""


def past_holes(found: Scan, buffer: memoryview, next_offsets: dict[int, int]) -> dict[int, int]:
    """Next offsets that were surely never given, although holes may have taken the last records of some shards.

    Offsets are never given twice, also when the frame that used them can no longer be read. What is left of a frame's
    header is believed where its sizes add up and it goes on where its shard stopped. Only its shard may be wrong then,
    so every shard that stopped at that offset moves on. Otherwise any shard may have lost as many records as would fit.
    """
    past = dict(next_offsets)
    for hole in found.holes:
        ended = [index for index in past if not _goes_on(found.table, index, hole)]
        position = hole.start
        while (header := _plausible_header(found.table, past, buffer, position, hole)) is not None:
            if not header.flags & frame.POSITIONS:
                for index in [index for index in ended if past[index] == header.first_offset]:
                    past[index] += header.records_count
            position += header.length
        for index in ended:
            past[index] += (hole.end - position) // 8  # a record takes two int32 at least
    return past


def _goes_on(table: FrameTable, shard_index: int, hole: Hole) -> bool:
    """Whether a frame of the shard lies behind the hole."""
    frames = table.shards.get(shard_index)
    return frames is not None and frames.positions[-1] > hole.start


def _plausible_header(
    table: FrameTable, next_offsets: dict[int, int], buffer: memoryview, position: int, hole: Hole
) -> Header | None:
    if position >= hole.end:
        return None
    try:
        header = frame.read_header(buffer, position)
    except Damage:
        return None
    if position + header.length > hole.end or frame.length_of(header) != header.length:
        return None
    index = header.shard_index
    if header.flags & frame.POSITIONS:
        is_plausible = position == 0
    elif _goes_on(table, index, hole):
        following = table.shards[index].after(position)
        is_plausible = header.first_offset + header.records_count <= following.first_offset
    else:
        is_plausible = header.first_offset == next_offsets.get(index, next_offsets[UNHEARD])
    return header if is_plausible else None


def _next_frame(view: memoryview, position: int, segment_seed: int) -> int:
    """Where the next valid frame starts, at or after `position` (a multiple of 8); the end where there is none."""
    for start in range(position, len(view), _SEARCH_BYTES):
        window = bytes(view[start : start + _SEARCH_BYTES])
        at = window.find(_MAGIC_BYTES)
        while at >= 0:
            if at % 8 == 0 and _is_frame(view, start + at, segment_seed):
                return start + at
            at = window.find(_MAGIC_BYTES, at + 1)
    return len(view)


def _is_frame(view: memoryview, position: int, segment_seed: int) -> bool:
    try:
        header = frame.read_header(view, position)
        frame.check(view[position:], header, frame.seed_of(segment_seed, position))
    except Damage:
        return False
    return True
