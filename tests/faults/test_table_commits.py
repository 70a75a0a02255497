"""Tables and lakes whose writer is killed (SIGKILL), at each step of its work in turn and at random moments: readers
that nobody here wrote find every row once, as soon as the next process has gone on."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import TableNotFoundError
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NoSuchTableError

ROOT: Final = Path(__file__).parents[2]
RANDOM_KILLS: Final = 8
COLUMNS: Final = pa.schema([("id", pa.int64()), ("at", pa.int64())])

# A process that has everything loaded and no thread yet, and forks one for each job. A job with `kill_at` ends with
# SIGKILL at that step of its work; one with `kill_after_s` is killed then.
PROGRAM: Final = """
import asyncio, json, os, signal, sys, time
from pathlib import Path
import pyiceberg.catalog.sql
import sqlalchemy.dialects.sqlite
from sqlalchemy.orm import Session
from streamkit.clock import SystemClock
from streamkit.delivery.destination import Range, Sealed, Surroundings
from streamkit.delivery.plan import DestinationSpec
from streamkit_connectors import delta, files, iceberg, lake, tables

steps = 0
COMMITS = [(Session, "commit"), (delta, "write_deltalake"), (delta, "_compacted")]

def step(kill_at):
    global steps
    steps += 1
    if steps == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)

def watch(owner, name, kill_at):
    call = getattr(owner, name)
    def watched(*arguments, **options):
        step(kill_at)
        answer = call(*arguments, **options)
        if (owner, name) in COMMITS:
            step(kill_at)
        return answer
    setattr(owner, name, watched)

def run(job):
    for owner, name in (
        *COMMITS, (tables.WholeFile, "close"), (delta.DeltaTable, "create"), (iceberg, "put_file"),
        (lake, "merge"), (files.os, "link"), (Path, "unlink"), (delta, "_sync_version"),
    ):
        watch(owner, name, job["kill_at"])
    asyncio.run(compact(job) if job["does"] == "compact" else deliver(job))

async def deliver(job):
    kind = {"iceberg": iceberg, "delta": delta}[job["kind"]]
    spec = DestinationSpec(job["kind"], job["options"])
    destination = kind.open_destination(spec, Surroundings(SystemClock(), Path("unused")))
    for number in job["numbers"]:
        path = Path(job["staged"], str(number))
        identity = f"00000000-0000-0000-0000-{number:012d}"
        ranges = [Range(0, number, number)]
        sealed = Sealed("d" * 32, number, identity, identity, path, 1, path.stat().st_size, ranges, 0)
        await destination.deliver(sealed, may_be_there=True)
    await destination.close()

async def compact(job):
    settings = tables.Settings(target_bytes=1 << 20, before_ms=1 << 60)
    async for event in lake.compact(job["path"], settings, Surroundings(SystemClock(), Path("unused"))):
        pass

def start(job):
    if pid := os.fork():
        return pid
    try:
        run(job)
        os._exit(0)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)

for line in sys.stdin:
    jobs = json.loads(line)
    pids = [start(job) for job in jobs]
    for pid, job in zip(pids, jobs):
        if job["kill_after_s"] is not None:
            time.sleep(job["kill_after_s"])
            os.kill(pid, signal.SIGKILL)
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]), flush=True)
"""


class Workers:
    """Runs jobs, each in a process of its own; -9 for one that was killed, 0 for one that ended."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, *jobs: Mapping[str, Any]) -> list[int]:
        defaults = {"kill_at": None, "kill_after_s": None}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([{**defaults, **job} for job in jobs]) + "\n")
        self._process.stdin.flush()
        statuses: list[int] = json.loads(self._process.stdout.readline())
        assert set(statuses) <= {0, -9}
        return statuses


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        yield Workers(process)


# -- deliveries -------------------------------------------------------------------------------------------------------


