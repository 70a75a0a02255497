"""Deliveries in virtual time: whatever fails and wherever the process dies, each record is in one object."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pytest

from streamkit.control import ControlFile
from streamkit.delivery.ledger import Ledger
from streamkit.delivery.plan import Buffering
from streamkit.delivery.store import DeliveryStore
from streamkit.delivery.text import TextEncoder
from streamkit.model.limits import DELIVERY_CHUNK_WAIT_MS
from streamkit.testing.clock import VirtualClock, run
from tests.simulation.delivery_world import (
    DELIVERY_ID,
    HEALED,
    Chances,
    Kind,
    Life,
    PlayedStore,
    Settings,
    World,
    start,
)

SECOND_MS: Final = 1_000
HOUR_MS: Final = 3_600_000
STORIES: Final = 4  # for each of `--kill-rounds`
KINDS: Final[tuple[Kind, ...]] = ("objects", "objects", "table", "records")


@contextmanager
def small_limits(rng: random.Random) -> Iterator[None]:
    """Destinations that have no room left: within a story, not within days."""
    with pytest.MonkeyPatch.context() as patch:
        if rng.random() < 0.5:
            patch.setattr("streamkit.delivery.deliverer.DELIVERY_STAGED_OBJECTS_MAX", rng.choice([1, 3, 10]))
        if rng.random() < 0.3:
            patch.setattr("streamkit.delivery.line.DELIVERY_CHUNK_RECORDS_MAX", rng.choice([1, 7, 100]))
        if rng.random() < 0.3:
            patch.setattr("streamkit.delivery.buffers.DELIVERY_BATCHES_MAX", 2)
        yield


def _some_settings(rng: random.Random, kind: Kind, *, has_backup: bool, gives_up: bool) -> Settings:
    return Settings(
        Buffering(rng.choice([500, 3_000, 20_000]), rng.choice([0, 200, 2_000, 20_000])),
        is_partitioned=rng.random() < 0.5,
        has_backup=has_backup,
        retry_ms=rng.choice([0, 300, 3_000]) if gives_up else None,
        poison_every=rng.choice([0, 0, 37]),
        held_bytes_max=rng.choice([None, 200, 1_000, 5_000]),
    )


async def _story(clock: VirtualClock, rng: random.Random, folder: Path) -> World:
    """Some lives of a delivery stream, and a peaceful end."""
    kind = rng.choice(KINDS)
    gives_up, has_backup = rng.random() < 0.3, rng.choice([True, False, None])
    seed = rng.getrandbits(32)

    def settings(version: int) -> Settings:
        own = random.Random(seed + version)
        backup = own.random() < 0.5 if has_backup is None else has_backup
        return _some_settings(own, kind, has_backup=backup, gives_up=gives_up)

    world = World(folder, clock, rng, shards=rng.randrange(1, 4), kind=kind)
    # What is given up after its answer was lost is there and in the error output, if names are not known beforehand.
    may_lose_answers = not gives_up or kind == "records"
    usual = Chances(
        store_refuses=rng.choice([0.0, 0.05]) if may_lose_answers and kind == "records" else 0.0,
        answer_lost=0.1 if may_lose_answers else 0.0,
        source_away=rng.choice([0.0, 0.02]),
    )
    version = 1
    with small_limits(rng):
        for _ in range(rng.randrange(1, 6)):
            world.chances = usual
            if not world.is_there and rng.random() < 0.7:
                world.make_source()
            life = await start(world, settings, version)
            for _ in range(rng.randrange(1, 8)):
                await _happens(world, rng, usual)
                if rng.random() < 0.15:
                    await life.change(rng.choice([0, 500, 10_000]))
                    version += 1
                    life = await start(world, settings, version)
            ends = rng.random()
            if ends < 0.2:
                await life.close(rng.choice([100, 5_000]))
            elif ends < 0.7:
                await life.crash()
            else:
                await life.change(0)
                version += 1
        life = await start(world, settings, version)
        if rng.random() < 0.5:  # what heals late has to be noticed without a new start
            for _ in range(rng.randrange(3)):
                await _happens(world, rng, usual)
        world.heal()
        await clock.sleep(rng.randrange(40_000))
        async with asyncio.timeout(HOUR_MS / 1000):
            assert await life.worker.flush()
        world.check(has_backup=has_backup)
        assert all(identity % 37 == 1 for identity in world.blamed()), "records were blamed that are not the reason"
        assert not life.ledger.progress.sealed
        assert not life.ledger.progress.buffers
        await life.close()
        await Life(world, settings(version), version=version).close()  # removes what the disk refused to
    for kept in ("staged", "spool"):
        assert not list((folder / "stage" / kept).iterdir()), f"{kept} is not empty"
    return world


async def _happens(world: World, rng: random.Random, usual: Chances) -> None:
    if world.is_there:
        world.put(rng.randrange(60))
        if rng.random() < 0.1:
            world.split()
        if rng.random() < 0.05:
            world.delete_source()
    elif rng.random() < 0.5:
        world.make_source()
    if rng.random() < 0.15:
        world.chances = Chances(**{**_fields(usual), "disk_fails": rng.choice([0.3, 1.0])})
    elif rng.random() < 0.1:
        world.chances = Chances(**{**_fields(usual), "store_fails": 1.0})
    else:
        world.chances = usual
    await world.clock.sleep(rng.randrange(3_000))


def _fields(chances: Chances) -> dict[str, Any]:
    return {name: getattr(chances, name) for name in Chances.__dataclass_fields__}


@pytest.mark.parametrize("seed", range(STORIES))
def test_every_record_is_in_exactly_one_object(tmp_path: Path, seed: int, request: pytest.FixtureRequest) -> None:
    """Destinations that fail and forget to answer, functions that change their mind, full disks, changes of the
    destination, streams that are deleted and made again, crashes anywhere. `--kill-rounds` says for how many."""
    rounds: int = request.config.getoption("--kill-rounds")
    for number in range(seed, seed + STORIES * rounds, STORIES):
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            run(lambda clock, rng, folder=folder: _story(clock, rng, folder), seed=number)  # type: ignore[misc]
        except BaseException as error:
            error.add_note(f"seed {number}")
            raise


def test_the_same_seed_tells_the_same_story(tmp_path: Path) -> None:
    """So that a failure can be looked at."""
    tellings = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        world = run(lambda clock, rng, folder=folder: _story(clock, rng, folder), seed=7)  # type: ignore[misc]
        tellings.append((world.objects, world.table, world.taken))
    assert tellings[0] == tellings[1]


# -- one thing at a time -----------------------------------------------------------------------------------------------

SMALL: Final = Settings(Buffering(1_000, 10 * SECOND_MS))
Scene = Callable[[World, VirtualClock], Awaitable[None]]


def played(folder: Path, scene: Scene, *, kind: Kind = "objects", shards: int = 1) -> World:
    """A scene in a world where nothing fails unless it says so."""

    async def story(clock: VirtualClock, rng: random.Random) -> World:
        world = World(folder, clock, rng, kind=kind, shards=shards)
        world.chances = HEALED
        await scene(world, clock)
        return world

    return run(story, seed=1)


def test_who_has_nothing_to_do_does_nothing(tmp_path: Path) -> None:
    """No timer, no turn: a server may have thousands of delivery streams that wait."""

    async def scene(world: World, clock: VirtualClock) -> None:
        life = await start(world, lambda _: SMALL, 1)
        world.put(20)
        assert await life.worker.flush()
        before = world.turns
        await clock.sleep(24 * HOUR_MS)
        assert world.turns - before <= 2
        await life.close()

    played(tmp_path, scene).check()


@pytest.mark.parametrize("interval_ms", [10 * SECOND_MS, 300 * SECOND_MS])
def test_a_record_a_second_makes_an_object_an_interval(tmp_path: Path, interval_ms: int) -> None:
    """Or a little more: those that wait to be processed when a buffer is sealed open the next. And a few turns each."""
    seconds = 1_200

    async def scene(world: World, clock: VirtualClock) -> None:
        life = await start(world, lambda _: Settings(Buffering(10**6, interval_ms)), 1)
        for _ in range(seconds):
            world.put(1)
            await clock.sleep(SECOND_MS)
        await life.close()

    world = played(tmp_path, scene)
    world.check()
    count = len(world.objects)
    assert seconds * 1_000 / interval_ms - 1 <= count <= seconds * 1_000 / (interval_ms - DELIVERY_CHUNK_WAIT_MS) + 1
    assert world.turns < seconds * 8


def test_a_destination_that_is_away_for_long_stops_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits on the disk and in memory is bounded, and nobody turns round and round; afterwards all of it goes."""
    monkeypatch.setattr("streamkit.delivery.deliverer.DELIVERY_STAGED_OBJECTS_MAX", 5)

    async def scene(world: World, clock: VirtualClock) -> None:
        world.chances = replace(HEALED, store_fails=1.0)
        settings = replace(SMALL, held_bytes_max=3_000, is_partitioned=True)
        life = await start(world, lambda _: settings, 1)
        for _ in range(60):
            world.put(100)
            await clock.sleep(SECOND_MS)
        read, turns = dict(life.worker._read_to), world.turns
        await clock.sleep(24 * HOUR_MS)
        assert life.worker._read_to == read
        assert read[0] < 1_000
        assert world.turns == turns
        # What was ripe when there was room is let through: a buffer for each partition, and the error documents.
        staged = list((tmp_path / "stage" / "staged").iterdir())
        assert len(staged) <= 5 + 7
        assert sum(path.stat().st_size for path in (tmp_path / "stage").rglob("*") if path.is_file()) < 100_000
        world.heal()
        await clock.sleep(HOUR_MS)
        world.check()
        assert not life.worker.staged_bytes
        await life.close()

    played(tmp_path, scene).check()


