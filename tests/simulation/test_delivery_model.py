"""Deliveries in virtual time: whatever fails and wherever the process dies, each record is in one object."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from streamkit.delivery.plan import Buffering
from streamkit.testing.clock import VirtualClock, run
from tests.simulation.delivery_world import Chances, Kind, Life, Settings, World, start

STORIES: Final = 8
ROUNDS_QUICK: Final = 4  # of --kill-rounds, whose default this is: a story for each
HEALED_MS: Final = 3_600_000
KINDS: Final[tuple[Kind, ...]] = ("objects", "objects", "table", "records")


@contextmanager
def small_limits(rng: random.Random) -> Iterator[None]:
    """Destinations that have no room left: within a story, not within days."""
    with pytest.MonkeyPatch.context() as patch:
        if rng.random() < 0.5:
            patch.setattr("streamkit.delivery.deliverer.DELIVERY_STAGED_OBJECTS_MAX", rng.choice([1, 3, 10]))
        if rng.random() < 0.3:
            patch.setattr("streamkit.delivery.worker.DELIVERY_CHUNK_RECORDS_MAX", rng.choice([1, 7, 100]))
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
        async with asyncio.timeout(HEALED_MS / 1000):
            assert await life.worker.flush()
        world.check(has_backup=has_backup)
        assert not life.ledger.progress.sealed
        assert not life.ledger.progress.buffers
        await life.close()
        await Life(
            world, settings(version), version=version
        ).close()  # a disk that refuses to remove files is asked again
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
