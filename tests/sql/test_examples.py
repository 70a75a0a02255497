"""The examples of `sql/examples` run from the command line, and say what plain Python finds in their data."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from streamkit.cli.main import main

EXAMPLES = Path(__file__).parents[2] / "sql" / "examples"
Row = dict[str, Any]


@pytest.fixture(autouse=True)
def _there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES)


def told(name: str, capfd: pytest.CaptureFixture[str]) -> list[Row]:
    assert main(["sql", "run", "--json", f"{name}.sql"]) == 0
    rows: list[Row] = [json.loads(line, parse_float=Decimal) for line in capfd.readouterr().out.splitlines()]
    assert rows
    return rows


def data(name: str, time: str) -> Iterator[tuple[datetime, Row]]:
    for line in (EXAMPLES / "data" / f"{name}.json").read_text().splitlines():
        row = json.loads(line, parse_float=Decimal)
        yield datetime.fromisoformat(row[time]), row


def floor(at: datetime, to: timedelta) -> datetime:
    start = datetime(at.year, at.month, at.day, tzinfo=at.tzinfo)
    return start + (at - start) // to * to


def test_the_data_is_what_its_script_makes(tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in (EXAMPLES / "data").iterdir()}
    script = (EXAMPLES / "make_data.py").read_text()
    (tmp_path / "make_data.py").write_text(script)
    subprocess.run([sys.executable, tmp_path / "make_data.py"], check=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()} == before


def test_the_game_leaderboard_has_the_best_of_every_minute_without_the_late_report(
    capfd: pytest.CaptureFixture[str],
) -> None:
    minutes: dict[datetime, Counter[str]] = defaultdict(Counter)
    newest = datetime.fromisoformat("2026-01-01")
    for at, row in data("games", "played_at"):
        start = floor(at, timedelta(minutes=1))
        if start + timedelta(minutes=1) > newest - timedelta(seconds=5):  # its window is open
            minutes[start][row["player"]] += row["points"]
        newest = max(newest, at)
    expected = [
        {"window_end": str(start + timedelta(minutes=1)), "place": place, "player": player, "points": points}
        for start, scores in minutes.items()
        for place, (player, points) in enumerate(sorted(scores.items(), key=lambda each: (-each[1], each[0]))[:3], 1)
    ]
    found = told("game_leaderboard", capfd)
    assert sorted(found, key=str) == sorted(expected, key=str)
    assert all(row["points"] < 1000 for row in found)


def test_the_alarm_names_the_source_that_fell_silent(capfd: pytest.CaptureFixture[str]) -> None:
    step = timedelta(seconds=10)
    rates: dict[str, Counter[datetime]] = defaultdict(Counter)
    for at, row in data("ingested", "arrived_at"):
        for back in range(6):
            rates[row["source"]][floor(at, step) + step * (6 - back)] += 1
    expected = []
    for source, by_end in rates.items():
        ends = sorted(by_end)
        for place in range(6, len(ends)):
            now, before = by_end[ends[place]], by_end[ends[place - 6]]
            if now * 2 < before:
                expected.append(
                    {"source": source, "at_time": str(ends[place]), "before_records": before, "records": now}
                )
    found = told("ingest_rate_alarm", capfd)
    assert sorted(found, key=str) == sorted(expected, key=str)
    assert any(row["source"] == "trucks" and "00:05:00" < row["at_time"][11:] < "00:06:30" for row in found)


def test_the_funnel_counts_visits_as_they_are_told_apart_by_pauses(capfd: pytest.CaptureFixture[str]) -> None:
    pause = timedelta(minutes=30)
    visits: list[tuple[datetime, set[str]]] = []
    open_visits: dict[str, tuple[datetime, set[str]]] = {}
    for at, row in data("clicks", "clicked_at"):
        visit = open_visits.get(row["visitor"])
        if visit is not None and at < visit[0] + pause:
            open_visits[row["visitor"]] = (at, visit[1] | {row["page"]})
        else:
            visits += [visit] if visit is not None else []
            open_visits[row["visitor"]] = (at, {row["page"]})
    visits += open_visits.values()
    days: dict[datetime, list[set[str]]] = defaultdict(list)
    for last, pages in visits:
        days[floor(last + pause - timedelta(milliseconds=1), timedelta(days=1))].append(pages)
    expected = [
        {
            "of_day": str(day),
            "visits": len(those),
            "viewed": sum("view" in pages for pages in those),
            "filled_a_cart": sum({"view", "cart"} <= pages for pages in those),
            "bought": sum({"view", "cart", "purchase"} <= pages for pages in those),
        }
        for day, those in days.items()
    ]
    assert sorted(told("click_funnel", capfd), key=str) == sorted(expected, key=str)


def test_orders_are_summed_by_the_country_of_the_reference_table(capfd: pytest.CaptureFixture[str]) -> None:
    lines = (EXAMPLES / "data" / "customers.csv").read_text().splitlines()
    countries = {int(number): country for number, _, country in (line.split(",") for line in lines)}
    amounts: dict[tuple[datetime, str], list[Decimal]] = defaultdict(list)
    for at, row in data("orders", "ordered_at"):
        country = countries.get(row["customer"], "unknown")
        amounts[floor(at, timedelta(hours=1)), country].append(row["amount"])
    expected = {(str(hour), country): (len(each), sum(each)) for (hour, country), each in amounts.items()}
    found = told("orders_with_customers", capfd)
    assert {(row["window_start"], row["country"]): (row["orders"], row["amount"]) for row in found} == expected
    assert len(found) == len(expected)
    assert any(country == "unknown" for _, country in expected)
