"""Whatever happens to the bytes of a log: nothing is invented, what was not hit is read, and the damage is reported."""

from __future__ import annotations

import logging
import random
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from streamkit.model.batch import Columns
from streamkit.model.errors import DamagedLog, StorageUnavailable
from streamkit.model.limits import MIB
from streamkit.model.names import StreamId
from streamkit.shards import frame
from streamkit.shards.disk import DiskLogStore
from streamkit.shards.log import DiskLog, LogSettings
from streamkit.shards.store import Rows, Shard, Table
from streamkit.testing.clock import VirtualClock, run
from streamkit.testing.files import PAGE_BYTES, SimulatedFiles
from streamkit.testing.runner import InlineRunner

DATA: Final = Path("/data")
STREAM: Final = StreamId("a" * 32)
OTHER: Final = StreamId("b" * 32)
SETTINGS: Final = LogSettings(segment_bytes_max=3000)
# Which shards each round appends to. Shard 9 falls silent early; all that shard 5 ever gets lies near the end.
ROUNDS: Final = ((0, 1, 9), (0,), (1, 0), (0, 1), (1,), (0, 1, 0), (0,), (1, 0), (0, 1), (5, 0), (1,), (0, 1))
BUSY_SHARDS: Final = (0, 1, 5, 9)

Place = tuple[int, int]  # shard, offset
Hit = tuple[Path, int, int]  # file, first byte changed, end


class FrameAt(NamedTuple):
    start: int
    end: int
    round_start: int
    places: list[Place]

    def is_hit(self, hits: list[Hit]) -> bool:
        return any(start < self.end and end > self.start for _, start, end in hits)


@dataclass(slots=True)
class Written:
    """What was written, and where it lies."""

    contents: dict[Path, bytes]
    is_closed: bool
    records: dict[Place, bytes] = field(default_factory=dict)
    frames: dict[Path, list[FrameAt]] = field(default_factory=dict)

    @property
    def segments(self) -> list[Path]:
        return sorted(self.frames)

    @property
    def last(self) -> Path:
        return self.segments[-1]

    @property
    def last_round_start(self) -> int:
        return self.frames[self.last][-1].round_start

    def hit_by(self, hits: list[Hit]) -> set[Place]:
        return {
            place
            for path, frames in self.frames.items()
            for each in frames
            if each.is_hit([hit for hit in hits if hit[0] == path])
            for place in each.places
        }

    def takes_unsure(self, hits: list[Hit]) -> set[Place]:
        """Records that may be cut off as never acknowledged: those of the last round, if it was hit, and of the round
        before where no frame of the last is left to say that it was synced. Unless an index says so."""
        if self.is_closed and not any(path == self.last.with_suffix(".idx") for path, _, _ in hits):
            return set()
        unsure: set[Place] = set()
        mine = [hit for hit in hits if hit[0] == self.last]
        for start in sorted({each.round_start for each in self.frames[self.last]}, reverse=True):
            frames = [each for each in self.frames[self.last] if each.round_start == start]
            if any(each.is_hit(mine) for each in frames):
                unsure.update(place for each in frames for place in each.places)
            if not all(each.is_hit(mine) for each in frames):
                break
        return unsure


def write_log(stream: StreamId, *, closes: bool) -> Written:
    """Several rounds over several shards and segments, ended by a clean close or as by kill -9."""
    files = SimulatedFiles()
    written = Written({}, closes)

    async def main(clock: VirtualClock, rng: random.Random) -> None:
        store = DiskLogStore(DATA, clock=clock, files=files, runner=InlineRunner(), settings=SETTINGS)
        log = await store.open(stream)
        next_offsets: dict[int, int] = {}
        for number, shards in enumerate(ROUNDS):
            groups = []
            for shard in shards:
                first = next_offsets.get(shard, 0)
                next_offsets[shard] = first + rng.randint(1, 4)
                places = [(shard, offset) for offset in range(first, next_offsets[shard])]
                values = [b"%s/%d/%d/" % (stream[:1].encode(), *place) + rng.randbytes(100) for place in places]
                written.records.update(zip(places, values, strict=True))
                groups.append(_rows(shard, values) if number % 3 else _table(shard, values))
            await log.append(groups).wait()
            await clock.sleep(1000)
        if closes:
            await store.close()

    run(main, seed=3)
    directory = DATA / "streams" / stream
    written.contents = {directory / name: bytes(files.map(directory / name)) for name in files.names(directory)}
    for path, data in written.contents.items():
        if path.suffix == ".seg":
            written.frames[path] = list(_frames(data))
    assert len(written.segments) >= 3
    return written


