"""The log of one stream on disk: what a round writes, and how records are found and read again.

The event loop owns what is known (segments, spans, frame tables, bounds); `SegmentWriter` owns the file being written,
and may run on a thread. They meet in `prepare`, `write` and `publish`, one round at a time, so there is no lock.
"""

from __future__ import annotations

import logging
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from streamkit.clock import Clock
from streamkit.log import BYTES, PATH, POSITION
from streamkit.model.batch import RecordBatch
from streamkit.model.errors import DamagedLog, StorageUnavailable
from streamkit.model.limits import LONG_ROUND_BYTES, SEGMENT_BYTES_MAX, SEGMENT_SPAN_MS
from streamkit.model.names import StreamId
from streamkit.shards import frame
from streamkit.shards.cache import SegmentCache
from streamkit.shards.commit import CommitQueue, Round
from streamkit.shards.files import AppendFile, Files
from streamkit.shards.frame import Damage
from streamkit.shards.index import FrameTable, Place, ShardFrames
from streamkit.shards.readers import Readers
from streamkit.shards.runners import Runner
from streamkit.shards.segment import (
    UNHEARD,
    Hole,
    Scan,
    Segment,
    covers,
    load_index,
    number_of,
    past_holes,
    path_of,
    scan,
)
from streamkit.shards.store import Appended, Bounds, Rows, Table
from streamkit.shards.writer import Orders, Outcome, SegmentWriter

