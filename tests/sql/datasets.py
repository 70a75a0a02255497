"""The data of the SQL cases: seeded, small, and full of what breaks an engine.

`make("orders", {"rows": "2000", "seed": "3"})` answers the bytes of a file. The same arguments give the same bytes.
Next to `nexmark` (events like an auction house's, see `nexmark.py`) there are

- `orders`, `rates`, `products` and `customers`: nested rows, arrays, maps, DECIMAL, a currency's rate over time
- `readings`: sensors that rise, fall, stay and pause, for sessions, OVER windows and patterns
- `scalars`: rows of one value of each type, with NULL in each column, extremes, empty and odd texts, fractions

Times are as Flink's JSON format reads them by default (`json.timestamp-format.standard` = SQL).
"""

from __future__ import annotations

import datetime
import json
import random
from collections.abc import Callable, Mapping
from typing import Final

from tests.sql import nexmark

SUFFIXES: Final[Mapping[str, str]] = {"products": ".csv", "customers": ".csv", "lines": ".txt"}

START = datetime.datetime(2026, 1, 1)  # noqa: DTZ001 (a TIMESTAMP has no zone)
CURRENCIES = ("EUR", "USD", "JPY", "GBP", "CHF", "XXX")  # of XXX no rate is ever known
CITIES = ("Zürich", "New York", "東京", "", "São Paulo", "O'Fallon", 'Quote"d', "Back\\slash")
NULL_SHARE = 0.12


def _at(millis: int) -> str:
    return (START + datetime.timedelta(milliseconds=millis)).isoformat(" ", "milliseconds")


