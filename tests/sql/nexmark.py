"""Seeded auction events in the shape of the Nexmark benchmark: persons, auctions and bids in one wide JSON record.

Of fifty events one is a person, three are auctions and forty-six are bids. The record is the one of nexmark-flink
(`event_type`, and the rows `person`, `auction`, `bid` of which exactly one is not null), about 250 bytes of JSON, with
times as Flink's JSON format reads TIMESTAMP(3) by default. The same arguments give the same bytes on every machine.

Event time starts at `START` and advances by `gap_ms` per event. With `disorder_ms` an event's time is put back by up to
that much, so an order restored by a watermark of that bound loses nothing; `late_ratio` of the events is put back by
`late_ms` to 2 * `late_ms` more, which is how late rows are made.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]
    Generator = np.random.Generator

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
START_MS = int(START.timestamp()) * 1000

CYCLE = 50  # events of one round of the proportions: one person, three auctions, the rest bids
AUCTIONS_PER_CYCLE = 3
PERSON_ID_FIRST = 1000
AUCTION_ID_FIRST = 1000
CATEGORY_FIRST = 10
CATEGORIES = 5

HOT_STEP = 100  # the hot auction, bidder or seller stays the same for that many new ones
AUCTIONS_OPEN = 100  # a bid that is not for the hot auction is for one of the last hundred
PERSONS_ACTIVE = 1000

STATES = ("OR", "ID", "CA", "WA", "AZ", "NV", "UT", "WY")
CITIES = ("Bend", "Boise", "Fresno", "Tacoma", "Tucson", "Reno", "Provo", "Cody", "São Félix", "Köln")
FIRST_NAMES = ("Ada", "Bela", "Chloé", "Dmitri", "Eun", "Fatou", "Gus", "Hana", "Iñaki", "Jo", "Kofi", "Łucja")
LAST_NAMES = ("Abe", "Brandt", "Castro", "Dvořák", "Evans", "Fox", "Gómez", "Hill", "Ito", "Jensen", "Kaya")
CHANNELS = ("Google", "Facebook", "Baidu", "Apple")
FOLDERS = ("abo", "bek", "cid", "dov", "elm", "fir")

LETTERS = "abcdefghijklmnopqrstuvwxyz    "


def _times(when_ms: Integers) -> list[str]:
    """The texts of these epoch milliseconds, `2026-01-01 00:00:00.123`."""
    import numpy as np

    texts: list[str] = np.datetime_as_string(when_ms.astype("datetime64[ms]"), unit="ms").tolist()
    return [text.replace("T", " ") for text in texts]


class _Texts:
    """Random lower-case texts, cut from one long one: cheaper than drawing letters for each event."""

    def __init__(self, random: Generator) -> None:
        self._random = random
        self._pool = "".join(LETTERS[index] for index in random.integers(0, len(LETTERS), 65_536).tolist())

    def of(self, count: int, least: int, most: int) -> list[str]:
        starts = self._random.integers(0, len(self._pool) - most, count).tolist()
        lengths = self._random.integers(least, most + 1, count).tolist()
        pool = self._pool
        return [pool[start : start + length] for start, length in zip(starts, lengths, strict=True)]


def _hot_or_recent(random: Generator, newest: Integers, hot_share: float, recent: int) -> Integers:
    """Numbers from 0 to `newest`: the hot one (the last multiple of HOT_STEP) that often, else one of the `recent`."""
    import numpy as np

    hot = newest // HOT_STEP * HOT_STEP
    back = (random.random(len(newest)) * np.minimum(newest + 1, recent)).astype(np.int64)
    return np.where(random.random(len(newest)) < hot_share, hot, newest - back)


def _prices(random: Generator, count: int, magnitudes: int) -> Integers:
    """Prices from 100 on over that many powers of ten; of integers only, so that no machine rounds them its own way."""
    return random.integers(100, 1_000, count) * 10 ** random.integers(0, magnitudes, count)


def _persons(random: Generator, texts: _Texts, numbers: Integers, times: list[str]) -> list[str]:
    count = len(numbers)
    picks = random.integers(0, 1 << 30, (count, 4)).tolist()
    cards = random.integers(0, 10_000, (count, 4)).tolist()
    rows = []
    for number, time, (first, last, city, state), card, extra in zip(
        (numbers // CYCLE).tolist(), times, picks, cards, texts.of(count, 20, 70), strict=True
    ):
        name = f"{FIRST_NAMES[first % len(FIRST_NAMES)]} {LAST_NAMES[last % len(LAST_NAMES)]}"
        rows.append(
            f'{{"event_type":0,"person":{{"id":{PERSON_ID_FIRST + number},"name":"{name}",'
            f'"emailAddress":"{number:x}@{FOLDERS[last % len(FOLDERS)]}.example",'
            f'"creditCard":"{card[0]:04} {card[1]:04} {card[2]:04} {card[3]:04}",'
            f'"city":"{CITIES[city % len(CITIES)]}","state":"{STATES[state % len(STATES)]}",'
            f'"dateTime":"{time}","extra":"{extra}"}},"auction":null,"bid":null}}'
        )
    return rows


def _auctions(
    random: Generator, texts: _Texts, numbers: Integers, when_ms: Integers, times: list[str], gap_ms: float
) -> list[str]:
    import numpy as np

    count = len(numbers)
    ids = AUCTION_ID_FIRST + numbers // CYCLE * AUCTIONS_PER_CYCLE + numbers % CYCLE - 1
    sellers = PERSON_ID_FIRST + _hot_or_recent(random, numbers // CYCLE, 0.5, PERSONS_ACTIVE)
    first_bids = _prices(random, count, 5)
    reserves = first_bids + _prices(random, count, 5)
    # An auction is open for about as long as it takes to follow it with AUCTIONS_OPEN others.
    open_ms = (1 + random.random(count) * 2 * AUCTIONS_OPEN / AUCTIONS_PER_CYCLE * CYCLE * gap_ms).astype(np.int64)
    categories = CATEGORY_FIRST + random.integers(0, CATEGORIES, count)
    row = (
        '{"event_type":1,"person":null,"auction":{"id":%d,"itemName":"%s","description":"%s","initialBid":%d,'
        '"reserve":%d,"dateTime":"%s","expires":"%s","seller":%d,"category":%d,"extra":"%s"},"bid":null}'
    )
    columns = zip(
        ids.tolist(),
        texts.of(count, 4, 16),
        texts.of(count, 10, 50),
        first_bids.tolist(),
        reserves.tolist(),
        times,
        _times(when_ms + open_ms),
        sellers.tolist(),
        categories.tolist(),
        texts.of(count, 10, 40),
        strict=True,
    )
    return [row % values for values in columns]


def _bids(random: Generator, texts: _Texts, numbers: Integers, times: list[str]) -> list[str]:
    import numpy as np

    count = len(numbers)
    newest_auction = (numbers // CYCLE + 1) * AUCTIONS_PER_CYCLE - 1
    auctions = AUCTION_ID_FIRST + _hot_or_recent(random, newest_auction, 0.5, AUCTIONS_OPEN)
    # The hot bidder is the one after the hot seller, so that no person is both.
    hot = numbers // CYCLE // HOT_STEP * HOT_STEP + 1
    newest_person = numbers // CYCLE
    recent = newest_person - (random.random(count) * np.minimum(newest_person + 1, PERSONS_ACTIVE)).astype(np.int64)
    bidders = PERSON_ID_FIRST + np.where(random.random(count) < 0.75, np.minimum(hot, newest_person), recent)
    prices = _prices(random, count, 6)
    kinds = np.where(random.random(count) < 0.5, random.integers(0, len(CHANNELS), count), -1).tolist()
    others = random.integers(0, 10_000, count).tolist()
    channels = [CHANNELS[kind] if kind >= 0 else f"channel-{other}" for kind, other in zip(kinds, others, strict=True)]
    # One url in ten has no channel_id, as a hot channel's never has: query 21 tells them apart.
    urls = [
        f"https://auction.example/{FOLDERS[other % 6]}/{FOLDERS[other // 6 % 6]}/{FOLDERS[other // 36 % 6]}"
        + "/item.htm?query=1"
        + ("" if kind >= 0 or other % 10 == 0 else f"&channel_id={other * 7919 % 1048576}")
        for kind, other in zip(kinds, others, strict=True)
    ]
    row = (
        '{"event_type":2,"person":null,"auction":null,"bid":{"auction":%d,"bidder":%d,"price":%d,"channel":"%s",'
        '"url":"%s","dateTime":"%s","extra":"%s"}}'
    )
    columns = zip(
        auctions.tolist(),
        bidders.tolist(),
        prices.tolist(),
        channels,
        urls,
        times,
        texts.of(count, 5, 30),
        strict=True,
    )
    return [row % values for values in columns]


def _placed(rows: list[str], into: list[str], where: list[int]) -> None:
    for place, row in zip(where, rows, strict=True):
        into[place] = row


def events(
    count: int,
    seed: int,
    *,
    gap_ms: float = 10.0,
    disorder_ms: int = 0,
    late_ratio: float = 0.0,
    late_ms: int = 30_000,
    batch: int = 20_000,
) -> Iterator[list[bytes]]:
    """The JSON documents of events 0 to `count` - 1 in lists of `batch` (the last may be shorter).

    The size of the batches changes the random draws: other batches are other events.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    texts = _Texts(random)
    for first in range(0, count, batch):
        numbers: Integers = np.arange(first, min(first + batch, count), dtype=np.int64)
        when_ms = START_MS + (numbers * gap_ms).astype(np.int64)
        if disorder_ms:
            when_ms = when_ms - random.integers(0, disorder_ms + 1, len(numbers))
        if late_ratio:
            by = random.integers(late_ms, 2 * late_ms + 1, len(numbers))
            when_ms = when_ms - np.where(random.random(len(numbers)) < late_ratio, by, 0)
        places = numbers % CYCLE
        rows = [""] * len(numbers)
        times = _times(when_ms)

        def pick(mask: NDArray[np.bool_], times: list[str] = times) -> tuple[list[int], list[str]]:
            where: list[int] = np.flatnonzero(mask).tolist()
            return where, [times[place] for place in where]

        is_person, is_bid = places == 0, places > AUCTIONS_PER_CYCLE
        is_auction = ~is_person & ~is_bid
        where, their_times = pick(is_person)
        _placed(_persons(random, texts, numbers[is_person], their_times), rows, where)
        where, their_times = pick(is_auction)
        _placed(_auctions(random, texts, numbers[is_auction], when_ms[is_auction], their_times, gap_ms), rows, where)
        where, their_times = pick(is_bid)
        _placed(_bids(random, texts, numbers[is_bid], their_times), rows, where)
        yield [row.encode() for row in rows]


def write(path: Path, batches: Iterator[list[bytes]]) -> int:
    """Writes the documents one a line; answers the size in bytes."""
    size = 0
    with path.open("wb") as out:
        for batch in batches:
            size += out.write(b"\n".join(batch) + b"\n")
    return size