def _rows(shard: int, values: list[bytes]) -> Rows:
    return Rows(Shard(shard, 1_600_000_000), [b"key"] * len(values), values)


def _table(shard: int, values: list[bytes]) -> Table:
    key_offsets = memoryview(array("i", range(0, 3 * len(values) + 1, 3)))
    data_offsets = memoryview(array("i", accumulate(map(len, values), initial=0)))
    columns = Columns(len(values), key_offsets, b"key" * len(values), data_offsets, b"".join(values))
    return Table(Shard(shard, 1_600_000_000), columns)


def _frames(data: bytes) -> Iterator[FrameAt]:
    position = 0
    while position < len(data):
        header = frame.read_header(data, position)
        count = 0 if header.flags & frame.POSITIONS else header.records_count
        places = [(header.shard_index, header.first_offset + each) for each in range(count)]
        yield FrameAt(position, position + header.length, header.durable_position, places)
        position += header.length


class _Reports(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.paths: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        self.paths.add(str(getattr(record, "path", "")))


@contextmanager
def reports() -> Iterator[_Reports]:
    """Where the log says, while it is opened, which files are damaged."""
    handler, logger = _Reports(), logging.getLogger("streamkit.shards.log")
    logger.addHandler(handler)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)


def check(
    written: Written,
    changes: dict[Path, bytes | None],
    hits: list[Hit],
    *,
    is_silent: bool = False,
) -> None:
    """Opens the log with some files changed (None: removed), reads all there is, appends, and opens it again, after a
    clean end and after another. `is_silent`: nothing is left that could tell of the damage."""
    files = SimulatedFiles()
    for path, data in {**written.contents, **changes}.items():
        if data is not None:
            files.put(path, data)
    unsure = written.takes_unsure(hits)
    may_be_lost = written.hit_by(hits) | unsure

    async def main(clock: VirtualClock, rng: random.Random) -> None:
        with reports() as logged:
            store = _store(files, clock)
            log = await store.open(STREAM)
            found, damages = await _read_on(log, files)
        assert found.items() <= written.records.items()
        lost = written.records.keys() - found.keys()
        assert lost <= may_be_lost
        assert not lost or is_silent or damages or logged.paths & {str(path) for path, _, _ in hits}
        added = await _append_everywhere(log)
        reused = added.keys() & written.records.keys()
        assert reused <= unsure
        assert not reused & found.keys()
        if rng.random() < 0.5:
            await store.close()
        for shard, offset in added:
            acknowledged = [place[1] for place in written.records.keys() - unsure if place[0] == shard]
            assert offset > max(acknowledged, default=-1)
        for closes in (True, False, True):
            store = _store(files, clock)
            log = await store.open(STREAM)
            again, _ = await _read_on(log, files)
            assert again == found | added
            more = await _append_everywhere(log)
            assert not more.keys() & (again.keys() | written.records.keys() - unsure)
            added |= more
            if closes:
                await store.close()

    run(main, seed=0)


def _store(files: SimulatedFiles, clock: VirtualClock) -> DiskLogStore:
    return DiskLogStore(DATA, clock=clock, files=files, runner=InlineRunner(), settings=SETTINGS)


async def _read_on(log: DiskLog, files: SimulatedFiles) -> tuple[dict[Place, bytes], list[DamagedLog]]:
    """All that can be read, going on behind each damage."""
    found: dict[Place, bytes] = {}
    damages: list[DamagedLog] = []
    for shard in (*BUSY_SHARDS, 77):
        offset = 0
        while offset < log.bounds(shard).next_offset:
            try:
                batches = await log.read(shard, offset, records_max=3, bytes_max=MIB)
            except DamagedLog as damage:
                damages.append(damage)
                offset = _onward(damage, offset, files)
                continue
            if not batches:
                break
            for batch in batches:
                assert batch.first_offset >= offset
                offset = batch.first_offset
                for value in batch.values():
                    found[shard, offset] = bytes(value)
                    offset += 1
    return found, damages


def _onward(damage: DamagedLog, offset: int, files: SimulatedFiles) -> int:
    assert 0 <= damage.position <= files.size(Path(damage.path))
    assert damage.next_offset is not None
    assert damage.next_offset > offset
    return damage.next_offset


async def _append_everywhere(log: DiskLog) -> dict[Place, bytes]:
    added: dict[Place, bytes] = {}
    for number in range(2):
        append = log.append([_rows(shard, [b"added"] * 2) for shard in (*BUSY_SHARDS, 77)])
        await append.wait()
        for index, shard in enumerate((*BUSY_SHARDS, 77)):
            first = append.placed(index).first_offset
            assert not number or (shard, first - 1) in added
            added.update({(shard, first): b"added", (shard, first + 1): b"added"})
    return added


