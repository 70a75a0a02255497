"""One server as its users have it: boto3's clients for it, and the few calls that every test makes."""

from __future__ import annotations

import base64
import functools
import json
import re
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config

from tests.wire.clients import ACCOUNT, REGION, iterator_at, list_shards, read_all
from tests.wire.lambda_code import zip_of

ROLE = f"arn:aws:iam::{ACCOUNT}:role/r"
_CONFIG = Config(
    retries={"total_max_attempts": 1}, max_pool_connections=64, parameter_validation=False, read_timeout=60
)


def stream_arn(name: str) -> str:
    return f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/{name}"


def function_arn(name: str) -> str:
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"


@dataclass(frozen=True, slots=True)
class Invoked:
    """An answer of Invoke. `log` is the tail, where it was asked for."""

    status: int
    body: bytes
    error: str | None
    version: str | None
    log: str
    request_id: str

    @property
    def value(self) -> Any:
        return json.loads(self.body)

    @property
    def is_cold(self) -> bool:
        return "Init Duration" in self.log


@functools.cache
def _session() -> Any:
    return boto3.session.Session()


class Cloud:
    """Clients that try once and check nothing, so that what is seen is the server's answer."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        members: dict[str, Any] = {
            "endpoint_url": endpoint,
            "region_name": REGION,
            "aws_access_key_id": ACCOUNT,
            "aws_secret_access_key": "secret",
            "config": _CONFIG,
        }
        self.functions: Any = _session().client("lambda", **members)
        self.kinesis: Any = _session().client("kinesis", **members)
        self.logs: Any = _session().client("logs", **members)

    def close(self) -> None:
        for client in (self.functions, self.kinesis, self.logs):
            client.close()

    # -- functions ---------------------------------------------------------------------------------------------------

    def create(self, name: str, code: str | bytes, *, variables: Mapping[str, str] | None = None, **more: Any) -> str:
        """A function of this code, `app.handler` unless told otherwise; returns its ARN when it can be invoked."""
        made = self.functions.create_function(
            FunctionName=name,
            **{
                "Runtime": "python3.11",
                "Role": ROLE,
                "Handler": "app.handler",
                "Code": {"ZipFile": zip_of({"app.py": code}) if isinstance(code, str) else code},
                "Environment": {"Variables": dict(variables or {})},
                **more,
            },
        )
        self.wait_until_updated(name)
        return str(made["FunctionArn"])

    def update(self, name: str, code: str) -> None:
        self.functions.update_function_code(FunctionName=name, ZipFile=zip_of({"app.py": code}))
        self.wait_until_updated(name)

    def publish(self, name: str) -> str:
        return str(self.functions.publish_version(FunctionName=name)["Version"])

    def wait_until_updated(self, name: str) -> None:
        def is_ready() -> bool:
            now = self.functions.get_function_configuration(FunctionName=name)
            return bool(now["State"] == "Active" and now["LastUpdateStatus"] == "Successful")

        eventually(is_ready)

    def invoke(self, name: str, event: Any = None, **more: Any) -> Invoked:
        payload = event if isinstance(event, bytes) else json.dumps(event).encode()
        answer = self.functions.invoke(FunctionName=name, Payload=payload, **more)
        return Invoked(
            answer["StatusCode"],
            answer["Payload"].read(),
            answer.get("FunctionError"),
            answer.get("ExecutedVersion"),
            base64.b64decode(answer.get("LogResult", "")).decode(),
            answer["ResponseMetadata"]["RequestId"],
        )

    def value(self, name: str, event: Any = None, **more: Any) -> Any:
        """What the function returned, which must not fail."""
        invoked = self.invoke(name, event, **more)
        assert invoked.error is None, invoked
        return invoked.value

    # -- streams -----------------------------------------------------------------------------------------------------

    def stream(self, name: str, shards: int = 1) -> str:
        self.kinesis.create_stream(StreamName=name, ShardCount=shards)
        return stream_arn(name)

    def put(self, stream: str, *records: tuple[str, Any]) -> list[str]:
        """Records of a key and a value that becomes JSON, or bytes; returns their sequence numbers."""
        numbers = []
        for start in range(0, len(records), 500):
            entries = [
                {"PartitionKey": key, "Data": value if isinstance(value, bytes) else json.dumps(value).encode()}
                for key, value in records[start : start + 500]
            ]
            answer = self.kinesis.put_records(StreamName=stream, Records=entries)
            assert answer["FailedRecordCount"] == 0
            numbers += [str(each["SequenceNumber"]) for each in answer["Records"]]
        return numbers

    def documents(self, stream: str) -> list[Any]:
        """All records of a stream, as JSON; in order within a shard."""
        return [json.loads(record["Data"]) for shard in read_all(self.kinesis, stream).values() for record in shard]

    def shards(self, stream: str) -> list[str]:
        return [shard["ShardId"] for shard in list_shards(self.kinesis, stream)]

    def arrivals_ms(self, stream: str) -> dict[str, int]:
        """When each record arrived, by sequence number."""
        found: dict[str, int] = {}
        for shard in self.shards(stream):
            iterator: str | None = iterator_at(self.kinesis, stream, shard)
            while iterator is not None:
                answer = self.kinesis.get_records(ShardIterator=iterator)
                for record in answer["Records"]:
                    at = record["ApproximateArrivalTimestamp"]
                    found[record["SequenceNumber"]] = round(at.timestamp() * 1000)
                iterator = answer.get("NextShardIterator")
                if not answer["Records"] and answer["MillisBehindLatest"] == 0:
                    break
        return found

    # -- mappings ----------------------------------------------------------------------------------------------------

    def map(self, source_arn: str, function: str, *, wait: bool = True, **more: Any) -> str:
        """A mapping from the trim horizon unless told otherwise; returns its UUID when it is in effect."""
        members = {"StartingPosition": "TRIM_HORIZON", **more}
        made = self.functions.create_event_source_mapping(EventSourceArn=source_arn, FunctionName=function, **members)
        if wait:
            self.wait_for_mapping(made["UUID"], "Enabled")
        return str(made["UUID"])

    def wait_for_mapping(self, uuid: str, state: str) -> None:
        eventually(lambda: self.functions.get_event_source_mapping(UUID=uuid)["State"] == state)

    def change_mapping(self, uuid: str, **members: Any) -> None:
        """Returns when the change is in effect."""
        answer = self.functions.update_event_source_mapping(UUID=uuid, **members)
        assert answer["State"] in ("Updating", "Enabling", "Disabling"), answer
        self.wait_for_mapping(uuid, "Enabled" if members.get("Enabled", True) else "Disabled")

    def last_result(self, uuid: str) -> str:
        return str(self.functions.get_event_source_mapping(UUID=uuid)["LastProcessingResult"])

    # -- what is said of them ----------------------------------------------------------------------------------------

    def log_of(self, function: str) -> str:
        """All that is in the function's log group; nothing if there is none."""
        pages = self.logs.get_paginator("filter_log_events").paginate(logGroupName=f"/aws/lambda/{function}")
        try:
            return "".join(event["message"] for page in pages for event in page["events"])
        except self.logs.exceptions.ResourceNotFoundException:
            return ""

    def metric(self, name: str, **labels: str) -> float:
        """A series of /metrics, chosen by some of its labels; the sum where several match."""
        with urllib.request.urlopen(f"{self.endpoint}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        total = 0.0
        for line in text.splitlines():
            match = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
            if match and all(f'{label}="{value}"' in (match[1] or "") for label, value in labels.items()):
                total += float(match[2])
        return total


@contextmanager
def open_cloud(endpoint: str) -> Iterator[Cloud]:
    made = Cloud(endpoint)
    try:
        yield made
    finally:
        made.close()


def eventually(true: Callable[[], Any], within_s: float = 20.0, so_far: Callable[[], Any] | None = None) -> None:
    """Waits until it is true; `so_far` says what there is, if it never is."""
    ends_at = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < ends_at, f"still not so after {within_s} s: {so_far() if so_far else ''}"
        time.sleep(0.01)
