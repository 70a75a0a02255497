"""Makes the examples' data, the same at each run: `python sql/examples/make_data.py`."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

DATA: Final = Path(__file__).parent / "data"
DAY: Final = datetime.fromisoformat("2026-03-14")
COUNTRIES: Final = ("AT", "CL", "JP", "NO")


def main() -> None:
    DATA.mkdir(exist_ok=True)
    random_source = random.Random(20260314)
    _write("games.json", _games(random_source))
    _write("ingested.json", _ingested(random_source))
    _write("clicks.json", _clicks(random_source))
    _write("orders.json", _orders(random_source))
    lines = [f"{number},customer {number},{COUNTRIES[number % len(COUNTRIES)]}" for number in range(40)]
    (DATA / "customers.csv").write_text("".join(line + "\n" for line in lines))


def _write(name: str, rows: Iterable[dict[str, Any]]) -> None:
    (DATA / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def _text(at: datetime) -> str:
    return at.isoformat(" ", "milliseconds")


def _games(source: random.Random) -> list[dict[str, Any]]:
    """Ten minutes of eight players; reports are up to four seconds late, one is half a minute."""
    found = []
    for _ in range(400):
        played = timedelta(seconds=source.uniform(0, 600))
        row = {
            "player": f"player {source.randrange(8)}",
            "points": source.randrange(1, 50),
            "played_at": _text(DAY + played),
        }
        found.append((played + timedelta(seconds=source.uniform(0, 4)), row))
    late = {"player": "player 0", "points": 1000, "played_at": _text(DAY + timedelta(seconds=59))}
    found.append((timedelta(seconds=90), late))
    return [row for _, row in sorted(found, key=lambda each: each[0])]


def _ingested(source: random.Random) -> list[dict[str, Any]]:
    """Two sources, one of which falls silent for a while."""
    found = []
    for second in range(600):
        for name in ("meters", "trucks"):
            if name == "trucks" and 300 <= second < 360:
                continue
            for _ in range(source.randrange(1, 3)):
                at = DAY + timedelta(seconds=second, milliseconds=source.randrange(1000))
                found.append((at, {"source": name, "size_bytes": source.randrange(100, 900), "arrived_at": _text(at)}))
    return [row for _, row in sorted(found, key=lambda each: each[0])]


def _clicks(source: random.Random) -> list[dict[str, Any]]:
    """Two days of thirty visitors, who come back."""
    found = []
    for visitor in range(30):
        for _ in range(source.randrange(1, 5)):
            at = DAY + timedelta(minutes=source.randrange(2 * 1440 - 120))
            for page, part in (("view", 1.0), ("view", 0.7), ("cart", 0.6), ("purchase", 0.5)):
                if source.random() > part:
                    break
                at += timedelta(seconds=source.randrange(5, 1500))
                found.append((at, {"visitor": f"v{visitor}", "page": page, "clicked_at": _text(at)}))
    return [row for _, row in sorted(found, key=lambda each: each[0])]


def _orders(source: random.Random) -> list[dict[str, Any]]:
    """A day of orders; some are of customers that nobody knows."""
    found = []
    for number in range(300):
        at = DAY + timedelta(seconds=source.randrange(86_400))
        amount = source.randrange(100, 100_000) / 100
        found.append((at, {"id": number, "customer": source.randrange(44), "amount": amount, "ordered_at": _text(at)}))
    return [row for _, row in sorted(found, key=lambda each: each[0])]


if __name__ == "__main__":
    main()