@pytest.fixture(scope="module", params=["closed", "killed"])
def written(request: pytest.FixtureRequest) -> Written:
    return write_log(STREAM, closes=request.param == "closed")


@pytest.fixture(scope="module")
def other() -> Written:
    return write_log(OTHER, closes=True)


def test_an_unharmed_log_is_read_whole(written: Written) -> None:
    check(written, {}, [])


def test_a_log_cut_at_any_byte_of_its_last_round(written: Written) -> None:
    whole = written.contents[written.last]
    edges = {each.end for each in written.frames[written.last]}
    for size in range(written.last_round_start, len(whole)):
        is_silent = size in edges and not written.is_closed
        check(written, {written.last: whole[:size]}, [(written.last, size, len(whole))], is_silent=is_silent)


@pytest.mark.parametrize("closes_before", [False, True])
def test_a_loss_of_power_in_a_round_of_many_pages_is_a_torn_tail_and_no_damage(closes_before: bool) -> None:
    whole_count = torn_count = 0

    async def main(clock: VirtualClock, rng: random.Random) -> None:
        nonlocal whole_count, torn_count
        files = SimulatedFiles(rng.randrange(2**32))
        store = _store(files, clock)
        log = await store.open(STREAM)
        await log.append([_rows(0, [b"acknowledged"])]).wait()
        if closes_before:
            await store.close()
            log = await _store(files, clock).open(STREAM)
        files.lose_power_at("sync")
        lost = log.append([_table(0, [b"%d" % each * PAGE_BYTES]) for each in range(4)])
        with pytest.raises(StorageUnavailable):
            await lost.wait()
        files.heal()
        found, damages = await _read_on(await _store(files, clock).open(STREAM), files)
        assert not damages
        values = [found[place] for place in sorted(found)]
        assert values == [b"acknowledged", *(b"%d" % each * PAGE_BYTES for each in range(len(values) - 1))]
        whole_count += len(values) == 5
        torn_count += len(values) < 5

    for seed in range(200):
        run(main, seed=seed)
    assert whole_count
    assert torn_count


@pytest.mark.parametrize("seed", range(10))
def test_trimming_keeps_offsets_growing_when_a_crash_left_the_next_segment_without_its_opening(seed: int) -> None:
    async def main(clock: VirtualClock, rng: random.Random) -> None:
        files = SimulatedFiles(rng.randrange(2**32))
        log = await _store(files, clock).open(STREAM)
        await log.append([_rows(0, [bytes(4000)] * 3)]).wait()  # the next round opens a segment
        files.lose_power_at("write")
        with pytest.raises(StorageUnavailable):
            await log.append([_rows(0, [b"lost"])]).wait()
        files.heal()
        for _ in range(2):
            log = await _store(files, clock).open(STREAM)
            assert log.bounds(0).next_offset == 3
            await clock.sleep(1000)
            await log.trim(clock.now_ms())
            files.crash()

    run(main, seed=seed)


def test_a_closed_log_cut_at_any_frame_or_in_it() -> None:
    written = write_log(STREAM, closes=True)
    whole = written.contents[written.last]
    for start, end, *_ in written.frames[written.last]:
        for size in (start, start + 1, start + 63, end - 1):
            check(written, {written.last: whole[:size]}, [(written.last, size, len(whole))])


def test_a_sealed_segment_cut_anywhere(written: Written) -> None:
    for path in written.segments[:-1]:
        whole = written.contents[path]
        for size in range(0, len(whole), 61):
            check(written, {path: whole[:size]}, [(path, size, len(whole))])
            check(written, {path: whole[:size], path.with_suffix(".idx"): None}, [(path, size, len(whole))])


@pytest.mark.parametrize("segment", [0, -1])
def test_any_byte_of_any_header_with_a_bit_flipped(written: Written, segment: int) -> None:
    rng = random.Random(segment)
    path = written.segments[segment]
    for start, *_ in written.frames[path]:
        for at in range(start, start + frame.HEADER_BYTES):
            _check_flipped(written, path, at, rng.randrange(8), without_index=rng.random() < 0.5)


def test_bits_flipped_anywhere(written: Written) -> None:
    rng = random.Random(1)
    for _ in range(300):
        path = rng.choice(written.segments)
        at = rng.randrange(len(written.contents[path]))
        _check_flipped(written, path, at, rng.randrange(8), without_index=rng.random() < 0.5)


