"""An SQL application killed with `kill -9`: its outputs are those of a run that was never killed.

The application reads a stream of two shards and writes windows to another stream and a selection to files. It is killed
again and again while records come in. At the end each window must stand in the output stream once, with all its
records counted, and each selected record in one file, once.

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

import pytest

import streamkit
from streamkit.testing.plugin import StartStreamkit

SCRIPT = """
CREATE TABLE clicks (
  page STRING, at_ms BIGINT, ts AS TO_TIMESTAMP_LTZ(at_ms, 3), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND
) WITH ('connector' = 'kinesis', 'stream' = 'clicks', 'format' = 'json', 'scan.stream.initpos' = 'TRIM_HORIZON');
CREATE TABLE counts (window_end TIMESTAMP(3), page STRING, n BIGINT) PARTITIONED BY (page)
WITH ('connector' = 'kinesis', 'stream' = 'counts', 'format' = 'json');
CREATE TABLE tens (page STRING, at_ms BIGINT)
WITH ('connector' = 'filesystem', 'path' = '{out}', 'format' = 'json');
EXECUTE STATEMENT SET BEGIN
  INSERT INTO counts
  SELECT window_end, page, COUNT(*)
  FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1' SECOND)) GROUP BY page, window_start, window_end;
  INSERT INTO tens SELECT page, at_ms FROM clicks WHERE MOD(at_ms, 10) = 0;
END;
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
    asyncio.run(_make(server.endpoint))
    put = 0
    for _ in range(kills):
        application = start(script, tmp_path / "state", server.endpoint)
        deadline = time.monotonic() + draw.uniform(0.3, 2.5)
        put = asyncio.run(_put(server.endpoint, put, RECORDS_PER_KILL))
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
            if set(expected) <= set(found) or time.monotonic() > deadline:
                break
            time.sleep(0.2)
    finally:
        application.terminate()
        application.wait(20)
    counts = asyncio.run(_counts(server.endpoint))
    assert {key: counts.get(key) for key in expected} == {key: [count] for key, count in expected.items()}
    lines = [json.loads(line) for path in out.iterdir() for line in path.read_text().splitlines()]
    assert Counter(line["at_ms"] - START_MS for line in lines) == Counter(range(0, put, 10))


async def _make(endpoint: str) -> None:
    async with streamkit.open(endpoint) as kit:
        await kit.create_stream("clicks", shards=2)
        await kit.create_stream("counts", shards=2)


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
