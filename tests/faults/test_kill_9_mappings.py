"""A server killed with `kill -9` while its mappings work: no record is lost, none is reported twice, order holds.

Four mappings read one stream, with everything under way that can be: retries, bisects, partial results, parallel
lanes, tumbling windows, failure records for a stream and for a bucket. What becomes of a record is in its data, so
what the handlers were given (`lambda_code.RECORDER` writes it down before it answers) can be judged afterwards.

`pytest tests/faults/test_kill_9_mappings.py --kill-rounds 50` kills as often, twice in a test; `--kill-seed` repeats a
test's choices.
"""

from __future__ import annotations

import json
import math
import os
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from botocore.exceptions import BotoCoreError

from streamkit.testing.plugin import StartStreamkit
from streamkit.testing.server import ServerProcess
from tests.faults.test_kill_9 import GONE
from tests.wire.clients import RawClient, blob
from tests.wire.cloud import Cloud, eventually, open_cloud, stream_arn
from tests.wire.lambda_code import RECORDER, History, Line

STREAM = "s"
RULES = ("ok",) * 50 + ("flaky 1", "flaky 1", "flaky 2", "poison", "skip", "skip", "skip")
RECORDS_PER_LIFE = {"a": 150, "b": 150, "c": 40}
SAVED_WITHIN_S = 1.0
"""An answer that a server got this long before it was killed is not forgotten; it promises 50 ms and a sync."""


