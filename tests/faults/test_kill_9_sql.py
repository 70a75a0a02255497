"""An SQL application killed with `kill -9`: its outputs are those of a run that was never killed.

The application reads a stream of two shards and writes windows to another stream, a selection to files, to a delivery
stream and to a function, and counts to a live table. It is killed again and again while records come in, some of which
cannot be read. At the end each window must stand in the output stream once, with all its records counted, each selected
record in one file, once; the live table must have counted each record, and the error stream each that cannot be read,
once. The delivery stream and the function must have got each selected record, perhaps more than once.

`pytest tests/faults/test_kill_9_sql.py --kill-rounds 50` kills as often; `--kill-seed` repeats a run.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import streamkit
from streamkit.kit.delivery import Delivery
from streamkit.kit.lambda_client import package_of
from streamkit.testing.plugin import StartStreamkit

SCRIPT = """
CREATE TABLE clicks (
  page STRING, at_ms BIGINT, ts AS TO_TIMESTAMP_LTZ(at_ms, 3), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND
) WITH ('connector' = 'kinesis', 'stream' = 'clicks', 'format' = 'json', 'scan.stream.initpos' = 'TRIM_HORIZON');
CREATE TABLE counts (window_end TIMESTAMP(3), page STRING, n BIGINT) PARTITIONED BY (page)
WITH ('connector' = 'kinesis', 'stream' = 'counts', 'format' = 'json');
CREATE TABLE tens (page STRING, at_ms BIGINT)
WITH ('connector' = 'filesystem', 'path' = '{out}', 'format' = 'json');
CREATE TABLE totals (page STRING, n BIGINT, last BIGINT, PRIMARY KEY (page) NOT ENFORCED) WITH ('connector' = 'live');
CREATE TABLE lake (at_ms BIGINT) WITH ('connector' = 'firehose', 'delivery-stream' = 'lake', 'format' = 'json');
CREATE TABLE given (at_ms BIGINT) WITH ('connector' = 'lambda', 'function' = 'called', 'format' = 'json');
EXECUTE STATEMENT SET BEGIN
  INSERT INTO counts
  SELECT window_end, page, COUNT(*)
  FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1' SECOND)) GROUP BY page, window_start, window_end;
  INSERT INTO tens SELECT page, at_ms FROM clicks WHERE MOD(at_ms, 10) = 0;
  INSERT INTO totals SELECT page, COUNT(*), MAX(at_ms) FROM clicks GROUP BY page;
  INSERT INTO lake SELECT at_ms FROM clicks WHERE MOD(at_ms, 10) = 0;
  INSERT INTO given SELECT at_ms FROM clicks WHERE MOD(at_ms, 10) = 0;
END;
"""
HANDLER = """
import base64

def handler(event, context):
    with open({path!r}, "ab") as file:
        for record in event["records"]:
            file.write(base64.b64decode(record["data"]) + b"\\n")
    return {{"records": [{{"recordId": record["recordId"], "result": "Ok"}} for record in event["records"]]}}
