"""`verify`: whatever is not as it was written is found, with its file and place; what a crash leaves is no damage."""

from __future__ import annotations

import asyncio
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import xxhash

import streamkit
from streamkit.model import sequence
from streamkit.model.errors import DataDirectoryInUse, UsageError
from streamkit.model.names import StreamId
from streamkit.shards import frame
from streamkit.shards.disk import DiskLogStore
from streamkit.shards.files import DiskFiles
from streamkit.shards.index import FrameTable
from streamkit.shards.log import DiskLog, LogSettings
from streamkit.shards.segment import scan
from streamkit.shards.store import Bounds, Rows, Shard
from streamkit.shards.verify import Finding, LogReport, verify_log
from streamkit.streams.control import Checkpoint, ControlStore
from streamkit.streams.verify import verify_directory
from streamkit.testing.clock import START_MS, ManualClock

STREAM = StreamId("5" * 32)
SHARDS = (Shard(0, 1_600_000_000), Shard(1, 1_600_000_000))


def write_log(root: Path, *, rounds: int = 6, segment_bytes_max: int = 400, trim_to: int | None = None) -> Path:
    """A closed log of two shards, each round two records a shard, one millisecond after the other."""
    clock = ManualClock()

    async def write() -> None:
        settings = LogSettings(segment_bytes_max=segment_bytes_max)
        store = DiskLogStore(root, clock=clock, settings=settings)
        log = await store.open(STREAM)
        for number in range(rounds):
            await append(log, number)
            clock.step(1)
        if trim_to is not None:
            await log.trim(START_MS + trim_to)
        await store.close()

    asyncio.run(write())
    return root / "streams" / STREAM


async def append(log: DiskLog, number: int) -> None:
    values = [b"%d" % number, b"value"]
    await log.append([Rows(shard, [b"key", b"k"], values) for shard in SHARDS]).wait()


def verified(directory: Path) -> LogReport:
    return verify_log(STREAM, directory, DiskFiles())


def damage(report: LogReport) -> list[Finding]:
    return [finding for finding in report.findings if finding.is_damage]


def change(path: Path, position: int, change_of: Callable[[int], int]) -> None:
    content = bytearray(path.read_bytes())
    content[position] = change_of(content[position])
    path.write_bytes(content)


def frames_of(path: Path) -> list[int]:
    """Where the frames of a whole segment begin, and its end."""
    data = path.read_bytes()
    starts = [0]
    while starts[-1] < len(data):
        starts.append(starts[-1] + frame.read_header(data, starts[-1]).length)
    return starts


# -- logs ------------------------------------------------------------------------------------------------------------


def test_a_log_that_was_closed_is_whole_and_counted(tmp_path: Path) -> None:
    directory = write_log(tmp_path)
    report = verified(directory)
    assert report.findings == []
    assert (report.records_count, report.frames_count) == (24, 12)
    assert report.bounds == {0: Bounds(0, 12), 1: Bounds(0, 12)}
    assert report.segments_count == len(list(directory.glob("*.seg"))) > 1
    assert report.size_bytes == sum(path.stat().st_size for path in directory.glob("*.seg"))


def test_a_stream_that_never_had_a_record_is_whole(tmp_path: Path) -> None:
    report = verified(tmp_path / "streams" / STREAM)
    assert (report.findings, report.records_count) == ([], 0)


def test_a_trimmed_log_is_whole_and_knows_where_it_begins(tmp_path: Path) -> None:
    report = verified(write_log(tmp_path, trim_to=5))
    assert report.findings == []
    first, end = report.bounds[0]
    assert 0 < first < end == 12
    assert report.records_count == 2 * (end - first)


def test_every_flipped_bit_is_found_in_its_file_and_at_its_frame(tmp_path: Path) -> None:
    directory = write_log(tmp_path, rounds=4)
    rng = random.Random(7)
    for path in sorted(directory.iterdir()):
        whole = path.read_bytes()
        starts = frames_of(path) if path.suffix == ".seg" else []
        for position in range(len(whole)):
            change(path, position, lambda byte: byte ^ 1 << rng.randrange(8))
            found = damage(verified(directory))
            assert found, f"byte {position} of {path.name} was not missed"
            assert found[0].path == path
            if starts:
                assert found[0].position == max(start for start in starts if start <= position)
            path.write_bytes(whole)
    assert verified(directory).findings == []


