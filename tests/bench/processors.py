"""How fast deliveries' processors and partition keys are: `.venv/bin/python tests/bench/processors.py`.

One thread, chunks of records of about 280 bytes of JSON as the engine makes them. Each figure is the best of several
rounds, in microseconds of CPU time a record. The function that transforms is not counted. Nothing here is a test.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import orjson
import pyarrow as pa
import pybase64

from streamkit.delivery import plan as plans
from streamkit.delivery.error_documents import documents
from streamkit.delivery.partition import partitions
from streamkit.delivery.processor import Step
from streamkit.delivery.processors.deaggregate import SplitAggregates, SplitRecords
from streamkit.delivery.processors.decompress import Decompress
from streamkit.delivery.processors.delimiter import AppendDelimiter
from streamkit.delivery.processors.metadata import ExtractMetadata
from streamkit.delivery.processors.transform import EventBuilder, read_reply
from streamkit.delivery.rows import Failed, Rows

T = TypeVar("T")

CHUNK_RECORDS: Final = 15_000  # 4 MiB
BATCH_RECORDS: Final = 3_700  # 1 MiB: what a function gets at a time
SOURCE_ARN: Final = "arn:aws:kinesis:us-east-1:000000000000:stream/s"
START_S: Final = 1_700_000_000

QUERIES: Final = {
    "a path": "{customer: .customer.id}",
    "a path and a day": '{customer: .customer.id, day: .ts | strftime("%Y-%m-%d")}',
    "three keys": '{customer: .customer.id, day: .ts | strftime("%Y-%m-%d"), kind: (.kind // "none" | ascii_upcase)}',
    "milliseconds": '{hour: (.ts_ms / 1000 | strftime("%Y-%m-%d-%H"))}',
    "a slice of text": "{day: .time[0:10]}",
    "libjq": '{customer: (.customer | .id | sub("cust"; "c"))}',
}


async def inline(work: Callable[[], T]) -> T:
    return work()


def rows_of(values: list[bytes]) -> Rows:
    count = len(values)
    return Rows(
        pa.array(values, pa.binary()),
        pa.array([START_S * 1000 + place // 500 for place in range(count)], pa.int64()),
        pa.array([0] * count, pa.int32()),
        pa.array(range(count), pa.int64()),
        pa.array([0] * count, pa.int32()),
        {0: START_S},
        pa.array([b"key-%d" % (place % 1000) for place in range(count)], pa.binary()),
    )


def records(count: int) -> list[bytes]:
    rng = random.Random(7)
    return [
        orjson.dumps(
            {
                "id": f"{place:012d}",
                "kind": rng.choice(["order", "refund", "view"]),
                "customer": {"id": f"cust-{rng.randrange(100)}", "name": "Alice Example", "plan": "gold"},
                "ts": START_S + place // 50,
                "ts_ms": (START_S + place // 50) * 1000 + place % 1000,
                "time": "2023-11-14T22:13:20Z",
                "price": rng.random() * 100,
                "tags": ["a", "b", "c"],
                "note": "x" * 40,
            }
        )
        for place in range(count)
    ]


def measure(name: str, count: int, work: Callable[[], object], rounds: int) -> None:
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    print(f"{name:46} {best / count * 1e6:8.3f} us {count / best / 1000:10,.0f} krec/s")


def through(step: Step, rows: Rows) -> Callable[[], object]:
    def run() -> object:
        waiting: Awaitable[object] = step.process(rows)
        return asyncio.run(_wait(waiting))

    return run


async def _wait(waiting: Awaitable[object]) -> object:
    return await waiting


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=7)
    rounds = options.parse_args().rounds
    values = records(CHUNK_RECORDS)
    rows = rows_of(values)
    count = len(rows)
    print(f"{count} records, {rows.data_bytes / count:.0f} bytes each")
    measure("aggregates, where there are none", count, through(SplitAggregates(offload=inline), rows), rounds)
    split = SplitRecords(plans.Deaggregation("JSON"), offload=inline)
    measure("JSON documents, one a record", count, through(split, rows), rounds)
    twos = rows_of([a + b for a, b in zip(values[::2], values[1::2], strict=True)])
    measure("JSON documents, two a record", count, through(split, twos), rounds)
    zipped = rows_of([gzip.compress(value, 1) for value in values[:2000]])
    measure("decompression", 2000, through(Decompress(plans.Decompression(), offload=inline), zipped), rounds)
    measure("delimiter", count, through(AppendDelimiter(plans.AppendDelimiter()), rows), rounds)
    measure_transform(rows, rounds)
    for name, query in QUERIES.items():
        step = ExtractMetadata(plans.MetadataExtraction(query), offload=inline)
        measure(f"keys: {name}", count, through(step, rows), rounds if name != "libjq" else 2)
    keyed = asyncio.run(
        ExtractMetadata(plans.MetadataExtraction(QUERIES["a path and a day"]), offload=inline).process(rows)
    )
    measure(f"partitions ({len(partitions(keyed.rows))})", count, lambda: partitions(keyed.rows), rounds)
    failed = Failed(rows, "processing-failed", [("Lambda.FunctionError", "It failed")] * count)
    measure("error documents", count, lambda: documents(failed, at_ms=0), rounds)


def measure_transform(rows: Rows, rounds: int) -> None:
    rows = rows.slice(0, BATCH_RECORDS)
    count = len(rows)
    for name, source in (
        ("direct puts", None),
        ("a Kinesis stream", "arn:aws:kinesis:us-east-1:000000000000:stream/s"),
    ):
        builder = EventBuilder(delivery_arn="arn", source_arn=source, region="us-east-1")
        measure(f"transform: event, from {name}", count, lambda: builder.records(rows), rounds)  # noqa: B023
    ids, _ = builder.records(rows)
    reply = orjson.dumps(
        {
            "records": [
                {"recordId": id, "result": "Ok", "data": pybase64.b64encode(value).decode()}
                for id, value in zip(ids, rows.data.to_pylist(), strict=True)
            ]
        }
    )
    measure("transform: reply", count, lambda: read_reply(reply, ids), rounds)


if __name__ == "__main__":
    main()
