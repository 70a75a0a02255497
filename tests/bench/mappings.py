"""What mappings cost: `.venv/bin/python tests/bench/mappings.py [--records N] [--rounds N]`.

Records of 100 B in 4 shards, fsync durability, a data directory in this process, and handlers that do nothing. CPU is
this process's and its environments', each for one record; rates are what this machine could do while others used it.
Nothing here is a test.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import shutil
import statistics
import tempfile
import time
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import uvloop

from streamkit.functions.state import Configuration
from streamkit.model.batch import RecordBatch
from streamkit.model.names import Scope, StreamArn
from streamkit.node import Node

SCOPE = Scope("000000000000", "us-east-1")
SHARDS = 4
ROLE = "arn:aws:iam::000000000000:role/bench"
SOURCE = f"{Path(__file__).resolve()}:takes_batch"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")

AWS_CLIENT = Configuration("python3.11", "app.handler", ROLE, environment="ric")
EMPTY = "def handler(event, context):\n    pass\n"
LATENCY = """
import base64, os, time
log = open(os.environ["LATENCIES"], "a", buffering=1)
def handler(event, context):
    now = time.monotonic_ns()
    for record in event["Records"]:
        print(now - int(base64.b64decode(record["kinesis"]["data"])), file=log)
"""


def takes_batch(batch: RecordBatch, context: object) -> None:
    """A handler of the library that does nothing."""


class Round(NamedTuple):
    records_per_s: float
    server_us: float
    functions_us: float


@asynccontextmanager
async def node() -> AsyncIterator[Node]:
    place = Path(tempfile.mkdtemp(prefix="streamkit-bench-", dir=Path.cwd()))
    opened = Node(place / "data")
    await opened.start()
    try:
        yield opened
    finally:
        await opened.close()
        shutil.rmtree(place)


def package(code: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("app.py", code)
    return buffer.getvalue()


def environments_cpu_s(node: Node) -> float:
    """Of all processes under this one, at work or gone."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime + sum(map(_cpu_s, _descendants(os.getpid())))


def _descendants(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


async def throughput(configuration: Configuration, code: bytes | None, records: int, batch: int, size: int) -> Round:
    """From a mapping's creation to the last record's being done, the environments' cold start included."""
    async with node() as opened:
        stream = await opened.streams.create(StreamArn(SCOPE, "s"), shards_count=SHARDS)
        keys = pa.array([b"user-%d" % (row % 1000) for row in range(records)], pa.binary())
        data = pa.array([os.urandom(size) for _ in range(1000)] * (records // 1000), pa.binary())
        await stream.put_table(keys[: len(data)], data)
        await opened.functions.registry.create(SCOPE, "f", configuration, code)
        given = {"EventSourceArn": str(stream.state.arn), "FunctionName": "f", "StartingPosition": "TRIM_HORIZON"}
        started_s, cpu_s, children_s = time.perf_counter(), time.process_time(), environments_cpu_s(opened)
        await opened.mappings.registry.create(SCOPE, {**given, "BatchSize": batch})
        await opened.mappings.caught_up()
        took_s = time.perf_counter() - started_s
        own_us = (time.process_time() - cpu_s) / records * 1e6
        return Round(records / took_s, own_us, (environments_cpu_s(opened) - children_s) / records * 1e6)


async def latencies_ms(count: int) -> list[float]:
    """From before a put (fsync and all) to the handler, with nothing else going on."""
    async with node() as opened:
        stream = await opened.streams.create(StreamArn(SCOPE, "s"), shards_count=SHARDS)
        await stream.ready()
        path = opened.directory.path.parent / "latencies"
        configuration = Configuration("python3.11", "app.handler", ROLE, variables={"LATENCIES": str(path)})
        await opened.functions.registry.create(SCOPE, "f", configuration, package(LATENCY))
        given = {"EventSourceArn": str(stream.state.arn), "FunctionName": "f", "StartingPosition": "TRIM_HORIZON"}
        await opened.mappings.registry.create(SCOPE, given)
        for row in range(count):
            put = stream.put([b"user-%d" % row], [b"%d" % time.monotonic_ns()])
            await put.groups()
            await opened.mappings.caught_up()
        return [int(line) / 1e6 for line in path.read_text().split()][20:]  # the first ones wait for cold starts


async def measure(records: int, rounds: int) -> None:
    event = Configuration("python3.11", "app.handler", ROLE)
    typed = Configuration("python3.11", "app.handler", ROLE, input="batch", source=SOURCE)
    cases: dict[str, tuple[Configuration, bytes | None, int, int]] = {
        "fork, JSON events of 100 records": (event, package(EMPTY), 100, 100),
        "fork, JSON events of 1,000 records": (event, package(EMPTY), 1000, 100),
        "fork, JSON events of 100 records of 1 KiB": (event, package(EMPTY), 100, 1024),
        "ric (AWS's client), events of 100 records": (AWS_CLIENT, package(EMPTY), 100, 100),
        "fork, typed batches of 100 records": (typed, None, 100, 100),
        "fork, typed batches of 1,000 records": (typed, None, 1000, 100),
    }
    found: dict[str, list[Round]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, (configuration, code, batch, size) in cases.items():
            share = records if size < 1000 else records // 5
            found[name].append(await throughput(configuration, code, share, batch, size))
    print(f"| {'mapping of 4 shards, empty handler':<42} | {'records/s':>10} | server us | functions us |")
    for name, taken in found.items():
        row: Any = [statistics.median(each[column] for each in taken) for column in range(3)]
        print(f"| {name:<42} | {row[0]:>10,.0f} | {row[1]:>9.2f} | {row[2]:>12.2f} |")
    waits = sorted(await latencies_ms(300))
    print(
        f"put to handler (fsync, fork, window 0): p50 {waits[len(waits) // 2]:.2f} ms, "
        f"p99 {waits[len(waits) * 99 // 100]:.2f} ms"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    uvloop.run(measure(options.records, options.rounds))