_log = logging.getLogger(__name__)
_NO_FRAMES = ShardFrames()  # of a shard whose frames were damaged while the log was open


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How a log is written. `sync_rounds`: an append is acknowledged when it is on disk, not only handed to the
    operating system."""

    sync_rounds: bool = True
    segment_bytes_max: int = SEGMENT_BYTES_MAX
    segment_span_ms: int = SEGMENT_SPAN_MS


class _ShardSegments:
    """The segments that hold records of one shard, in order."""

    __slots__ = ("first_offset", "first_offsets", "next_offset", "segments")

    def __init__(self, next_offset: int) -> None:
        self.segments: list[Segment] = []
        self.first_offsets: list[int] = []
        # Before the first of `first_offsets` where damage took what lay there: its readers must be told.
        self.first_offset = next_offset
        self.next_offset = next_offset

    def add(self, segment: Segment, first_offset: int) -> None:
        self.segments.append(segment)
        self.first_offsets.append(first_offset)

    def drop_first(self) -> None:
        del self.segments[0], self.first_offsets[0]
        self.first_offset = self.first_offsets[0] if self.first_offsets else self.next_offset

    def with_offset(self, offset: int) -> int:
        return max(bisect_right(self.first_offsets, offset) - 1, 0)

    def end_of(self, at: int) -> int:
        """The offset after the last record of segment `at`."""
        return self.first_offsets[at + 1] if at + 1 < len(self.first_offsets) else self.next_offset

    @property
    def bounds(self) -> Bounds:
        return Bounds(self.first_offset, self.next_offset)


class DiskLog:
    """See `streamkit.shards.store.StreamLog`; made by `DiskLogStore`."""

    def __init__(
        self,
        stream: StreamId,
        directory: Path,
        *,
        files: Files,
        clock: Clock,
        runner: Runner,
        cache: SegmentCache,
        settings: LogSettings,
    ) -> None:
        self._stream = stream
        self._directory = directory
        self._files = files
        self._clock = clock
        self._runner = runner
        self._cache = cache
        self._settings = settings
        self._segments: list[Segment] = []
        self._shards: dict[int, _ShardSegments] = {}
        self._unheard_offset = 0  # where shards begin that nothing is known of: behind what damage may have taken
        self._writer = SegmentWriter(files, directory, stream)
        self._queue = CommitQueue(self, clock, runner)
        self._readers = Readers()
        self._expired_before_ms = 0
        self._sync_is_due = False
        self._recover()

    # -- StreamLog ---------------------------------------------------------------------------------------------------

    def append(self, groups: Sequence[Rows | Table]) -> Appended:
        return self._queue.append(groups)

    def bounds(self, shard_index: int) -> Bounds:
        shard = self._shards.get(shard_index)
        return shard.bounds if shard is not None else Bounds(self._unheard_offset, self._unheard_offset)

    async def read(self, shard_index: int, offset: int, *, records_max: int, bytes_max: int) -> list[RecordBatch]:
        self._readers.check()
        batches: list[RecordBatch] = []
        for next_batch in self._frames_from(shard_index, offset):
            try:
                batch = next_batch()
            except DamagedLog:
                if batches:  # give what there is; whoever goes on meets the damage at its place
                    return batches
                raise
            if batches and batch.first_offset != batches[-1].next_offset:
                return batches
            batch, size = batch.cut_to(records_max, bytes_max, at_least=0 if batches else 1)
            if not len(batch):
                return batches
            batches.append(batch)
            records_max -= len(batch)
            bytes_max -= size
            if records_max <= 0 or bytes_max <= 0:
                return batches
        return batches

    async def seek_time(self, shard_index: int, at_ms: int) -> int:
        self._readers.check()
        shard = self._shards.get(shard_index)
        if shard is None:
            return self._unheard_offset
        from_segment = bisect_left(shard.segments, at_ms, key=lambda segment: segment.last_arrival_of(shard_index))
        for segment in shard.segments[from_segment:]:
            frames = self._table(segment).shards.get(shard_index, _NO_FRAMES)
            index = frames.from_time(at_ms)
            if index < len(frames):
                return self._first_in_frame(segment, shard_index, frames.at(index), at_ms)
        return shard.next_offset

    async def wait(self, shard_index: int, offset: int) -> None:
        if offset >= self.bounds(shard_index).next_offset:
            await self._readers.wait(shard_index, offset)

    def watch(self, callback: Callable[[int], None]) -> Callable[[], None]:
        return self._readers.watch(callback)

    async def trim(self, before_ms: int) -> None:
        self._expired_before_ms = before_ms
        # Never the last whose opening says which offsets come next: a crash may have left an empty file behind it.
        while any(segment.opened_at_ms for segment in self._segments[1:]):
            segment = self._segments[0]
            if segment.last_arrived_at_ms >= before_ms:
                break
            try:
                self._files.remove(segment.index_path)  # first: nobody would look for it afterwards
                self._files.remove(segment.path)
            except OSError as error:
                raise StorageUnavailable(f"{segment.path} could not be removed: {error}. Trim again.") from error
            del self._segments[0]
            for shard_index in segment.shards:
                self._shards[shard_index].drop_first()
            self._cache.drop(segment)
        if self._segments and self._is_expired(self._segments[0]):
            self._queue.kick()  # opens the next one; a later trim removes it

    # -- Writer: see streamkit.shards.commit -------------------------------------------------------------------------

    def next_offset(self, shard_index: int) -> int:
        shard = self._shards.get(shard_index)
        return shard.next_offset if shard is not None else self._unheard_offset

    def prepare(self) -> Orders:
        next_offsets = {index: shard.next_offset for index, shard in self._shards.items()}
        sync = self._settings.sync_rounds or self._sync_is_due
        self._sync_is_due = False
        active = self._segments[-1] if self._segments else None
        if active is None or active.table is None or not active.shards:
            return Orders(next_offsets, None, sync)
        is_full = active.size >= self._settings.segment_bytes_max
        is_old = self._queue.last_arrived_at_ms - active.opened_at_ms >= self._settings.segment_span_ms
        seal = (active, active.table) if is_full or is_old or self._is_expired(active) else None
        return Orders(next_offsets, seal, sync)

    def is_long(self, round_: Round, prepared: Orders) -> bool:
        return round_.size_bytes > LONG_ROUND_BYTES or prepared.seal is not None or self._writer.must_prepare

    def write(self, round_: Round, prepared: Orders) -> Outcome:
        return self._writer.write(round_, prepared)

    def needs_sync(self, written: Outcome) -> bool:
        return written.needs_sync

    def sync(self, written: Outcome) -> None:
        self._writer.sync(written)

    def descriptor(self, written: Outcome) -> int | None:
        assert written.segment.file is not None
        return written.segment.file.descriptor

    def synced(self, written: Outcome) -> None:
        self._writer.synced(written)

    def publish(self, round_: Round, written: Outcome) -> None:
        segment = written.segment
        if segment is not (self._segments[-1] if self._segments else None):
            self._turn_to(segment)
        table = segment.table
        assert table is not None
        for group, position, length, checksum in written.frames:
            index = group.shard.index
            shard = self._shards.get(index)
            if shard is None:
                shard = self._shards[index] = _ShardSegments(group.first_offset)
            if index not in table.shards:
                shard.add(segment, group.first_offset)
            table.add(index, group.first_offset, group.count, round_.arrived_at_ms, position, length, checksum)
            shard.next_offset = group.first_offset + group.count
        if not segment.size:  # also one that was empty when it was recovered
            segment.opened_at_ms = round_.arrived_at_ms
        segment.size = written.size
        for index in {group.shard.index for group in round_.groups}:
            self._readers.woken(index, self._shards[index].next_offset)

    # -- life --------------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Finishes what was appended, and leaves an index so that the next start need not scan."""
        await self._end("The log is closed.")
        active = self._segments[-1] if self._segments else None
        try:
            if active is not None and active.file is not None and active.table is not None:
                active.file.sync()
                if not active.is_damaged:
                    self._leave_index(active, active.file, active.table)
        finally:
            self._forget()

    async def delete(self) -> None:
        await self._end("The stream was deleted.")
        self._forget()
        self._files.remove(self._directory)

    def sync_soon(self) -> None:
        """Makes durable what `sync_rounds=False` only handed to the operating system."""
        self._sync_is_due = True
        self._queue.kick()

    async def _end(self, reason: str) -> None:
        await self._queue.close(reason)
        self._readers.fail(StorageUnavailable(reason))

    def _leave_index(self, segment: Segment, file: AppendFile, table: FrameTable) -> None:
        try:
            # Gives back what was reserved, and what a refused round left. Synced: a loss of power must not bring that
            # back behind an index that says the segment ended before it.
            file.truncate(segment.size)
            file.sync()
            self._files.write_atomically(segment.index_path, table.encode(segment.seed))
        except OSError as error:  # it is only a cache
            _log.warning("no index was left, the next start scans: %s", error, extra={PATH: str(segment.index_path)})

    def _forget(self) -> None:
        self._writer.close()
        for segment in self._segments:
            if segment.table is not None:
                segment.seal()
            self._cache.drop(segment)
        self._segments.clear()
        self._shards.clear()

    def _is_expired(self, segment: Segment) -> bool:
        return 0 < segment.last_arrived_at_ms < self._expired_before_ms

    # -- recovery ----------------------------------------------------------------------------------------------------

    def _recover(self) -> None:
        numbers = [number for name in self._files.names(self._directory) if (number := number_of(name)) is not None]
        for number in numbers:
            segment = Segment(self._stream, path_of(self._directory, number), number, 0)
            self._admit(segment, is_last=number == numbers[-1])

    def _admit(self, segment: Segment, *, is_last: bool) -> None:
        """Takes in one segment of an earlier run: from its index where that is good, else by a scan."""
        buffer = self._files.map(segment.path)
        index = load_index(self._files, segment)
        # Noted before the scan adds to the table what is not known to be durable.
        covered_bytes = index.covered_bytes if index is not None else 0
        indexed = {shard: frames.next_offset for shard, frames in index.shards.items()} if index is not None else {}
        if covers(index, buffer):
            found = scan(buffer, segment.seed, covered_bytes, index)
            found.durable_position = max(found.durable_position, covered_bytes)  # it was synced before the index
            found.positions, found.opened_at_ms = _opening(buffer, segment)
        else:
            found = scan(buffer, segment.seed)
        segment.size = len(buffer)
        if not is_last and not buffer:  # the next one is opened with a round in this one only
            found.holes.append(Hole(0, 0, "the file is empty"))
        if is_last:
            found, segment.size = _without_torn_tail(found, buffer, segment)
        for hole in found.holes:
            segment.is_damaged = True
            _log.error("a segment is damaged: %s", hole.why, extra={PATH: str(segment.path), POSITION: hole.start})
        segment.opened_at_ms = found.opened_at_ms
        self._admit_shards(segment, found)
        self._pass_over_lost(segment, found, buffer, indexed)
        self._segments.append(segment)
        segment.summarize(found.table)
        self._queue.last_arrived_at_ms = max(self._queue.last_arrived_at_ms, segment.last_arrived_at_ms)
        if is_last:
            segment.table = found.table
            self._writer.resume(segment, is_synced=covered_bytes == len(buffer))

    def _admit_shards(self, segment: Segment, found: Scan) -> None:
        def shard_of(index: int, first_offset: int) -> _ShardSegments:
            # Only the first segment's opening tells what was trimmed. What is first heard of later began at 0.
            return self._shards.setdefault(index, _ShardSegments(0 if self._segments else first_offset))

        for index, next_offset in found.positions.items():  # better than what damaged segments before made us guess
            shard_of(index, next_offset).next_offset = next_offset
        for index, frames in found.table.shards.items():
            first_offset = found.positions.get(index, 0) if found.opened_at_ms else frames.first_offsets[0]
            shard = shard_of(index, first_offset)
            shard.add(segment, first_offset)
            shard.next_offset = frames.next_offset

    def _pass_over_lost(self, segment: Segment, found: Scan, buffer: memoryview, indexed: dict[int, int]) -> None:
        """Moves next offsets behind all that this segment may have held, as its damage or a newer index shows."""
        known = {shard_index: shard.next_offset for shard_index, shard in self._shards.items()}
        past = past_holes(found, buffer, {**known, UNHEARD: self._unheard_offset})
        self._unheard_offset = past.pop(UNHEARD)
        for shard_index, next_offset in indexed.items():
            if next_offset > past.get(shard_index, 0):
                past[shard_index] = next_offset
                segment.is_damaged = True
                _log.error("the end of a segment is gone", extra={PATH: str(segment.path), POSITION: segment.size})
        for shard_index, next_offset in past.items():
            shard = self._shards.setdefault(shard_index, _ShardSegments(found.positions.get(shard_index, 0)))
            shard.next_offset = next_offset

    def _turn_to(self, segment: Segment) -> None:
        """A round opened the next segment: the one before is sealed, and its table goes to the cache."""
        if self._segments:
            sealed = self._segments[-1]
            self._cache.keep_table(sealed, sealed.seal())
        segment.table = FrameTable()
        self._segments.append(segment)

    # -- reading -----------------------------------------------------------------------------------------------------

    def _frames_from(self, shard_index: int, offset: int) -> Iterator[Callable[[], RecordBatch]]:
        """The frames from this offset on, the first cut to start there. Each is read when it is called for; that
        raises DamagedLog where records are missing or broken, and says where reading can go on."""
        shard = self._shards.get(shard_index)
        if shard is None:
            return
        offset = max(offset, shard.first_offset)
        for at in range(shard.with_offset(offset), len(shard.segments)):
            if offset >= shard.next_offset:
                return
            segment = shard.segments[at]
            frames = self._table(segment).shards.get(shard_index, _NO_FRAMES)
            start = frames.first_offsets[0] if frames else shard.end_of(at)
            if offset < start:
                yield partial(_raise, segment.damaged(0, "records are missing", start))
            for index in range(frames.with_offset(offset), len(frames)):
                onward = frames.first_offsets[index + 1] if index + 1 < len(frames) else shard.end_of(at)
                yield partial(self._cut_batch, segment, shard_index, frames.at(index), offset, onward)
                offset = onward
        if offset < shard.next_offset:
            last = self._segments[-1]
            yield partial(_raise, last.damaged(last.size, "records are missing", shard.next_offset))

    def _cut_batch(self, segment: Segment, shard_index: int, place: Place, offset: int, onward: int) -> RecordBatch:
        batch = self._batch(segment, shard_index, place, onward)
        if offset < batch.next_offset:
            return batch.slice(offset - batch.first_offset, len(batch))
        raise segment.damaged(place.position + place.length, "records are missing", onward)

    def _table(self, segment: Segment) -> FrameTable:
        return segment.table if segment.table is not None else self._cache.table(segment)

    def _batch(self, segment: Segment, shard_index: int, place: Place, onward: int) -> RecordBatch:
        """The frame as a batch, every byte of it checked."""
        try:
            view = self._view(segment, place)
        except OSError as error:
            raise StorageUnavailable(f"{segment.path} could not be read: {error}. Read again.") from error
        try:
            header = frame.read_header(view, 0)
            frame.check(view, header, frame.seed_of(segment.seed, place.position))
            if (header.shard_index, header.first_offset) != (shard_index, place.first_offset):
                raise Damage("another frame stands where the index says")
        except Damage as damage:
            raise segment.damaged(place.position, str(damage), onward) from None
        return frame.batch_of(view, header)

    def _view(self, segment: Segment, place: Place) -> memoryview:
        """The segment being written is read by copies of frames, a sealed one through its map."""
        if segment.file is not None:
            return memoryview(segment.file.read(place.position, place.length))
        return self._cache.window(segment, place.position, place.length)

    def _first_in_frame(self, segment: Segment, shard_index: int, place: Place, at_ms: int) -> int:
        try:
            batch = self._batch(segment, shard_index, place, place.first_offset)
        except DamagedLog:
            return place.first_offset  # whoever reads there is told
        if batch.arrivals_ms is None:
            return place.first_offset
        return place.first_offset + next(row for row, arrived in enumerate(batch.arrivals()) if arrived >= at_ms)