def _lines(rows: list[dict[str, object]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows).encode()


def _csv(rows: list[tuple[object, ...]]) -> bytes:
    def cell(value: object) -> str:
        text = "" if value is None else str(value)
        return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\n') else text

    return "".join(",".join(cell(value) for value in row) + "\n" for row in rows).encode()


def _orders(options: Mapping[str, str]) -> bytes:
    rows, gap_ms, disorder_ms = (int(options.get(key, default)) for key, default in _ORDER_DEFAULTS.items())
    draw = random.Random(int(options.get("seed", "1")))

    def maybe(value: object) -> object:
        return None if draw.random() < NULL_SHARE else value

    made: list[dict[str, object]] = []
    for number in range(rows):
        lines = [
            maybe(
                {
                    "sku": maybe(f"sku-{draw.randrange(40)}"),
                    "quantity": maybe(draw.randrange(-2, 9)),
                    "price": maybe(draw.randrange(0, 100_000) / 100),
                }
            )
            for _ in range(draw.randrange(0, 4))
        ]
        address = {
            "city": maybe(draw.choice(CITIES)),
            "geo": maybe({"lat": maybe(draw.randrange(-9000, 9000) / 100), "lon": draw.randrange(-18000, 18000) / 100}),
        }
        made.append(
            {
                "id": number,
                "customer": maybe(draw.randrange(60)),
                "currency": maybe(draw.choice(CURRENCIES)),
                "amount": maybe(draw.randrange(-50_000, 10_000_000) / 100),
                "quantity": maybe(draw.randrange(-20, 100)),
                "note": maybe(draw.choice(("", " ", "gift", "GIFT", "naïve 🎁", "a,b;c", "100%", "under_score"))),
                "tags": maybe([maybe(draw.choice(("red", "blue", "green", ""))) for _ in range(draw.randrange(0, 4))]),
                "items": maybe(lines),
                "address": maybe(address),
                "attributes": maybe({key: maybe(f"{key}{draw.randrange(5)}") for key in "xyz" if draw.random() < 0.6}),
                "orderTime": _at(number * gap_ms - (draw.randrange(disorder_ms + 1) if disorder_ms else 0)),
            }
        )
    return _lines(made)


_ORDER_DEFAULTS = {"rows": "2000", "gap_ms": "500", "disorder_ms": "0"}


def _rates(options: Mapping[str, str]) -> bytes:
    draw = random.Random(int(options.get("seed", "1")))
    rows = int(options.get("rows", "200"))
    gap_ms = int(options.get("gap_ms", "5000"))
    made: list[dict[str, object]] = []
    for number in range(rows):
        currency = draw.choice(CURRENCIES[:-1])
        rate = draw.randrange(5_000, 20_000) / 10_000 if currency != "JPY" else draw.randrange(1_000_000) / 10_000
        made.append({"currency": currency, "rate": rate, "rateTime": _at(number * gap_ms)})
    return _lines(made)


def _products(options: Mapping[str, str]) -> bytes:
    draw = random.Random(int(options.get("seed", "1")))
    names = ("plain", "with, comma", 'with "quotes"', "", "naïve", " spaces ")
    rows: list[tuple[object, ...]] = []
    for number in range(int(options.get("rows", "400"))):
        weight = None if draw.random() < NULL_SHARE else draw.randrange(1, 100_000) / 1000
        rows.append((number, f"{draw.choice(names)}{number}", weight))
    return _csv(rows)


def _customers(options: Mapping[str, str]) -> bytes:
    draw = random.Random(int(options.get("seed", "1")))
    rows = int(options.get("rows", "50"))
    return _csv([(number, f"customer {number}", draw.choice(("gold", "silver", "none"))) for number in range(rows)])


def _readings(options: Mapping[str, str]) -> bytes:
    draw = random.Random(int(options.get("seed", "1")))
    rows, sensors = int(options.get("rows", "2000")), int(options.get("sensors", "5"))
    gap_ms, disorder_ms = int(options.get("gap_ms", "200")), int(options.get("disorder_ms", "0"))
    late_ratio, late_ms = float(options.get("late_ratio", "0")), int(options.get("late_ms", "20000"))
    heat = [200] * sensors
    made: list[dict[str, object]] = []
    millis = 0
    for number in range(rows):
        sensor = min(int(draw.expovariate(1) * sensors / 3), sensors - 1)
        heat[sensor] += draw.choice((-30, -10, 0, 0, 10, 30))
        millis += draw.choice((0, gap_ms, gap_ms, gap_ms * 3)) + (gap_ms * 100 if draw.random() < 0.01 else 0)
        at = millis - (draw.randrange(disorder_ms + 1) if disorder_ms else 0)
        if late_ratio and draw.random() < late_ratio:
            at -= draw.randrange(late_ms, 2 * late_ms)
        made.append(
            {
                "seq": number,
                "sensor": f"s{sensor}",
                "temperature": None if draw.random() < 0.05 else heat[sensor] / 10,
                "pressure": None if draw.random() < 0.05 else draw.randrange(-5, 1000),
                "status": draw.choice(("ok", "ok", "ok", "warn", "fail", None)),
                "readingTime": _at(at),
            }
        )
    return _lines(made)


_TEXTS = (
    *("", " ", "a", "abc", "ABC", "Hello World", "hello world foo", "  padded  ", "xxabcxx", "naïve café", "ÄÖÜ ß ﬁ"),
    *("東京", "🎁 gift", "a,b,,c", "100%", "50_50", "a\\b", "it's", 'say "hi"', "tab\there", "line\nbreak", "aaaa"),
    *(
        "user@mail.example",
        "k=v&channel_id=77&x=1",
        "2026-01-31",
        "2026-01-31 08:09:10.123",
        "12:34:56",
        "http://h/p/q?a=b",
    ),
)
_NUMBERS = (
    *("0", "1", "-1", "7", "42", "-42", " 13 ", "3.7", "-3.7", "2.5", "1e3", "1.0E-2", "127", "128", "-129", "32768"),
    *("2147483647", "2147483648", "-2147483649", "9223372036854775807", "9223372036854775808", "99999999.995", "abc"),
    *("", "true", "FALSE", "t", "yes", "0x1F", "NaN", "Infinity", "+5", "1,000", "1_000", ".5", "5.", "00012"),
)
_WHENS = (
    *("2026-01-31", "2026-01-31 08:09:10", "2026-01-31 08:09:10.123", "2026-01-31T08:09:10", "2026-1-5", "2024-02-29"),
    *("2023-02-29", "1969-12-31 23:59:59.999", "1970-01-01 00:00:00", "08:09:10", "24:00:00", "2026-13-01", "", "noon"),
    *("2026-01-31 08:09:10.123456", "2026-01-31 08:09:10.999999999", "0001-01-01", "9999-12-31 23:59:59", "31/01/2026"),
)
_DOCUMENTS = (
    '{"a":1,"b":"text","c":[1,2,3],"d":{"e":null,"f":1.5},"g":true}',
    '{"a":"7","b":"","c":[],"d":{},"g":false}',
    '{"a":null,"b":"naïve","c":[{"x":1},{"x":2}],"d":{"f":-0.25}}',
    '{"c":[[1],[2]],"key with space":3}',
    "[]",
    "[1,2]",
    "3",
    '"text"',
    "null",
    "{}",
    "",
    "not json",
    '{"a":1',
)
_PATTERNS = ("%", "a%", "%c", "_b_", "%\\_%", "100\\%", "a", "", "hello%", "%o%o%", "__")


def _scalars(options: Mapping[str, str]) -> bytes:
    draw = random.Random(int(options.get("seed", "1")))

    def maybe(value: object) -> object:
        return None if draw.random() < NULL_SHARE else value

    def whole(bits: int) -> int:
        top = 1 << (bits - 1)
        return draw.choice((0, 1, -1, 2, -2, 7, -7, 10, 100, -100, top - 1, -top, draw.randrange(-top, top)))

    made: list[dict[str, object]] = []
    for number in range(int(options.get("rows", "300"))):
        instant = START + datetime.timedelta(
            days=draw.randrange(-25_000, 12_000), milliseconds=draw.randrange(86_400_000)
        )
        if draw.random() < 0.2:
            instant = draw.choice((datetime.datetime(1970, 1, 1), START, datetime.datetime(2024, 2, 29, 23, 59, 59)))  # noqa: DTZ001
        other = instant + datetime.timedelta(
            days=draw.choice((0, 0, 1, -1, 30, 366)), milliseconds=draw.randrange(-90_000_000, 90_000_000)
        )
        made.append(
            {
                "id": number,
                "tiny": maybe(whole(8)),
                "small": maybe(whole(16)),
                "i": maybe(whole(32)),
                "j": maybe(draw.choice((0, 1, -1, 2, 3, -3, 7, -7, 10, 1000))),
                "l": maybe(whole(64)),
                "k": maybe(draw.choice((0, 1, -1, 2, 3, -3, 7, -7, 10, 10_000_000_019))),
                "p": maybe(draw.randrange(-1000, 1000)),
                "x": maybe(
                    draw.choice((0.0, 1.0, -1.5, 2.5, 3.5, -2.5, 0.1, 1e10, 1.5e-7, draw.randrange(10**6) / 997))
                ),
                "y": maybe(draw.choice((1.0, 2.0, -0.5, 0.25, 3.0, 10.0))),
                "f": maybe(draw.choice((0.0, 1.5, -2.25, 0.1, 3.3333333, 16777217.0, 1e-3))),
                "n": maybe(draw.choice((0, 1, -1, draw.randrange(-(10**9), 10**9))) / 100),
                "m": maybe(draw.choice((0, 5, -5, draw.randrange(-(10**9), 10**9))) / 10_000),
                "a": maybe(draw.choice(_TEXTS)),
                "b": maybe(draw.choice(_TEXTS)),
                "pattern": maybe(draw.choice(_PATTERNS)),
                "number": maybe(draw.choice(_NUMBERS)),
                "whenText": maybe(draw.choice(_WHENS)),
                "doc": maybe(draw.choice(_DOCUMENTS)),
                "yes": maybe(draw.random() < 0.5),
                "no": maybe(draw.random() < 0.5),
                "ts": maybe(instant.isoformat(" ", "milliseconds")),
                "ts2": maybe(other.isoformat(" ", "milliseconds")),
                "micro": maybe(instant.replace(microsecond=draw.randrange(10**6)).isoformat(" ", "microseconds")),
                "zoned": maybe(instant.isoformat(" ", "milliseconds") + "Z"),
                "day": maybe(instant.date().isoformat()),
                "clock": maybe(instant.time().isoformat("seconds")),
                "list": maybe([maybe(draw.randrange(5)) for _ in range(draw.randrange(4))]),
                "grp": draw.randrange(6),
            }
        )
    return _lines(made)


def _text_lines(options: Mapping[str, str]) -> bytes:
    draw = random.Random(int(options.get("seed", "1")))
    odd = ("", "plain", "naïve 東京", "{json?}", "a,b,c", "  spaces  ", '"quoted"', '{"line":"json"}', '{"line":', "[]")
    rows = int(options.get("rows", "200"))
    return "".join(f"{draw.choice(odd)}{draw.randrange(4)}\n" for _ in range(rows)).encode()


def _nexmark(options: Mapping[str, str]) -> bytes:
    batches = nexmark.events(
        int(options["events"]),
        int(options.get("seed", "1")),
        gap_ms=float(options.get("gap_ms", "10")),
        disorder_ms=int(options.get("disorder_ms", "0")),
        late_ratio=float(options.get("late_ratio", "0")),
        late_ms=int(options.get("late_ms", "30000")),
    )
    return b"".join(b"\n".join(batch) + b"\n" for batch in batches)


_MAKERS: Final[Mapping[str, Callable[[Mapping[str, str]], bytes]]] = {
    "customers": _customers,
    "lines": _text_lines,
    "nexmark": _nexmark,
    "orders": _orders,
    "products": _products,
    "rates": _rates,
    "readings": _readings,
    "scalars": _scalars,
}


def make(kind: str, options: Mapping[str, str]) -> bytes:
    """The bytes of a data file of this kind; options are those of a case's `-- data:` line."""
    return _MAKERS[kind](options)
