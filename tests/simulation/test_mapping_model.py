"""Event source mappings in whole stories: whatever fails, and whenever the process ends, no record is lost."""

from __future__ import annotations

import random
from typing import Any

import pytest

from streamkit.model.errors import StreamkitError
from streamkit.testing.clock import VirtualClock, run
from tests.simulation.mapping_world import DESTINATION, FILTER, Chances, World

STORIES_PER_ROUND = 15  # of each kind


def draw_settings(rng: random.Random) -> dict[str, Any]:
    tumbling_s = rng.choice((0, 0, 0, 2, 5))
    return {
        "StartingPosition": rng.choice(("TRIM_HORIZON", "LATEST")),
        "BatchSize": rng.choice((1, 2, 3, 5, 10, 100)),
        "MaximumBatchingWindowInSeconds": rng.choice((0, 0, 1, 3)),
        "ParallelizationFactor": 1 if tumbling_s else rng.choice((1, 1, 2, 4)),
        "MaximumRetryAttempts": rng.choice((-1, 0, 1, 2, 4)),
        "BisectBatchOnFunctionError": rng.random() < 0.5,
        "MaximumRecordAgeInSeconds": rng.choice((-1, -1, 60)),
        "TumblingWindowInSeconds": tumbling_s,
        "FunctionResponseTypes": ["ReportBatchItemFailures"] if rng.random() < 0.5 else [],
        "FilterCriteria": {"Filters": [{"Pattern": FILTER}] if rng.random() < 0.3 else []},
        "DestinationConfig": {"OnFailure": {"Destination": DESTINATION}} if rng.random() < 0.7 else {},
    }


def draw_update(rng: random.Random, has_window: bool) -> dict[str, Any]:
    updates: list[dict[str, Any]] = [
        {"BatchSize": rng.choice((1, 2, 7, 50))},
        {"BisectBatchOnFunctionError": rng.random() < 0.5},
        {"MaximumRetryAttempts": rng.choice((0, 1, 3))},
        {"MaximumBatchingWindowInSeconds": rng.choice((0, 1, 2))},
        {"ParallelizationFactor": 1 if has_window else rng.choice((1, 2, 3, 4))},
    ]
    return rng.choice(updates)


class Story:
    """What happens to a world, drawn from a seed."""

    def __init__(self, world: World, rng: random.Random, kinds: str) -> None:
        self.world = world
        self.rng = rng
        self.kinds = kinds
        self.given = draw_settings(rng)

    async def tell(self) -> None:
        world, rng = self.world, self.rng
        world.finals_fail = "u" not in self.kinds and self.given["MaximumRetryAttempts"] != 0
        await world.open()
        world.put(5)
        await world.map(self.given)
        for _ in range(rng.randint(8, 25)):
            await self._happen(rng.choice(self.kinds))
            world.raise_problems()
            await world.clock.sleep(rng.choice((0, 5, 40, 300, 1_000, 4_000)))
        await world.update({"Enabled": True})
        settings = world.ledger.current
        world.heal(cures_poison=settings.retries_max < 0 and settings.record_age_s_max < 0)
        await world.quiesce()
        await world.close()
        world.raise_problems()
        world.ledger.check_end(world.clock.now_ms())

    async def _happen(self, kind: str) -> None:
        world, rng = self.world, self.rng
        if kind == "p":
            world.put(rng.choice((1, 2, 4, 8, 40)))
        elif kind == "s":
            await self._reshard()
        elif kind == "u":
            await world.update(draw_update(rng, bool(self.given["TumblingWindowInSeconds"])))
        elif kind == "U":
            await world.begin_update(draw_update(rng, bool(self.given["TumblingWindowInSeconds"])))
        elif kind == "e":
            await world.update({"Enabled": not world.ledger.current.enabled})
        elif kind == "r":
            await world.close()
            await world.open()
        elif kind == "c":
            await world.crash(with_power=rng.random() < 0.5)
            await world.open()
        elif kind == "f":
            world.control.fails_next += 1

    async def _reshard(self) -> None:
        world, rng = self.world, self.rng
        open_shards = sorted(world.stream.state.open_shards, key=lambda shard: shard.hash_keys)
        try:
            if len(open_shards) > 1 and rng.random() < 0.4:
                at = rng.randrange(len(open_shards) - 1)
                world.note("merge", open_shards[at].index, open_shards[at + 1].index)
                await world.streams.merge(world.stream, open_shards[at].index, open_shards[at + 1].index)
            else:
                shard = rng.choice(open_shards)
                keys = shard.hash_keys
                world.note("split", shard.index)
                await world.streams.split(world.stream, shard.index, str((keys.first + keys.last) // 2))
        except StreamkitError as error:
            world.note("refused", error)


KINDS = {
    "a function that fails": "pppp",
    "resharding": "pppps",
    "crashes": "ppppcrs",
    "a control file that refuses": "pppppfs",
    "updates": "pppuUes",
    "everything": "pppppppscrufeU",
}


def tell(seed: int, kinds: str) -> World:
    worlds: list[World] = []

    async def main(clock: VirtualClock, rng: random.Random) -> None:
        chances = Chances(
            poison=rng.choice((0, 0.02, 0.2)),
            fails=rng.choice((0, 0.1, 0.4)),
            partial=rng.choice((0, 0.2)),
            throttled=rng.choice((0, 0.1)),
            too_large=rng.choice((0, 0.05)),
            latency_ms_max=rng.choice((0, 50, 800)),
            destination_fails=rng.choice((0, 0.4)),
            position_fails=rng.choice((0, 0.4)),
        )
        world = World(clock, rng.randrange(2**32), chances=chances, shards_count=rng.randint(1, 3))
        worlds.append(world)
        await Story(world, rng, kinds).tell()

    try:
        run(main, seed=seed)
    except BaseException:
        if worlds:
            print("\n".join(worlds[0].trace[-60:]))
        print(f"seed {seed}, {kinds}")
        raise
    finally:
        for world in worlds:
            world.end()
    return worlds[0]


@pytest.mark.parametrize("kinds", KINDS.values(), ids=KINDS.keys())
def test_every_record_ends_processed_or_in_one_failure_record_or_filtered(
    kinds: str, request: pytest.FixtureRequest
) -> None:
    """Order, checkpoints and attempts are watched all along; `--kill-rounds` says for how many stories."""
    rounds: int = request.config.getoption("--kill-rounds")
    for seed in range(STORIES_PER_ROUND * rounds):
        tell(seed, kinds)


def test_a_disk_that_refuses_everything_does_not_make_a_mapping_spin() -> None:
    """It tries again about once a second, and goes on when the disk is back."""

    async def main(clock: VirtualClock, rng: random.Random) -> None:
        world = World(clock, 1, chances=Chances(poison=0, fails=1, partial=0, throttled=0, too_large=0), shards_count=3)
        try:
            await world.open()
            await world.map({"StartingPosition": "LATEST", "MaximumRetryAttempts": -1})
            await clock.sleep(1_000)
            world.control.fails_next = 1_000_000
            await clock.sleep(20_000)
            assert 10 < len(world.ledger.accidents_ms) < 60
            world.control.fails_next = 0
            world.heal(cures_poison=True)
            await world.quiesce()
            await world.close()
        finally:
            world.end()

    run(main, seed=1)


def test_the_same_seed_gives_the_same_story() -> None:
    """A failure can be repeated."""
    kinds = KINDS["everything"]
    assert [tell(seed, kinds).trace for seed in (1, 2, 3)] == [tell(seed, kinds).trace for seed in (1, 2, 3)]