def _check_flipped(written: Written, path: Path, at: int, bit: int, *, without_index: bool) -> None:
    flipped = bytearray(written.contents[path])
    flipped[at] ^= 1 << bit
    changes: dict[Path, bytes | None] = {path: bytes(flipped)}
    hits: list[Hit] = [(path, at, at + 1)]
    if without_index:
        changes[path.with_suffix(".idx")] = None
        hits.append((path.with_suffix(".idx"), 0, 0))
    check(written, changes, hits)


def test_stretches_of_zeros_and_of_garbage(written: Written) -> None:
    rng = random.Random(2)
    for _ in range(200):
        path = rng.choice(written.segments)
        whole = written.contents[path]
        start = rng.randrange(len(whole))
        end = min(start + rng.choice((8, 64, 200, 512, PAGE_BYTES)), len(whole))
        overwritten = rng.choice((bytes(end - start), rng.randbytes(end - start)))
        check(written, {path: whole[:start] + overwritten + whole[end:]}, [(path, start, end)])


def test_whole_frames_swapped(written: Written) -> None:
    swapped = 0
    for path in written.segments:
        whole = written.contents[path]
        frames = [(start, end) for start, end, _, places in written.frames[path] if places]
        for index, (start, end) in enumerate(frames):
            for other_start, other_end in frames[index + 1 :]:
                if end - start == other_end - other_start:
                    changed = bytearray(whole)
                    changed[start:end], changed[other_start:other_end] = whole[other_start:other_end], whole[start:end]
                    check(written, {path: bytes(changed)}, [(path, start, end), (path, other_start, other_end)])
                    swapped += 1
    assert swapped


def test_blocks_swapped_within_and_between_segments(written: Written) -> None:
    rng = random.Random(4)
    block = 512
    for _ in range(100):
        one, two = rng.choice(written.segments), rng.choice(written.segments)
        first, second = (rng.randrange(len(written.contents[path]) // block) * block for path in (one, two))
        contents = {path: bytearray(written.contents[path]) for path in (one, two)}
        pages = [bytes(contents[path][at : at + block]) for path, at in ((one, first), (two, second))]
        contents[one][first : first + block] = pages[1]
        contents[two][second : second + block] = pages[0]
        hits = [(one, first, first + block), (two, second, second + block)]
        check(written, {path: bytes(data) for path, data in contents.items()}, hits)


def test_garbage_behind_the_end(written: Written) -> None:
    rng = random.Random(5)
    whole = written.contents[written.last]
    for size in (1, 7, 8, 63, 64, 1000, PAGE_BYTES):
        for garbage in (bytes(size), rng.randbytes(size), whole[:size], b"SKF1" * size):
            check(written, {written.last: whole + garbage}, [])


def test_an_index_gone_stale_garbled_or_anothers(written: Written, other: Written) -> None:
    rng = random.Random(6)
    for path in (path for path in written.contents if path.suffix == ".idx"):
        index = written.contents[path]
        foreign = other.contents[path.parent.with_name(OTHER) / path.name]
        neighbour = next(each for name, each in written.contents.items() if name.suffix == ".idx" and name != path)
        for changed in (None, b"", index[:-1], rng.randbytes(len(index)), foreign, neighbour):
            check(written, {path: changed}, [(path, 0, 0)])
        for at in range(0, len(index), 5):
            flipped = bytearray(index)
            flipped[at] ^= 1 << rng.randrange(8)
            check(written, {path: bytes(flipped)}, [(path, 0, 0)])


def test_an_index_older_than_its_segment() -> None:
    closed, killed = write_log(STREAM, closes=True), write_log(STREAM, closes=False)
    files = SimulatedFiles()
    for path, data in closed.contents.items():
        files.put(path, data)

    async def main(clock: VirtualClock, rng: random.Random) -> None:
        log = await _store(files, clock).open(STREAM)
        await log.append([_rows(0, [b"more"])]).wait()
        log = await _store(files, clock).open(STREAM)
        found, damages = await _read_on(log, files)
        assert not damages
        tip = log.bounds(0).next_offset - 1
        assert found == closed.records | {(0, tip): b"more"}

    assert killed.records == closed.records
    run(main, seed=0)


def test_a_segment_of_another_stream_in_place_of_ours(written: Written, other: Written) -> None:
    for ours, theirs in zip(written.segments, other.segments, strict=True):
        hit = (ours, 0, len(written.contents[ours]))
        if ours != written.last:
            check(written, {ours: other.contents[theirs]}, [hit])
            check(written, {ours: other.contents[theirs], ours.with_suffix(".idx"): None}, [hit])


def test_a_segment_gone(written: Written) -> None:
    for path in written.segments[1:-1]:
        hit = (path, 0, len(written.contents[path]))
        check(written, {path: None, path.with_suffix(".idx"): None}, [hit])
