"""The segment being written: what a round does to the files.

Used by one round at a time, on the event loop or on a commit thread; it shares nothing with readers but the open file.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from streamkit.model.limits import RESERVED_BYTES, ROUNDS_WORTH_RESERVING
from streamkit.model.names import StreamId
from streamkit.shards import frame
from streamkit.shards.commit import Group, Round
from streamkit.shards.files import AppendFile, Files
from streamkit.shards.index import FrameTable
from streamkit.shards.segment import Segment, path_of


class Written(NamedTuple):
    group: Group
    position: int
    length: int
    checksum: int


class Orders(NamedTuple):
    """What the loop tells the writer with a round."""

    next_offsets: dict[int, int]
    seal: tuple[Segment, FrameTable] | None
    sync: bool


class Outcome(NamedTuple):
    """What a round did to the files."""

    segment: Segment
    frames: list[Written]
    size: int
    needs_sync: bool


class SegmentWriter:
    """The segment being appended to."""

    def __init__(self, files: Files, directory: Path, stream: StreamId) -> None:
        self._files = files
        self._directory = directory
        self._stream = stream
        self._segment: Segment | None = None
        self._size = 0  # bytes that count; whatever lies behind them is cut before the next write
        self._synced = 0
        self._is_dirty = False
        self._reserved = 0  # the file has zeros up to here
        self._rounds_without_room = 0

    def resume(self, segment: Segment, *, is_synced: bool) -> None:
        """Goes on behind a recovered segment's last frame.

        What a killed process wrote may lie in the page cache only. It is synced before anybody reads it, or a loss of
        power could take back what was read, and its offsets would be given again.
        """
        segment.file = self._files.append(segment.path)
        if not is_synced:
            segment.file.sync()
        self._segment = segment
        self._size = self._synced = segment.size
        self._is_dirty = self._files.size(segment.path) > segment.size

    @property
    def must_prepare(self) -> bool:
        """Whether a write has something to sync itself: a failed round to cut, or a segment to make."""
        return self._is_dirty or self._segment is None or self._wants_room

    def write(self, round_: Round, orders: Orders) -> Outcome:
        if self._is_dirty:
            self._cut()
        if self._segment is None:
            self._files.make_directory(self._directory)
            self._open(1, round_.arrived_at_ms)
        elif orders.seal is not None and orders.seal[0] is self._segment:  # else a failed round opened the next already
            self._seal(*orders.seal)
            self._open(self._segment.number + 1, round_.arrived_at_ms)
        segment = self._segment
        assert segment is not None
        assert segment.file is not None
        buffers: list[bytes] = []
        position = self._size
        if not position:
            seed = frame.seed_of(segment.seed, 0)
            buffers += frame.encode_positions(seed, orders.next_offsets.items(), round_.arrived_at_ms)
            position = sum(map(len, buffers))
        frames = []
        for group in round_.groups:
            seed = frame.seed_of(segment.seed, position)
            prefix, body = group.encode(seed, round_.arrived_at_ms, durable_position=self._synced)
            buffers += (prefix, body)
            length = len(prefix) + len(body)
            frames.append(Written(group, position, length, frame.checksum_of(prefix)))
            position += length
        self._is_dirty = True  # until it is synced
        if self._wants_room:
            self._reserve(segment.file, position)
        segment.file.write(buffers)
        # The opening is synced whatever the settings: once earlier segments are trimmed, it alone knows the offsets.
        return Outcome(segment, frames, position, needs_sync=orders.sync or not self._size)

    def sync(self, outcome: Outcome) -> None:
        assert outcome.segment.file is not None
        if outcome.needs_sync:
            outcome.segment.file.sync()
        self.synced(outcome)

    def synced(self, outcome: Outcome) -> None:
        if outcome.needs_sync:
            self._synced = outcome.size
        self._size = outcome.size
        self._is_dirty = False
        self._rounds_without_room = 0 if outcome.size < self._reserved else self._rounds_without_room + 1

    @property
    def _wants_room(self) -> bool:
        """Small rounds that come often are worth writing zeros ahead of them; others are not."""
        return self._rounds_without_room >= ROUNDS_WORTH_RESERVING

    def _reserve(self, file: AppendFile, position: int) -> None:
        self._rounds_without_room = 0
        try:
            file.reserve(position + RESERVED_BYTES)
        except OSError:
            return  # the disk is filling up: go on without
        self._reserved = position + RESERVED_BYTES

    def _cut(self) -> None:
        """Takes back what a failed round left. After a failed sync the kernel may hold pages it will never write,
        and says so only once: what counts is synced again here, and if that fails so does this round."""
        assert self._segment is not None
        assert self._segment.file is not None
        self._segment.file.truncate(self._size)
        self._segment.file.sync()
        self._is_dirty = False
        self._reserved = 0

    def _seal(self, segment: Segment, table: FrameTable) -> None:
        assert segment.file is not None
        segment.file.truncate(self._size)
        segment.file.sync()
        if not segment.is_damaged:
            self._files.write_atomically(segment.index_path, table.encode(segment.seed))

    def close(self) -> None:
        """Also closes a segment that a failed round has opened and no round has written yet."""
        if self._segment is not None and self._segment.file is not None:
            self._segment.file.close()
            self._segment.file = None

    def _open(self, number: int, now_ms: int) -> None:
        segment = Segment(self._stream, path_of(self._directory, number), number, now_ms)
        segment.file = self._files.append(segment.path)
        self._segment = segment
        self._size = self._synced = self._reserved = 0
