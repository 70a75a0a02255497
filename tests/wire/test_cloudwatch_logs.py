"""CloudWatch Logs as boto3 and the AWS CLI see it, over HTTP."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from streamkit.api.errors import RequestIds
from streamkit.api.gateway import Gateway
from streamkit.api.http import HttpServer
from streamkit.api.logs import Logs
from streamkit.api.sigv4 import Authenticator
from streamkit.clock import SystemClock
from streamkit.functions.logs import FunctionLogs
from streamkit.metrics import Registry
from streamkit.model.names import Scope
from tests.wire.clients import ACCOUNT, REGION

GROUP = "/aws/lambda/f"


class LogsServer:
    """The service on an event loop of its own, in a thread; `logs` is used from there only."""

    def __init__(self, path: Path) -> None:
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(path,))
        self._thread.start()
        assert self._ready.wait(20)

    def _serve(self, path: Path) -> None:
        asyncio.run(self._main(path))

    async def _main(self, path: Path) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        clock, metrics = SystemClock(), Registry()
        self.logs = FunctionLogs(path, clock)
        gateway = Gateway(
            [Logs(self.logs, clock)],
            {},
            authenticator=Authenticator("presence", {}, clock),
            default_scope=Scope(ACCOUNT, REGION),
            request_ids=RequestIds(random.Random(1)),
            metrics=metrics,
        )
        http = HttpServer(gateway.handle, clock=clock, on_error=gateway.failed)
        await http.start("127.0.0.1", 0, None)
        self.endpoint = f"http://127.0.0.1:{http.port}"
        self._ready.set()
        await self._stop.wait()
        await http.drain(100)
        self.logs.close()

    def write(self, stream: str, lines: bytes, group: str = GROUP) -> None:
        """As an environment does."""
        written = threading.Event()

        def write() -> None:
            self.logs.open(Scope(ACCOUNT, REGION), group, stream).write(lines)
            written.set()

        self._loop.call_soon_threadsafe(write)
        assert written.wait(20)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LogsServer]:
    made = LogsServer(tmp_path / "logs")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def client(server: LogsServer) -> Iterator[Any]:
    made = boto3.session.Session().client(
        "logs",
        endpoint_url=server.endpoint,
        region_name=REGION,
        aws_access_key_id=ACCOUNT,
        aws_secret_access_key="secret",
        config=Config(retries={"total_max_attempts": 1}, parameter_validation=False),
    )
    try:
        yield made
    finally:
        made.close()


def refused(call: Any, **members: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as error:
        call(**members)
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    return error.value.response["Error"]["Code"], error.value.response["Error"]["Message"]


def put(client: Any, stream: str, *events: tuple[int, str], group: str = "g") -> Any:
    given = [{"timestamp": timestamp, "message": message} for timestamp, message in events]
    return client.put_log_events(logGroupName=group, logStreamName=stream, logEvents=given)


def make(client: Any, *streams: str, group: str = "g") -> int:
    """A group with streams; the time now."""
    client.create_log_group(logGroupName=group)
    for stream in streams:
        client.create_log_stream(logGroupName=group, logStreamName=stream)
    return time.time_ns() // 1_000_000


# -- reading ---------------------------------------------------------------------------------------------------------


def test_a_functions_lines_are_found_at_once(server: LogsServer, client: Any) -> None:
    server.write("2024/01/02/[$LATEST]0", b"START\nhello\n")
    answer = client.filter_log_events(logGroupName=GROUP)
    assert [event["message"] for event in answer["events"]] == ["START\n", "hello\n"]
    first = answer["events"][0]
    assert first["logStreamName"] == "2024/01/02/[$LATEST]0"
    assert abs(first["timestamp"] - time.time() * 1000) < 60_000
    assert first["ingestionTime"] == first["timestamp"]
    assert len(first["eventId"]) == 56
    assert answer["searchedLogStreams"] == []
    assert "nextToken" not in answer


def test_the_paginator_merges_streams_by_time(client: Any) -> None:
    now = make(client, "a", "b")
    put(client, "a", *[(now + 2 * n, f"a{n}") for n in range(20)])
    put(client, "b", *[(now + 2 * n + 1, f"b{n}") for n in range(20)])
    pages = list(client.get_paginator("filter_log_events").paginate(logGroupName="g", PaginationConfig={"PageSize": 7}))
    assert [len(page["events"]) for page in pages] == [7, 7, 7, 7, 7, 5]
    messages = [event["message"] for page in pages for event in page["events"]]
    assert messages == [f"{stream}{n}" for n in range(20) for stream in "ab"]


def test_events_are_chosen_by_stream_time_and_pattern(client: Any) -> None:
    now = make(client, "a/1", "a/2", "b")
    for stream in ("a/1", "a/2", "b"):
        put(client, stream, (now, f"ERROR {stream}"), (now + 10, f"INFO {stream}"))

    def found(**members: Any) -> list[str]:
        return [event["message"] for event in client.filter_log_events(logGroupName="g", **members)["events"]]

    assert found(logStreamNamePrefix="a/", filterPattern="ERROR") == ["ERROR a/1", "ERROR a/2"]
    assert found(logStreamNames=["b"]) == ["ERROR b", "INFO b"]
    assert found(startTime=now + 1, logStreamNames=["b"]) == ["INFO b"]
    assert found(endTime=now + 10, logStreamNames=["b"]) == ["ERROR b"]
    assert found(filterPattern="-ERROR -INFO") == []


def test_a_stream_is_read_forward_to_its_tip_and_further(client: Any) -> None:
    """At the tip the token stays the same; what comes later is found from it."""
    now = make(client, "s")
    put(client, "s", *[(now + n, f"{n}") for n in range(5)])
    members: dict[str, Any] = {"logGroupName": "g", "logStreamName": "s", "startFromHead": True, "limit": 2}
    seen, token = [], None
    while True:
        answer = client.get_log_events(**members, **({"nextToken": token} if token else {}))
        seen += [event["message"] for event in answer["events"]]
        if answer["nextForwardToken"] == token:
            break
        token = answer["nextForwardToken"]
    assert seen == ["0", "1", "2", "3", "4"]
    put(client, "s", (now + 9, "later"))
    assert [e["message"] for e in client.get_log_events(**members, nextToken=token)["events"]] == ["later"]


def test_a_stream_is_read_from_its_end_unless_told_otherwise(client: Any) -> None:
    now = make(client, "s")
    put(client, "s", *[(now + n, f"{n}") for n in range(5)])
    members: dict[str, Any] = {"logGroupName": "g", "logStreamName": "s", "limit": 2}
    answer = client.get_log_events(**members)
    assert [event["message"] for event in answer["events"]] == ["3", "4"]
    answer = client.get_log_events(**members, nextToken=answer["nextBackwardToken"])
    assert [event["message"] for event in answer["events"]] == ["1", "2"]
    answer = client.get_log_events(**members, nextToken=answer["nextForwardToken"])
    assert [event["message"] for event in answer["events"]] == ["3", "4"]


def test_an_empty_stream_has_tokens_too(client: Any) -> None:
    now = make(client, "s")
    answer = client.get_log_events(logGroupName="g", logStreamName="s")
    assert answer["events"] == []
    put(client, "s", (now, "first"))
    token = answer["nextForwardToken"]
    again = client.get_log_events(logGroupName="g", logStreamName="s", nextToken=token)
    assert [event["message"] for event in again["events"]] == ["first"]


# -- putting ---------------------------------------------------------------------------------------------------------


def test_events_out_of_their_time_are_rejected_and_named(client: Any) -> None:
    now = make(client, "s")
    day_ms = 86_400_000
    answer = put(client, "s", (now - 15 * day_ms, "old"), (now, "in time"), (now + 3 * 3_600_000, "new"))
    assert answer["rejectedLogEventsInfo"] == {"tooOldLogEventEndIndex": 1, "tooNewLogEventStartIndex": 2}
    assert answer["nextSequenceToken"]
    answer = client.filter_log_events(logGroupName="g")
    assert [event["message"] for event in answer["events"]] == ["in time"]


def test_events_must_be_in_order(client: Any) -> None:
    now = make(client, "s")
    with pytest.raises(ClientError) as error:
        put(client, "s", (now, "b"), (now - 1, "a"))
    assert error.value.response["Error"] == {
        "Code": "InvalidParameterException",
        "Message": "Log events in a single PutLogEvents request must be in chronological order.",
    }


# -- describing ------------------------------------------------------------------------------------------------------


def test_groups_are_described_as_aws_does(client: Any) -> None:
    now = make(client, group="a/1")
    make(client, group="b")
    client.put_retention_policy(logGroupName="a/1", retentionInDays=7)
    (group,) = client.describe_log_groups(logGroupNamePrefix="a")["logGroups"]
    assert abs(group.pop("creationTime") - now) < 60_000
    arn = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:a/1"
    assert group == {
        "logGroupName": "a/1",
        "arn": f"{arn}:*",
        "logGroupArn": arn,
        "logGroupClass": "STANDARD",
        "metricFilterCount": 0,
        "storedBytes": 0,
        "deletionProtectionEnabled": False,
        "retentionInDays": 7,
    }
    client.delete_retention_policy(logGroupName="a/1")
    pages = client.get_paginator("describe_log_groups").paginate(PaginationConfig={"PageSize": 1})
    names = [each["logGroupName"] for page in pages for each in page["logGroups"]]
    assert names == ["a/1", "b"]
    assert "retentionInDays" not in client.describe_log_groups(logGroupNamePattern="A/")["logGroups"][0]


def test_streams_are_described_in_the_order_asked_for(client: Any) -> None:
    now = make(client, "a", "b", "c", "empty")
    for stream, timestamp in (("a", now + 5), ("b", now + 1), ("c", now + 3)):
        put(client, stream, (timestamp, "x"), (timestamp + 10, "y"))

    def names(**members: Any) -> list[str]:
        pages = client.get_paginator("describe_log_streams").paginate(
            logGroupName="g", PaginationConfig={"PageSize": 2}, **members
        )
        return [stream["logStreamName"] for page in pages for stream in page["logStreams"]]

    assert names() == ["a", "b", "c", "empty"]
    assert names(descending=True) == ["empty", "c", "b", "a"]
    assert names(orderBy="LastEventTime", descending=True) == ["a", "c", "b", "empty"]
    (stream,) = client.describe_log_streams(logGroupName="g", logStreamNamePrefix="a")["logStreams"]
    assert stream["firstEventTimestamp"] == now + 5
    assert stream["lastEventTimestamp"] == now + 15
    assert stream["arn"] == f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:g:log-stream:a"
    assert stream["uploadSequenceToken"]
    (empty,) = client.describe_log_streams(logGroupName="g", logStreamNamePrefix="e")["logStreams"]
    assert {"firstEventTimestamp", "lastEventTimestamp", "lastIngestionTime", "uploadSequenceToken"}.isdisjoint(empty)


def test_tags_are_kept(client: Any) -> None:
    client.create_log_group(logGroupName="g", tags={"a": "1"})
    arn = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:g"
    client.tag_resource(resourceArn=arn, tags={"b": "2"})
    client.untag_resource(resourceArn=arn, tagKeys=["a"])
    assert client.list_tags_for_resource(resourceArn=arn)["tags"] == {"b": "2"}


# -- errors ----------------------------------------------------------------------------------------------------------


def test_errors_have_aws_words(client: Any) -> None:
    missing_group = ("ResourceNotFoundException", "The specified log group does not exist.")
    missing_stream = ("ResourceNotFoundException", "The specified log stream does not exist.")
    assert refused(client.filter_log_events, logGroupName="g") == missing_group
    assert refused(client.describe_log_streams, logGroupName="g") == missing_group
    assert refused(client.delete_log_group, logGroupName="g") == missing_group
    make(client, "s")
    assert refused(client.get_log_events, logGroupName="g", logStreamName="x") == missing_stream
    assert refused(client.filter_log_events, logGroupName="g", logStreamNames=["x"]) == missing_stream
    assert refused(client.delete_log_stream, logGroupName="g", logStreamName="x") == missing_stream
    assert refused(client.create_log_group, logGroupName="g") == (
        "ResourceAlreadyExistsException",
        "The specified log group already exists",
    )
    assert refused(client.create_log_stream, logGroupName="g", logStreamName="s") == (
        "ResourceAlreadyExistsException",
        "The specified log stream already exists",
    )
    invalid_token = ("InvalidParameterException", "The specified nextToken is invalid.")
    assert refused(client.get_log_events, logGroupName="g", logStreamName="s", nextToken="x") == invalid_token
    assert refused(client.filter_log_events, logGroupName="g", nextToken="x") == invalid_token
    for call, members in ((client.filter_log_events, {}), (client.get_log_events, {"logStreamName": "s"})):
        assert refused(call, logGroupName="g", limit=10_001, **members) == (
            "InvalidParameterException",
            "1 validation error detected: Value '10001' at 'limit' failed to satisfy constraint: "
            "Member must have value less than or equal to 10000",
        )
    assert refused(client.describe_log_streams, logGroupName="g", logGroupIdentifier="g") == (
        "ValidationException",
        "LogGroup name and LogGroup ARN are mutually exclusive parameters.",
    )
    assert refused(client.describe_log_groups, logGroupNamePrefix="g", logGroupNamePattern="g") == (
        "InvalidParameterException",
        "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.",
    )


def test_a_pattern_streamkit_does_not_know_is_refused_by_name(client: Any) -> None:
    make(client)
    code, message = refused(client.filter_log_events, logGroupName="g", filterPattern="%x%")
    assert code == "InvalidParameterException"
    assert "regular expressions are not supported" in message


# -- the AWS CLI -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not (Path(sys.executable).parent / "aws").exists(), reason="the AWS CLI is not installed")
def test_the_cli_reads_a_functions_log(server: LogsServer) -> None:
    server.write("2024/01/02/[$LATEST]0", b"one\ntwo\n")
    command = [str(Path(sys.executable).parent / "aws"), "--endpoint-url", server.endpoint, "--region", REGION]
    done = subprocess.run(
        [*command, "logs", "filter-log-events", "--log-group-name", GROUP, "--query", "events[].message"],
        env={**os.environ, "AWS_ACCESS_KEY_ID": ACCOUNT, "AWS_SECRET_ACCESS_KEY": "secret", "AWS_PAGER": ""},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"one" in done.stdout
    assert b"two" in done.stdout
