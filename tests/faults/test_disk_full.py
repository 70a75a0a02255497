"""A disk that is full or fails: puts are refused, nothing acknowledged is lost, and it goes on when the disk does."""

from __future__ import annotations

import errno
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, get_args

import pytest

from streamkit.model.errors import StorageUnavailable
from streamkit.model.limits import MIB
from streamkit.model.names import StreamId
from streamkit.shards.disk import DiskLogStore
from streamkit.shards.log import DiskLog, LogSettings
from streamkit.shards.store import Rows, Shard
from streamkit.testing.clock import VirtualClock, run
from streamkit.testing.files import Operation, SimulatedFiles
from streamkit.testing.runner import InlineRunner

DATA: Final = Path("/data")
STREAM: Final = StreamId("a" * 32)
SHARD: Final = Shard(0, 1_600_000_000)
SETTINGS: Final = LogSettings(
    segment_bytes_max=1500
)  # a few rounds: every test also meets the roll to the next segment
ROUNDS_COUNT: Final = 12
OPERATIONS: Final[tuple[Operation, ...]] = get_args(Operation)


class Producer:
    """Puts numbered records one after the other, and remembers what was acknowledged, and at which offset."""

    def __init__(self) -> None:
        self.acknowledged: dict[int, bytes] = {}
        self.refused_count = 0
        self._number = 0

    async def put(self, log: DiskLog) -> bool:
        self._number += 1
        values = [b"%d/%d/" % (self._number, each) + bytes(100) for each in range(3)]
        append = log.append([Rows(SHARD, [b"key"] * 3, values)])
        try:
            await append.wait()
        except StorageUnavailable:
            self.refused_count += 1
            return False
        first = append.placed(0).first_offset
        assert first not in self.acknowledged
        self.acknowledged.update(enumerate(values, first))
        return True


async def read_all(log: DiskLog) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    offset = log.bounds(SHARD.index).first_offset
    while batches := await log.read(SHARD.index, offset, records_max=5, bytes_max=MIB):
        for batch in batches:
            assert batch.first_offset == offset
            found.update(enumerate(map(bytes, batch.values()), offset))
            offset = batch.next_offset
    return found


def check(files: SimulatedFiles, disturb: Callable[[int], None], repair: Callable[[], None], *, crashes: bool) -> int:
    """Puts a dozen rounds; `disturb` is called before each, `repair` after the first refusal. Returns refusals."""
    producer = Producer()

    async def main(clock: VirtualClock, rng: random.Random) -> None:
        store = DiskLogStore(DATA, clock=clock, files=files, runner=InlineRunner(), settings=SETTINGS)
        log = await store.open(STREAM)
        for number in range(ROUNDS_COUNT):
            disturb(number)
            if not await producer.put(log):
                assert await read_all(log) == producer.acknowledged
                repair()
                assert await producer.put(log), "refused although the disk works again"
            assert await read_all(log) == producer.acknowledged
        if crashes:
            files.crash()
        else:
            await store.close()
        files.heal()
        store = DiskLogStore(DATA, clock=clock, files=files, runner=InlineRunner(), settings=SETTINGS)
        log = await store.open(STREAM)
        assert await read_all(log) == producer.acknowledged
        assert await producer.put(log)
        assert await read_all(log) == producer.acknowledged

    run(main, seed=0)
    return producer.refused_count


@pytest.mark.parametrize("crashes", [False, True], ids=["closed", "crashed"])
def test_a_disk_that_fills_up_at_any_byte_refuses_puts_and_loses_nothing(crashes: bool) -> None:
    def nothing(number: int) -> None: ...

    healthy = SimulatedFiles()
    check(healthy, nothing, healthy.heal, crashes=crashes)
    refusals = 0
    for room_bytes in range(0, healthy.written_bytes, 13):
        files = SimulatedFiles(seed=room_bytes)
        files.fill_up(room_bytes)
        refusals += check(files, nothing, files.heal, crashes=crashes)
    assert refusals > healthy.written_bytes // 13 * 0.8


