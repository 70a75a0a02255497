"""Checks a stream's log on disk, every byte, while nobody has it open. Reads only, repairs nothing.

What a crash leaves is no damage: a torn tail behind the last synced byte is left out by the next start, and
an index that covers only the beginning of its segment is extended.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from streamkit.model.names import StreamId, shard_id
from streamkit.shards import frame
from streamkit.shards.files import Files
from streamkit.shards.frame import Header
from streamkit.shards.index import FrameTable, ShardFrames
from streamkit.shards.segment import INDEX_SUFFIX, SUFFIX, Scan, Segment, load_index, number_of, path_of, scan
from streamkit.shards.store import Bounds


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was written. `is_damage` False: left by a crash, and put right by whoever goes on.
    `position` is a byte of the file; None where the whole file is meant."""

    path: Path
    position: int | None
    why: str
    is_damage: bool = True


@dataclass(slots=True)
class LogReport:
    """What a log holds. `bounds` are of every shard that ever had a record, also where all of them were trimmed."""

    segments_count: int = 0
    frames_count: int = 0
    records_count: int = 0
    size_bytes: int = 0
    bounds: dict[int, Bounds] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def verify_log(stream: StreamId, directory: Path, files: Files) -> LogReport:
    """A directory that is missing is the log of a stream without records."""
    names = files.names(directory)
    numbers = [number for name in names if (number := number_of(name)) is not None]
    check = _LogCheck(stream, directory, files)
    for at, number in enumerate(numbers):
        if at and number != numbers[at - 1] + 1:
            check.found(path_of(directory, numbers[at - 1] + 1), None, "the segment is missing")
        check.segment(number, is_last=at == len(numbers) - 1)
    for name in names:
        if name.endswith(INDEX_SUFFIX) and name.removesuffix(INDEX_SUFFIX) + SUFFIX not in names:
            check.found(directory / name, None, "there is no segment to this index: it was lost")
    return check.report