"""
PAGES = 3
START_MS = 1_700_000_000_000
RECORDS_PER_KILL = 2_000


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", [metafunc.config.getoption("--kill-seed")])


def start(script: Path, state: Path, endpoint: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "streamkit.cli.main", "sql", "run", str(script), "--state", str(state)]
    with (state.parent / "errors").open("ab") as errors:
        return subprocess.Popen([*command, "--endpoint", endpoint], stderr=errors)


def test_outputs_are_those_of_an_application_that_was_never_killed(
    seed: int, tmp_path: Path, start_streamkit: StartStreamkit, pytestconfig: pytest.Config
) -> None:
    """Nothing is lost, nothing stands twice, whatever was under way when it was killed."""
    kills: int = pytestconfig.getoption("--kill-rounds")
    server = start_streamkit()
    draw = random.Random(seed)
    out = tmp_path / "out"
    script = tmp_path / "app.sql"
    script.write_text(SCRIPT.format(out=out))
    asyncio.run(_make(server.endpoint, tmp_path))
    put = 0
    for round_ in range(kills):
        application = start(script, tmp_path / "state", server.endpoint)
        deadline = time.monotonic() + draw.uniform(0.3, 2.5)
        put = asyncio.run(_put(server.endpoint, put, RECORDS_PER_KILL))
        asyncio.run(_put_bad(server.endpoint, round_))
        while time.monotonic() < deadline and application.poll() is None:
            time.sleep(0.01)
        assert application.poll() is None, (tmp_path / "errors").read_text()
        application.kill()
        application.wait()
    put = asyncio.run(_put(server.endpoint, put, 4_000))  # so that the windows of all before close
    application = start(script, tmp_path / "state", server.endpoint)
    try:
        expected = {
            (second, page): len([i for i in range(second * 1_000 - 1_000, second * 1_000) if i % PAGES == page])
            for second in range(1, (put - 4_000) // 1_000 + 1)
            for page in range(PAGES)
        }
        deadline = time.monotonic() + 60
        while True:
            found = asyncio.run(_counts(server.endpoint))
            if (
                set(expected) <= set(found) and _called(tmp_path) >= set(range(0, put, 10))
            ) or time.monotonic() > deadline:
                break
            time.sleep(0.2)
    finally:
        application.terminate()
        application.wait(20)
    counts = asyncio.run(_counts(server.endpoint))
    assert {key: counts.get(key) for key in expected} == {key: [count] for key, count in expected.items()}
    lines = [json.loads(line) for path in out.iterdir() for line in path.read_text().splitlines()]
    assert Counter(line["at_ms"] - START_MS for line in lines) == Counter(range(0, put, 10))
    totals = {row["page"]: (row["n"], row["last"] - START_MS) for row in _snapshot(tmp_path, "totals")}
    pages = {f"/{page}": list(range(page, put, PAGES)) for page in range(PAGES)}
    assert totals == {page: (len(of), of[-1]) for page, of in pages.items()}
    bad = [(row["error_name"], row["row"]) for row in _snapshot(tmp_path, "error_stream")]
    assert sorted(bad) == sorted(("malformed", f"bad {round_}") for round_ in range(kills))
    assert _called(tmp_path) == set(range(0, put, 10))
    asyncio.run(_flush(server.endpoint))
    files = [path for path in (tmp_path / "lake").rglob("*") if path.is_file()]
    text = "".join(path.read_text() for path in files).replace("}{", "}\n{")
    assert {json.loads(line)["at_ms"] - START_MS for line in text.splitlines()} == set(range(0, put, 10))


def _called(folder: Path) -> set[int]:
    """What the function was given. A line that is being written is left out."""
    path = folder / "called"
    lines = path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []
    return {json.loads(line)["at_ms"] - START_MS for line in lines}


def _snapshot(folder: Path, name: str) -> list[dict[str, Any]]:
    from streamkit_sql.tables.live_table import read_snapshot, snapshot_path

    rows: list[dict[str, Any]] = read_snapshot(snapshot_path(folder / "state" / "app", name)).to_pylist()
    return rows


async def _make(endpoint: str, folder: Path) -> None:
    code = folder / "called.py"
    code.write_text(HANDLER.format(path=str(folder / "called")))
    async with streamkit.open(endpoint) as kit:
        await kit.create_stream("clicks", shards=2)
        await kit.create_stream("counts", shards=2)
        deliveries = kit.backend.deliveries()
        await deliveries.ensure(Delivery("lake", str(folder / "lake"), direct=True))
        functions = deliveries.functions()
        await functions.call(
            "CreateFunction",
            {
                "FunctionName": "called",
                "Runtime": "python3.11",
                "Role": "arn:aws:iam::000000000000:role/r",
                "Handler": "called.handler",
                "Code": package_of(code).values,
            },
        )
        await functions.settled_function("called")


async def _put_bad(endpoint: str, number: int) -> None:
    async with streamkit.open(endpoint) as kit:
        await kit.put("clicks", f"bad {number}", partition_key=str(number))


async def _flush(endpoint: str) -> None:
    async with streamkit.open(endpoint) as kit:
        await kit.flush_deliveries("lake")


async def _put(endpoint: str, first: int, count: int) -> int:
    """A record a millisecond of event time; answers where the next begins."""
    async with streamkit.open(endpoint) as kit:
        for start_at in range(first, first + count, 250):
            rows = [{"page": f"/{i % PAGES}", "at_ms": START_MS + i} for i in range(start_at, start_at + 250)]
            await kit.put_many("clicks", [(str(row["at_ms"]), json.dumps(row)) for row in rows])
    return first + count


async def _counts(endpoint: str) -> dict[tuple[int, int], list[int]]:
    """What stands in the output stream, by second and page."""
    found: dict[tuple[int, int], list[int]] = {}
    async with streamkit.open(endpoint) as kit:
        consumer = kit.consumer("counts", "check", start="TRIM_HORIZON", follow=False)
        async for batch in consumer:
            for record in batch.records():
                row = json.loads(record.data)
                end = row["window_end"]
                second = _second(end)
                found.setdefault((second, int(row["page"][1:])), []).append(row["n"])
    return found


def _second(text: str) -> int:
    """Of event time, from the first record on."""
    from datetime import UTC, datetime

    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return round(moment.timestamp() - START_MS / 1000)
