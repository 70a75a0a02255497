"""Code of functions: zips of a few lines or of whole packages, and a handler that writes down what it was given."""

from __future__ import annotations

import functools
import importlib.util
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def zip_of(files: Mapping[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@functools.cache
def layer_of(*packages: str) -> bytes:
    """A layer with packages as they are installed here, with the shared libraries beside them (`numpy.libs`)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for package in packages:
            spec = importlib.util.find_spec(package)
            assert spec is not None, f"{package} is not installed: it comes with the extra `dev`"
            assert spec.origin is not None
            place = Path(spec.origin)
            if place.name != "__init__.py":
                archive.write(place, f"python/{place.name}")
                continue
            for directory in (place.parent, place.parent.with_name(f"{package}.libs")):
                for path in sorted(directory.rglob("*")):
                    if path.is_file() and not {"tests", "__pycache__"} & set(path.parts):
                        archive.write(path, f"python/{path.relative_to(directory.parent)}")
    return buffer.getvalue()


# A record's data is JSON: {"n": a number that grows with its key, "rule": what is to become of it}.
#   ok        is processed
#   flaky N   fails the first N times it is seen
#   poison    always fails
# With ANSWER=report the answer names the records that failed, otherwise any of them makes the invocation fail. What was
# given and what became of it is one line in the file HISTORY, on disk before the answer.
RECORDER = '''
import base64, json, os, time

FILE = os.open(os.environ["HISTORY"], os.O_RDWR | os.O_APPEND | os.O_CREAT)
REPORTS = os.environ.get("ANSWER") == "report"
PAUSE_S = float(os.environ.get("PAUSE_S", "0"))
TAG = os.environ.get("TAG", "")
seen = {}
read_to = 0
rest = b""


def look():
    """Counts what was seen so far, by all environments."""
    global read_to, rest
    while piece := os.pread(FILE, 1 << 20, read_to):
        read_to += len(piece)
        *lines, rest = (rest + piece).split(b"\\n")
        for line in lines:
            for number, *_ in json.loads(line)["records"]:
                seen[number] = seen.get(number, 0) + 1


def fails(number, rule):
    if rule.startswith("flaky"):
        return seen.get(number, 0) < int(rule.split()[1])
    return rule == "poison"


def started():
    with open("/proc/self/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[19])


def handler(event, context):
    began_s = time.time()
    look()
    records, failed = [], []
    for record in event["Records"]:
        kinesis = record["kinesis"]
        data = json.loads(base64.b64decode(kinesis["data"]))
        has_failed = fails(kinesis["sequenceNumber"], data["rule"])
        if has_failed:
            failed.append(kinesis["sequenceNumber"])
        records.append([kinesis["sequenceNumber"], kinesis["partitionKey"], data["n"], data["rule"], has_failed])
    if PAUSE_S:
        time.sleep(PAUSE_S)
    state = event.get("state")
    if state is not None and not (failed and not REPORTS):
        state = {"count": state.get("count", 0) + len(records), "sum": state.get("sum", 0) + sum(r[2] for r in records)}
    line = {
        "id": context.aws_request_id,
        "version": context.function_version,
        "tag": TAG,
        "pid": os.getpid(),
        "started": started(),
        "source": event["Records"][0]["eventSourceARN"] if records else event.get("eventSourceARN"),
        "shard": event["Records"][0]["eventID"].split(":")[0] if records else event.get("shardId"),
        "records": records,
        "window": event.get("window"),
        "is_final": event.get("isFinalInvokeForWindow"),
        "state": state,
        "began_s": began_s,
        "ended_s": time.time(),
    }
    os.write(FILE, json.dumps(line).encode() + b"\\n")
    os.fsync(FILE)
    if failed and not REPORTS:
        raise RuntimeError(f"{len(failed)} of {len(records)} records failed")
    answer = {"batchItemFailures": [{"itemIdentifier": number} for number in failed]}
    return answer if state is None else {**answer, "state": state}
'''


@dataclass(frozen=True, slots=True)
class Given:
    """A record as a handler got it."""

    number: str
    key: str
    n: int
    rule: str
    has_failed: bool


@dataclass(frozen=True, slots=True)
class Line:
    """An invocation as its handler wrote it down."""

    id: str
    version: str
    tag: str
    pid: int
    started: int
    source: str
    shard: str
    records: list[Given]
    window: dict[str, str] | None
    is_final: bool | None
    state: dict[str, Any] | None
    began_s: float
    ended_s: float


class History:
    """The file that `RECORDER` writes, or that is yet to be written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def variables(self) -> dict[str, str]:
        return {"HISTORY": str(self.path)}

    def lines(self) -> list[Line]:
        """Of all invocations, in the order they were answered in. A line that is being written is left out."""
        if not self.path.exists():
            return []
        whole = self.path.read_bytes().rpartition(b"\n")[0]
        found = []
        for text in whole.splitlines():
            values = json.loads(text)
            values["records"] = [Given(*each) for each in values["records"]]
            found.append(Line(**values))
        return found

    def given(self) -> list[Given]:
        return [each for line in self.lines() for each in line.records]

    def batches(self) -> list[list[int]]:
        """What each invocation was given, by the records' numbers."""
        return [[each.n for each in line.records] for line in self.lines()]

    def first_by_key(self) -> dict[str, list[int]]:
        """The records' numbers by key, each where it was given for the first time."""
        order: dict[str, dict[int, None]] = {}
        for each in self.given():
            order.setdefault(each.key, {}).setdefault(each.n)
        return {key: list(numbers) for key, numbers in order.items()}
