"""`streamkit up` with deliveries: what it says is delivered, the second time nothing changes, a saved file counts."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from typing import Any, NamedTuple

import pyarrow.dataset as ds
import pytest

import streamkit
from streamkit.testing.server import ServerProcess

EXAMPLE = Path(__file__).parents[1] / "examples" / "lake"
PROGRAM = [sys.executable, "-m", "streamkit.cli.main"]
CLICKS = [
    json.dumps(
        {
            "page": f"/{number % 7}",
            "user": {"id": number, "country": "de"},
            "at": f"2026-01-{30 + number % 2}T09:00:00Z",
            "robot": number % 10 == 0,
        }
    )
    for number in range(100)
]
MADE = [
    ("stream", "clicks", "made"),
    ("function", "clean", "made"),
    ("delivery", "clicks-to-lake", "made"),
    ("delivery", "audit", "made"),
]
LEFT_ALONE = [(kind, name, "left alone") for kind, name, _ in MADE]


class Ran(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def outcomes(self) -> list[tuple[str, str, str]]:
        found = [json.loads(line) for line in self.out.splitlines()]
        return [(each["kind"], each["name"], each["outcome"]) for each in found]


class Project:
    """A copy of the example, which delivers into a directory beside it."""

    def __init__(self, path: Path) -> None:
        shutil.copytree(EXAMPLE, path)
        self.path = path
        self.file = path / "pipeline.toml"
        self.replace("s3://lake/", "lake/")

    def replace(self, old: str, new: str) -> None:
        text = self.file.read_text()
        assert old in text
        self.file.write_text(text.replace(old, new))

    def add(self, text: str) -> None:
        self.file.write_text(f"{self.file.read_text()}\n{text}")

    def up(self, *options: str) -> Ran:
        return run("up", str(self.file), *options)

    def clicks(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (
            ds.dataset(self.path / "lake" / "clicks", partitioning="hive").to_table().to_pylist()
        )
        return found


def run(*arguments: str, lines: str = "") -> Ran:
    done = subprocess.run([*PROGRAM, *arguments], capture_output=True, timeout=60, text=True, input=lines)
    return Ran(done.returncode, done.stdout, done.stderr)


class Running:
    """`streamkit up` that goes on, with the lines that it prints."""

    def __init__(self, *arguments: str, cwd: Path) -> None:
        self.process = subprocess.Popen(
            [*PROGRAM, "up", *arguments], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._queue: Queue[str] = Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(line.rstrip("\n"))

    def line(self, pattern: str, timeout_s: float = 20) -> re.Match[str]:
        """The next line that has it."""
        ends_at = time.monotonic() + timeout_s
        while True:
            if found := re.search(pattern, self._queue.get(timeout=max(0.01, ends_at - time.monotonic()))):
                return found

    def end(self) -> int:
        """As Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(20)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


@pytest.fixture
def start(project: Project) -> Iterator[Callable[..., Running]]:
    running: list[Running] = []

    def begin(*arguments: str) -> Running:
        running.append(Running(*arguments, cwd=project.path))
        return running[-1]

    yield begin
    for each in running:
        if each.process.poll() is None:
            each.process.kill()
        each.process.wait()
        each._reader.join()
        if each.process.stdout is not None:
            each.process.stdout.close()


@pytest.fixture
def server(start_streamkit: Any, request: pytest.FixtureRequest) -> ServerProcess:
    made: ServerProcess = start_streamkit(**getattr(request, "param", {}))
    return made


def put(endpoint: str, records: list[str]) -> None:
    with streamkit.open_blocking(endpoint) as kit:
        kit.put_many("clicks", [(str(number), record) for number, record in enumerate(records)])


def flush(endpoint: str) -> None:
    ran = run("deliveries", "--flush", "--endpoint", endpoint)
    assert ran.status == 0, ran.err


# -- a running server ------------------------------------------------------------------------------------------------


def test_the_example_delivers_what_its_function_let_through(server: ServerProcess, project: Project) -> None:
    """Each click is in a file of its day, in the error output, or was a robot's."""
    ran = project.up("--endpoint", server.endpoint, "--json")
    assert (ran.status, ran.outcomes) == (0, MADE), ran.err
    put(server.endpoint, [*CLICKS, "no click"])
    assert run("deliveries", "--put", "audit", "--endpoint", server.endpoint, lines="a\nb\n").status == 0
    flush(server.endpoint)
    found = project.clicks()
    assert sorted(each["user"]["id"] for each in found) == [number for number in range(100) if number % 10]
    assert {(str(each["day"]), each["at"].isoformat()) for each in found} == {
        ("2026-01-30", "2026-01-30T09:00:00"),
        ("2026-01-31", "2026-01-31T09:00:00"),
    }
    (failed,) = (path for path in (project.path / "lake/clicks/_errors/processing-failed").rglob("*") if path.is_file())
    assert json.loads(failed.read_bytes())["errorCode"] == "Lambda.ProcessingFailedStatus"
    (audited,) = (project.path / "lake" / "audit").rglob("*.gz")
    assert gzip.decompress(audited.read_bytes()) == b"a\nb\n"


@pytest.mark.parametrize("server", [{}, {"transition_delay_ms": 300}], indirect=True, ids=["at once", "transitions"])
def test_the_second_time_nothing_changes(server: ServerProcess, project: Project) -> None:
    assert project.up("--endpoint", server.endpoint, "--json").outcomes == MADE
    ran = project.up("--endpoint", server.endpoint, "--json")
    assert (ran.status, ran.outcomes) == (0, LEFT_ALONE)
    listed = run("deliveries", "--json", "--endpoint", server.endpoint).out.splitlines()
    assert [json.loads(line)["version"] for line in listed] == [1, 1]


