"""How fast objects are written: `taskset -c 0 .venv/bin/python tests/bench/formats.py`.

Text: JSON lines of about 280 bytes and of about 1 KiB. Parquet and ORC: the same records as columns. Figures are MB a
second of the JSON, whatever became of it, and thousands of records a second; CPU time of this process, with what the
system does for it (writing and syncing files included), the best of several rounds. Nothing here is a test.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from unittest import mock

import orjson
import pyarrow as pa

from streamkit.delivery.formats import Encoder
from streamkit.delivery.plan import OrcFormat, ParquetFormat, TextFormat
from streamkit.delivery.text import TextEncoder
from streamkit_connectors import orc, parquet

RECORDS: Final = 100_000
PIECE_RECORDS: Final = 8_192
WORDS: Final = ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliet", "kilo")

TEXTS: Final[dict[str, TextFormat]] = {
    "text, uncompressed": TextFormat(),
    "text, GZIP": TextFormat("GZIP"),
    "text, ZIP": TextFormat("ZIP"),
    "text, Snappy": TextFormat("Snappy"),
    "text, HADOOP_SNAPPY": TextFormat("HADOOP_SNAPPY"),
    "text, ZSTD": TextFormat("ZSTD"),
}
COLUMNAR: Final[dict[str, Callable[[], Encoder]]] = {
    "Parquet, uncompressed": lambda: parquet.make_encoder(ParquetFormat("UNCOMPRESSED")),
    "Parquet, SNAPPY": lambda: parquet.make_encoder(ParquetFormat("SNAPPY")),
    "Parquet, ZSTD 1": lambda: parquet.make_encoder(ParquetFormat("ZSTD")),
    "Parquet, ZSTD 1, V2": lambda: parquet.make_encoder(ParquetFormat("ZSTD", version="V2")),
    "Parquet, ZSTD 1, all dictionaries": lambda: parquet.make_encoder(ParquetFormat("ZSTD", dictionary=True)),
    "Parquet, ZSTD 3": lambda: parquet.make_encoder(ParquetFormat("ZSTD", level=3)),
    "Parquet, GZIP 1": lambda: parquet.make_encoder(ParquetFormat("GZIP")),
    "ORC, SNAPPY": lambda: orc.make_encoder(OrcFormat("SNAPPY")),
    "ORC, ZLIB": lambda: orc.make_encoder(OrcFormat("ZLIB")),
    "ORC, ZSTD": lambda: orc.make_encoder(OrcFormat("ZSTD")),
}


def records_of(*, is_large: bool) -> list[dict[str, Any]]:
    """Flights, with 12 columns or 16; a struct and a list among them."""
    rng = random.Random(7)
    records = []
    for index in range(RECORDS):
        record = {
            "id": index,
            "at": f"2024-03-{rng.randrange(1, 29):02}T{rng.randrange(24):02}:{rng.randrange(60):02}:00Z",
            "carrier": rng.choice(["AA", "UA", "DL", "WN", "B6"]),
            "origin": f"A{rng.randrange(60)}",
            "destination": f"A{rng.randrange(60)}",
            "tail_number": f"N{rng.randrange(100_000)}",
            "delay_minutes": rng.randrange(-20, 300),
            "distance": rng.random() * 3000,
            "is_cancelled": rng.random() < 0.02,
            "passenger": {"name": f"user-{rng.randrange(5000)}", "plan": rng.choice(["gold", "none"])},
            "tags": rng.choices(["early", "late", "long"], k=rng.randrange(4)),
            "session": f"{rng.getrandbits(64):016x}",
        }
        if is_large:
            record |= {name: " ".join(rng.choices(WORDS, k=30)) for name in ("note", "agent", "path", "body")}
        records.append(record)
    return records


def cpu_s(write: Callable[[], object], rounds: int) -> float:
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        write()
        best = min(best, time.process_time() - start)
    return best


def pieces_of(batch: pa.RecordBatch) -> list[pa.RecordBatch]:
    return [batch.slice(start, PIECE_RECORDS) for start in range(0, len(batch), PIECE_RECORDS)]


def report(name: str, seconds: float, size: int, input_bytes: int) -> None:
    print(
        f"{name:36} {input_bytes / seconds / 1e6:8,.0f} MB/s {RECORDS / seconds / 1e3:8,.0f} krecords/s "
        f"{size / 1e6:8.1f} MB, {input_bytes / size:5.2f} times smaller"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "object"
        for is_large in (False, True):
            records = records_of(is_large=is_large)
            lines = [orjson.dumps(record) + b"\n" for record in records]
            input_bytes = sum(map(len, lines))
            print(f"\n{RECORDS:,} records of {input_bytes / RECORDS:.0f} bytes of JSON")
            text = pieces_of(pa.RecordBatch.from_arrays([pa.array(lines, pa.binary())], ["data"]))
            for name, format in TEXTS.items():
                seconds = cpu_s(lambda: TextEncoder(format).write(text, path), rounds)  # noqa: B023
                report(name, seconds, path.stat().st_size, input_bytes)
            with mock.patch.dict(sys.modules, {"isal": None}):
                seconds = cpu_s(lambda: TextEncoder(TextFormat("GZIP")).write(text, path), rounds)  # noqa: B023
                report("text, GZIP by zlib", seconds, path.stat().st_size, input_bytes)
            columns = pa.RecordBatch.from_pylist(records)
            at = columns.column("at").cast(pa.timestamp("us", "UTC"))
            columns = columns.set_column(columns.schema.get_field_index("at"), "at", at)
            for name, make in COLUMNAR.items():
                seconds = cpu_s(lambda: make().write(pieces_of(columns), path), rounds)  # noqa: B023
                report(name, seconds, path.stat().st_size, input_bytes)


if __name__ == "__main__":
    main()
