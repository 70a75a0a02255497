"""What happens to records on their way, on a real server: splitting, decompression, functions, partition keys."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.wire.cloud import ROLE, eventually, function_arn, stream_arn
from tests.wire.delivery_cloud import (
    DeliveryCloud,
    Key,
    delivery_cloud,
    extraction,
    processor,
    processors,
)

APPEND: Final = processor("AppendDelimiterToRecord")
PARTITIONED: Final[dict[str, Any]] = {
    "mib": 64,
    "ErrorOutputPrefix": "errors/!{firehose:error-output-type}/",
    "DynamicPartitioningConfiguration": {"Enabled": True},
}
ERRORS: Final = "errors/"

# A record is JSON; what its member `rule` says becomes of it. `ENVELOPE`: data is replaced by the record of the event.
TRANSFORM: Final = """
import base64, json, os, time

seen = 0


def handler(event, context):
    global seen
    seen += 1
    answers = []
    for record in event["records"]:
        data = json.loads(base64.b64decode(record["data"]))
        rule, *more = data.get("rule", "ok").split()
        answer = {"recordId": record["recordId"], "result": "Ok", "data": record["data"]}
        if rule == "drop":
            answer = {"recordId": record["recordId"], "result": "Dropped"}
        elif rule == "fail":
            answer["result"] = "ProcessingFailed"
        elif rule == "forget":
            continue
        elif rule == "rename":
            answer["recordId"] = "somebody's"
        elif rule == "twice":
            answers.append(answer)
        elif rule == "nothing":
            del answer["data"]
        elif rule == "odd":
            answer["result"] = "Fine"
        elif rule == "raise":
            raise RuntimeError("no such record")
        elif rule == "flaky" and seen <= int(more[0]):
            raise RuntimeError("not yet")
        elif rule == "sleep":
            time.sleep(float(more[0]))
        elif rule == "grow":
            answer["data"] = base64.b64encode(b"x" * int(more[0])).decode()
        elif rule == "envelope":
            text = json.dumps({"event": {**event, "records": None}, "record": record})
            answer["data"] = base64.b64encode(text.encode()).decode()
        if "team" in data:
            answer["metadata"] = {"partitionKeys": {"team": data["team"]}}
        answers.append(answer)
    return {"records": answers}
