"""How fast a mapping's filters are: `.venv/bin/python tests/bench/filters.py`.

One thread, batches of 1,000 records with about 200 bytes of JSON. Each figure is the best of several rounds, in records
a second that were looked at; beside it, how many passed. Nothing here is a test.
"""

from __future__ import annotations

import argparse
import random
import time
from array import array
from typing import Final

import orjson

from streamkit.mappings.filters import FilterCriteria
from streamkit.model.batch import RecordBatch

BATCH_RECORDS: Final = 1_000

CASES: Final = {
    "partition key, equal": ['{"partitionKey": ["user-17"]}'],
    "partition key, prefix": ['{"partitionKey": [{"prefix": "user-1"}]}'],
    "partition key, ignoring case": ['{"partitionKey": [{"equals-ignore-case": "USER-17"}]}'],
    "region (a constant)": ['{"awsRegion": ["us-east-1"]}'],
    "data, equal: 1 in 100": ['{"data": {"state": ["state-17"]}}'],
    "data, equal: half": ['{"data": {"half": ["yes"]}}'],
    "data, equal: all": ['{"data": {"kind": ["order"]}}'],
    "data, equal, two levels": ['{"data": {"user": {"plan": ["gold"]}}}'],
    "data, number equal": ['{"data": {"price": [17]}}'],
    "data, numeric range": ['{"data": {"price": [{"numeric": [">", 10, "<=", 20]}]}}'],
    "data, wildcard": ['{"data": {"state": [{"wildcard": "st*-1*"}]}}'],
    "data, anything-but": ['{"data": {"state": [{"anything-but": ["state-17"]}]}}'],
    "key and data": ['{"partitionKey": [{"prefix": "user-1"}], "data": {"price": [{"numeric": ["<", 50]}]}}'],
    "five filters on data": [
        f'{{"data": {{"state": ["state-{i}"], "price": [{{"exists": true}}]}}}}' for i in range(5)
    ],
    "$or, four branches": [
        '{"data": {"$or": [{"price": [1]}, {"price": [{"numeric": [">", 98]}]}, {"state": ["state-3"]}, {"x": [1]}]}}'
    ],
}


def batch_of(count: int, *, escaped: bool) -> RecordBatch:
    rng = random.Random(7)
    keys, data = [], []
    for index in range(count):
        number = rng.randrange(100)
        keys.append(f"user-{rng.randrange(1000)}".encode())
        record = {
            "id": f"{index:012d}",
            "kind": "order",
            "state": f"state-{number}",
            "half": "yes" if number % 2 else "no",
            "price": rng.randrange(100),
            "user": {"name": "Alice Example", "plan": rng.choice(["gold", "silver", "none", "trial"])},
            "tags": ["a", "b"],
            "note": ("\n" if escaped else "") + "x" * 40,
        }
        data.append(orjson.dumps(record))
    return RecordBatch(0, 1, 0, 0, count, 1_700_000_000_000, *column(keys), *column(data))


def column(values: list[bytes]) -> tuple[memoryview, memoryview]:
    offsets = array("i", [0])
    for value in values:
        offsets.append(offsets[-1] + len(value))
    return memoryview(offsets), memoryview(b"".join(values))


def rate_of(criteria: FilterCriteria, batch: RecordBatch, rounds: int) -> float:
    context = {"awsRegion": "us-east-1"}
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(20):
            criteria.matches_batch(batch, context)
        best = min(best, time.perf_counter() - start)
    return 20 * len(batch) / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    plain, escaped = batch_of(BATCH_RECORDS, escaped=False), batch_of(BATCH_RECORDS, escaped=True)
    print(
        f"{plain.data_bytes / len(plain):.0f} bytes of data a record; k records/s, without and with a backslash in each"
    )
    for name, patterns in CASES.items():
        criteria = FilterCriteria.parse(patterns)
        rows = criteria.matches_batch(plain, {"awsRegion": "us-east-1"})
        passed = len(plain) if rows is None else len(rows)
        rates = [rate_of(criteria, batch, rounds) / 1e3 for batch in (plain, escaped)]
        print(f"{name:32} {rates[0]:9,.0f} {rates[1]:9,.0f}   {passed:5} of {len(plain)} pass")


if __name__ == "__main__":
    main()
