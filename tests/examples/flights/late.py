"""The demo's function at work: made with boto3, fed by a mapping, and held against the file at the end."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

FUNCTION: Final = "tell-late"
LATE_STREAM: Final = "late-flights"
FAILED_STREAM: Final = "failed"
POISON: Final = b"this is no flight"
RETRIES_MAX: Final = 1
WAIT_S_MAX: Final = 30

_ARN: Final = "arn:aws:kinesis:us-east-1:000000000000:stream/{}"


@dataclass(slots=True)
class Told:
    """What the function did: flights in the late stream by id and how often, and what was given up."""

    late: Counter[str] = field(default_factory=Counter)
    failures: list[dict[str, Any]] = field(default_factory=list)


def make_function(clients: Callable[[str], Any], stream: str) -> None:
    """A function of handler.py, and a mapping that feeds it; what fails twice, alone, goes to a stream of its own."""
    kinesis, functions = clients("kinesis"), clients("lambda")
    for name in (LATE_STREAM, FAILED_STREAM):
        kinesis.create_stream(StreamName=name, ShardCount=1)
    functions.create_function(
        FunctionName=FUNCTION,
        Runtime="python3.11",
        Handler="handler.tell_late",
        Role="arn:aws:iam::000000000000:role/demo",
        Code={"ZipFile": zip_of(Path(__file__).with_name("handler.py"))},
        Environment={"Variables": {"LATE_STREAM": LATE_STREAM}},
        MemorySize=256,
        Timeout=30,
    )
    functions.get_waiter("function_active_v2").wait(FunctionName=FUNCTION)
    functions.create_event_source_mapping(
        FunctionName=FUNCTION,
        EventSourceArn=_ARN.format(stream),
        StartingPosition="TRIM_HORIZON",
        BatchSize=200,
        ParallelizationFactor=2,
        BisectBatchOnFunctionError=True,
        MaximumRetryAttempts=RETRIES_MAX,
        DestinationConfig={"OnFailure": {"Destination": _ARN.format(FAILED_STREAM)}},
    )


def wait_for(expected: Iterable[str], read: Callable[[str], Sequence[bytes]]) -> Told:
    """Returns when every expected flight was told of and the poison was given up; or after half a minute, whatever."""
    wanted = set(expected)
    until_s = time.monotonic() + WAIT_S_MAX
    while True:
        told = Told(
            Counter(json.loads(line)["id"] for line in read(LATE_STREAM)),
            [json.loads(document) for document in read(FAILED_STREAM)],
        )
        if (wanted <= told.late.keys() and told.failures) or time.monotonic() > until_s:
            return told
        time.sleep(0.1)


def faults(told: Told, expected: Iterable[str], poison: Mapping[str, str]) -> list[str]:
    """What the function did wrong, in words; nothing where all is as it should be.

    A flight may be told of twice: the server was killed in the middle, and a batch that was under way came again.
    """
    wanted = set(expected)
    found = []
    if missing := wanted - told.late.keys():
        found.append(f"{len(missing)} late flights were not told of")
    if invented := told.late.keys() - wanted:
        found.append(f"{len(invented)} flights were told of that were not late")
    given_up = [failure["KinesisBatchInfo"] for failure in told.failures]
    if len(given_up) != 1:
        found.append(f"{len(given_up)} failure records instead of one")
    if any((info["batchSize"], info["startSequenceNumber"]) != (1, poison["SequenceNumber"]) for info in given_up):
        found.append("a failure record is not about the poison record alone")
    return found


def zip_of(path: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, path.name)
    return buffer.getvalue()
