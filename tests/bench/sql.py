"""Queries over a stream, embedded: Nexmark's events as JSON in a stream, results into nothing, checkpoints on.

    python -m tests.bench.sql [--events 500000] [--queries q0,q5,..]

A core's rate is events by CPU seconds of the process while the query runs, reading the log and checkpoints included.
Medians of three runs, each over the same stream and with new state.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import statistics
import tempfile
import time
from pathlib import Path

import pyarrow as pa

import streamkit
from streamkit_sql.application import Application
from tests.sql import nexmark

TABLES = (Path(__file__).parent.parent / "sql" / "cases" / "tables" / "nexmark.sql").read_text()
STREAM = "'connector' = 'kinesis', 'stream' = 'events', 'format' = 'json', 'scan.stream.initpos' = 'TRIM_HORIZON'"
WINDOW = "window_start, window_end"
QUERIES = {
    "q0": "SELECT auction, bidder, price, `dateTime`, extra FROM bid",
    "q1": "SELECT auction, bidder, 0.908 * price AS price, `dateTime`, extra FROM bid",
    "q2": "SELECT auction, price FROM bid WHERE MOD(auction, 123) = 0",
    "q5": f"""
        SELECT a.auction, a.num FROM (
          SELECT auction, COUNT(*) AS num, {WINDOW} FROM
          TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
          GROUP BY auction, {WINDOW}) AS a
        JOIN (
          SELECT MAX(num) AS most, {WINDOW} FROM (
            SELECT auction, COUNT(*) AS num, {WINDOW} FROM
            TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
            GROUP BY auction, {WINDOW}) GROUP BY {WINDOW}) AS m
        ON a.window_start = m.window_start AND a.window_end = m.window_end AND a.num >= m.most""",
    "q7": f"""
        SELECT b.auction, b.price, b.bidder, b.`dateTime` FROM bid AS b JOIN (
          SELECT MAX(price) AS most, window_time AS ends FROM
          TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
          GROUP BY {WINDOW}, window_time) AS m
        ON b.price = m.most AND b.`dateTime` BETWEEN m.ends - INTERVAL '10' SECOND AND m.ends""",
    "q8": f"""
        SELECT p.id, p.name, p.window_start FROM (
          SELECT id, name, {WINDOW} FROM TABLE(TUMBLE(TABLE person, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
          GROUP BY id, name, {WINDOW}) AS p
        JOIN (
          SELECT seller, {WINDOW} FROM TABLE(TUMBLE(TABLE auction, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
          GROUP BY seller, {WINDOW}) AS a
        ON p.id = a.seller AND p.window_start = a.window_start AND p.window_end = a.window_end""",
    "q11": f"""
        SELECT bidder, COUNT(*) AS bids, {WINDOW} FROM
        TABLE(SESSION(TABLE bid PARTITION BY bidder, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
        GROUP BY bidder, {WINDOW}""",
    "q12": f"""
        SELECT bidder, COUNT(*) AS bids, {WINDOW} FROM
        TABLE(TUMBLE(TABLE arriving, DESCRIPTOR(p_time), INTERVAL '10' SECOND)) GROUP BY bidder, {WINDOW}""",
}


def script(name: str) -> str:
    """The query over the stream, its rows thrown away."""
    tables = TABLES.replace("'connector' = 'filesystem', 'path' = '${DATA}/nexmark.json', 'format' = 'json'", STREAM)
    view = "CREATE VIEW arriving AS SELECT *, PROCTIME() AS p_time FROM bid;"
    sink = f"CREATE TABLE nothing WITH ('connector' = 'blackhole') AS {QUERIES[name]}"
    return f"{tables}\n{view}\n{sink};"


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def fill(kit: streamkit.Kit, events: int) -> None:
    await kit.create_stream("events", shards=1)
    for rows in nexmark.events(events, 7, gap_ms=1.0, disorder_ms=1_000):
        data = pa.array(rows, pa.binary())
        keys = pa.array([str(index % 64) for index in range(len(rows))])
        await kit.put_table("events", pa.table({"partition_key": keys, "data": data}))


async def measure(kit: streamkit.Kit, name: str, events: int, state: Path) -> tuple[float, float]:
    """Seconds of wall clock and of CPU until the last event was taken in."""
    application = Application(kit.backend, script(name), state)
    stop = asyncio.Event()
    started_s, used_s = time.perf_counter(), cpu_s()
    task = asyncio.create_task(application.run(stop))
    while application.rows_taken < events and not task.done():  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    spent = time.perf_counter() - started_s, cpu_s() - used_s
    stop.set()
    await task
    return spent


async def run(events: int, names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with streamkit.open(Path(folder) / "data") as kit:
            await fill(kit, events)
            print(f"{events:,} events; k events/s by the clock and by CPU second")
            for name in names:
                runs = [await measure(kit, name, events, Path(folder) / f"{name}-{turn}") for turn in range(3)]
                wall, used = (statistics.median(run[i] for run in runs) for i in (0, 1))
                print(f"{name:>4} {events / wall / 1000:8.0f} {events / used / 1000:8.0f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--queries", default=",".join(QUERIES))
    options = parser.parse_args()
    asyncio.run(run(options.events, options.queries.split(",")))


if __name__ == "__main__":
    main()
