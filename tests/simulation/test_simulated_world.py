"""The simulation itself: time that jumps, and a disk that loses only what it may."""

from __future__ import annotations

import asyncio
import errno
import random
import time
from pathlib import Path

import pytest

from streamkit.model.limits import HOUR_MS
from streamkit.testing.clock import START_MS, Deadlock, VirtualClock, run
from streamkit.testing.files import PAGE_BYTES, SimulatedFiles
from streamkit.testing.runner import InlineRunner

DATA = Path("/data")


def test_a_day_of_sleeping_takes_no_time() -> None:
    async def main(clock: VirtualClock, rng: random.Random) -> int:
        for _ in range(24 * 60):
            await clock.sleep(60_000)
        return clock.now_ms()

    started_s = time.monotonic()
    assert run(main, seed=0) == START_MS + 24 * HOUR_MS
    assert time.monotonic() - started_s < 5


def test_sleepers_wake_in_the_order_of_their_times() -> None:
    async def main(clock: VirtualClock, rng: random.Random) -> list[int]:
        woken: list[int] = []
        clock.call_later(250, lambda: woken.append(250))
        cancelled = clock.call_later(10, lambda: woken.append(10))
        cancelled.cancel()

        async def sleep(delay_ms: int) -> None:
            await clock.sleep(delay_ms)
            assert clock.now_ms() == START_MS + delay_ms
            woken.append(delay_ms)

        await asyncio.gather(*(sleep(each) for each in (300, 100, 200)))
        return woken

    assert run(main, seed=0) == [100, 200, 250, 300]


def test_a_program_that_nothing_can_wake_is_reported() -> None:
    async def main(clock: VirtualClock, rng: random.Random) -> None:
        await clock.sleep(1000)
        await asyncio.Event().wait()

    with pytest.raises(Deadlock):
        run(main, seed=0)


def test_the_clock_can_be_set_and_timers_do_not_notice() -> None:
    async def main(clock: VirtualClock, rng: random.Random) -> list[int]:
        seen = [clock.now_ms() - START_MS]
        for by_ms in (-5000, 2 * HOUR_MS):
            clock.step(by_ms)
            await clock.sleep(10)
            seen.append(clock.now_ms() - START_MS)
        return seen

    assert run(main, seed=0) == [0, -4990, 2 * HOUR_MS - 4980]


def test_what_was_synced_survives_a_crash_and_the_rest_may_not() -> None:
    outcomes = set()
    for seed in range(300):
        files = SimulatedFiles(seed)
        files.make_directory(DATA)
        file = files.append(DATA / "f")
        synced, unsynced = b"s" * (PAGE_BYTES + 10), b"u" * 3 * PAGE_BYTES
        file.write([synced])
        file.sync()
        file.write([unsynced])
        files.crash()
        left = bytes(files.map(DATA / "f"))
        assert left.startswith(synced)
        assert len(left) <= len(synced) + len(unsynced)
        assert set(left[len(synced) :]) <= set(b"u\0")
        outcomes.add(left)
        with pytest.raises(OSError, match="Bad file descriptor"):
            file.write([b"x"])
    assert synced in outcomes
    assert synced + unsynced in outcomes
    assert len(outcomes) > 10


def test_a_crash_may_bring_back_what_was_removed_last_but_not_before() -> None:
    outcomes = set()
    for seed in range(50):
        files = SimulatedFiles(seed)
        for number in range(3):
            files.put(DATA / str(number), b"x")
        for number in range(3):
            files.remove(DATA / str(number))
        files.crash()
        outcomes.add(tuple(files.names(DATA)))
    assert outcomes == {(), ("2",), ("1", "2"), ("0", "1", "2")}


def test_a_full_disk_takes_what_fits() -> None:
    files = SimulatedFiles()
    files.make_directory(DATA)
    file = files.append(DATA / "f")
    files.fill_up(5)
    with pytest.raises(OSError, match="No space left") as refused:
        file.write([b"1234", b"5678"])
    assert refused.value.errno == errno.ENOSPC
    assert bytes(files.map(DATA / "f")) == b"12345"
    files.heal()
    file.write([b"!"])
    assert file.read(0, 100) == b"12345!"


def test_a_failed_sync_says_so_once_and_loses_the_pages() -> None:
    files = SimulatedFiles()
    files.make_directory(DATA)
    file = files.append(DATA / "f")
    file.write([b"kept"])
    file.sync()
    file.write([b"lost"])
    files.fail_next("sync")
    with pytest.raises(OSError, match="Input/output error"):
        file.sync()
    file.sync()
    files.crash()
    assert bytes(files.map(DATA / "f")).startswith(b"kept")
    assert b"lost" not in bytes(files.map(DATA / "f"))


class NamedJob:
    """Says that it was written."""

    is_long = True
    needs_sync = True

    def __init__(self, name: str, ran: list[str]) -> None:
        self.name = name
        self.ran = ran

    def write(self) -> None:
        self.ran.append(self.name)

    def sync(self) -> None:
        pass

    def descriptor(self) -> int | None:
        return None

    def synced(self) -> None:
        pass


def test_jobs_of_a_closed_runner_never_run() -> None:
    async def main(clock: VirtualClock, rng: random.Random) -> list[str]:
        ran: list[str] = []
        first, second = InlineRunner(rng, delay_ms_max=100), InlineRunner(rng, delay_ms_max=100)
        for name, runner in (("first", first), ("second", second)):
            runner.run(NamedJob(name, ran), lambda error: ran.append("done"))
        first.close()
        await clock.sleep(1000)
        return ran

    assert run(main, seed=0) == ["second", "done"]