def test_what_changed_in_the_file_is_changed_and_told(server: ServerProcess, project: Project) -> None:
    project.up("--endpoint", server.endpoint)
    put(server.endpoint, CLICKS[:50])
    flush(server.endpoint)
    project.replace('transform = "clean"\ninterval_s = 60\n', 'start = "LATEST"\nsize_mb = 1.5\n')
    project.replace('partition_by = "{day: .at[0:10]}"', 'partition_by = "{page: .page}"')
    project.replace('compression = "GZIP"\n', "")
    ran = project.up("--endpoint", server.endpoint)
    assert ran.out.splitlines()[-2:] == [
        "delivery clicks-to-lake changed: prefix day=!{partitionKeyFromQuery:day}/ to "
        "page=!{partitionKeyFromQuery:page}/, partition_by {day: .at[0:10]} to {page: .page}, "
        "transform clean to none, size_mb none to 1.5, "
        "interval_s 60 to none (start counts only when a delivery is made)",
        "delivery audit changed: compression GZIP to none",
    ]
    put(server.endpoint, CLICKS[50:])
    flush(server.endpoint)
    files = list((project.path / "lake" / "clicks").rglob("*.parquet"))
    assert {path.parent.name.partition("=")[0] for path in files} == {"day", "page"}
    counts = {
        kind: sum(ds.dataset(path).count_rows() for path in files if kind in str(path)) for kind in ("day=", "page=")
    }
    assert counts == {"day=": 45, "page=": 50}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('stream = "clicks"', 'stream = "cliks"', 'delivery.clicks-to-lake.stream is "cliks", which is neither in the'),
        (
            'transform = "clean"',
            'transform = "clena"',
            'delivery.clicks-to-lake.transform is "clena", which is neither',
        ),
        ('transform = "clean"', 'transform = "clean:live"', "clean has no version or alias live yet; "),
        ('format = "parquet"', 'format = "parqet"', "delivery.clicks-to-lake.format is "),
        ("{day: .at[0:10]}", "{day: .at[0:10]", "delivery.clicks-to-lake.partition_by is no query for partition keys"),
    ],
)
def test_a_file_with_a_fault_changes_nothing(
    server: ServerProcess, project: Project, old: str, new: str, expected: str
) -> None:
    project.replace(old, new)
    ran = project.up("--endpoint", server.endpoint)
    assert (ran.status, ran.out) == (2, "")
    assert expected in ran.err
    with streamkit.open_blocking(server.endpoint) as kit:
        assert kit.streams() == []


def test_another_source_is_refused_before_anything_is_done(server: ServerProcess, project: Project) -> None:
    project.up("--endpoint", server.endpoint)
    project.replace("direct = true\n", 'stream = "clicks"\n')
    project.add("[stream.more]\n")
    ran = project.up("--endpoint", server.endpoint)
    assert ran.status == 2
    assert (
        "delivery.audit will not do: delivery audit takes direct puts, and its source cannot be changed to stream"
        in (ran.err)
    )
    with streamkit.open_blocking(server.endpoint) as kit:
        assert kit.streams() == ["clicks"]


# -- a server of its own ---------------------------------------------------------------------------------------------


def endpoint_of(running: Running) -> str:
    return running.line(r"^streamkit serves .* at (\S+)$")[1]


def test_it_serves_a_directory_and_goes_on_where_it_stopped(project: Project, start: Callable[..., Running]) -> None:
    first = start("pipeline.toml", "--data", "data", "--port", "0")
    endpoint = endpoint_of(first)
    first.line(r"^delivery clicks-to-lake made \(stream clicks to ")
    first.line("^delivery audit made")
    put(endpoint, CLICKS)
    assert first.end() == 0  # what was put is delivered, or waits on disk
    again = start("pipeline.toml", "--data", "data", "--port", "0")
    endpoint = endpoint_of(again)
    again.line("^delivery clicks-to-lake left alone$")
    put(endpoint, CLICKS)
    flush(endpoint)
    assert sorted(each["user"]["id"] for each in project.clicks()) == sorted(
        [number for number in range(100) if number % 10] * 2
    )
    assert again.end() == 0


def test_a_saved_file_is_done_again_and_a_fault_in_it_is_told_and_stops_nothing(
    project: Project, start: Callable[..., Running]
) -> None:
    running = start("pipeline.toml", "--data", "data", "--port", "0", "--reload")
    endpoint = endpoint_of(running)
    running.line("^watching the code of clean, and pipeline.toml$")
    project.replace('format = "parquet"', 'format = "parkay"')
    running.line("^the file is not done: pipeline.toml: delivery.clicks-to-lake.format is ")
    project.replace('format = "parkay"', 'format = "orc"')
    project.add('[delivery.second]\nstream = "clicks"\nto = "second"\n')
    running.line("^delivery clicks-to-lake changed: format parquet to orc$")
    running.line("^delivery second made")
    code = project.path / "clean.py"
    code.write_text(code.read_text().replace('"Ok"', '"Dropped"'))
    running.line("^function clean changed: code$")
    put(endpoint, CLICKS)
    flush(endpoint)
    assert not (project.path / "lake" / "clicks").exists()
    files = [path for path in (project.path / "second").rglob("*") if path.is_file()]
    assert sum(len(path.read_text().splitlines()) for path in files) == 100
    assert running.end() == 0