def test_what_a_hole_took_is_named_by_the_records_that_are_missing(tmp_path: Path) -> None:
    directory = write_log(tmp_path, segment_bytes_max=1 << 20)
    (path,) = directory.glob("*.seg")
    starts = frames_of(path)  # positions, then a frame of each shard for every round
    change(path, starts[3] + 70, lambda byte: byte ^ 1)
    hole, missing = damage(verified(directory))
    assert (hole.position, hole.why) == (
        starts[3],
        f"the checksum does not match the frame; {starts[4] - starts[3]} bytes cannot be read",
    )
    assert (missing.position, missing.why) == (
        starts[5],
        "records 2 to 3 of shardId-000000000000 are missing before this",
    )


def test_a_segment_that_is_gone_is_missed_by_its_number_its_index_and_its_records(tmp_path: Path) -> None:
    directory = write_log(tmp_path)
    lost = sorted(directory.glob("*.seg"))[1]
    lost.unlink()
    found = damage(verified(directory))
    assert (found[0].path, found[0].why) == (lost, "the segment is missing")
    assert any("are missing before this" in each.why for each in found)
    assert any(each.path == lost.with_suffix(".idx") for each in found)


def test_the_last_segment_is_missed_by_its_index(tmp_path: Path) -> None:
    directory = write_log(tmp_path)
    lost = sorted(directory.glob("*.seg"))[-1]
    lost.unlink()
    (found,) = damage(verified(directory))
    assert (found.path, found.why) == (lost.with_suffix(".idx"), "there is no segment to this index: it was lost")


