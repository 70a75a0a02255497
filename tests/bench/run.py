"""The figures of the README, made anew: `make bench`, or `.venv/bin/python tests/bench/run.py --quick --against URL`.

Each figure is the median of several rounds, the rounds of one comparison taken in turns. The server is a process of its
own with fsync durability, and its CPU time is read from the kernel: CPU per record is the figure to compare between
machines, rates are what this machine could do while others used it. Nothing here is a test.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import uvloop

import streamkit
from streamkit.cli import bench
from streamkit.cli.load_generator import run_for

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class ServerProcess:
    """`streamkit serve` on a free port."""

    def __init__(self, data: Path) -> None:
        command = [sys.executable, "-m", "streamkit.cli.main", "serve", "--port", "0", "--data", str(data)]
        self.started_s = time.perf_counter()
        self._process = subprocess.Popen([*command, "--log-level", "error"], stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        self.url = self._process.stderr.readline().split()[-1]

    @property
    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    @property
    def resident_mb(self) -> float:
        return int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]) * PAGE_BYTES / 1e6

    def stop(self) -> None:
        self._process.terminate()
        self._process.communicate(timeout=30)


@contextmanager
def server() -> Iterator[ServerProcess]:
    data = Path(tempfile.mkdtemp(prefix="streamkit-bench-", dir=Path.cwd()))
    process = ServerProcess(data)
    try:
        yield process
    finally:
        process.stop()
        shutil.rmtree(data)


class Row(NamedTuple):
    what: str
    value: float
    unit: str
    cpu_us: float | None = None
    note: str = ""

    def text(self) -> str:
        digits = 2 if self.value < 100 else 0
        cpu = "" if self.cpu_us is None else f"{self.cpu_us:.2f}"
        return f"| {self.what:<52} | {self.value:>12,.{digits}f} {self.unit:<11} | {cpu:>8} | {self.note}"


# -- what is measured ------------------------------------------------------------------------------------------------


def api(seconds: float, rounds: int, against: str | None) -> Iterator[Row]:
    """The cases of `streamkit bench`."""
    titles = {
        "put-record": ("PutRecord 100 B, 16 connections", 1),
        "put-records-100": ("PutRecords 500 x 100 B, 4 connections", 1),
        "put-records-1k": ("PutRecords 500 x 1 KiB, 4 connections", 1024 / 1e6),
        "get-records-1k": ("GetRecords drain, 1 KiB, 4 shards", None),
        "put-to-visible": ("put to visible on a waiting read, p50", None),
    }
    with server() as process:
        endpoints = [process.url, *([against] if against else [])]
        for case, (title, per_record) in titles.items():
            if case == "put-to-visible":
                endpoints = endpoints[:1]
            figures, cpu_us = uvloop.run(_in_turns(process, endpoints, case, per_record, seconds, rounds))
            values = [statistics.median(figure.value for figure in each) for each in figures]
            note = f"{values[0] / values[1]:.1f} times the other endpoint" if len(values) > 1 else ""
            cpu = statistics.median(cpu_us) if cpu_us else None
            yield Row(title, values[0], figures[0][0].unit, cpu, note)


async def _in_turns(
    process: ServerProcess, endpoints: list[str], case: str, per_record: float | None, seconds: float, rounds: int
) -> tuple[list[list[bench.Figure]], list[float]]:
    """The figures of each endpoint, and the server's CPU per record where a figure says how many there were."""
    figures: list[list[bench.Figure]] = [[] for _ in endpoints]
    cpu_us: list[float] = []
    for _ in range(rounds):
        for index, url in enumerate(endpoints):
            before = process.cpu_s
            figure = (await bench.measure([url], [case], seconds, 1))[case][0][0]
            figures[index].append(figure)
            if index == 0 and per_record:
                cpu_us.append((process.cpu_s - before) * 1e6 * per_record / (figure.value * seconds))
    return figures, cpu_us


