"""The demo, on part of its flights; and that its proof can fail."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.examples.flights import demo
from tests.examples.flights.demo import Evidence, Flight, Place, Score, Stored


def test_the_demo_loses_and_doubles_nothing_through_a_kill(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flights = demo.load_flights(8_000)
    evidence = asyncio.run(demo.bounded_run(flights, tmp_path, random.Random(1)))
    verdict = demo.judge(evidence)
    demo.print_leaderboard(evidence.scores)
    demo.print_proof(evidence, verdict)
    printed = capsys.readouterr().out
    assert verdict.is_good, printed
    assert verdict.counted_count == len(flights)
    assert verdict.stored_count == len(flights) + verdict.twice
    assert "kill -9" in printed
    assert "proof: good" in printed


def test_the_file_holds_flights_in_order_each_once() -> None:
    flights = demo.load_flights()
    assert len(flights) == 20_013
    assert len({flight.id for flight in flights}) == len(flights)
    assert sum(score.flights for score in demo.scores_of(flights).values()) == len(flights)
    assert set(demo.scores_of(flights)) <= set(demo.load_airlines())


# -- the proof can fail ----------------------------------------------------------------------------------------------

FLIGHTS = [Flight(f"day/AA{n}", "AA", n, b"line %d" % n) for n in range(4)]


def good_evidence() -> Evidence:
    return Evidence(
        flights=FLIGHTS,
        acknowledged={flight.id: Place("shard-0", str(place)) for place, flight in enumerate(FLIGHTS)},
        in_doubt={},
        stored={"shard-0": [Stored(str(place), flight.line) for place, flight in enumerate(FLIGHTS)]},
        counted={flight.id for flight in FLIGHTS},
        scores={"AA": Score(4, 4, 6)},
    )


def test_good_evidence_is_judged_good() -> None:
    assert demo.judge(good_evidence()).is_good


def test_a_flight_in_doubt_may_be_stored_twice_and_is_reported() -> None:
    evidence = good_evidence()
    evidence.stored = {"shard-0": [*evidence.stored["shard-0"], Stored("4", FLIGHTS[3].line)]}
    evidence.in_doubt = {FLIGHTS[3].id: 1}
    verdict = demo.judge(evidence)
    assert verdict.is_good
    assert verdict.twice == 1


def lose_an_acknowledged(evidence: Evidence) -> None:
    evidence.stored = {"shard-0": evidence.stored["shard-0"][:3]}


def move_an_acknowledged(evidence: Evidence) -> None:
    evidence.acknowledged = {**evidence.acknowledged, FLIGHTS[2].id: Place("shard-1", "2")}


def forget_to_count(evidence: Evidence) -> None:
    evidence.counted = evidence.counted - {FLIGHTS[0].id}


def store_twice_without_need(evidence: Evidence) -> None:
    evidence.stored = {"shard-0": [*evidence.stored["shard-0"], Stored("4", FLIGHTS[3].line)]}


def count_twice(evidence: Evidence) -> None:
    evidence.scores = {"AA": Score(5, 5, 9)}


def invent(evidence: Evidence) -> None:
    evidence.stored = {"shard-0": [*evidence.stored["shard-0"], Stored("4", b"never sent")]}


def swap(evidence: Evidence) -> None:
    numbers = [0, 2, 1, 3]
    evidence.stored = {"shard-0": [evidence.stored["shard-0"][number] for number in numbers]}


def sum_wrongly(evidence: Evidence) -> None:
    evidence.scores = {"AA": Score(4, 4, 7)}


@pytest.mark.parametrize(
    "damage",
    [
        lose_an_acknowledged,
        move_an_acknowledged,
        forget_to_count,
        store_twice_without_need,
        count_twice,
        invent,
        swap,
        sum_wrongly,
    ],
)
def test_the_proof_fails_when_it_should(damage: Callable[[Evidence], None]) -> None:
    evidence = good_evidence()
    damage(evidence)
    assert not demo.judge(evidence).is_good