@pytest.mark.parametrize("kept", ["nothing", "half", "whole frames"])
def test_a_closed_segment_that_lost_its_end_is_damaged(tmp_path: Path, kept: str) -> None:
    directory = write_log(tmp_path, segment_bytes_max=1 << 20)
    (path,) = directory.glob("*.seg")
    size = {"nothing": 0, "half": path.stat().st_size // 2, "whole frames": frames_of(path)[4]}[kept]
    whole = path.read_bytes()
    path.write_bytes(whole[:size])
    found = damage(verified(directory))
    assert (found[0].path, found[0].position) == (path, size)
    assert f"its index covers {len(whole):,} bytes" in found[0].why


def crashed(root: Path, copy: Path) -> Path:
    """The directory as it lies on disk while its log is open: no index of the segment being written."""
    clock = ManualClock()

    async def write() -> None:
        store = DiskLogStore(root, clock=clock)
        log = await store.open(STREAM)
        for number in range(4):
            await append(log, number)
        shutil.copytree(root, copy)
        await store.close()

    asyncio.run(write())
    return copy / "streams" / STREAM


def gone_on_with(root: Path) -> Bounds:
    async def open_and_close() -> Bounds:
        store = DiskLogStore(root, clock=ManualClock())
        log = await store.open(STREAM)
        bounds = log.bounds(0)
        await append(log, 9)
        await store.close()
        return bounds

    return asyncio.run(open_and_close())


def test_what_a_crash_leaves_is_whole_without_an_index(tmp_path: Path) -> None:
    directory = crashed(tmp_path / "data", tmp_path / "copy")
    assert not list(directory.glob("*.idx"))
    report = verified(directory)
    assert (report.findings, report.records_count) == ([], 16)


def test_an_index_of_an_earlier_close_that_covers_only_the_beginning_is_no_damage(tmp_path: Path) -> None:
    write_log(tmp_path / "data", rounds=2, segment_bytes_max=1 << 20)
    directory = crashed(tmp_path / "data", tmp_path / "copy")
    assert len(list(directory.glob("*.idx"))) == 1
    report = verified(directory)
    assert (report.findings, report.records_count) == ([], 24)


def test_room_that_was_reserved_and_not_used_is_nothing_to_tell(tmp_path: Path) -> None:
    directory = crashed(tmp_path / "data", tmp_path / "copy")
    (path,) = directory.glob("*.seg")
    path.write_bytes(path.read_bytes() + bytes(4096))
    assert verified(directory).findings == []
    assert gone_on_with(tmp_path / "copy").next_offset > 0
    assert verified(directory).findings == []


@pytest.mark.parametrize("tail", [b"SKF1 and then some", None], ids=["rubbish", "half a frame"])
def test_a_torn_tail_is_told_and_is_no_damage_and_the_next_write_cuts_it(tmp_path: Path, tail: bytes | None) -> None:
    directory = crashed(tmp_path / "data", tmp_path / "copy")
    (path,) = directory.glob("*.seg")
    whole = path.read_bytes()
    if tail is not None:
        torn_at, kept = len(whole), 8
        path.write_bytes(whole + tail)
    else:
        torn_at, kept = frames_of(path)[-2], 8  # the last frame is of shard 1
        path.write_bytes(whole[: torn_at + 50])
    report = verified(directory)
    (finding,) = report.findings
    assert (finding.path, finding.position, finding.is_damage) == (path, torn_at, False)
    assert "a crash tore the last write" in finding.why
    assert report.bounds[0] == Bounds(0, kept) == gone_on_with(tmp_path / "copy")
    assert verified(directory).findings == []


def test_a_segment_that_a_crash_left_empty_at_the_end_is_no_damage_and_elsewhere_it_is(tmp_path: Path) -> None:
    directory = write_log(tmp_path, segment_bytes_max=1 << 20)
    (directory / "000000000002.seg").touch()
    assert verified(directory).findings == []
    shutil.copy(directory / "000000000001.seg", directory / "000000000003.seg")
    found = damage(verified(directory))
    assert (found[0].path, found[0].why) == (directory / "000000000002.seg", "the file is empty")


def test_a_segment_in_the_place_of_another_is_found_though_every_frame_of_it_is_whole(tmp_path: Path) -> None:
    directory = write_log(tmp_path)
    first, second = sorted(directory.glob("*.seg"))[:2]
    shutil.copy(first, second)
    assert (second, 0) in [(each.path, each.position) for each in damage(verified(directory))]


def test_an_index_that_says_something_else_than_its_segment_is_damaged(tmp_path: Path) -> None:
    """A whole index, with the right seed, that leaves out a frame in the middle: no checksum could tell."""
    directory = write_log(tmp_path, segment_bytes_max=1 << 20)
    (path,) = directory.glob("*.seg")
    seed = frame.segment_seed_of(STREAM, 1)
    table = scan(path.read_bytes(), seed).table
    wrong = FrameTable()
    wrong.shards[0] = table.shards[0]
    wrong.covered_bytes, wrong.last_checksum = table.covered_bytes, table.last_checksum
    path.with_suffix(".idx").write_bytes(wrong.encode(seed))
    (found,) = damage(verified(directory))
    assert found.path == path.with_suffix(".idx")
    assert f"shardId-000000000001 at byte {table.shards[1].positions[0]}" in found.why


def encoded(position: int, first_offset: int, arrived_at_ms: int) -> tuple[bytes, bytes]:
    """A frame of one record of shard 0, whole at this place of segment 1."""
    return frame.encode_rows(
        frame.seed_of(frame.segment_seed_of(STREAM, 1), position),
        shard_index=0,
        shard_created_s=SHARDS[0].created_s,
        first_offset=first_offset,
        arrived_at_ms=arrived_at_ms,
        durable_position=0,
        keys=[b"k"],
        values=[b"v"],
    )


@pytest.mark.parametrize(
    ("first_offset", "arrived_at_ms", "why"),
    [
        (14, START_MS + 9, "records 12 to 13 of shardId-000000000000 are missing before this"),
        (10, START_MS + 9, "shardId-000000000000 goes back from record 12 to 10"),
        (12, START_MS, "records of shardId-000000000000 arrived 5 ms before those they follow"),
    ],
    ids=["left out", "given twice", "back in time"],
)
def test_whole_frames_in_a_wrong_order_are_found(
    tmp_path: Path, first_offset: int, arrived_at_ms: int, why: str
) -> None:
    directory = write_log(tmp_path, segment_bytes_max=1 << 20)
    (path,) = directory.glob("*.seg")
    position = path.stat().st_size
    buffers = encoded(position, first_offset, arrived_at_ms)
    path.write_bytes(path.read_bytes() + b"".join(buffers))
    assert damage(verified(directory)) == [Finding(path, position, why)]


def test_where_the_opening_of_the_first_segment_is_damaged_only_that_is_told(tmp_path: Path) -> None:
    """Its shards go on at 6 and so, as they were trimmed: nobody says that the records before are missing."""
    directory = write_log(tmp_path, trim_to=5)
    path = min(directory.glob("*.seg"))
    change(path, 70, lambda byte: byte ^ 1)
    (found,) = damage(verified(directory))
    assert (found.path, found.position) == (path, 0)


def test_a_whole_segment_without_its_opening_is_damaged(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    directory.mkdir()
    path = directory / "000000000001.seg"
    prefix, body = encoded(0, 0, START_MS)
    path.write_bytes(prefix + body)
    assert damage(verified(directory)) == [
        Finding(path, 0, "the segment does not begin with the positions of its shards")
    ]


def test_a_frame_whose_columns_do_not_fill_it_is_damaged_though_its_checksum_is_right(tmp_path: Path) -> None:
    directory = write_log(tmp_path, segment_bytes_max=1 << 20)
    (path,) = directory.glob("*.seg")
    position = path.stat().st_size
    seed = frame.seed_of(frame.segment_seed_of(STREAM, 1), position)
    _, body = encoded(position, 12, START_MS + 9)
    body += bytes(8)
    head = struct.pack("<IIQ", frame.MAGIC, 16 + len(body), xxhash.xxh3_64_intdigest(body, seed))
    path.write_bytes(path.read_bytes() + head + body)
    (found,) = damage(verified(directory))
    assert (found.path, found.position) == (path, position)
    assert "its columns need" in found.why


# -- data directories ------------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two streams, one resharded, with checkpoints; closed."""
    with streamkit.open_blocking(tmp_path / "data") as kit:
        for name in ("clicks", "orders"):
            kit.create_stream(name, shards=2)
            kit.put_many(name, [(f"key {n}", str(n)) for n in range(50)])
            consumer = kit.consumer(name, "counter", follow=False)
            list(consumer)
            consumer.checkpoint()
        kit.split_shard("clicks", 0)
        kit.put_many("clicks", [(f"key {n}", str(n)) for n in range(50)])
    return tmp_path / "data"


def add_checkpoint(data: Path, stream: str, shard: int, number: str, consumer: str = "c") -> None:
    control = ControlStore(data / "control.sqlite")
    control.save_checkpoints([Checkpoint(consumer, StreamId(stream), shard, number, 0)])
    control.close()


def id_of(data: Path, name: str) -> str:
    control = ControlStore(data / "control.sqlite")
    (found,) = [state.id for state in control.streams() if state.name == name]
    control.close()
    return found


def faults(data: Path) -> list[Finding]:
    report = verify_directory(data)
    found = [each for stream in report.streams for each in stream.findings] + report.findings
    assert report.is_whole == (not any(each.is_damage for each in found))
    return found


def test_a_clean_directory_is_whole(data: Path) -> None:
    report = verify_directory(data)
    assert report.is_whole
    assert [(each.state.name, each.log.records_count, each.checkpoints_count) for each in report.streams] == [
        ("clicks", 100, 2),
        ("orders", 50, 2),
    ]
    assert verify_directory(data).is_whole, "looking changed something"


def test_a_directory_in_use_is_refused_with_its_holder(data: Path) -> None:
    with (
        streamkit.open_blocking(data),
        pytest.raises(DataDirectoryInUse, match=r"data is in use by process \d+"),
    ):
        verify_directory(data)
    assert verify_directory(data).is_whole


def test_what_is_no_data_directory_is_refused_and_left_alone(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UsageError, match="is no data directory"):
            verify_directory(path)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_at_the_last_record_is_fine_and_one_beyond_it_is_not(data: Path) -> None:
    stream = id_of(data, "orders")
    (report,) = [each for each in verify_directory(data).streams if each.state.name == "orders"]
    end, created_s = report.log.bounds[1].next_offset, report.state.shards[1].created_s
    add_checkpoint(data, stream, 1, sequence.sequence_number(created_s, 1, end - 1, START_MS))
    assert faults(data) == []
    add_checkpoint(data, stream, 1, sequence.sequence_number(created_s, 1, end, START_MS))
    (finding,) = faults(data)
    assert finding.path == data / "control.sqlite"
    assert "checkpoint of 'c' at shardId-000000000001" in finding.why
    assert finding.why.endswith(f"record {end}; the shard ends before record {end}")


@pytest.mark.parametrize(
    ("shard", "number", "why"),
    [
        (0, "12", "is '12', no sequence number"),
        (0, sequence.sequence_number(1_600_000_000, 1, 0, START_MS), "a number of shardId-000000000001"),
        (9, sequence.sequence_number(1_600_000_000, 9, 0, START_MS), "is of a shard that the stream does not have"),
    ],
    ids=["no number", "another shard's", "an unknown shard"],
)
def test_a_checkpoint_that_cannot_be_is_damage(data: Path, shard: int, number: str, why: str) -> None:
    add_checkpoint(data, id_of(data, "orders"), shard, number)
    (finding,) = faults(data)
    assert why in finding.why


def test_a_checkpoint_of_a_stream_that_does_not_exist_is_damage(data: Path) -> None:
    add_checkpoint(data, "f" * 32, 0, sequence.sequence_number(1, 0, 0, 1))
    (finding,) = faults(data)
    assert finding.why == f"there are checkpoints of stream {'f' * 32}, which does not exist"


def test_a_closed_shard_whose_records_are_gone_is_missed(data: Path) -> None:
    shutil.rmtree(data / "streams" / id_of(data, "clicks"))
    found = faults(data)
    assert any("shardId-000000000000 was closed at record" in each.why for each in found)
    assert any("checkpoint of 'counter'" in each.why for each in found)


def test_a_log_that_belongs_to_no_stream_is_told_and_is_no_damage(data: Path) -> None:
    """A crash between deleting a stream's name and its records."""
    stray = data / "streams" / ("e" * 32)
    stray.mkdir()
    (finding,) = faults(data)
    assert (finding.path, finding.is_damage) == (stray, False)


@pytest.mark.parametrize("how", ["gone", "no database", "a page of it", "what it says"])
def test_a_damaged_control_store_is_damage_and_never_a_traceback(data: Path, how: str) -> None:
    path = data / "control.sqlite"
    if how == "gone":
        path.unlink()
    elif how == "no database":
        path.write_bytes(b"x" * 8192)
    elif how == "a page of it":
        content = path.read_bytes()
        path.write_bytes(content[:4096] + b"\xff" * 4096 + content[8192:])
    else:
        content = path.read_bytes()
        assert b'"status":"ACTIVE"' in content
        path.write_bytes(content.replace(b'"status":"ACTIVE"', b'"status":"ACTIVF"'))
    found = faults(data)
    assert [finding.path for finding in found if finding.is_damage] == [path] * len(found)
    assert found


HALF = 1 << 127


@pytest.mark.parametrize(
    ("lost", "whys"),
    [
        (0, [f"the open shards do not share out the hash keys: one begins at {HALF} where 0 is next"]),
        (
            1,
            [
                "there are records of shardId-000000000001, which the stream does not have",
                f"the open shards do not share out the hash keys: nobody has those from {HALF} on",
                "is of a shard that the stream does not have",
            ],
        ),
    ],
)
def test_a_shard_that_its_stream_forgot_is_found(data: Path, lost: int, whys: list[str]) -> None:
    control = ControlStore(data / "control.sqlite")
    (state,) = [state for state in control.streams() if state.name == "orders"]
    del state.shards[lost]
    control.save_stream(state)
    control.close()
    found = faults(data)
    assert len(found) == len(whys)
    assert all(each.why.endswith(why) for each, why in zip(found, whys, strict=True))