def columnar_puts(rounds: int) -> Iterator[Row]:
    """The library over a data directory: a table of 400,000 records of 100 B over 4 shards, durable when it returns."""
    rows = 400_000
    data = pa.array([os.urandom(100) for _ in range(1000)] * (rows // 1000), pa.binary())
    kinds = {
        "50,000 distinct keys": pa.array([f"user-{row % 50_000}" for row in range(rows)]),
        "every key distinct": pa.array([f"user-{row}" for row in range(rows)]),
        "100 distinct keys": pa.array([f"user-{row % 100}" for row in range(rows)]),
    }

    async def measured(keys: pa.Array) -> tuple[float, float]:
        place = Path(tempfile.mkdtemp(prefix="streamkit-bench-", dir=Path.cwd()))
        try:
            async with streamkit.open(place) as kit:
                await kit.create_stream("s", shards=4)
                table = pa.table({"partition_key": keys, "data": data})
                rates, cpu = [], []
                for _ in range(max(rounds, 3) + 1):
                    start, cpu_start = time.perf_counter(), time.process_time()
                    await kit.put_table("s", table)
                    rates.append(rows / (time.perf_counter() - start))
                    cpu.append((time.process_time() - cpu_start) / rows * 1e6)
                return statistics.median(rates[1:]), statistics.median(cpu[1:])
        finally:
            shutil.rmtree(place)

    for what, keys in kinds.items():
        rate, cpu_us = uvloop.run(measured(keys))
        yield Row(f"library, put_table 100 B, 4 shards, {what}", rate, "records/s", cpu_us)


def backlog(records: int, rounds: int) -> Iterator[Row]:
    """Puts and reads with many records stored against few, in one run."""
    small, large = "small", "large"

    async def filled(url: str) -> None:
        async with streamkit.open(url) as kit:
            keys = [f"key-{row}" for row in range(50_000)]
            table = pa.table({"partition_key": keys, "data": [bytes(100)] * len(keys)})
            await kit.create_stream(small, shards=4)
            await kit.put_table(small, table[:10_000])
            await kit.create_stream(large, shards=4)
            for _ in range(records // len(keys)):
                await kit.put_table(large, table)

    async def puts(url: str, stream: str) -> float:
        endpoint = bench.Endpoint(url)
        endpoint.stream = stream
        source = random.Random(1)
        requests = [endpoint.put_records(500, 100, source) for _ in range(8)]
        outcome = await run_for(url, requests, 4, 0.25)
        await endpoint.client.close()
        return outcome.requests_count * 500 / outcome.elapsed_s

    async def gets(url: str, stream: str) -> float:
        """GetRecords of 2,500 records from positions all over the stream, in turn."""
        endpoint = bench.Endpoint(url)
        endpoint.stream = stream
        requests = [request async for request in _scattered_reads(endpoint)]
        outcome = await run_for(url, requests, 2, 1.0)
        await endpoint.client.close()
        return outcome.requests_count / outcome.elapsed_s

    with server() as process:
        uvloop.run(filled(process.url))
        for what, measure in (("PutRecords", puts), ("GetRecords", gets)):
            rates: dict[str, list[float]] = {small: [], large: []}
            for _ in range(2 * rounds + 1):
                for stream in (small, large):
                    rates[stream].append(uvloop.run(measure(process.url, stream)))
            ratio = statistics.median(rates[large]) / statistics.median(rates[small])
            yield Row(f"{what}: rate with {records:,} stored / 10,000", ratio, "ratio")
        yield Row("resident memory of the server meanwhile", process.resident_mb, "MB")


async def _scattered_reads(endpoint: bench.Endpoint) -> AsyncIterator[bytes]:
    for shard in (await endpoint.call("ListShards", {"StreamName": endpoint.stream}))["Shards"]:
        where = {"StreamName": endpoint.stream, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
        iterator = (await endpoint.call("GetShardIterator", where))["ShardIterator"]
        for _ in range(20):
            yield endpoint.request("GetRecords", {"ShardIterator": iterator, "Limit": 1_000})
            found = await endpoint.call("GetRecords", {"ShardIterator": iterator, "Limit": 10_000})
            if found["MillisBehindLatest"]:
                iterator = found["NextShardIterator"]


def starting(rounds: int) -> Iterator[Row]:
    """From starting the process to the answer of its first ListStreams."""
    times, resident = [], []
    for _ in range(max(rounds, 3)):
        with server() as process:

            async def first_answer(url: str = process.url) -> None:
                endpoint = bench.Endpoint(url)
                await endpoint.call("ListStreams", {})
                await endpoint.client.close()

            asyncio.run(first_answer())
            times.append(time.perf_counter() - process.started_s)
            resident.append(process.resident_mb)
    yield Row("serve: first ListStreams answered after", statistics.median(times), "s")
    yield Row("serve: resident memory, idle", statistics.median(resident), "MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round of everything")
    parser.add_argument("--against", metavar="URL", help="another endpoint, measured in turns by the API's cases")
    parser.add_argument("--only", choices=("api", "library", "backlog", "start"), action="append")
    options = parser.parse_args()
    rounds, seconds, records = (1, 1.0, 500_000) if options.quick else (5, 3.0, 5_000_000)
    parts: dict[str, Callable[[], Iterator[Row]]] = {
        "api": lambda: api(seconds, rounds, options.against),
        "library": lambda: columnar_puts(rounds),
        "backlog": lambda: backlog(records, rounds),
        "start": lambda: starting(rounds),
    }
    print(f"| {'what':<52} | {'median':>12} {'':<11} | {'CPU us':>8} |")
    print(f"|{'-' * 54}|{'-' * 26}|{'-' * 10}|")
    for name, part in parts.items():
        if not options.only or name in options.only:
            for row in part():
                print(row.text(), flush=True)


if __name__ == "__main__":
    main()
