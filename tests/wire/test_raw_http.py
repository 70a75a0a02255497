"""What the server says on the wire beside the operations themselves: exact answers, headers, paths."""

from __future__ import annotations

import json
import re

from streamkit.testing.server import ServerProcess
from tests.wire.clients import RawClient, blob

FIRST = "shardId-000000000000"


def test_answers_are_written_exactly_as_aws_writes_them(raw: RawClient) -> None:
    created = raw.call("CreateStream", StreamName="s", ShardCount=1)
    assert (created.status, created.body) == (200, b"")
    put = raw.call("PutRecord", StreamName="s", Data=blob(b"hello"), PartitionKey="k")
    found = re.fullmatch(rb'\{"SequenceNumber":"(\d{56})","ShardId":"shardId-000000000000"\}', put.body)
    assert found is not None, put.body
    assert put.headers["content-type"] == "application/x-amz-json-1.1"
    puts = raw.call("PutRecords", StreamName="s", Records=[{"Data": "", "PartitionKey": "k"}])
    shape = rb'\{"FailedRecordCount":0,"Records":\[\{"SequenceNumber":"\d{56}","ShardId":"shardId-000000000000"\}\]\}'
    assert re.fullmatch(shape, puts.body), puts.body
    iterator = raw.ok("GetShardIterator", StreamName="s", ShardId=FIRST, ShardIteratorType="TRIM_HORIZON")
    read = raw.call("GetRecords", ShardIterator=iterator["ShardIterator"], Limit=1).json
    assert set(read) == {"Records", "NextShardIterator", "MillisBehindLatest"}
    (record,) = read["Records"]
    assert isinstance(record.pop("ApproximateArrivalTimestamp"), float)
    assert record == {"Data": "aGVsbG8=", "PartitionKey": "k", "SequenceNumber": found[1].decode()}


def test_one_connection_carries_many_operations_each_with_its_own_ids(raw: RawClient) -> None:
    raw.ok("CreateStream", StreamName="s", ShardCount=1)
    answers = [raw.call("PutRecord", StreamName="s", Data="", PartitionKey="k") for _ in range(20)]
    answers += [raw.call("DescribeStream", StreamName="nobody"), raw.call("ListStreams")]
    ids = [answer.headers["x-amzn-requestid"] for answer in answers]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", each) for each in ids)
    assert all(answer.headers["x-amz-id-2"] and "connection" not in answer.headers for answer in answers)


def test_a_browser_may_ask_and_may_read_the_answer(raw: RawClient) -> None:
    wanted = "x-amz-target,authorization"
    headers = {
        "Origin": "http://page",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": wanted,
    }
    preflight = raw.request("OPTIONS", "/", headers=headers)
    assert (preflight.status, preflight.body) == (200, b"")
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert preflight.headers["access-control-allow-methods"] == "GET, HEAD, PUT, POST, DELETE, OPTIONS"
    assert preflight.headers["access-control-allow-headers"] == wanted
    assert preflight.headers["access-control-max-age"] == "172800"
    for operation in ("ListStreams", "DescribeStream"):
        answer = raw.send(operation, b"{}", {"Origin": "http://page"})
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "x-amzn-RequestId" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-origin" not in raw.call("ListStreams").headers


def test_health_says_what_is_promised(raw: RawClient) -> None:
    raw.ok("CreateStream", StreamName="s", ShardCount=1)
    health = raw.request("GET", "/health")
    assert (health.status, health.headers["content-type"]) == (200, "application/json")
    assert health.json.pop("version")
    assert {name: health.json[name] for name in ("status", "streams", "durability")} == {
        "status": "ok",
        "streams": 1,
        "durability": "none",
    }


def test_metrics_count_records_requests_and_refusals(raw: RawClient) -> None:
    raw.ok("CreateStream", StreamName="counted", ShardCount=1)
    raw.ok("PutRecords", StreamName="counted", Records=[{"Data": "", "PartitionKey": "k"}] * 3)
    raw.call("DescribeStream", StreamName="nobody")
    metrics = raw.request("GET", "/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    lines = metrics.body.decode().splitlines()
    assert 'streamkit_incoming_records_total{stream="counted"} 3' in lines
    counted = re.compile(
        r'streamkit_request_errors_total\{operation="DescribeStream",code="ResourceNotFoundException"\} [1-9]'
    )
    assert any(counted.match(line) for line in lines)
    assert any(line.startswith('streamkit_request_seconds_count{operation="PutRecords"}') for line in lines)


def test_an_unknown_path_says_what_there_is(raw: RawClient) -> None:
    answer = raw.request("GET", "/nothing")
    assert (answer.status, answer.headers["content-type"]) == (404, "application/json")
    assert answer.json["message"].startswith("Nothing is at GET /nothing. AWS requests go to POST /;")
    assert "GET /health" in answer.json["message"]


def test_only_a_server_that_was_told_so_can_be_reset(streamkit_server: ServerProcess) -> None:
    with RawClient(streamkit_server.port) as raw:
        raw.ok("CreateStream", StreamName="s", ShardCount=1)
        assert raw.request("POST", "/_streamkit/reset").status == 404
        assert raw.ok("ListStreams")["StreamNames"] == ["s"]


def test_a_broken_native_request_changes_nothing_and_says_why(raw: RawClient) -> None:
    raw.ok("CreateStream", StreamName="s", ShardCount=1)
    for path in ("put?stream=s", "read", "seek", "checkpoints"):
        answer = raw.native(f"/_streamkit/{path}", {"stream": 5})
        assert (answer.status, answer.json["__type"]) == (400, "SerializationException"), path
        assert answer.json["Message"]
    iterator = raw.ok("GetShardIterator", StreamName="s", ShardId=FIRST, ShardIteratorType="TRIM_HORIZON")
    assert raw.ok("GetRecords", ShardIterator=iterator["ShardIterator"])["Records"] == []


def test_members_that_are_not_known_are_ignored_and_nulls_are_absent(raw: RawClient) -> None:
    body = {"StreamName": "s", "ShardCount": 1, "Tags": None, "Unknown": {"a": [1]}}
    assert raw.send("CreateStream", json.dumps(body).encode()).status == 200
    put = {"StreamName": "s", "Data": "YQ==", "PartitionKey": "k", "ExplicitHashKey": None, "Unknown": 1}
    assert raw.send("PutRecord", json.dumps(put).encode()).status == 200