@pytest.mark.parametrize("crashes", [False, True], ids=["closed", "crashed"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_any_operation_may_fail_once_at_any_time(operation: Operation, crashes: bool) -> None:
    for failing in range(ROUNDS_COUNT):
        for error in (errno.EIO, errno.ENOSPC):
            files = SimulatedFiles(seed=failing)

            def disturb(number: int, files: SimulatedFiles = files, failing: int = failing, error: int = error) -> None:
                if number == failing:
                    files.fail_next(operation, error)

            check(files, disturb, lambda: None, crashes=crashes)


def test_a_sync_that_fails_while_a_failure_is_taken_back_refuses_once_more() -> None:
    files = SimulatedFiles()
    producer = Producer()

    async def main(clock: VirtualClock, rng: random.Random) -> None:
        store = DiskLogStore(DATA, clock=clock, files=files, runner=InlineRunner(), settings=SETTINGS)
        log = await store.open(STREAM)
        assert await producer.put(log)
        for _ in range(3):
            files.fail_next("sync")
        assert [await producer.put(log) for _ in range(4)] == [False, False, False, True]
        assert await read_all(log) == producer.acknowledged

    run(main, seed=0)


def test_puts_that_share_a_failed_round_are_all_refused_and_leave_no_gap() -> None:
    files = SimulatedFiles()

    async def main(clock: VirtualClock, rng: random.Random) -> None:
        store = DiskLogStore(DATA, clock=clock, files=files, runner=InlineRunner(), settings=SETTINGS)
        log = await store.open(STREAM)
        files.fill_up(0)
        refused = [log.append([Rows(SHARD, [b"k"], [b"refused"])]) for _ in range(5)]
        for append in refused:
            with pytest.raises(StorageUnavailable):
                await append.wait()
        files.heal()
        append = log.append([Rows(SHARD, [b"k"], [b"kept"])])
        await append.wait()
        assert append.placed(0).first_offset == 0
        assert await read_all(log) == {0: b"kept"}

    run(main, seed=0)


def test_what_was_read_after_a_kill_survives_a_loss_of_power() -> None:
    """A round that was written in part and refused may be found by the next start; then it must stay."""

    async def main(clock: VirtualClock, rng: random.Random) -> None:
        files, producer = SimulatedFiles(rng.randrange(1000)), Producer()
        runner = InlineRunner()
        log = await DiskLogStore(DATA, clock=clock, files=files, runner=runner).open(STREAM)
        assert await producer.put(log)
        files.fill_up(400)  # room for one of two frames
        with pytest.raises(StorageUnavailable):
            await log.append([Rows(SHARD, [b"k"], [b"found"]), Rows(Shard(1, 0), [b"k"], [bytes(1000)])]).wait()
        runner.close()
        files.heal()
        for _ in range(2):
            log = await DiskLogStore(DATA, clock=clock, files=files, runner=InlineRunner()).open(STREAM)
            assert await read_all(log) == producer.acknowledged | {3: b"found"}
            files.crash()

    for seed in range(20):
        run(main, seed=seed)


def test_a_stream_whose_directory_cannot_be_made_works_once_it_can() -> None:
    files = SimulatedFiles()
    refused = check(
        files, lambda number: None if number else files.fail_next("make_directory"), lambda: None, crashes=True
    )
    assert refused == 1


def test_closing_on_a_full_disk_loses_nothing() -> None:
    files = SimulatedFiles()
    producer = Producer()

    async def main(clock: VirtualClock, rng: random.Random) -> None:
        store = DiskLogStore(DATA, clock=clock, files=files, runner=InlineRunner(), settings=SETTINGS)
        log = await store.open(STREAM)
        assert await producer.put(log)
        files.fill_up(0)
        await store.close()
        reopened = DiskLogStore(DATA, clock=clock, files=files, runner=InlineRunner(), settings=SETTINGS)
        assert await read_all(await reopened.open(STREAM)) == producer.acknowledged

    run(main, seed=0)


def test_a_segment_that_cannot_be_removed_is_trimmed_later() -> None:
    files = SimulatedFiles()
    producer = Producer()

    async def main(clock: VirtualClock, rng: random.Random) -> None:
        store = DiskLogStore(DATA, clock=clock, files=files, runner=InlineRunner(), settings=SETTINGS)
        log = await store.open(STREAM)
        for _ in range(ROUNDS_COUNT):
            assert await producer.put(log)
        await clock.sleep(1000)
        files.fail_next("remove")
        with pytest.raises(StorageUnavailable):
            await log.trim(clock.now_ms())
        assert await read_all(log) == producer.acknowledged
        await log.trim(clock.now_ms())
        assert log.bounds(SHARD.index).first_offset > 0

    run(main, seed=0)


_REAL: Final = """
import asyncio, resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_disk_full import STREAM, Producer, read_all
from streamkit.clock import SystemClock
from streamkit.shards.disk import DiskLogStore

async def main() -> None:
    store = DiskLogStore(Path(sys.argv[1]), clock=SystemClock())
    log, producer = await store.open(STREAM), Producer()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (10_001, 20_003, 30_005):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        while await producer.put(log): pass
        assert not await producer.put(log)
        assert await read_all(log) == producer.acknowledged
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        assert await producer.put(log)
        assert await read_all(log) == producer.acknowledged
    await store.close()
    log = await DiskLogStore(Path(sys.argv[1]), clock=SystemClock()).open(STREAM)
    assert await read_all(log) == producer.acknowledged
    print("refused", producer.refused_count)

asyncio.run(main())
"""


def test_a_real_file_that_may_not_grow_refuses_puts_and_loses_nothing(tmp_path: Path) -> None:
    """RLIMIT_FSIZE: the kernel writes what fits and refuses the rest, as on a full disk."""
    command = [sys.executable, "-c", _REAL, str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("refused 6\n", 0), done.stderr