"""


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeliveryCloud]:
    with delivery_cloud(tmp_path_factory.mktemp("delivery") / "data") as made:
        made.create("transform", TRANSFORM)
        made.create("impatient", TRANSFORM, Timeout=1)
        yield made


@pytest.fixture
def bucket(cloud: DeliveryCloud) -> str:
    return cloud.bucket()


def transform(function: str = "transform", retries: int = 0, **parameters: str) -> dict[str, Any]:
    members = {"BufferSizeInMBs": "1", "BufferIntervalInSeconds": "60", **parameters}
    return processor("Lambda", LambdaArn=function_arn(function), NumberOfRetries=str(retries), **members)


def rules(*each: str) -> list[bytes]:
    return [json.dumps({"n": n, "rule": rule}).encode() for n, rule in enumerate(each)]


def errors(cloud: DeliveryCloud, bucket: str) -> list[tuple[str, str, bytes]]:
    """Error type, code and the record as it came."""
    found = []
    for key, body in sorted(cloud.objects(bucket, ERRORS).items()):
        for line in body.splitlines():
            document = json.loads(line)
            code = document.get("errorCode") or document["lastErrorCode"]
            found.append((key.split("/")[1], code, base64.b64decode(document["rawData"])))
    return found


# -- aggregates ------------------------------------------------------------------------------------------------------


def aggregate(*records: tuple[str, bytes]) -> bytes:
    """As the producer library makes one: protobuf between four magic bytes and an MD5."""
    keys = sorted({key for key, _ in records})
    message = b"".join(b"\x0a" + sized(key.encode()) for key in keys)
    for key, data in records:
        message += b"\x1a" + sized(b"\x08" + varint(keys.index(key)) + b"\x1a" + sized(data))
    return b"\xf3\x89\x9a\xc2" + message + hashlib.md5(message, usedforsecurity=False).digest()


def sized(data: bytes) -> bytes:
    return varint(len(data)) + data


def varint(number: int) -> bytes:
    encoded = b""
    while number > 0x7F:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])


def test_aggregates_of_the_producer_library_are_split_before_all_else(cloud: DeliveryCloud, bucket: str) -> None:
    """The function sees user records, each with its number in the aggregate and its own partition key."""
    source = cloud.source()
    name = cloud.to_s3(bucket, source=source, **processors(transform(), APPEND))
    inner = [(f"key-{n % 3}", b'{"rule":"envelope","n":%d}' % n) for n in range(300)]
    cloud.put(source, ("outer", aggregate(*inner)), ("single", rules("envelope")[0]))
    cloud.flush(name)
    records = [each["record"] for each in cloud.documents_in(bucket)]
    split, (single,) = records[:-1], records[-1:]
    assert [base64.b64decode(each["data"]) for each in split] == [data for _, data in inner]
    metadata = [each["kinesisRecordMetadata"] for each in split]
    assert [each["partitionKey"] for each in metadata] == [key for key, _ in inner]
    assert [each["subsequenceNumber"] for each in metadata] == list(range(300))
    assert len({each["sequenceNumber"] for each in metadata}) == 1
    assert len({each["recordId"] for each in records}) == 301
    assert single["kinesisRecordMetadata"]["subsequenceNumber"] == 0
    assert single["kinesisRecordMetadata"]["partitionKey"] == "single"


def test_an_aggregate_that_is_damaged_or_put_directly_is_a_record_like_any_other(
    cloud: DeliveryCloud, bucket: str
) -> None:
    source, direct = cloud.source(), cloud.bucket()
    whole = aggregate(("k", b"a"), ("k", b"b"))
    damaged = whole[:-1] + bytes([whole[-1] ^ 1])
    names = cloud.to_s3(bucket, source=source), cloud.to_s3(direct)
    cloud.put(source, ("k", damaged), ("k", whole))
    cloud.send(names[1], whole)
    for name in names:
        cloud.flush(name)
    assert cloud.content(bucket) == damaged + b"ab"
    assert cloud.content(direct) == whole


@pytest.mark.parametrize(
    ("parameters", "record"),
    [
        ({"SubRecordType": "JSON"}, b'{"day":"1","n":1}{"day":"2","n":2}{"day":"1","n":3}'),
        ({"SubRecordType": "JSON"}, b'{"day":"1","n":1}\n{"day":"2","n":2}\n\n{"day":"1",\n"n":3}\n'),
        (
            {"SubRecordType": "DELIMITED", "Delimiter": base64.b64encode(b"###").decode()},
            b'{"day":"1","n":1}###{"day":"2","n":2}###{"day":"1","n":3}',
        ),
    ],
    ids=["one after the other", "on lines", "between delimiters"],
)
def test_records_that_were_put_as_one_are_split_and_partitioned(
    cloud: DeliveryCloud, bucket: str, parameters: dict[str, str], record: bytes
) -> None:
    name = cloud.to_s3(
        bucket,
        Prefix="day=!{partitionKeyFromQuery:day}/",
        **PARTITIONED,
        **processors(processor("RecordDeAggregation", **parameters), extraction("{day: .day}"), APPEND),
    )
    cloud.send(name, record, b'{"day":"2","n":4}')
    cloud.flush(name)
    found = {key: [json.loads(each) for each in split_lines(cloud, bucket, key)] for key in ("day=1/", "day=2/")}
    assert {key: [each["n"] for each in rows] for key, rows in found.items()} == {"day=1/": [1, 3], "day=2/": [2, 4]}
    assert len(cloud.keys(bucket)) == 2


def split_lines(cloud: DeliveryCloud, bucket: str, below: str) -> list[str]:
    """JSON documents, each perhaps on several lines."""
    text, decoder, found = cloud.content(bucket, below).decode(), json.JSONDecoder(), []
    while text.strip():
        text = text.lstrip()
        _, end = decoder.raw_decode(text)
        found.append(text[:end])
        text = text[end:]
    return found


# -- CloudWatch Logs -------------------------------------------------------------------------------------------------


def log_events(*messages: str, kind: str = "DATA_MESSAGE") -> bytes:
    events = [{"id": str(n), "timestamp": n, "message": message} for n, message in enumerate(messages)]
    document = {"messageType": kind, "owner": "1", "logGroup": "g", "logStream": "s", "logEvents": events}
    return gzip.compress(json.dumps(document).encode())


def test_messages_of_cloudwatch_logs_are_taken_out_of_what_it_sends(cloud: DeliveryCloud, bucket: str) -> None:
    """Records that are no such thing go to the error output, as they came."""
    name = cloud.to_s3(
        bucket,
        ErrorOutputPrefix="errors/!{firehose:error-output-type}/",
        **processors(
            processor("Decompression", CompressionFormat="GZIP"),
            processor("CloudWatchLogProcessing", DataMessageExtraction="true"),
        ),
    )
    other = gzip.compress(b"no document")
    cloud.send(
        name, log_events("START\n", "two words"), b"plain", log_events(kind="CONTROL_MESSAGE"), other, log_events("END")
    )
    cloud.flush(name)
    (body,) = (body for key, body in cloud.objects(bucket).items() if not key.startswith(ERRORS))
    assert [line for line in body.splitlines() if line] == [b"START", b"two words", b"END"]
    assert errors(cloud, bucket) == [
        ("decompression-failed", "Decompression failed.", b"plain"),
        ("decompression-failed", "Decompression failed.", other),
    ]


def test_decompression_alone_gives_the_documents(cloud: DeliveryCloud, bucket: str) -> None:
    name = cloud.to_s3(bucket, CompressionFormat="GZIP", **processors(processor("Decompression"), APPEND))
    cloud.send(name, log_events("a"), log_events("b", "c"))
    cloud.flush(name)
    found = cloud.documents_in(bucket)
    assert [[event["message"] for event in each["logEvents"]] for each in found] == [["a"], ["b", "c"]]


# -- functions -------------------------------------------------------------------------------------------------------


def test_a_function_decides_over_each_record(cloud: DeliveryCloud, bucket: str) -> None:
    """Ok, dropped, failed, forgotten, answered twice, or without data: every record is in exactly one place."""
    given = ["ok", "drop", "fail", "forget", "twice", "nothing", "ok", "rename"]
    name = cloud.to_s3(
        bucket, ErrorOutputPrefix="errors/!{firehose:error-output-type}/", **processors(transform(), APPEND)
    )
    records = rules(*given)
    started_ms = time.time_ns() // 1_000_000
    cloud.send(name, *records)
    cloud.flush(name)
    found = {key: body for key, body in cloud.objects(bucket).items() if not key.startswith(ERRORS)}
    assert [body.splitlines() for body in found.values()] == [[records[0], records[6]]]
    failed = {json.loads(raw)["rule"]: code for _, code, raw in errors(cloud, bucket)}
    assert failed == {
        "fail": "Lambda.ProcessingFailedStatus",
        "forget": "Lambda.MissingRecordId",
        "rename": "Lambda.MissingRecordId",
        "twice": "Lambda.DuplicatedRecordId",
        "nothing": "Lambda.InvalidReturnFormat",
    }
    document = next(each for each in cloud.documents_in(bucket, ERRORS) if "Status" in each["errorCode"])
    assert list(document) == [
        "rawData",
        "errorCode",
        "errorMessage",
        "attemptsMade",
        "arrivalTimestamp",
        "attemptEndingTimestamp",
        "lambdaARN",
    ]
    assert document["errorMessage"] == "ProcessingFailed status set for record"
    assert document["lambdaARN"] == function_arn("transform")
    assert document["attemptsMade"] == 1
    times = started_ms - 1_000, document["arrivalTimestamp"], document["attemptEndingTimestamp"]
    assert list(times) == sorted(times)


def test_a_function_gets_the_event_that_aws_sends(cloud: DeliveryCloud, bucket: str) -> None:
    source, direct = cloud.source(), cloud.bucket()
    names = [
        cloud.to_s3(bucket, source=source, **processors(transform())),
        cloud.to_s3(direct, **processors(transform())),
    ]
    (number,) = cloud.put(source, ("key", {"rule": "envelope"}))
    cloud.send(names[1], *rules("envelope"))
    for name in names:
        cloud.flush(name)
    streamed, put = json.loads(cloud.content(bucket)), json.loads(cloud.content(direct))
    assert set(streamed["event"]) == {
        "invocationId",
        "sourceKinesisStreamArn",
        "deliveryStreamArn",
        "region",
        "records",
    }
    assert streamed["event"]["sourceKinesisStreamArn"] == stream_arn(source)
    assert streamed["event"]["deliveryStreamArn"] == cloud.describe(names[0])["DeliveryStreamARN"]
    metadata = streamed["record"]["kinesisRecordMetadata"]
    assert (metadata["sequenceNumber"], metadata["shardId"]) == (number, "shardId-000000000000")
    assert set(put["event"]) == {"invocationId", "deliveryStreamArn", "region", "records"}
    assert set(put["record"]) == {"recordId", "approximateArrivalTimestamp", "data"}
    assert abs(put["record"]["approximateArrivalTimestamp"] / 1_000 - time.time()) < 60


@pytest.mark.parametrize(
    ("function", "rule", "code"),
    [
        ("transform", "raise", "Lambda.FunctionError"),
        ("transform", "odd", "Lambda.FunctionError"),
        ("transform", "grow 5000000", "Lambda.FunctionError"),
        ("impatient", "sleep 3", "Lambda.FunctionTimedOut"),
    ],
    ids=["raises", "says what it may not", "answers with more than 6 MB", "is too slow"],
)
def test_a_call_that_fails_fails_its_records_and_no_others(
    cloud: DeliveryCloud, bucket: str, function: str, rule: str, code: str
) -> None:
    name = cloud.to_s3(
        bucket, ErrorOutputPrefix="errors/!{firehose:error-output-type}/", **processors(transform(function), APPEND)
    )
    bad, good = rules("ok", rule), rules("ok", "ok")
    cloud.send(name, *bad)
    cloud.flush(name)
    cloud.send(name, *good)
    cloud.flush(name)
    assert errors(cloud, bucket) == [("processing-failed", code, raw) for raw in bad]
    found = [body for key, body in cloud.objects(bucket).items() if not key.startswith(ERRORS)]
    assert [body.splitlines() for body in found] == [good]


def test_a_call_that_fails_is_repeated_as_often_as_asked(cloud: DeliveryCloud, bucket: str) -> None:
    cloud.create("flaky", TRANSFORM)
    name = cloud.to_s3(bucket, **processors(transform("flaky", retries=1), APPEND))
    records = rules("ok", "flaky 1")
    cloud.send(name, *records)
    cloud.flush(name)
    assert cloud.lines(bucket) == records


def test_a_function_that_is_gone_fails_records_until_it_is_there_again(cloud: DeliveryCloud, bucket: str) -> None:
    cloud.create("leaving", TRANSFORM)
    name = cloud.to_s3(
        bucket, ErrorOutputPrefix="errors/!{firehose:error-output-type}/", **processors(transform("leaving"))
    )
    cloud.functions.delete_function(FunctionName="leaving")
    cloud.send(name, b'{"n":1}')
    cloud.flush(name)
    cloud.create("leaving", TRANSFORM)
    cloud.send(name, b'{"n":2}')
    cloud.flush(name)
    assert errors(cloud, bucket) == [("processing-failed", "Lambda.ResourceNotFound", b'{"n":1}')]
    assert [body for key, body in cloud.objects(bucket).items() if not key.startswith(ERRORS)] == [b'{"n":2}']


def test_a_buffer_whose_time_has_come_waits_for_no_function(cloud: DeliveryCloud, bucket: str) -> None:
    name = cloud.to_s3(bucket, interval_s=1, **processors(transform(BufferIntervalInSeconds="0"), APPEND))
    quick, slow = rules("ok", "sleep 12")
    cloud.send(name, quick)
    eventually(lambda: cloud.metric("streamkit_delivery_incoming_records_total", delivery_stream=name) == 1)
    cloud.send(name, slow)
    eventually(lambda: cloud.keys(bucket), within_s=9)
    assert cloud.lines(bucket) == [quick]


def test_the_backup_has_every_record_as_it_came(cloud: DeliveryCloud, bucket: str) -> None:
    """In a bucket and under a prefix of its own, whatever becomes of the records on the way."""
    backup = cloud.bucket()
    name = cloud.to_s3(
        bucket,
        ErrorOutputPrefix="errors/!{firehose:error-output-type}/",
        S3BackupMode="Enabled",
        S3BackupConfiguration={
            "BucketARN": f"arn:aws:s3:::{backup}",
            "RoleARN": ROLE,
            "Prefix": "source/!{timestamp:yyyy}/",
            "ErrorOutputPrefix": "unused/!{firehose:error-output-type}/",
            "CompressionFormat": "GZIP",
            "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 60},
        },
        **processors(transform(), APPEND),
    )
    records = rules("ok", "drop", "fail", "ok")
    cloud.send(name, *records)
    cloud.flush(name)
    ((key, body),) = cloud.objects(backup).items()
    assert gzip.decompress(body) == b"".join(records)
    assert Key.of(key).prefix == f"source/{Key.of(key).at.year}/"
    assert Key.of(key).extension == ".gz"
    (delivered,) = (body for key, body in cloud.objects(bucket).items() if not key.startswith(ERRORS))
    assert delivered.splitlines() == [records[0], records[3]]
    assert cloud.metric("streamkit_delivery_backup_records_total", delivery_stream=name) == 4


# -- partitions ------------------------------------------------------------------------------------------------------


def test_a_functions_keys_make_partitions(cloud: DeliveryCloud, bucket: str) -> None:
    name = cloud.to_s3(
        bucket, Prefix="team=!{partitionKeyFromLambda:team}/", **PARTITIONED, **processors(transform(), APPEND)
    )
    cloud.send(name, b'{"team":"red"}', b'{"team":"blue"}', b'{"n":1}', b'{"team":"red","n":2}')
    cloud.flush(name)
    assert cloud.lines(bucket, "team=red/") == [b'{"team":"red"}', b'{"team":"red","n":2}']
    assert cloud.lines(bucket, "team=blue/") == [b'{"team":"blue"}']
    assert errors(cloud, bucket) == [
        ("metadata-extraction-failed", "DynamicPartitioning.MetadataExtractionFailed", b'{"n":1}')
    ]


@pytest.mark.parametrize(
    "query",
    [
        "{day: .at[0:10], kind: .user.kind}",
        '{day: .at | split("T")[0], kind: (if .user.kind then .user.kind else empty end)}',
    ],
    ids=["paths", "a program"],
)
def test_queries_make_partitions(cloud: DeliveryCloud, bucket: str, query: str) -> None:
    """What has no values for them is in the error output, with AWS's document."""
    name = cloud.to_s3(
        bucket,
        Prefix="!{partitionKeyFromQuery:kind}/!{partitionKeyFromQuery:day}/!{timestamp:yyyy}/",
        **PARTITIONED,
        **processors(extraction(query), APPEND),
    )
    good = [
        b'{"at":"2026-07-01T10:00:00Z","user":{"kind":"a"}}',
        b'{"at":"2026-07-02T10:00:00Z","user":{"kind":"a"}}',
        b'{"at":"2026-07-01T11:00:00Z","user":{"kind":"a"}}',
    ]
    bad = [b"no document", b'{"at":"2026-07-01T10:00:00Z","user":{}}']
    cloud.send(name, good[0], bad[0], good[1], bad[1], good[2])
    cloud.flush(name)
    assert cloud.lines(bucket, "a/2026-07-01/") == [good[0], good[2]]
    assert cloud.lines(bucket, "a/2026-07-02/") == [good[1]]
    failed = "metadata-extraction-failed", "DynamicPartitioning.MetadataExtractionFailed"
    assert errors(cloud, bucket) == [(*failed, raw) for raw in bad]
    first, second = cloud.documents_in(bucket, ERRORS)
    assert list(first) == [
        "attemptsMade",
        "arrivalTimestamp",
        "errorCode",
        "errorMessage",
        "attemptEndingTimestamp",
        "rawData",
    ]
    assert first["errorMessage"] == "Non JSON record provided"
    assert second["errorMessage"]


