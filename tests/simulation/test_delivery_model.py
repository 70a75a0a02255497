"""Deliveries in virtual time: whatever fails and wherever the process dies, each record is in one object."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Final

import pytest

from streamkit.delivery.plan import Buffering
from streamkit.testing.clock import VirtualClock, run
from tests.simulation.delivery_world import Life, World

STORIES: Final = 6
HEALED_MS: Final = 3_600_000


async def _story(clock: VirtualClock, rng: random.Random, folder: Path) -> World:
    """Some lives of a delivery stream, and a peaceful end."""
    partitions = rng.random() < 0.5
    buffering = Buffering(rng.choice([500, 3_000, 20_000]), rng.choice([0, 200, 2_000, 20_000]))
    world = World(folder, clock, rng, shards=rng.randrange(1, 4))
    version = 1
    for _ in range(rng.randrange(1, 6)):
        life = Life(world, buffering, partitions=partitions, version=version)
        if life.ledger.progress.made_under is not None and life.ledger.progress.made_under.version != version:
            before = life.ledger.progress.made_under.version
            await life.crash()
            old = Life(world, buffering, partitions=partitions, version=before)
            await old.worker.settle()
            await old.crash()
            life = Life(world, buffering, partitions=partitions, version=version)
        life.worker.start()
        for _ in range(rng.randrange(1, 8)):
            world.put(rng.randrange(60))
            if rng.random() < 0.1:
                world.split()
            await clock.sleep(rng.randrange(3_000))
        if rng.random() < 0.2:
            await life.close()
        else:
            await life.crash()
        if rng.random() < 0.2:
            version += 1
    world.heal()
    life = Life(world, buffering, partitions=partitions, version=version)
    life.worker.start()
    async with asyncio.timeout(HEALED_MS / 1000):
        await life.worker.flush()
    world.check()
    assert not life.ledger.progress.sealed
    assert not life.ledger.progress.buffers
    await life.close()
    for kept in ("staged", "spool"):
        assert not list((folder / "stage" / kept).iterdir()), f"{kept} is not empty"
    return world


@pytest.mark.parametrize("seed", range(STORIES))
def test_every_record_is_in_exactly_one_object(tmp_path: Path, seed: int, request: pytest.FixtureRequest) -> None:
    """A store that fails and forgets to answer, functions that change their mind, crashes anywhere. `--kill-rounds` says for how many stories."""
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
        tellings.append(world.objects)
    assert tellings[0] == tellings[1]