def test_what_can_go_goes_although_the_next_cannot_be_processed(tmp_path: Path) -> None:
    """A table that is not there for hours holds up what comes then, not what came before."""

    async def scene(world: World, clock: VirtualClock) -> None:
        life = await start(world, lambda _: SMALL, 1)
        world.put(3)
        await clock.sleep(3 * SECOND_MS)
        world.chances = replace(HEALED, line_fails=1.0)
        world.put(3)
        await clock.sleep(10 * SECOND_MS)
        assert set(world.found()) == {0, 1, 2}
        turns = world.turns
        await clock.sleep(HOUR_MS)
        assert world.turns - turns <= 2
        world.heal()
        await clock.sleep(60 * SECOND_MS)
        assert set(world.found()) == {0, 1, 2, 3, 4, 5}
        await life.close()

    played(tmp_path, scene).check()


def test_what_was_read_is_delivered_although_its_stream_is_gone(tmp_path: Path) -> None:
    """On time, also by a worker that never saw the stream; and nobody who flushes or stops waits for the stream."""

    async def scene(world: World, clock: VirtualClock) -> None:
        settings = replace(SMALL, held_bytes_max=1)
        life = await start(world, lambda _: settings, 1)
        world.put(3)
        await clock.sleep(3 * SECOND_MS)
        world.delete_source()
        await life.crash()
        assert not world.gone
        life = await start(world, lambda _: settings, 1)
        await clock.sleep(11 * SECOND_MS)
        assert set(world.found()) == {0, 1, 2}
        async with asyncio.timeout(1):
            assert await life.worker.flush()
            await life.close()

    played(tmp_path, scene).check()