class Lake:
    """A table, and the objects that are delivered to it: two rows each."""

    def __init__(self, directory: Path, kind: str, **options: Any) -> None:
        self._table = directory / "table"
        self._staged = directory / "staged"
        self._staged.mkdir(parents=True)
        self._kind = kind
        self._options = {"path": str(self._table), "database": "lake", "table": "rows", **options}
        self.sealed_count = 0

    def seal(self, count: int) -> list[int]:
        numbers = list(range(self.sealed_count + 1, self.sealed_count + count + 1))
        for number in numbers:
            at = pa.array([number // 2, number // 3], pa.int64())
            table = pa.table({"id": [2 * number, 2 * number + 1], "at": at}, schema=COLUMNS)
            pq.write_table(table, self._staged / str(number))
        self.sealed_count += count
        return numbers

    def delivering(self, numbers: Sequence[int], **options: Any) -> Mapping[str, Any]:
        job = {"does": "deliver", "kind": self._kind, "options": self._options}
        return {**job, "staged": str(self._staged), "numbers": list(numbers), **options}

    def compacting(self, **options: Any) -> Mapping[str, Any]:
        return {"does": "compact", "path": str(self._table), **options}

    def append(self, ids: Sequence[int]) -> None:
        """What another writer does."""
        rows = pa.table({"id": ids, "at": ids}, schema=COLUMNS)
        if self._kind == "delta":
            write_deltalake(self._table, rows, mode="append")
            return
        catalog = self._catalog()
        catalog.load_table("lake.rows").append(rows)
        catalog.close()

    def ids(self) -> Counter[int]:
        return Counter(self._rows().column("id").to_pylist())

    def check(self) -> None:
        expected = {number for sealed in range(1, self.sealed_count + 1) for number in (2 * sealed, 2 * sealed + 1)}
        assert self.ids() == Counter(expected)

    def files(self) -> int:
        if self._kind == "delta":
            return len(DeltaTable(self._table).file_uris())
        catalog = self._catalog()
        found = len(list(catalog.load_table("lake.rows").scan().plan_files()))
        catalog.close()
        return found

    def _rows(self) -> pa.Table:
        if self._kind == "delta":
            try:
                return pa.table(DeltaTable(self._table).to_pyarrow_table())
            except TableNotFoundError:
                return COLUMNS.empty_table()
        catalog = self._catalog()
        try:
            return catalog.load_table("lake.rows").scan().to_arrow()
        except NoSuchTableError:
            return COLUMNS.empty_table()
        finally:
            catalog.close()

    def _catalog(self) -> SqlCatalog:
        self._table.mkdir(exist_ok=True)
        uri = f"sqlite:///{self._table}/catalog.sqlite"
        return SqlCatalog("streamkit", uri=uri, warehouse=f"file://{self._table}")


@pytest.fixture(params=["iceberg", "delta"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    return Lake(tmp_path, request.param)


def killed_at_each_step(run: Callable[[int], int]) -> int:
    """How many steps there are: the first at which nothing was left to kill."""
    for step in range(1, 500):
        if run(step) == 0:
            return step - 1
    raise AssertionError("it never ends")


@pytest.mark.parametrize(
    ("kind", "options"), [("iceberg", {}), ("iceberg", {"partition_by": "bucket(2, id)"}), ("delta", {})]
)
def test_a_delivery_killed_at_any_step_is_in_the_table_once_after_the_next(
    workers: Workers, tmp_path: Path, kind: str, options: Mapping[str, Any]
) -> None:
    """From the making of the table on: between the file and the commit, and between the commit and the answer."""

    def run(step: int) -> int:
        lake = Lake(tmp_path / f"{step}", kind, **options)
        numbers = lake.seal(1)
        (status,) = workers.run(lake.delivering(numbers, kill_at=step))
        assert max(lake.ids().values(), default=1) == 1, "nothing is there twice, not even for a moment"
        assert workers.run(lake.delivering([*numbers, *lake.seal(1)])) == [0]
        lake.check()
        return status

    assert killed_at_each_step(run) >= 4


def _seconds(work: Callable[[], object]) -> float:
    begins_s = time.monotonic()
    work()
    return time.monotonic() - begins_s


def test_a_delivery_killed_at_a_random_moment_is_in_the_table_once_after_the_next(workers: Workers, lake: Lake) -> None:
    seed = random.Random().randrange(2**32)
    print(f"seed {seed}")
    source = random.Random(seed)
    killed = 0
    whole_s = _seconds(lambda: workers.run(lake.delivering(lake.seal(3))))  # machines differ: what one takes here
    for _ in range(RANDOM_KILLS):
        numbers = lake.seal(3)
        (status,) = workers.run(lake.delivering(numbers, kill_after_s=source.uniform(0, whole_s)))
        killed += status != 0
        assert workers.run(lake.delivering(numbers)) == [0]
    assert killed
    lake.check()


def test_processes_that_deliver_the_same_at_once_beside_another_writer_double_nothing(
    workers: Workers, lake: Lake
) -> None:
    """Two incarnations of one delivery stream, one of them thought dead; and a second delivery stream's commits."""
    assert workers.run(lake.delivering(lake.seal(1))) == [0]
    for turn in range(5):
        numbers = lake.seal(4)
        assert workers.run(*[lake.delivering(numbers)] * 3) == [0, 0, 0]
        lake.append([-turn - 1])
    found = lake.ids()
    assert {each: found.pop(each) for each in range(-5, 0)} == dict.fromkeys(range(-5, 0), 1)
    assert found == Counter(range(2, 2 * lake.sealed_count + 2))


def test_compaction_of_a_table_killed_at_any_step_changes_no_row(workers: Workers, lake: Lake) -> None:
    def run(step: int) -> int:
        assert workers.run(lake.delivering(lake.seal(2))) == [0]
        (status,) = workers.run(lake.compacting(kill_at=step))
        lake.check()
        assert workers.run(lake.compacting()) == [0]
        lake.check()
        assert lake.files() <= 2
        return status

    assert killed_at_each_step(run) >= 2


def test_compaction_beside_deliveries_changes_no_row(workers: Workers, lake: Lake) -> None:
    for _ in range(4):
        assert workers.run(lake.delivering(lake.seal(4))) == [0]
        assert workers.run(lake.compacting(), lake.delivering(lake.seal(4))) == [0, 0]
    lake.check()


# -- files without a table --------------------------------------------------------------------------------------------


def folder_of_small_files(directory: Path, first: int) -> set[int]:
    """Twelve files of three kinds, two rows each; their ids."""
    ids = set(range(first, first + 24))
    (directory / "2026").mkdir(parents=True, exist_ok=True)
    for place, each in enumerate(sorted(ids)[::2]):
        name = f"clicks-1-2026-11-23-19-00-{place:02d}-00000000-0000-0000-0000-{each:012d}"
        stem, two = directory / "2026" / name, [each, each + 1]
        if place % 3:
            pq.write_table(pa.table({"id": two}), stem.with_suffix(".parquet"))
        else:
            stem.with_suffix(".json").write_text("".join(f'{{"id": {number}}}\n' for number in two))
    return ids


def ids_in(directory: Path) -> Counter[int]:
    """As a reader sees them, who passes over names that begin with an underscore."""
    found: Counter[int] = Counter()
    for path in (directory / "2026").iterdir():
        if path.name.startswith((".", "_")):
            continue
        if path.suffix == ".parquet":
            found.update(pq.read_table(path).column("id").to_pylist())
        else:
            found.update(json.loads(line)["id"] for line in path.read_text().splitlines())
    return found


def test_compaction_of_files_killed_at_any_step_loses_no_row_and_doubles_none_after_the_next(
    workers: Workers, tmp_path: Path
) -> None:
    def run(step: int) -> int:
        directory = tmp_path / f"{step}"
        ids = folder_of_small_files(directory, 0)
        (status,) = workers.run({"does": "compact", "path": str(directory), "kill_at": step})
        found = ids_in(directory)
        assert found.keys() == ids, "no row is missing at any moment"
        assert max(found.values()) <= 2
        assert workers.run({"does": "compact", "path": str(directory)}) == [0]
        assert ids_in(directory) == Counter(ids)
        assert len(list((directory / "2026").iterdir())) == 2
        assert {path.name for path in (directory / "_streamkit").iterdir()} == {"lock"}
        return status

    assert killed_at_each_step(run) >= 20


def test_compaction_of_files_killed_at_random_moments_loses_and_doubles_nothing(
    workers: Workers, tmp_path: Path
) -> None:
    seed = random.Random().randrange(2**32)
    print(f"seed {seed}")
    source = random.Random(seed)
    ids: set[int] = set()
    killed = 0
    for _ in range(RANDOM_KILLS):
        ids |= folder_of_small_files(tmp_path, len(ids))
        job = {"does": "compact", "path": str(tmp_path), "kill_after_s": source.uniform(0, 0.06)}
        killed += workers.run(job) != [0]
        assert ids_in(tmp_path).keys() == ids
    assert killed
    assert workers.run({"does": "compact", "path": str(tmp_path)}) == [0]
    assert ids_in(tmp_path) == Counter(ids)
