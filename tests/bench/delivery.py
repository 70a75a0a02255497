"""What deliveries cost: `.venv/bin/python tests/bench/delivery.py [--records N] [--rounds N]`.

A data directory in this process; records are put first, then a delivery stream reads them from the first on, and all of
its objects are delivered: from the log to Parquet files (zstd level 1), with bad records kept apart, or to GZIP. CPU is
this process's, for one record; a core's rate is its inverse. Beside it stands what a script would do that has the whole
input in memory and gives up at the first bad record: pyarrow's JSON reader and Parquet writer.
Nothing here is a test.
"""

from __future__ import annotations

import argparse
import io
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import uvloop

from streamkit.model.names import Scope, StreamArn
from streamkit.node import Node
from tests.bench.convert import LARGE, SMALL, Columns, bad, records, with_part

SCOPE = Scope("000000000000", "us-east-1")
SHARDS = 2
MIB = 1024 * 1024


class Round(NamedTuple):
    records_per_s: float
    cpu_us: float
    mib_per_cpu_s: float
    objects: int


def destination(columns: Columns, folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "Url": str(folder),
        "Format": "parquet",
        "Compression": "ZSTD",
        "Columns": [{"Name": name, "Type": hive} for name, hive in columns],
        "BufferingHints": {"SizeInBytes": 64 * MIB, "IntervalInMilliseconds": 900_000},
        "From": "TRIM_HORIZON",
        **more,
    }


async def measure(data: list[bytes], configuration: Callable[[Path], dict[str, Any]]) -> Round:
    place = Path(tempfile.mkdtemp(prefix="streamkit-bench-", dir=Path.cwd()))
    node = Node(place / "data")
    await node.start()
    try:
        stream = await node.streams.create(StreamArn(SCOPE, "s"), shards_count=SHARDS)
        keys = pa.array([b"%d" % (row % 997) for row in range(len(data))], pa.binary())
        await stream.put_table(keys, pa.array(data, pa.binary()))
        given = {
            "DeliveryStreamName": "d",
            "DeliveryStreamType": "KinesisStreamAsSource",
            "KinesisStreamSourceConfiguration": {
                "KinesisStreamARN": str(StreamArn(SCOPE, "s")),
                "RoleARN": "arn:aws:iam::000000000000:role/bench",
            },
            "StreamkitDestinationConfiguration": configuration(place / "out"),
        }
        began_s, cpu_s = time.perf_counter(), time.process_time()
        await node.deliveries.registry.create(SCOPE, given)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--records", type=int, default=400_000, help="of the small kind; a third of the large (default: %(default)s)")
    add("--rounds", type=int, default=3, help="the median of so many (default: %(default)s)")
    options = parser.parse_args()
    print(f"{'':40}{'records/s':>12}{'CPU, us':>9}{'records/s a core':>18}{'MiB/s a core':>14}{'objects':>9}")

    def report(name: str, data: list[bytes], configuration: Callable[[Path], dict[str, Any]]) -> float:
        rounds = [uvloop.run(measure(data, configuration)) for _ in range(options.rounds)]
        middle = sorted(rounds, key=lambda each: each.cpu_us)[len(rounds) // 2]
        print(
            f"{name:<40}{middle.records_per_s:>12,.0f}{middle.cpu_us:>9.2f}{1e6 / middle.cpu_us:>18,.0f}"
            f"{middle.mib_per_cpu_s:>14,.0f}{middle.objects:>9,}",
            flush=True,
        )
        return middle.cpu_us

    for columns, count in ((SMALL, options.records), (LARGE, options.records // 3)):
        data = records(count, is_large=columns is LARGE)
        size = f"{sum(map(len, data)) / len(data):,.0f} B"
        to_parquet = partial(destination, columns)
        plain = report(f"{size} to Parquet", data, to_parquet)
        with_bad = report(f"{size} to Parquet, 1 % bad", with_part(0.01, bad)(data), to_parquet)
        print(f"{'':4}with bad records: {plain / with_bad:.0%} of the plain rate")
        alone = statistics.median(script(data) for _ in range(options.rounds))
        print(
            f"{'':4}pyarrow alone, all in memory, nothing kept apart: {alone:.2f} us; "
            f"ours is {plain / alone:.2f} times that"
        )
        if columns is SMALL:
            # More of them: what a file costs, however small, is another question.
            partitioned = report(f"{size} to Parquet, 100 partitions", data * 3, partial(in_partitions, columns))
            print(f"{'':4}with partitions: {plain / partitioned:.0%} of the plain rate")
            report(f"{size} to GZIP lines", data, to_lines)


def in_partitions(columns: Columns, folder: Path) -> dict[str, Any]:
    """By two digits of the user's id. A record without one, 1 in 120, ends in the error output."""
    parameters = {"MetadataExtractionQuery": "{p: .user_id[3:5]}", "JsonParsingEngine": "JQ-1.6"}
    named = [{"ParameterName": name, "ParameterValue": value} for name, value in parameters.items()]
    return destination(
        columns,
        folder,
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