def test_a_stream_that_was_made_anew_is_read_from_its_first_record(tmp_path: Path) -> None:
    """By a worker that had nothing to do, and although the offsets were reached before."""

    async def scene(world: World, clock: VirtualClock) -> None:
        life = await start(world, lambda _: SMALL, 1)
        world.put(30)
        await clock.sleep(60 * SECOND_MS)
        world.delete_source()
        await clock.sleep(HOUR_MS)
        world.make_source()
        world.put(10)
        await clock.sleep(20 * SECOND_MS)
        assert set(world.found()) == set(range(40))
        await life.close()

    played(tmp_path, scene).check()


def test_a_stream_that_is_another_one_within_the_same_instant_is_noticed(tmp_path: Path) -> None:
    """Without a moment in which it was not there."""

    async def scene(world: World, clock: VirtualClock) -> None:
        life = await start(world, lambda _: SMALL, 1)
        world.put(30)
        await clock.sleep(60 * SECOND_MS)
        world.delete_source()
        world.make_source()
        world.put(40)
        await clock.sleep(20 * SECOND_MS)
        assert set(world.found()) == set(range(70))
        await life.close()

    played(tmp_path, scene).check()


@pytest.mark.parametrize("hangs", ["destination", "line", "disk"])
@pytest.mark.parametrize("finish_ms", [0, 5_000])
def test_an_end_comes_whatever_hangs(tmp_path: Path, hangs: str, finish_ms: int) -> None:
    """Of a server, of a version, of a delivery stream; who waits for a flush is told that there was none."""

    async def scene(world: World, clock: VirtualClock) -> None:
        life = await start(world, lambda _: SMALL, 1)
        world.put(50)
        broken = {
            "destination": replace(HEALED, latency_ms_max=10**9),
            "line": replace(HEALED, work_ms_max=10**9),
            "disk": replace(HEALED, disk_fails=1.0),
        }
        world.chances = broken[hangs]
        flush = asyncio.ensure_future(life.worker.flush())
        await clock.sleep(3 * SECOND_MS)
        began_ms = clock.now_ms()
        await life.close(finish_ms)
        assert clock.now_ms() - began_ms <= finish_ms + 10
        assert not await flush
        assert not await life.worker.flush()
        world.heal()
        life = await start(world, lambda _: SMALL, 1)
        assert await life.worker.flush()
        await life.close()

    played(tmp_path, scene).check()