def test_partitions_beyond_the_limit_go_to_the_error_output(cloud: DeliveryCloud, bucket: str) -> None:
    """Those that are active go on, and when their buffers are delivered, others can be active."""
    name = cloud.to_s3(
        bucket, Prefix="p/!{partitionKeyFromQuery:id}/", **PARTITIONED, **processors(extraction("{id: .id}"), APPEND)
    )
    records = [json.dumps({"id": str(n)}).encode() for n in range(510)]
    cloud.send(name, *records, records[0], records[509])
    eventually(lambda: cloud.metric("streamkit_delivery_partitions", delivery_stream=name) == 500)
    cloud.flush(name)
    keys = [key for key in cloud.keys(bucket) if key.startswith("p/")]
    assert {key.split("/")[1] for key in keys} == {str(n) for n in range(500)}
    assert len(keys) == 500
    assert cloud.lines(bucket, "p/0/") == [records[0], records[0]]
    failed = [raw for kind, _, raw in errors(cloud, bucket) if kind == "activePartitionExceeded"]
    assert failed == [*records[500:], records[509]]
    assert cloud.metric("streamkit_delivery_partitions", delivery_stream=name) == 0
    cloud.send(name, records[509])
    cloud.flush(name)
    assert cloud.lines(bucket, "p/509/") == [records[509]]
