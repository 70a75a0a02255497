"""What deliveries cost: `.venv/bin/python tests/bench/delivery.py [--only SCENARIO ...] [--records N] [--rounds N]`.

A data directory in this process; records are put first, then a delivery stream reads them from the first on, and all of
its objects are delivered: from the log to Parquet files (zstd level 1), with bad records kept apart, or to GZIP. CPU is
this process's, for one record; a core's rate is its inverse. Beside it stands what a script would do that has the whole
input in memory and gives up at the first bad record: pyarrow's JSON reader and Parquet writer.

What is compared is measured in turns, and shares are those of each turn, the median of them: others use the machine.

Memory is that of `streamkit serve`, a process of its own, which has the records in its data directory and nothing to do
until the delivery stream is made: the most that was resident (VmHWM), over what was before. Nothing here is a test.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import uvloop

from streamkit.model.names import Scope, StreamArn
from streamkit.node import Node
from tests.bench.convert import LARGE, SMALL, Columns, bad, records, with_part
from tests.bench.run import ServerProcess

SCOPE = Scope("000000000000", "us-east-1")
SHARDS = 2
MIB = 1024 * 1024
SCENARIOS: Final = ("bad", "script", "partitions", "lines", "memory")

Configured = Callable[[Path], dict[str, Any]]


class Round(NamedTuple):
    records_per_s: float
    cpu_us: float
    mib_per_cpu_s: float
    objects: int


def destination(columns: Columns, folder: Path, *, buffer_bytes: int = 64 * MIB, **more: Any) -> dict[str, Any]:
    return {
        "Url": str(folder),
        "Format": "parquet",
        "Compression": "ZSTD",
        "Columns": [{"Name": name, "Type": hive} for name, hive in columns],
        "BufferingHints": {"SizeInBytes": buffer_bytes, "IntervalInMilliseconds": 900_000},
        "From": "TRIM_HORIZON",
        **more,
    }


async def put(node: Node, data: list[bytes], times: int = 1) -> None:
    keys = pa.array([b"%d" % (row % 997) for row in range(len(data))], pa.binary())
    stream = await node.streams.create(StreamArn(SCOPE, "s"), shards_count=SHARDS)
    for _ in range(times):
        await stream.put_table(keys, pa.array(data, pa.binary()))


def request(configuration: dict[str, Any]) -> dict[str, Any]:
    """CreateDeliveryStream's."""
    return {
        "DeliveryStreamName": "d",
        "DeliveryStreamType": "KinesisStreamAsSource",
        "KinesisStreamSourceConfiguration": {
            "KinesisStreamARN": str(StreamArn(SCOPE, "s")),
            "RoleARN": "arn:aws:iam::000000000000:role/bench",
        },
        "StreamkitDestinationConfiguration": configuration,
    }


async def measure(data: list[bytes], configured: Configured) -> Round:
    place = Path(tempfile.mkdtemp(prefix="streamkit-bench-", dir=Path.cwd()))
    node = Node(place / "data")
    await node.start()
    try:
        await put(node, data)
        began_s, cpu_s = time.perf_counter(), time.process_time()
        await node.deliveries.registry.create(SCOPE, request(configured(place / "out")))
        state = node.deliveries.registry.find(SCOPE, "d")  # whoever asks finds it ACTIVE
        await node.deliveries.registry.told()
        await node.deliveries.flush(state)
        took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
        objects = sum(path.is_file() for path in (place / "out").rglob("*"))
        size = sum(map(len, data))
        return Round(len(data) / took_s, 1e6 * cpu_s / len(data), size / MIB / cpu_s, objects)
    finally:
        await node.close()
        shutil.rmtree(place)


def script(data: list[bytes]) -> float:
    """CPU microseconds a record, of pyarrow alone."""
    import pyarrow.json as pj
    import pyarrow.parquet as pq

    lines = b"\n".join(data)
    with tempfile.NamedTemporaryFile(dir=Path.cwd()) as file:
        cpu_s = time.process_time()
        options = pj.ReadOptions(use_threads=False, block_size=4 * MIB)
        table = pj.read_json(io.BytesIO(lines), read_options=options)
        pq.write_table(table, file.name, compression="zstd", compression_level=1)
        return 1e6 * (time.process_time() - cpu_s) / len(data)