def _raise(error: DamagedLog) -> RecordBatch:
    raise error


def _opening(buffer: memoryview, segment: Segment) -> tuple[dict[int, int], int]:
    """What the frame says that opens a segment: next offsets, and when; nothing where it is damaged."""
    try:
        header = frame.read_header(buffer, 0)
        frame.check(buffer, header, frame.seed_of(segment.seed, 0))
    except Damage as damage:
        _log.error("a segment is damaged: %s", damage, extra={PATH: str(segment.path), POSITION: 0})
        return {}, 0
    return frame.positions_of(buffer[: header.length], header), header.arrived_at_ms


def _without_torn_tail(found: Scan, buffer: memoryview, segment: Segment) -> tuple[Scan, int]:
    """Cuts what the last, unacknowledged round left half-written.

    A hole at or behind the last durable position may be a write that a crash tore; frames behind it are of the same
    round, or the hole would lie before a durable position. A hole before it is damage, and stays to be reported.
    """
    torn = next((hole for hole in found.holes if hole.start >= found.durable_position), None)
    if torn is None:
        return found, len(buffer)
    # Zeros to the end are room that was reserved and not used: every kill leaves that.
    level = logging.WARNING if any(buffer[torn.start :]) else logging.INFO
    _log.log(
        level, "cut a torn tail of %d bytes (%s)", len(buffer) - torn.start, torn.why,
        extra={PATH: str(segment.path), POSITION: torn.start, BYTES: len(buffer) - torn.start},
    )  # fmt: skip
    return scan(buffer[: torn.start], segment.seed), torn.start