class Stored(NamedTuple):
    """A record as it is in the stream."""

    shard: str
    number: str
    key: str
    n: int
    rule: str
    at_ms: int


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        kills: int = metafunc.config.getoption("--kill-rounds")
        first = metafunc.config.getoption("--kill-seed")
        metafunc.parametrize("seed", range(first, first + (kills + 1) // 2), ids=lambda seed: f"seed-{seed}")


@dataclass
class Subject:
    """A mapping, the history of its function, and the promises that are its own."""

    name: str
    history: History
    retries_max: int | None
    batch_max: int
    rules: tuple[str, ...]  # what its filter lets through, by the first word
    bisects: bool = False
    reports: bool = False
    window_s: int | None = None
    lanes: int = 1
    failures: str = ""  # the ARN of its destination
    members: dict[str, Any] = field(default_factory=dict)

    def wants(self, record: Stored) -> bool:
        return record.rule.split()[0] in self.rules

    def confirmed(self, line: Line) -> set[str]:
        """The records that an answer says are processed."""
        failed = [each.has_failed for each in line.records]
        if self.reports:
            good = line.records[: failed.index(True)] if True in failed else line.records
        else:
            good = [] if True in failed else line.records
        return {each.number for each in good}

    @property
    def invocations_max(self) -> int | None:
        """Of one record, while nobody is killed."""
        if self.retries_max is None:
            return None
        return self.retries_max + 1 + (math.ceil(math.log2(self.batch_max)) if self.bisects else 0)


def make_subjects(directory: Path, rng: random.Random) -> list[Subject]:
    def history(name: str) -> History:
        return History(directory / f"{name}.history")

    every = ("ok", "flaky", "poison", "skip")
    batch_max = rng.choice((3, 8, 20))
    return [
        Subject("whole", history("whole"), 1, 4, every, failures=stream_arn("whole-dead")),
        Subject(
            "bisecting",
            history("bisecting"),
            2,
            batch_max,
            ("ok", "flaky", "poison"),
            bisects=True,
            failures=stream_arn("bisecting-dead"),
        ),
        Subject(
            "reporting",
            history("reporting"),
            2,
            batch_max,
            every,
            reports=True,
            lanes=rng.choice((1, 2, 4)),
            failures="arn:aws:s3:::reporting-dead",
        ),
        Subject("windowed", history("windowed"), None, batch_max, ("ok", "flaky"), window_s=1),
    ]


def set_up(cloud: Cloud, subjects: list[Subject], shards: int) -> None:
    cloud.stream(STREAM, shards)
    for each in subjects:
        variables = {**each.history.variables, "ANSWER": "report" if each.reports else "raise"}
        cloud.create(each.name, RECORDER, variables=variables, Timeout=30)
        members: dict[str, Any] = {"BatchSize": each.batch_max, "ParallelizationFactor": each.lanes}
        if each.failures:
            if ":kinesis:" in each.failures:
                cloud.stream(f"{each.name}-dead")
            members["DestinationConfig"] = {"OnFailure": {"Destination": each.failures}}
        if each.retries_max is not None:
            members["MaximumRetryAttempts"] = each.retries_max
        if each.bisects:
            members["BisectBatchOnFunctionError"] = True
        if each.reports:
            members["FunctionResponseTypes"] = ["ReportBatchItemFailures"]
        if each.window_s:
            members["TumblingWindowInSeconds"] = each.window_s
        if len(each.rules) < 4:
            pattern = {"data": {"rule": [{"prefix": rule} for rule in each.rules]}}
            members["FilterCriteria"] = {"Filters": [{"Pattern": json.dumps(pattern)}]}
        cloud.map(stream_arn(STREAM), each.name, wait=False, **members)


# -- load, and kills -------------------------------------------------------------------------------------------------


def write(port: int, life: str, rng: random.Random, acknowledged: set[str]) -> None:
    """Puts records until the server is gone, or it has put enough."""
    next_n: Counter[str] = Counter()
    put = 0
    with RawClient(port, timeout_s=20) as client:
        try:
            while put < RECORDS_PER_LIFE[life]:
                entries = []
                for index in range(rng.choice((1, 3, 12))):
                    key = f"{life}-{rng.randrange(8)}"
                    next_n[key] += 1
                    rule = ("poison", "flaky 2")[index] if put == 0 and index < 2 else rng.choice(RULES)
                    data = json.dumps({"n": next_n[key], "rule": rule}).encode()
                    entries.append({"Data": blob(data), "PartitionKey": key})
                answer = client.ok("PutRecords", StreamName=STREAM, Records=entries)
                acknowledged |= {each["SequenceNumber"] for each in answer["Records"]}
                put += len(entries)
                time.sleep(rng.uniform(0, 0.02))
        except GONE:
            return


def split(port: int, rng: random.Random) -> None:
    time.sleep(rng.uniform(0, 0.2))
    with RawClient(port, timeout_s=20) as client:
        try:
            shard = client.ok("ListShards", StreamName=STREAM, ShardFilter={"Type": "AT_LATEST"})["Shards"][0]
            first, last = (int(shard["HashKeyRange"][f"{edge}HashKey"]) for edge in ("Starting", "Ending"))
            middle = str((first + last) // 2)
            client.ok("SplitShard", StreamName=STREAM, ShardToSplit=shard["ShardId"], NewStartingHashKey=middle)
        except GONE:
            return


@contextmanager
def load(port: int, life: str, rng: random.Random, acknowledged: set[str], *, splits: bool) -> Iterator[None]:
    jobs = [threading.Thread(target=write, args=(port, life, random.Random(rng.random()), acknowledged))]
    if splits:
        jobs.append(threading.Thread(target=split, args=(port, random.Random(rng.random()))))
    for job in jobs:
        job.start()
    try:
        yield
    finally:
        for job in jobs:
            job.join()


Process = tuple[int, int]  # its id, and when it was started: ids are used again


def descendants(pid: int) -> set[Process]:
    children: dict[int, list[int]] = defaultdict(list)
    started: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        child = int(path.parent.name)
        children[int(fields[1])].append(child)
        started[child] = int(fields[19])
    found: set[Process] = set()
    waiting = [pid]
    while waiting:
        for child in children[waiting.pop()]:
            found.add((child, started[child]))
            waiting.append(child)
    return found


def is_alive(process: Process) -> bool:
    try:
        fields = Path(f"/proc/{process[0]}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return False
    return int(fields[19]) == process[1] and fields[0] != b"Z"


class Kill(NamedTuple):
    """From when on the server may have been dead, and when nothing of it was left."""

    began_s: float
    ended_s: float


def kill(server: ServerProcess, subjects: list[Subject]) -> Kill:
    """Returns once every process that the server had is gone."""
    processes = descendants(server.pid)
    assert processes
    began_s = time.time()
    server.kill()
    processes |= {(line.pid, line.started) for each in subjects for line in each.history.lines()}
    require_gone(processes)
    return Kill(began_s, time.time())


def require_gone(processes: set[Process]) -> None:
    eventually(lambda: not any(map(is_alive, processes)), 5, lambda: list(filter(is_alive, processes)))


# -- what must be true -----------------------------------------------------------------------------------------------


def stored(cloud: Cloud) -> list[Stored]:
    """All records of the stream, in order within a shard."""
    at_ms = cloud.arrivals_ms(STREAM)
    found = []
    for shard in cloud.shards(STREAM):
        iterator = cloud.kinesis.get_shard_iterator(StreamName=STREAM, ShardId=shard, ShardIteratorType="TRIM_HORIZON")[
            "ShardIterator"
        ]
        while iterator:
            answer = cloud.kinesis.get_records(ShardIterator=iterator)
            for record in answer["Records"]:
                number, data = record["SequenceNumber"], json.loads(record["Data"])
                found.append(Stored(shard, number, record["PartitionKey"], data["n"], data["rule"], at_ms[number]))
            iterator = answer.get("NextShardIterator") if answer["Records"] else None
    return found


def failure_records(cloud: Cloud, server: ServerProcess, subject: Subject) -> list[Any]:
    if ":kinesis:" in subject.failures:
        return cloud.documents(f"{subject.name}-dead")
    if not subject.failures:
        return []
    folder = server.data / "buckets" / subject.failures.rpartition(":")[2]
    return [json.loads(path.read_bytes()) for path in folder.rglob("*") if path.is_file()]


def given_up(subject: Subject, documents: list[Any], records: list[Stored]) -> Counter[str]:
    """How many failure records each record is in. Only lanes of their own leave gaps in a range: then the bucket's
    copy of the event says what is meant."""
    counts: Counter[str] = Counter()
    for document in documents:
        info = document["KinesisBatchInfo"]
        first, last = int(info["startSequenceNumber"]), int(info["endSequenceNumber"])
        if "payload" in document:
            numbers = [each["kinesis"]["sequenceNumber"] for each in json.loads(document["payload"])["Records"]]
        else:
            numbers = [
                record.number
                for record in records
                if record.shard == info["shardId"] and first <= int(record.number) <= last and subject.wants(record)
            ]
        assert len(numbers) == info["batchSize"], document
        assert (int(numbers[0]), int(numbers[-1])) == (first, last)
        counts.update(numbers)
    return counts


def unresolved(subject: Subject, records: list[Stored], documents: list[Any]) -> list[Stored]:
    done = {number for line in subject.history.lines() for number in subject.confirmed(line)}
    done |= given_up(subject, documents, records).keys()
    missing = [record for record in records if subject.wants(record) and record.number not in done]
    if subject.window_s and not missing:
        wanted = windows(subject, records).keys()
        closed = {window_of(line) for line in subject.history.lines() if line.is_final}
        missing = [record for record in records if subject.wants(record) and place_of(record) in wanted - closed]
    return missing


def require_promises(subject: Subject, records: list[Stored], documents: list[Any], kills: list[Kill]) -> None:
    lines = subject.history.lines()
    by_number = {record.number: record for record in records}
    counts = given_up(subject, documents, records)
    given: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        for each in line.records:
            given[each.number].append(line)

    assert all(subject.wants(by_number[number]) for number in given), "what is filtered is never given"
    assert not [number for number, count in counts.items() if count > 1], "in two failure records"
    confirmed = {number for line in lines for number in subject.confirmed(line)}
    for record in filter(subject.wants, records):
        assert record.number in confirmed or counts[record.number], f"{record} is lost"
        if record.rule == "poison" or not subject.bisects:
            continue
        assert not counts[record.number], f"{record} was given up, but only poison is"
    poison = {record.number for record in records if record.rule == "poison" and subject.wants(record)}
    assert poison.isdisjoint(confirmed)
    assert poison <= counts.keys()

    def was_forgotten(line: Line) -> bool:
        """Whether a kill came so soon after an answer that it may not be remembered."""
        return any(each.began_s <= line.ended_s + SAVED_WITHIN_S and line.began_s <= each.ended_s for each in kills)

    for number, its_lines in given.items():
        if subject.invocations_max is not None:
            assert len(its_lines) <= subject.invocations_max + len(kills), by_number[number]
        done = [line for line in its_lines if number in subject.confirmed(line)]
        again = its_lines[its_lines.index(done[0]) + 1 :] if done else []
        assert not again or any(map(was_forgotten, done)), f"{by_number[number]} was processed, and given again"
        assert not (done and counts[number]) or any(map(was_forgotten, done))

    for key, numbers in subject.history.first_by_key().items():
        assert numbers == sorted(numbers), f"first deliveries of {key} are out of order"
    if subject.invocations_max is not None:
        invocations_max = subject.invocations_max + len(kills)
        assert all(1 <= each["requestContext"]["approximateInvokeCount"] <= invocations_max for each in documents)
    if subject.window_s:
        require_windows(subject, lines, records, was_forgotten)


Place = tuple[str, int]  # a shard, and the second in which a window begins


def place_of(record: Stored) -> Place:
    return record.shard, record.at_ms // 1000


def window_of(line: Line) -> Place:
    assert line.window is not None
    start = datetime.strptime(line.window["start"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return line.shard, int(start.timestamp())


def windows(subject: Subject, records: list[Stored]) -> dict[Place, list[int]]:
    """The numbers of the records that arrived in each window."""
    found: dict[Place, list[int]] = defaultdict(list)
    for record in filter(subject.wants, records):
        found[place_of(record)].append(record.n)
    return found


def require_windows(subject: Subject, lines: list[Line], records: list[Stored], was_forgotten: Any) -> None:
    """The state of every window's final invocation is the truth, however often the server was killed in between."""
    finals: dict[Place, list[Line]] = defaultdict(list)
    for line in lines:
        if line.is_final:
            finals[window_of(line)].append(line)
    truth = windows(subject, records)
    assert finals.keys() == truth.keys()
    for place, its_lines in finals.items():
        wanted = {"count": len(truth[place]), "sum": sum(truth[place])}
        assert [line.state for line in its_lines] == [wanted] * len(its_lines), place
        assert all(was_forgotten(line) for line, _ in pairwise(its_lines)), "final once, unless that was forgotten"


def wait_until_resolved(subject: Subject, cloud: Cloud, server: ServerProcess, records: list[Stored]) -> None:
    def missing() -> list[Stored]:
        return unresolved(subject, records, failure_records(cloud, server, subject))

    eventually(lambda: not missing(), 30, missing)


def test_kill_9_costs_no_record_and_repeats_none_that_was_remembered(
    start_streamkit: StartStreamkit, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    print(f"repeat this with --kill-rounds 1 --kill-seed {seed}")
    rng = random.Random(seed)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    subjects = make_subjects(tmp_path, rng)
    acknowledged: set[str] = set()
    kills: list[Kill] = []
    server = start_streamkit()
    with open_cloud(server.endpoint) as cloud:
        set_up(cloud, subjects, shards=rng.choice((1, 2, 3)))
    for life in "abc":
        splits = life == "a" and seed % 2 == 0
        with load(server.port, life, rng, acknowledged, splits=splits):
            if life == "c":
                break
            time.sleep(rng.uniform(0.1, 0.6))
            kills.append(kill(server, subjects))
        server.restart()
    with open_cloud(server.endpoint) as cloud:
        records = stored(cloud)
        assert acknowledged <= {record.number for record in records}
        for each in subjects:
            wait_until_resolved(each, cloud, server, records)
        time.sleep(0.1)  # for what should not come
        for each in subjects:
            require_promises(each, records, failure_records(cloud, server, each), kills)
    assert any(each.has_failed for one in subjects for each in one.history.given()), "something was retried"
    server.stop()
    assert list(scratch.iterdir()) == [], "killed servers left files"


def test_kill_9_reports_no_failure_twice_and_forgets_none(
    start_streamkit: StartStreamkit, tmp_path: Path, seed: int
) -> None:
    """Each record is given up at its first failure: the server is killed while it hands failure records over."""
    print(f"repeat this with --kill-rounds 1 --kill-seed {seed}")
    rng = random.Random(seed)
    server = start_streamkit()
    subjects = [
        Subject(name, History(tmp_path / f"{name}.history"), 0, 1, ("poison",), failures=arn)
        for name, arn in (("streamed", stream_arn("streamed-dead")), ("stored", "arn:aws:s3:::stored-dead"))
    ]
    with open_cloud(server.endpoint) as cloud:
        set_up(cloud, subjects, shards=4)
        cloud.put(STREAM, *[(f"k{n}", {"n": 0, "rule": "poison"}) for n in range(150)])
        eventually(lambda: all(each.history.lines() for each in subjects))
    kills = []
    for _ in range(2):
        time.sleep(rng.uniform(0, 0.2))
        kills.append(kill(server, subjects))
        server.restart()
    with open_cloud(server.endpoint) as cloud:
        records = stored(cloud)
        for each in subjects:
            wait_until_resolved(each, cloud, server, records)
        time.sleep(0.1)  # for what should not come
        for each in subjects:
            require_promises(each, records, failure_records(cloud, server, each), kills)


def test_what_a_handler_started_dies_with_a_killed_server(start_streamkit: StartStreamkit) -> None:
    """Also a process that left its group and outlived its parent; also while the handler is busy."""
    code = """
import subprocess, sys, time
NAP = "import os, time; os.setsid(); time.sleep(600)"
PARENT = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {NAP!r}])"

def handler(event, context):
    subprocess.run([sys.executable, "-c", PARENT])
    time.sleep(event)
"""
    server = start_streamkit()
    with open_cloud(server.endpoint) as cloud:
        cloud.create("f", code, Timeout=60)
        assert cloud.invoke("f", 0).error is None
    busy = threading.Thread(target=invoke_until_gone, args=(server.endpoint,))
    busy.start()
    eventually(lambda: len(naps(server)) == 2)
    processes = descendants(server.pid)
    assert naps(server) <= processes
    server.kill()
    busy.join()
    require_gone(processes)


def naps(server: ServerProcess) -> set[Process]:
    found = set()
    for process in descendants(server.pid):
        try:
            arguments = Path(f"/proc/{process[0]}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(argument.endswith(b"time.sleep(600)") for argument in arguments):
            found.add(process)
    return found


def invoke_until_gone(endpoint: str) -> None:
    with open_cloud(endpoint) as cloud, pytest.raises(BotoCoreError):
        cloud.invoke("f", 30)


def test_the_check_of_processes_sees_a_living_one() -> None:
    mine = next(each for each in descendants(os.getppid()) if each[0] == os.getpid())
    assert is_alive(mine)
    assert not is_alive((mine[0], mine[1] + 1))