def in_turns(rounds: int, cases: dict[str, tuple[list[bytes], Configured]]) -> None:
    """Prints the cases; the first is what the others are compared with."""
    found: dict[str, list[Round]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, (data, configured) in cases.items():
            found[name].append(uvloop.run(measure(data, configured)))
    plain = next(iter(found.values()))
    for name, those in found.items():
        middle = sorted(those, key=lambda each: each.cpu_us)[len(those) // 2]
        share = statistics.median(one.cpu_us / each.cpu_us for one, each in zip(plain, those, strict=True))
        print(
            f"{name:<40}{middle.records_per_s:>12,.0f}{middle.cpu_us:>9.2f}{1e6 / middle.cpu_us:>18,.0f}"
            f"{middle.mib_per_cpu_s:>14,.0f}{middle.objects:>9,}{'' if those is plain else f'{share:>12.0%}'}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--records", type=int, default=400_000, help="of the small kind; a third of the large (default: %(default)s)")
    add("--rounds", type=int, default=5, help="the median of so many (default: %(default)s)")
    add("--only", nargs="+", choices=SCENARIOS, default=SCENARIOS, help="beside the plain ones (default: all)")
    options = parser.parse_args()
    print(
        f"{'':40}{'records/s':>12}{'CPU, us':>9}{'records/s a core':>18}{'MiB/s a core':>14}{'objects':>9}"
        f"{'of plain':>12}"
    )
    for columns, count in ((SMALL, options.records), (LARGE, options.records // 3)):
        data = records(count, is_large=columns is LARGE)
        size = f"{sum(map(len, data)) / len(data):,.0f} B"
        to_parquet = partial(destination, columns)
        cases: dict[str, tuple[list[bytes], Configured]] = {}
        if "bad" in options.only:
            cases[f"{size} to Parquet, 1 % bad"] = with_part(0.01, bad)(data), to_parquet
        if "partitions" in options.only and columns is SMALL:
            # More of them: what a file costs, however small, is another question.
            cases[f"{size} to Parquet, 100 partitions"] = data * 3, partial(in_partitions, columns)
        if "lines" in options.only and columns is SMALL:
            cases[f"{size} to GZIP lines"] = data, to_lines
        if cases or "script" in options.only:
            in_turns(options.rounds, {f"{size} to Parquet": (data, to_parquet), **cases})
        if "script" in options.only:
            alone = statistics.median(script(data) for _ in range(options.rounds))
            print(f"{'':4}pyarrow alone, all in memory, nothing kept apart: {alone:.2f} us")
    if "memory" in options.only:
        in_memory(records(options.records, is_large=False), options.rounds)


# -- memory ------------------------------------------------------------------------------------------------------------


def in_memory(data: list[bytes], rounds: int) -> None:
    """Some buffers' worth of records through a server."""
    bound_mb = 150
    print(f"\n{'':40}{'buffer, MiB':>12}{'idle, MB':>10}{'most, MB':>10}{'over idle, MB':>15}{'bound, MB':>11}")
    for name, configured in (("plain", destination), ("100 partitions", in_partitions)):
        for buffer_bytes in (64 * MIB, 128 * MIB):
            times = -(-6 * buffer_bytes // sum(map(len, data)))
            configuration = partial(configured, SMALL, buffer_bytes=buffer_bytes)
            found = [resident_mb(data, times, configuration) for _ in range(min(rounds, 3))]
            idle, most = max(found, key=lambda each: each[1] - each[0])
            bound = 3 * buffer_bytes / 1e6 + bound_mb
            print(
                f"{'Parquet, ' + name:<40}{buffer_bytes // MIB:>12}{idle:>10,.0f}{most:>10,.0f}"
                f"{most - idle:>15,.0f}{bound:>11,.0f}{'' if most - idle <= bound else '  EXCEEDED'}",
                flush=True,
            )


def resident_mb(data: list[bytes], times: int, configured: Configured) -> tuple[float, float]:
    """Of a server: before a delivery, and the most during it."""
    place = Path(tempfile.mkdtemp(prefix="streamkit-bench-", dir=Path.cwd()))
    try:
        uvloop.run(prepared(place / "data", data, times))
        process = ServerProcess(place / "data")
        try:
            client = http.client.HTTPConnection(process.url.removeprefix("http://"), timeout=600)
            headers = {
                "X-Amz-Target": "Firehose_20150804.CreateDeliveryStream",
                "X-Amz-Date": "20260101T000000Z",
                "Content-Type": "application/x-amz-json-1.1",
                "Authorization": "AWS4-HMAC-SHA256 Credential=000000000000/20260101/us-east-1/firehose/aws4_request, "
                f"SignedHeaders=host;x-amz-date, Signature={0:064}",
            }
            idle_mb = most_mb(process)
            for path, body in (
                ("/", json.dumps(request(configured(place / "out")))),
                ("/_streamkit/deliveries/flush", ""),
            ):
                client.request("POST", path, body, headers if body else {})
                answer = client.getresponse()
                said = answer.read()
                assert answer.status == 200, said
            return idle_mb, most_mb(process)
        finally:
            process.stop()
    finally:
        shutil.rmtree(place)


def most_mb(process: ServerProcess) -> float:
    """That was resident at a time, until now."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{process._process.pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024 / 1e6


async def prepared(place: Path, data: list[bytes], times: int) -> None:
    node = Node(place)
    await node.start()
    try:
        await put(node, data, times)
    finally:
        await node.close()


def in_partitions(columns: Columns, folder: Path, *, buffer_bytes: int = 64 * MIB) -> dict[str, Any]:
    """By two digits of the user's id. A record without one, 1 in 120, ends in the error output."""
    parameters = {"MetadataExtractionQuery": "{p: .user_id[3:5]}", "JsonParsingEngine": "JQ-1.6"}
    named = [{"ParameterName": name, "ParameterValue": value} for name, value in parameters.items()]
    return destination(
        columns,
        folder,
        buffer_bytes=buffer_bytes,
        DynamicPartitioning=True,
        Prefix="p=!{partitionKeyFromQuery:p}/",
        ProcessingConfiguration={
            "Enabled": True,
            "Processors": [{"Type": "MetadataExtraction", "Parameters": named}],
        },
    )


def to_lines(folder: Path) -> dict[str, Any]:
    return {
        "Url": str(folder),
        "Format": "json",
        "Compression": "GZIP",
        "BufferingHints": {"SizeInBytes": 64 * MIB, "IntervalInMilliseconds": 900_000},
        "From": "TRIM_HORIZON",
    }


if __name__ == "__main__":
    main()
