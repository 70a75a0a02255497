"""The event queue in virtual time, against handlers that fail, throttle and hang, and a server that is killed.

Whatever happens: an accepted event ends in success, or in exactly one failure record and one dead letter.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from streamkit.control import ControlFile
from streamkit.functions.destinations import Delivery, RecordDestinations
from streamkit.functions.outcomes import Outcome
from streamkit.functions.queue import AsyncSettings, EventQueue
from streamkit.model.errors import ServerUnreachable
from streamkit.model.limits import HOUR_MS
from streamkit.model.names import FunctionArn, Scope
from streamkit.testing.clock import VirtualClock, VirtualLoop

ARN = FunctionArn(Scope("000000000000", "us-east-1"), "f", None)
ON_SUCCESS = "arn:aws:test:::successes"
ON_FAILURE = "arn:aws:test:::failures"
DEAD_LETTERS = "arn:aws:test:::letters"
START_MS = 1_700_000_000_000


class Place:
    """A destination outside of the server: it outlives crashes, and loses answers to what it has taken."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.documents: list[Delivery] = []

    async def position(self) -> str | None:
        await self.world.pause(50)
        return str(len(self.documents))

    async def deliver(self, delivery: Delivery, *, since: str | None = None, may_be_there: bool = False) -> None:
        await self.world.pause(50)
        if self.world.rng.random() < self.world.unreachable:
            raise ServerUnreachable("not today")
        found = self.documents[int(since or 0) :]
        if not may_be_there or all(each.id != delivery.id for each in found):
            self.documents.append(delivery)
        await self.world.pause(50)
        if self.world.rng.random() < self.world.unreachable:
            raise ServerUnreachable("the answer was lost")


@dataclass
class World:
    """What is outside of the server, and what happened. One life of the server is one event loop."""

    path: Path
    rng: random.Random
    settings: AsyncSettings | None = AsyncSettings(  # noqa: RUF009 - frozen
        on_success_arn=ON_SUCCESS, on_failure_arn=ON_FAILURE, dead_letter_arn=DEAD_LETTERS
    )
    failing: float = 0.4
    throttling: float = 0.1
    unreachable: float = 0.0
    now_ms: int = START_MS
    accepted: dict[str, bytes] = field(default_factory=dict)
    invocations: Counter[str] = field(default_factory=Counter)  # those that ran the function
    times: dict[str, list[int]] = field(default_factory=dict)
    succeeded: set[str] = field(default_factory=set)
    cut_short: Counter[str] = field(default_factory=Counter)
    under_way: set[str] = field(default_factory=set)
    places: dict[str, Place] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.places = {arn: Place(self) for arn in (ON_SUCCESS, ON_FAILURE, DEAD_LETTERS)}
        self.ids = random.Random(self.rng.getrandbits(32))

    async def pause(self, ms_max: int) -> None:
        await asyncio.sleep(self.rng.random() * ms_max / 1000)

    async def invoke(
        self,
        arn: FunctionArn,
        payload: bytes,
        request_id: str,
        attempt: int,
        /,
        *,
        trace_header: str,
        client_context: str | None,
    ) -> Outcome:
        assert payload == self.accepted.get(request_id, payload)
        assert request_id not in self.under_way, "an event is tried once at a time"
        draw = self.rng.random()
        if draw < self.throttling:
            await self.pause(5)
            return Outcome("throttled")
        if draw < 2 * self.throttling:
            raise OSError("the environment could not be made")
        self.times.setdefault(request_id, []).append(self.clock.now_ms())
        self.under_way.add(request_id)
        try:
            await self.pause(3_000)
        except asyncio.CancelledError:
            self.cut_short[request_id] += 1
            raise
        finally:
            self.under_way.discard(request_id)
        self.invocations[request_id] += 1
        if self.rng.random() < self.failing:
            return Outcome("failed", b'{"errorMessage": "no", "errorType": "E"}', "7", "E")
        self.succeeded.add(request_id)
        return Outcome("succeeded", b'{"done": true}', "7")

    def life(self, main: Callable[[EventQueue], Coroutine[Any, Any, None]], *, killed: bool = False) -> None:
        """Starts a server on the data, runs `main`, and stops the server; or kills it, with what it had not stored."""
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            loop = runner.get_loop()
            assert isinstance(loop, VirtualLoop)
            clock = self.clock = VirtualClock(loop, self.now_ms)
            file = ControlFile(self.path)
            file.db.execute("pragma synchronous = off")  # what is killed here is a process, not the machine
            destinations = RecordDestinations({"test": lambda arn: self.places[arn]})

            async def run() -> None:
                queue = EventQueue(
                    file, self.invoke, lambda arn: self.settings, destinations, clock=clock, random=self.ids
                )
                queue.start()
                await main(queue)
                if killed:
                    file.close()  # whatever has not been stored yet never will be
                    for task in asyncio.all_tasks() - {asyncio.current_task()}:
                        task.cancel()
                else:
                    await queue.close()
                    await file.flush()
                    file.close()

            runner.run(run())
            self.now_ms = clock.now_ms()

    async def put(self, queue: EventQueue, count: int) -> None:
        for _ in range(count):
            id = f"{self.rng.getrandbits(64):016x}"
            payload = json.dumps({"n": self.rng.getrandbits(16)}).encode()
            await queue.accept(ARN, payload, id)
            self.accepted[id] = payload

    async def settle(self, queue: EventQueue) -> None:
        while queue.statistics.waiting:
            await self.clock.sleep(HOUR_MS / 10)

    def records(self, arn: str) -> dict[str, dict[str, Any]]:
        """By request id; there must be one of each."""
        documents = [json.loads(each.body) for each in self.places[arn].documents]
        by_id = {document["requestContext"]["requestId"]: document for document in documents}
        assert len(by_id) == len(documents), "a record was delivered twice"
        return by_id

    def letters(self) -> dict[str, Delivery]:
        letters = self.places[DEAD_LETTERS].documents
        by_id = {letter.attributes["RequestID"]: letter for letter in letters}
        assert len(by_id) == len(letters), "a dead letter was delivered twice"
        return by_id


