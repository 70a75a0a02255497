"""Clients for tests: boto3 without waiting, and HTTP without any client's own ideas of what is valid."""

from __future__ import annotations

import base64
import functools
import http.client
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import boto3
from botocore.config import Config

ACCOUNT = "000000000000"
REGION = "us-east-1"
TARGET_PREFIX = "Kinesis_20131202"


@functools.cache
def _session() -> Any:
    return boto3.session.Session()


@contextmanager
def kinesis(endpoint: str, account: str = ACCOUNT, region: str = REGION, attempts: int = 1) -> Iterator[Any]:
    """A boto3 client; the access key is the account. It checks no input by itself and tries `attempts` times."""
    client = _session().client(
        "kinesis",
        endpoint_url=endpoint,
        region_name=region,
        aws_access_key_id=account,
        aws_secret_access_key="secret",
        config=Config(retries={"total_max_attempts": attempts}, max_pool_connections=32, parameter_validation=False),
    )
    try:
        yield client
    finally:
        client.close()


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class RawClient:
    """One keep-alive connection. Signs as every SDK does in form, with a signature that is not right."""

    def __init__(self, port: int, account: str = ACCOUNT, region: str = REGION, timeout_s: float = 30) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
        self.authorization = (
            f"AWS4-HMAC-SHA256 Credential={account}/20260101/{region}/kinesis/aws4_request, "
            "SignedHeaders=host;x-amz-date;x-amz-target, Signature=" + "0" * 64
        )

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def request(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answer:
        self._connection.request(method, path, body, headers or {})
        response = self._connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

    def send(self, operation: str, body: bytes, headers: dict[str, str | None] | None = None) -> Answer:
        """An operation with this very body; a header that is None is left out."""
        all_headers: dict[str, str | None] = {
            "X-Amz-Target": f"{TARGET_PREFIX}.{operation}",
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Date": "20260101T000000Z",
            "Authorization": self.authorization,
            **(headers or {}),
        }
        given = {name: value for name, value in all_headers.items() if value is not None}
        return self.request("POST", "/", body, given)

    def call(self, operation: str, **members: Any) -> Answer:
        return self.send(operation, json.dumps(members).encode())

    def native(self, path: str, document: dict[str, Any]) -> Answer:
        """streamkit's own protocol."""
        headers = {"Authorization": self.authorization, "X-Amz-Date": "20260101T000000Z"}
        return self.request("POST", path, json.dumps(document).encode(), headers)

    def ok(self, operation: str, **members: Any) -> Any:
        """The answer's values, of a call that must succeed."""
        answer = self.call(operation, **members)
        assert answer.status == 200, answer
        return answer.json if answer.body else {}


def blob(data: bytes) -> str:
    return base64.b64encode(data).decode()


def read_shard(client: Any, iterator: str | None, until: int | None = None) -> list[dict[str, Any]]:
    """The records of a shard from an iterator on: to the shard's end, to the tip, or at least `until` many."""
    found: list[dict[str, Any]] = []
    while iterator is not None:
        answer = client.get_records(ShardIterator=iterator)
        found += answer["Records"]
        iterator = answer.get("NextShardIterator")
        if not answer["Records"] and answer["MillisBehindLatest"] == 0 and (until is None or len(found) >= until):
            return found
    return found


def iterator_at(client: Any, stream: str, shard: str = "shardId-000000000000", **members: Any) -> str:
    """TRIM_HORIZON unless told otherwise."""
    members = {"ShardIteratorType": "TRIM_HORIZON", **members}
    iterator: str = client.get_shard_iterator(StreamName=stream, ShardId=shard, **members)["ShardIterator"]
    return iterator


def read_all(client: Any, stream: str) -> dict[str, list[dict[str, Any]]]:
    """All records by shard, from the trim horizon."""
    shards = [shard["ShardId"] for shard in list_shards(client, stream)]
    return {shard: read_shard(client, iterator_at(client, stream, shard)) for shard in shards}


def list_shards(client: Any, stream: str, **members: Any) -> list[dict[str, Any]]:
    answer = client.list_shards(StreamName=stream, **members)
    shards = list(answer["Shards"])
    while answer.get("NextToken"):
        answer = client.list_shards(NextToken=answer["NextToken"])
        shards += answer["Shards"]
    return shards


def eventually(true: Callable[[], bool], within_s: float = 10.0) -> None:
    """Waits until it is true."""
    ends_at = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < ends_at, f"still not so after {within_s} s"
        time.sleep(0.01)
