"""The AWS CLI from end to end. Each call starts it anew and costs a second, so there are few stories."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamkit.testing.server import ServerProcess
from tests.wire.clients import ACCOUNT, REGION, eventually

FIRST = "shardId-000000000000"


Aws = Callable[..., Any]


@pytest.fixture
def aws(streamkit_endpoint: str, tmp_path: Path) -> Aws:
    """Runs a command of a service; returns what it prints."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "AWS_ACCESS_KEY_ID": ACCOUNT,
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_PAGER": "",
    }

    def run(service: str, *arguments: str) -> Any:
        command = [str(Path(sys.executable).with_name("aws")), "--endpoint-url", streamkit_endpoint, "--output", "json"]
        done = subprocess.run(
            [*command, service, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    return run


def test_the_aws_cli_creates_puts_reads_splits_and_deletes(aws: Aws) -> None:
    aws("kinesis", "create-stream", "--stream-name", "s", "--shard-count", "1")
    put = aws("kinesis", "put-record", "--stream-name", "s", "--partition-key", "k", "--data", "hello")
    assert put["ShardId"] == FIRST
    iterator = aws(
        "kinesis",
        "get-shard-iterator",
        "--stream-name",
        "s",
        "--shard-id",
        FIRST,
        "--shard-iterator-type",
        "TRIM_HORIZON",
    )["ShardIterator"]
    aws(
        "kinesis",
        "split-shard",
        "--stream-name",
        "s",
        "--shard-to-split",
        FIRST,
        "--new-starting-hash-key",
        str(2**127),
    )
    read = aws("kinesis", "get-records", "--shard-iterator", iterator)
    assert [base64.b64decode(record["Data"]) for record in read["Records"]] == [b"hello"]
    assert read["Records"][0]["SequenceNumber"] == put["SequenceNumber"]
    assert [child["ParentShards"] for child in read["ChildShards"]] == [[FIRST]] * 2
    described = aws("kinesis", "describe-stream", "--stream-name", "s")["StreamDescription"]
    assert [shard.get("ParentShardId") for shard in described["Shards"]] == [None, FIRST, FIRST]
    aws("kinesis", "delete-stream", "--stream-name", "s")
    assert aws("kinesis", "list-streams")["StreamNames"] == []


def test_the_aws_cli_makes_invokes_publishes_and_reads_the_log_of_a_function(aws: Aws, tmp_path: Path) -> None:
    package, answer = tmp_path / "code.zip", tmp_path / "answer.json"
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("app.py", "def handler(event, context):\n    print('got', event)\n    return {'ok': True}\n")
    role = f"arn:aws:iam::{ACCOUNT}:role/r"
    made = aws(
        "lambda", "create-function", "--function-name", "f", "--runtime", "python3.12", "--handler", "app.handler",
        "--role", role, "--zip-file", f"fileb://{package}",
    )  # fmt: skip
    assert made["FunctionArn"] == f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"
    assert aws("lambda", "publish-version", "--function-name", "f")["Version"] == "1"
    invoked = aws(
        "lambda", "invoke", "--function-name", "f:1", "--payload", '{"a": 1}', "--log-type", "Tail", str(answer)
    )
    assert (invoked["StatusCode"], invoked["ExecutedVersion"]) == (200, "1")
    assert "got {'a': 1}\n" in base64.b64decode(invoked["LogResult"]).decode()
    assert json.loads(answer.read_text()) == {"ok": True}
    logged = aws("logs", "filter-log-events", "--log-group-name", "/aws/lambda/f", "--filter-pattern", "got")
    assert [event["message"] for event in logged["events"]] == ["got {'a': 1}\n"]


def test_the_aws_cli_makes_a_delivery_stream_puts_and_finds_the_object(
    aws: Aws, streamkit_server: ServerProcess
) -> None:
    """In a folder, where there is no object store; within the interval, without anybody's asking."""
    bucket = f"BucketARN=arn:aws:s3:::lake,RoleARN=arn:aws:iam::{ACCOUNT}:role/r,Prefix=in/"
    made = aws(
        "firehose", "create-delivery-stream", "--delivery-stream-name", "d", "--delivery-stream-type", "DirectPut",
        "--extended-s3-destination-configuration", f"{bucket},BufferingHints={{SizeInMBs=1,IntervalInSeconds=1}}",
    )  # fmt: skip
    assert made["DeliveryStreamARN"] == f"arn:aws:firehose:{REGION}:{ACCOUNT}:deliverystream/d"
    record = json.dumps({"Data": "hello "})
    assert aws("firehose", "put-record", "--delivery-stream-name", "d", "--record", record)["RecordId"]
    records = json.dumps([{"Data": each} for each in ("two ", "three")])
    put = aws("firehose", "put-record-batch", "--delivery-stream-name", "d", "--records", records)
    assert put["FailedPutCount"] == 0
    lake = streamkit_server.data / "buckets" / "lake" / "in"

    def text() -> bytes:
        found = sorted(lake.rglob("d-1-*"), key=lambda path: path.stat().st_mtime_ns)
        return b"".join(path.read_bytes() for path in found)

    eventually(lambda: len(text()) == len(b"hello two three"))
    assert text() == b"hello two three"
    described = aws("firehose", "describe-delivery-stream", "--delivery-stream-name", "d")["DeliveryStreamDescription"]
    assert described["DeliveryStreamStatus"] == "ACTIVE"
    aws("firehose", "delete-delivery-stream", "--delivery-stream-name", "d")
    assert aws("firehose", "list-delivery-streams")["DeliveryStreamNames"] == []