def check_ends(world: World) -> None:
    """Every accepted event has one end, and the documents that belong to it."""
    successes, failures, letters = world.records(ON_SUCCESS), world.records(ON_FAILURE), world.letters()
    assert successes.keys().isdisjoint(failures)
    assert world.accepted.keys() <= successes.keys() | failures.keys()
    assert letters.keys() == failures.keys()
    for id, record in (successes | failures).items():
        if id in world.accepted:
            assert record["requestPayload"] == json.loads(world.accepted[id])
    for id in successes:
        assert id in world.succeeded


@pytest.mark.parametrize("seed", range(8))
def test_without_crashes_each_event_has_its_attempts_and_one_end(tmp_path: Path, seed: int) -> None:
    """An event that fails is tried three times, a minute and two minutes later; throttles do not count."""
    world = World(tmp_path / "control", random.Random(seed))

    async def main(queue: EventQueue) -> None:
        await world.put(queue, 100)
        await world.settle(queue)

    world.life(main)
    check_ends(world)
    failures = world.records(ON_FAILURE)
    assert failures
    for id, record in failures.items():
        assert record["requestContext"]["condition"] == "RetriesExhausted"
        assert record["requestContext"]["approximateInvokeCount"] == world.invocations[id] == 3
        first, second, third = world.times[id]
        assert second - first >= 60_000
        assert third - second >= 120_000
    assert max(world.invocations.values()) == 3


@pytest.mark.parametrize("seed", range(20))
def test_no_accepted_event_is_lost_by_crashes_and_none_is_reported_twice(tmp_path: Path, seed: int) -> None:
    """Killed at any moment, with destinations that lose answers: one end for each event, one document of each kind."""
    rng = random.Random(seed)
    world = World(tmp_path / "control", rng, unreachable=0.3)

    async def cut_short(queue: EventQueue) -> None:
        putting = asyncio.ensure_future(world.put(queue, rng.randrange(30)))
        await world.pause(rng.choice([5, 500, 5_000, 300_000]))
        putting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await putting
        await world.put(queue, 1)  # killed at once after it was accepted

    for _ in range(6):
        world.life(cut_short, killed=True)
    world.life(world.settle)
    check_ends(world)
    for id, count in world.invocations.items():
        assert count + world.cut_short[id] <= 3 + 6


@pytest.mark.parametrize("seed", range(5))
def test_an_orderly_stop_loses_nothing_either(tmp_path: Path, seed: int) -> None:
    world = World(tmp_path / "control", random.Random(seed))

    async def some(queue: EventQueue) -> None:
        await world.put(queue, 30)
        await world.pause(2_000)

    for _ in range(3):
        world.life(some)
    world.life(world.settle)
    check_ends(world)


def test_the_same_seed_gives_the_same_run(tmp_path: Path) -> None:
    def run(name: str) -> list[tuple[str, bytes]]:
        world = World(tmp_path / name, random.Random(11), unreachable=0.2)

        async def main(queue: EventQueue) -> None:
            await world.put(queue, 40)
            await world.settle(queue)

        world.life(main)
        return [(arn, each.body) for arn, place in world.places.items() for each in place.documents]

    assert run("a") == run("b")


def test_a_function_that_always_throttles_keeps_its_events_until_they_are_too_old(tmp_path: Path) -> None:
    """Six hours of throttles are no attempt; then the events go to the failure destination, each once."""
    world = World(tmp_path / "control", random.Random(1), throttling=0.5)  # half throttled, half unavailable

    async def main(queue: EventQueue) -> None:
        await world.put(queue, 50)
        await world.clock.sleep(6 * HOUR_MS - 60_000)
        assert not world.places[ON_FAILURE].documents
        await world.settle(queue)

    world.life(main)
    failures = world.records(ON_FAILURE)
    assert failures.keys() == world.accepted.keys()
    for record in failures.values():
        assert record["requestContext"]["condition"] == "EventAgeExceeded"
        assert record["requestContext"]["approximateInvokeCount"] == 0
        assert "responseContext" not in record
    assert not world.invocations