class _LogCheck:
    """Goes through the segments in order, and knows what each shard must go on with."""

    def __init__(self, stream: StreamId, directory: Path, files: Files) -> None:
        self._stream = stream
        self._directory = directory
        self._files = files
        self._last_arrivals: dict[int, int] = {}
        self._knows_starts = False  # where the first segment's shards begin: its opening could be read
        self.report = LogReport()

    def found(self, path: Path, position: int | None, why: str, *, is_damage: bool = True) -> None:
        self.report.findings.append(Finding(path, position, why, is_damage))

    def segment(self, number: int, *, is_last: bool) -> None:
        segment = Segment(self._stream, path_of(self._directory, number), number, 0)
        buffer = self._files.map(segment.path)
        found = scan(buffer, segment.seed)
        index = self._index(segment, found, len(buffer))
        if is_last:
            found = self._without_torn_tail(segment, buffer, found, index)
        if not is_last and not buffer:
            self.found(segment.path, 0, "the file is empty")
        for hole in found.holes:
            self.found(segment.path, hole.start, f"{hole.why}; {hole.end - hole.start:,} bytes cannot be read")
        self._check_opening(segment, found)
        for position, header in _headers(buffer, found.table):
            self._check_frame(segment, position, header)
        self.report.segments_count += 1
        self.report.size_bytes += len(buffer)

    # -- the index ---------------------------------------------------------------------------------------------------

    def _index(self, segment: Segment, found: Scan, size: int) -> FrameTable | None:
        """The segment's index where there is one and it is whole; it is held against what the segment says."""
        index = load_index(self._files, segment)
        if index is None:
            if segment.index_path.name in self._files.names(self._directory):
                why = "the index is damaged, its checksum does not match; removed, it is built again by the next start"
                self.found(segment.index_path, None, why)
            return None
        if index.covered_bytes > size:
            self.found(
                segment.path, size, f"the end of the segment is gone: its index covers {index.covered_bytes:,} bytes"
            )
        elif not found.holes:
            self._compare(segment, index, found.table)
        return index

    def _compare(self, segment: Segment, index: FrameTable, table: FrameTable) -> None:
        """An index covers its segment up to some frame, and there says what the segment says."""
        for shard in sorted(index.shards.keys() | table.shards.keys()):
            indexed = _content(index.shards.get(shard, ShardFrames()), index.covered_bytes)
            position = _difference(indexed, _content(table.shards.get(shard, ShardFrames()), index.covered_bytes))
            if position is not None:
                why = f"it does not say what the segment says of {shard_id(shard)} at byte {position}; remove it"
                self.found(segment.index_path, None, why)
                return

    # -- the frames --------------------------------------------------------------------------------------------------

    def _without_torn_tail(self, segment: Segment, buffer: memoryview, found: Scan, index: FrameTable | None) -> Scan:
        """The last segment as the next start will have it: see `streamkit.shards.log`."""
        # A closed log was synced before its index was written: behind what that covers, a crash may have torn.
        durable = max(found.durable_position, index.covered_bytes if index is not None else 0)
        torn = next((hole for hole in found.holes if hole.start >= durable), None)
        if torn is None:
            return found
        if not any(buffer[torn.start :]):  # room that was reserved and not used
            return scan(buffer[: torn.start], segment.seed)
        size = len(buffer) - torn.start
        why = f"a crash tore the last write ({torn.why}); {size:,} bytes, none acknowledged, that the next write cuts"
        self.found(segment.path, torn.start, why, is_damage=False)
        return scan(buffer[: torn.start], segment.seed)

    def _check_opening(self, segment: Segment, found: Scan) -> None:
        """A segment begins with where each shard stood: what went before must have come that far."""
        is_first = not self.report.segments_count
        self._knows_starts |= bool(found.opened_at_ms)
        for shard, next_offset in sorted(found.positions.items()):
            if is_first:
                self.report.bounds[shard] = Bounds(next_offset, next_offset)
            else:
                self._go_on(segment, 0, shard, next_offset)
        if found.end and not found.opened_at_ms and not found.holes:
            self.found(segment.path, 0, "the segment does not begin with the positions of its shards")

    def _check_frame(self, segment: Segment, position: int, header: Header) -> None:
        shard = header.shard_index
        if frame.length_of(header) != header.length:
            self.found(
                segment.path,
                position,
                f"the frame is {header.length:,} bytes, its columns need {frame.length_of(header):,}",
            )
        self._go_on(segment, position, shard, header.first_offset)
        bounds = self.report.bounds[shard]
        self.report.bounds[shard] = Bounds(bounds.first_offset, header.first_offset + header.records_count)
        last_ms = self._last_arrivals.get(shard, 0)
        if header.arrived_at_ms < last_ms:
            why = f"records of {shard_id(shard)} arrived {last_ms - header.arrived_at_ms} ms before those they follow"
            self.found(segment.path, position, why)
        self._last_arrivals[shard] = max(last_ms, header.arrived_at_ms)
        self.report.frames_count += 1
        self.report.records_count += header.records_count

    def _go_on(self, segment: Segment, position: int, shard: int, offset: int) -> None:
        """The shard's records go on at this offset; it is believed from here on."""
        bounds = self.report.bounds.get(shard, Bounds(0, 0) if self._knows_starts else Bounds(offset, offset))
        if offset > bounds.next_offset:
            why = f"records {bounds.next_offset:,} to {offset - 1:,} of {shard_id(shard)} are missing before this"
            self.found(segment.path, position, why)
        elif offset < bounds.next_offset:
            why = f"{shard_id(shard)} goes back from record {bounds.next_offset:,} to {offset:,}"
            self.found(segment.path, position, why)
        self.report.bounds[shard] = Bounds(bounds.first_offset, offset)


def _headers(buffer: memoryview, table: FrameTable) -> Iterator[tuple[int, Header]]:
    """The headers of a scanned segment's frames, in the order of the file."""
    for position in sorted(position for frames in table.shards.values() for position in frames.positions):
        yield position, frame.read_header(buffer, position)


def _content(frames: ShardFrames, covered_bytes: int) -> list[tuple[int, int, int, int]]:
    """Position, length, first offset and arrival of each frame within the covered bytes."""
    columns = (frames.positions, frames.lengths, frames.first_offsets, frames.arrivals_ms)
    return [each for each in zip(*columns, strict=True) if each[0] < covered_bytes]


def _difference(indexed: list[tuple[int, int, int, int]], scanned: list[tuple[int, int, int, int]]) -> int | None:
    """The first position at which the two say something else."""
    if indexed == scanned:
        return None
    for one, other in zip(indexed, scanned, strict=False):
        if one != other:
            return min(one[0], other[0])
    shorter = min(len(indexed), len(scanned))
    return max(indexed, scanned, key=len)[shorter][0]