def test_a_destination_that_does_not_close_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread may hang in a call that knows no time limit."""

    async def never(self: PlayedStore) -> None:
        await asyncio.sleep(10**9)

    monkeypatch.setattr(PlayedStore, "close", never)

    async def scene(world: World, clock: VirtualClock) -> None:
        life = await start(world, lambda _: SMALL, 1)
        world.put(50)
        await life.worker.flush()
        began_ms = clock.now_ms()
        await life.crash()
        assert clock.now_ms() - began_ms <= 6 * SECOND_MS

    played(tmp_path, scene).check()


def test_a_flush_ends_although_more_keeps_coming(tmp_path: Path) -> None:
    """It waits for what was there when it was asked for."""

    async def scene(world: World, clock: VirtualClock) -> None:
        world.chances = replace(HEALED, latency_ms_max=2_000)
        life = await start(world, lambda _: Settings(Buffering(300, 0)), 1)

        async def producer() -> None:
            while True:
                world.put(3)
                await clock.sleep(100)

        putting = asyncio.ensure_future(producer())
        await clock.sleep(5 * SECOND_MS)
        count = world.put_count
        async with asyncio.timeout(30):
            assert await life.worker.flush()
        assert set(range(count)) <= world.found().keys()
        assert world.found().keys() != set(range(world.put_count))
        putting.cancel()
        await life.close()

    played(tmp_path, scene).check()


def test_what_cannot_be_encoded_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For whatever reason an encoder gives: it is asked again, and everything behind waits."""
    write, tries = TextEncoder.write, 0

    def refuse(self: TextEncoder, pieces: Any, path: Path) -> Any:
        nonlocal tries
        tries += 1
        if tries < 6:
            raise [KeyError("x"), ValueError("y"), AssertionError("z"), pa.ArrowInvalid("a"), MemoryError()][tries - 1]
        return write(self, pieces, path)

    monkeypatch.setattr(TextEncoder, "write", refuse)

    async def scene(world: World, clock: VirtualClock) -> None:
        life = await start(world, lambda _: SMALL, 1)
        world.put(5)
        assert await life.worker.flush()
        world.check()
        assert tries == 6
        await life.close()

    played(tmp_path, scene).check()


def test_a_clock_that_is_set_back_delays_by_an_interval_at_most(tmp_path: Path) -> None:
    """Of records that wait for a chunk, and of buffers that wait to be ripe."""

    async def scene(world: World, clock: VirtualClock) -> None:
        life = await start(world, lambda _: SMALL, 1)
        for _ in range(5):
            world.put(1)
            await clock.sleep(SECOND_MS + SECOND_MS // 2)
            world.put(1)
            await clock.sleep(100)
            clock.step(-HOUR_MS)
            await clock.sleep(25 * SECOND_MS)
            assert set(world.found()) == set(range(world.put_count))
        await life.close()

    played(tmp_path, scene).check()


def test_ending_one_delivery_stream_ends_no_other_that_saves_at_the_same_moment(tmp_path: Path) -> None:
    """They share a transaction; who is cut off while it waits for that must not take it from the others."""

    async def scene(world: World, clock: VirtualClock) -> None:
        control = ControlFile(tmp_path / "control.sqlite")
        store = DeliveryStore(control)
        ledgers = [Ledger(store, DELIVERY_ID) for _ in range(2)]
        one, other = (asyncio.ensure_future(_waited(each.came_to("1", {0: 1}, [], [], None, []))) for each in ledgers)
        await asyncio.sleep(0)
        one.cancel()
        await other
        await ledgers[0].settled()
        control.close()

    played(tmp_path, scene)


async def _waited(saved: asyncio.Future[None]) -> None:
    await saved


def test_records_without_bytes_do_not_pile_up(tmp_path: Path) -> None:
    """A chunk is whole by its records, too."""

    async def scene(world: World, clock: VirtualClock) -> None:
        world.text_bytes_max = 1
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("streamkit.delivery.line.DELIVERY_CHUNK_RECORDS_MAX", 10)
            life = await start(world, lambda _: Settings(Buffering(10**6, HOUR_MS)), 1)
            world.put(200)
            await clock.sleep(500)
            chunks = life.worker._buffers
            assert next(iter(chunks)).records_count >= 190
            await life.close()

    played(tmp_path, scene).check()
