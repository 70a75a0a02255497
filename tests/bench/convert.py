"""What conversion to columns costs: `taskset -c 1 .venv/bin/python tests/bench/convert.py [--records N] [--takes N]`.

Synthetic records from a seed: about 280 B in 12 columns and about 1 KiB in 16, both with structs and lists; a tenth
lacks a column. They come in chunks of 4 MiB, as the engine makes them. CPU is that of this process, Arrow with one
thread; each figure is the median of the takes, in thousands of records a second. With Parquet: written with zstd level
1 by our encoder, 16 chunks to a file. Nothing here is a test.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from streamkit.delivery.convert import TableConverter, make_converter
from streamkit.delivery.plan import Conversion, InlineColumns, ParquetFormat
from streamkit_connectors.parquet import make_encoder

CHUNK_BYTES: Final = 4 * 1024 * 1024
CHUNKS_PER_FILE: Final = 16
ALPHABET: Final = (
    "alpha bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november oscar papa quebec romeo "
    "sierra tango uniform victor whiskey xray yankee zulu"
)
WORDS: Final = ALPHABET.split()

SMALL: Final = (
    ("id", "bigint"),
    ("user_id", "string"),
    ("event", "string"),
    ("at", "timestamp"),
    ("amount", "double"),
    ("quantity", "int"),
    ("is_new", "boolean"),
    ("country", "string"),
    ("score", "double"),
    ("device", "struct<os:string,version:string,memory_mb:int>"),
    ("tags", "array<string>"),
    ("session", "string"),
)
LARGE: Final = (
    *SMALL,
    ("url", "string"),
    ("agent", "string"),
    ("text", "string"),
    ("items", "array<struct<sku:string,quantity:int,price:double>>"),
)

Columns = tuple[tuple[str, str], ...]
Spoil = Callable[[random.Random, bytes], bytes]


def document(rng: random.Random, number: int, *, is_large: bool) -> dict[str, Any]:
    made: dict[str, Any] = {
        "id": 10_000_000_000 + number,
        "user_id": f"u-{rng.randrange(100_000):06d}",
        "event": rng.choice(("click", "view", "purchase", "scroll")),
        "at": f"2026-{rng.randrange(1, 13):02d}-{rng.randrange(1, 29):02d} {rng.randrange(24):02d}:"
        f"{rng.randrange(60):02d}:{rng.randrange(60):02d}.{rng.randrange(1000):03d}",
        "amount": round(rng.uniform(0, 1000), 2),
        "quantity": rng.randrange(1, 20),
        "is_new": rng.random() < 0.5,
        "country": rng.choice(("DE", "FR", "US", "JP", "BR")),
        "score": rng.random(),
        "device": {
            "os": rng.choice(("ios", "android", "linux")),
            "version": f"{rng.randrange(20)}.{rng.randrange(10)}",
            "memory_mb": rng.choice((2048, 4096, 8192)),
        },
        "tags": rng.sample(WORDS, rng.randrange(4)),
        "session": f"{rng.getrandbits(64):016x}",
    }
    if is_large:
        made["url"] = f"https://shop.example.com/{'/'.join(rng.choices(WORDS, k=9))}?ref={rng.getrandbits(32):x}"
        made["agent"] = f"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/{rng.randrange(100, 140)}.0"
        made["text"] = " ".join(rng.choices(WORDS, k=70))
        made["items"] = [
            {"sku": f"sku-{rng.randrange(10_000):05d}", "quantity": 1 + place, "price": round(rng.uniform(1, 99), 2)}
            for place in range(rng.randrange(1, 5))
        ]
    if rng.random() < 0.1:
        del made[rng.choice(list(made))]
    return made


def records(count: int, *, is_large: bool, seed: int = 7) -> list[bytes]:
    rng = random.Random(seed)
    return [
        json.dumps(document(rng, number, is_large=is_large), separators=(",", ":")).encode() for number in range(count)
    ]


def bad(rng: random.Random, record: bytes) -> bytes:
    """Cut off, a comma too few, no object, nothing, values of wrong types on both levels."""
    wrong = json.loads(record)
    wrong["amount" if rng.random() < 0.5 else "device"] = {"memory_mb": "much"}
    return rng.choice(
        (
            record[:-9],
            record.replace(b',"', b'"', 1),
            b"[1, 2]",
            b"no json",
            b"",
            json.dumps(wrong).encode(),
            json.dumps(wrong, separators=(",", ":")).encode(),
        )
    )


def with_part(part: float, change: Spoil) -> Callable[[list[bytes]], list[bytes]]:
    def changed(good: list[bytes]) -> list[bytes]:
        rng = random.Random(3)
        chosen = set(rng.sample(range(len(good)), int(len(good) * part)))
        return [change(rng, record) if place in chosen else record for place, record in enumerate(good)]

    return changed


def unknown(rng: random.Random, record: bytes) -> bytes:
    return record[:-1] + b',"more":{"a":[1,2,"x"]},"other":"text"}'


def zoned(rng: random.Random, record: bytes) -> bytes:
    start = record.find(b'"at":"')
    if start < 0:
        return record
    end = record.index(b'"', start + 6)
    return record[:end].replace(b" ", b"T", 1) + b"Z" + record[end:]


def quoted(rng: random.Random, record: bytes) -> bytes:
    start = record.find(b'"id":')
    if start < 0:
        return record
    end = record.index(b",", start)
    return record[: start + 5] + b'"' + record[start + 5 : end] + b'"' + record[end:]


def camel(rng: random.Random, record: bytes) -> bytes:
    return record.replace(b'"user_id"', b'"User_Id"').replace(b'"memory_mb"', b'"Memory_MB"')


CASES: Final[dict[str, Callable[[list[bytes]], list[bytes]]]] = {
    "good": lambda good: good,
    "1 in 10,000 bad": with_part(0.0001, bad),
    "1 % bad": with_part(0.01, bad),
    "5 % bad": with_part(0.05, bad),
    "keys that no column is for": with_part(1.0, unknown),
    "keys in other case": with_part(1.0, camel),
    "timestamps with T and Z": with_part(1.0, zoned),
    "a number as text": with_part(1.0, quoted),
    "half of them a number as text": with_part(0.5, quoted),
    "two documents in each": lambda good: [record * 2 for record in good],
}


def chunks_of(data: list[bytes]) -> list[pa.BinaryArray]:
    made, start, size = [], 0, 0
    for place, record in enumerate(data):
        size += len(record)
        if size >= CHUNK_BYTES:
            made.append(pa.array(data[start : place + 1], pa.binary()))
            start, size = place + 1, 0
    if start < len(data):
        made.append(pa.array(data[start:], pa.binary()))
    return made


def rate(count: int, takes: int, work: Callable[[], None]) -> float:
    """Thousands of records a second, of CPU; one take before is not counted."""
    work()
    spent = []
    for _ in range(takes):
        begun = time.process_time()
        work()
        spent.append(time.process_time() - begun)
    return count / statistics.median(spent) / 1000


def converts(converter: TableConverter, chunks: list[pa.BinaryArray]) -> None:
    for chunk in chunks:
        converter.convert(chunk)


def writes(converter: TableConverter, chunks: list[pa.BinaryArray], folder: Path) -> None:
    encoder = make_encoder(ParquetFormat(compression="ZSTD", level=1))

    def batches(part: list[pa.BinaryArray]) -> Iterator[pa.RecordBatch]:
        return (converter.convert(chunk).batch for chunk in part)

    for start in range(0, len(chunks), CHUNKS_PER_FILE):
        encoder.write(batches(chunks[start : start + CHUNKS_PER_FILE]), folder / f"{start}.parquet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--takes", type=int, default=5)
    asked = parser.parse_args()
    pa.set_cpu_count(1)
    for is_large, columns in ((False, SMALL), (True, LARGE)):
        good = records(asked.records, is_large=is_large)
        print(f"\n{sum(map(len, good)) // len(good):,} B, {len(columns)} columns")
        for name, change in CASES.items():
            report(name, columns, chunks_of(change(good)), asked.takes)


def report(name: str, columns: Columns, chunks: list[pa.BinaryArray], takes: int) -> None:
    converter = make_converter(columns, Conversion(InlineColumns(columns)))
    count = sum(len(chunk) for chunk in chunks)
    refused = sum(len(converter.convert(chunk).bad) for chunk in chunks)
    alone = rate(count, takes, lambda: converts(converter, chunks))
    with tempfile.TemporaryDirectory() as folder:
        written = rate(count, takes, lambda: writes(converter, chunks, Path(folder)))
    print(f"  {name:32} {alone:7.0f} k/s   with Parquet {written:7.0f} k/s   {refused:,} bad")


if __name__ == "__main__":
    main()
