"""Deliveries as their users have them: boto3 puts, a server process delivers, and an S3 server has the objects."""

from __future__ import annotations

import gzip
import io
import json
import re
import subprocess
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from tests.wire.clients import ACCOUNT
from tests.wire.cloud import ROLE, eventually, stream_arn
from tests.wire.delivery_cloud import (
    NEWLINES,
    DeliveryCloud,
    Key,
    delivery_cloud,
    extraction,
    processor,
    processors,
    table_input,
)

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeliveryCloud]:
    with delivery_cloud(tmp_path_factory.mktemp("delivery") / "data") as made:
        yield made


@pytest.fixture
def bucket(cloud: DeliveryCloud) -> str:
    return cloud.bucket()


# -- sources ---------------------------------------------------------------------------------------------------------


def test_direct_puts_become_one_object_with_nothing_between_them(cloud: DeliveryCloud, bucket: str) -> None:
    """In the order in which they were put, under the hour in which they came."""
    name = cloud.to_s3(bucket)
    started = datetime.now(UTC)
    cloud.firehose.put_record(DeliveryStreamName=name, Record={"Data": b"first,"})
    ids = cloud.send(name, b"second,", "drît\n".encode(), b"\x00\xff")
    assert len(set(ids)) == 3
    cloud.flush(name)
    ((text, body),) = cloud.objects(bucket).items()
    assert body == b"first,second,dr\xc3\xaet\n\x00\xff"
    key = Key.of(text)
    assert (key.stream, key.version, key.extension) == (name, 1, "")
    assert key.prefix == f"{key.at:%Y/%m/%d/%H/}"
    assert started.replace(tzinfo=None, microsecond=0) <= key.at <= datetime.now(UTC).replace(tzinfo=None)
    assert cloud.store.head(bucket, text)["ContentType"] == "application/octet-stream"


def test_a_streams_records_are_delivered_from_the_making_of_the_delivery_stream_on(
    cloud: DeliveryCloud, bucket: str
) -> None:
    """Of all its shards, also those that a split makes later; in order within a partition key."""
    source = cloud.source(shards=2)
    cloud.put(source, *((str(n), {"key": n % 7, "n": -1}) for n in range(20)))
    name = cloud.to_s3(bucket, source=source, **NEWLINES)
    cloud.put(source, *((str(n % 7), {"key": n % 7, "n": n}) for n in range(700)))
    cloud.kinesis.update_shard_count(StreamName=source, TargetShardCount=4, ScalingType="UNIFORM_SCALING")
    eventually(
        lambda: cloud.kinesis.describe_stream(StreamName=source)["StreamDescription"]["StreamStatus"] == "ACTIVE"
    )
    cloud.put(source, *((str(n % 7), {"key": n % 7, "n": n}) for n in range(700, 1_400)))
    cloud.flush(name)
    found = cloud.documents_in(bucket)
    assert sorted(each["n"] for each in found) == list(range(1_400))
    for half in (range(700), range(700, 1_400)):
        for key in range(7):
            assert [each["n"] for each in found if each["key"] == key and each["n"] in half] == [
                n for n in half if n % 7 == key
            ]


def test_a_stream_that_is_made_again_is_read_from_its_first_record(cloud: DeliveryCloud, bucket: str) -> None:
    source = cloud.source()
    name = cloud.to_s3(bucket, source=source, **NEWLINES)
    cloud.put(source, ("k", {"n": 1}))
    cloud.flush(name)
    cloud.kinesis.delete_stream(StreamName=source)
    cloud.stream(source)
    cloud.put(source, ("k", {"n": 2}))

    cloud.flush(name)
    assert sorted(each["n"] for each in cloud.documents_in(bucket)) == [1, 2]


def test_what_was_read_of_a_stream_that_is_gone_is_delivered_on_time(cloud: DeliveryCloud, bucket: str) -> None:
    """And the delivery stream can be changed meanwhile; it goes on when there is a stream of that name."""
    source = cloud.source()
    name = cloud.to_s3(bucket, source=source, interval_s=1, Prefix="1/", **NEWLINES)
    cloud.put(source, ("k", {"n": 1}))
    eventually(lambda: cloud.metric("streamkit_delivery_incoming_records_total", delivery_stream=name) == 1)
    cloud.kinesis.delete_stream(StreamName=source)
    eventually(lambda: cloud.keys(bucket), within_s=10)
    cloud.redirect(name, Prefix="2/")
    cloud.flush(name)
    cloud.stream(source)
    cloud.put(source, ("k", {"n": 2}))
    cloud.flush(name)
    assert cloud.documents_in(bucket, "1/") + cloud.documents_in(bucket, "2/") == [{"n": 1}, {"n": 2}]


def test_the_largest_and_the_smallest_records_arrive(cloud: DeliveryCloud, bucket: str) -> None:
    """1,000 KiB, one byte, and none at all, which leaves nothing but its line end."""
    name = cloud.to_s3(bucket, **NEWLINES)
    largest = bytes(range(65, 90)) * (1_024_000 // 25)
    cloud.send(name, largest, b"x", b"", b"y")
    cloud.flush(name)
    assert cloud.content(bucket) == largest + b"\nx\n\ny\n"


# -- buffering -------------------------------------------------------------------------------------------------------


def test_a_full_buffer_is_delivered_and_what_is_left_waits(cloud: DeliveryCloud, bucket: str) -> None:
    """The hint counts bytes before compression."""
    name = cloud.to_s3(bucket, mib=1, interval_s=900, CompressionFormat="GZIP", **NEWLINES)
    records = [json.dumps({"n": n, "text": "x" * 1_000}).encode() for n in range(1_500)]
    cloud.send(name, *records[:500])
    time.sleep(0.3)
    assert cloud.keys(bucket) == []
    cloud.send(name, *records[500:])
    eventually(lambda: cloud.keys(bucket))
    first = gzip.decompress(cloud.content(bucket))
    assert MIB <= len(first) < MIB + 200_000
    cloud.flush(name)
    (second,) = (gzip.decompress(body) for body in cloud.objects(bucket).values() if gzip.decompress(body) != first)
    assert (first + second).splitlines() == records


def test_an_old_buffer_is_delivered_on_time_and_an_empty_one_is_not(cloud: DeliveryCloud, bucket: str) -> None:
    """Nobody asks for it. The interval begins with the first record, not with the last object."""
    slow = cloud.bucket()
    waiting = cloud.to_s3(slow, interval_s=60)
    name = cloud.to_s3(bucket, interval_s=1)
    cloud.send(waiting, b"later")
    for round in (1, 2):
        put_at = time.monotonic()
        cloud.send(name, b"%d" % round)
        eventually(lambda: len(cloud.keys(bucket)) == round)  # noqa: B023
        assert 0.9 <= time.monotonic() - put_at < 10
        time.sleep(1.3)
    assert sorted(cloud.objects(bucket).values()) == [b"1", b"2"]
    assert cloud.keys(slow) == []


def test_with_an_interval_of_zero_nothing_waits(cloud: DeliveryCloud, bucket: str) -> None:
    name = cloud.to_s3(bucket, mib=128, interval_s=0)
    for n in range(3):
        cloud.send(name, str(n).encode())
        eventually(lambda: len(cloud.keys(bucket)) == n + 1, within_s=10)  # noqa: B023
    assert sorted(cloud.objects(bucket).values()) == [b"0", b"1", b"2"]


# -- names -----------------------------------------------------------------------------------------------------------


def test_a_prefix_without_expressions_has_the_hour_right_behind_it(cloud: DeliveryCloud, bucket: str) -> None:
    """AWS adds no slash."""
    name = cloud.to_s3(bucket, Prefix="legacy", CompressionFormat="GZIP")
    cloud.send(name, b"a")
    cloud.flush(name)
    (text,) = cloud.keys(bucket)
    key = Key.of(text)
    assert (key.prefix, key.extension) == (f"legacy{key.at:%Y/%m/%d/%H/}", ".gz")


def test_expressions_of_a_prefix_are_evaluated_in_its_time_zone(cloud: DeliveryCloud, bucket: str) -> None:
    zone = ZoneInfo("Asia/Kathmandu")
    name = cloud.to_s3(
        bucket,
        Prefix="!{firehose:random-string}/day=!{timestamp:yyyy-MM-dd}/hour=!{timestamp:HH}/",
        ErrorOutputPrefix="errors/!{firehose:error-output-type}/",
        CustomTimeZone="Asia/Kathmandu",
        FileExtension=".csv.gz",
        CompressionFormat="GZIP",
    )
    for n in range(2):
        cloud.send(name, b"%d" % n)
        cloud.flush(name)
    keys = [Key.of(text) for text in cloud.keys(bucket)]
    assert len({key.prefix[:11] for key in keys}) == 2
    for key in keys:
        assert abs(datetime.now(zone).replace(tzinfo=None) - key.at) < timedelta(minutes=1)
        assert re.fullmatch(rf"[0-9A-Za-z]{{11}}/day={key.at:%Y-%m-%d}/hour={key.at:%H}/", key.prefix)
        assert key.extension == ".csv.gz"


def test_any_text_can_be_part_of_a_name(cloud: DeliveryCloud, bucket: str) -> None:
    """Of a prefix, and of what records say is their partition; nobody has to decode it, and nothing leads elsewhere."""
    values = ["a b", "50%", "%41", "ü/ä", "x+y=z&?#", "..", "a/../../b", "/a//b/", "tab\there", "'\"", "~*()[]{}|^`"]
    name = cloud.to_s3(
        bucket,
        mib=64,
        Prefix="in put/%20+ö/!{partitionKeyFromQuery:v}/",
        ErrorOutputPrefix="errors/!{firehose:error-output-type}/",
        DynamicPartitioningConfiguration={"Enabled": True},
        **processors(extraction("{v: .v}")),
    )
    cloud.send(name, *(json.dumps({"v": value}).encode() for value in values))
    cloud.flush(name)
    found = {Key.of(key).prefix: json.loads(body)["v"] for key, body in cloud.objects(bucket).items()}
    changed = {"..": "%2E%2E", "a/../../b": "a/%2E%2E/%2E%2E/b", "/a//b/": "%2Fa/%2Fb%2F", "tab\there": "tab%09here"}
    assert found == {f"in put/%20+ö/{changed.get(value, value)}/": value for value in values}


@pytest.mark.parametrize(
    ("error_prefix", "prefix"),
    [
        ("bad", "badmetadata-extraction-failed/{hour}"),
        ("bad/!{firehose:error-output-type}/!{timestamp:yyyy}/", "bad/metadata-extraction-failed/{year}/"),
    ],
)
def test_what_fails_goes_below_the_error_prefix(
    cloud: DeliveryCloud, bucket: str, error_prefix: str, prefix: str
) -> None:
    name = cloud.to_s3(
        bucket,
        mib=64,
        Prefix="!{partitionKeyFromQuery:a}/",
        ErrorOutputPrefix=error_prefix,
        DynamicPartitioningConfiguration={"Enabled": True},
        **processors(extraction("{a: .a}")),
    )
    cloud.send(name, b'{"a":"x"}', b"{}")
    cloud.flush(name)
    good, bad = sorted(map(Key.of, cloud.keys(bucket)), key=lambda key: key.prefix != "x/")
    assert good.prefix == "x/"
    assert bad.prefix == prefix.format(hour=f"{bad.at:%Y/%m/%d/%H/}", year=bad.at.year)


# -- formats ---------------------------------------------------------------------------------------------------------


def by_command(*command: str) -> Callable[[bytes], bytes]:
    return lambda body: subprocess.run(command, input=body, capture_output=True, check=True, timeout=30).stdout


def by_zipfile(body: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        (entry,) = archive.infolist()
        assert entry.compress_type == zipfile.ZIP_DEFLATED
        assert archive.testzip() is None
        return archive.read(entry)


def by_arrow(body: bytes) -> bytes:
    """Snappy's blocks as Arrow reads them; both framings are a few numbers around them."""
    codec, parts, place = pa.Codec("snappy"), [], 0
    is_xerial = body.startswith(b"\x82SNAPPY\x00")
    if is_xerial:
        assert body[8:16] == b"\x00\x00\x00\x01" * 2
        place = 16
    while place < len(body):
        if is_xerial:
            size = int.from_bytes(body[place : place + 4])
            block = body[place + 4 : place + 4 + size]
            parts.append(codec.decompress(block, decompressed_size=snappy_size(block), asbytes=True))
            place += 4 + size
            continue
        whole, place, found = int.from_bytes(body[place : place + 4]), place + 4, 0
        while found < whole:
            size = int.from_bytes(body[place : place + 4])
            block = body[place + 4 : place + 4 + size]
            parts.append(codec.decompress(block, decompressed_size=snappy_size(block), asbytes=True))
            found += len(parts[-1])
            place += 4 + size
        assert found == whole
    return b"".join(parts)


def snappy_size(block: bytes) -> int:
    size = shift = 0
    for byte in block:
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    return size


@pytest.mark.parametrize(
    ("compression", "extension", "read"),
    [
        ("UNCOMPRESSED", "", bytes),
        ("GZIP", ".gz", by_command("gzip", "-dc")),
        ("ZIP", ".zip", by_zipfile),
        ("Snappy", ".snappy", by_arrow),
        ("HADOOP_SNAPPY", ".snappy", by_arrow),
    ],
)
def test_objects_are_read_by_tools_that_nobody_here_wrote(
    cloud: DeliveryCloud, bucket: str, compression: str, extension: str, read: Callable[[bytes], bytes]
) -> None:
    name = cloud.to_s3(bucket, CompressionFormat=compression, **NEWLINES)
    records = [json.dumps({"n": n, "text": f"{zlib.crc32(str(n).encode())}" * 20}).encode() for n in range(2_000)]
    cloud.send(name, *records)
    cloud.flush(name)
    ((text, body),) = cloud.objects(bucket).items()
    assert Key.of(text).extension == extension
    assert read(body) == b"\n".join(records) + b"\n"
    assert (len(body) < 200_000) is (compression != "UNCOMPRESSED")


@pytest.mark.parametrize(("parameter", "delimiter"), [("\\n", b"\n"), ("\\r\\n", b"\r\n"), ("|", b"|"), ("--", b"--")])
def test_a_delimiter_of_ones_choice_follows_each_record(
    cloud: DeliveryCloud, bucket: str, parameter: str, delimiter: bytes
) -> None:
    name = cloud.to_s3(bucket, **processors(processor("AppendDelimiterToRecord", Delimiter=parameter)))
    cloud.send(name, b"a", b"b")
    cloud.flush(name)
    assert cloud.content(bucket) == delimiter.join([b"a", b"b", b""])


# -- life ------------------------------------------------------------------------------------------------------------


def test_an_update_takes_effect_and_loses_nothing(cloud: DeliveryCloud, bucket: str) -> None:
    """What was buffered goes where it was meant to go, what comes after it below the new prefix."""
    name = cloud.to_s3(bucket, Prefix="old/", **NEWLINES)
    cloud.send(name, b"1", b"2")
    cloud.wait_until_read(name)
    cloud.redirect(name, Prefix="new/", BufferingHints={"SizeInMBs": 1, "IntervalInSeconds": 1})
    cloud.send(name, b"3")
    eventually(lambda: len(cloud.keys(bucket)) == 2)
    assert cloud.lines(bucket, "old/") + cloud.lines(bucket, "new/") == [b"1", b"2", b"3"]
    assert cloud.lines(bucket, "new/")[-1] == b"3"
    versions = {Key.of(text).prefix[:3]: Key.of(text).version for text in cloud.keys(bucket)}
    assert versions["new"] == 2
    assert cloud.describe(name)["VersionId"] == "2"


def test_changes_under_load_neither_lose_nor_double(cloud: DeliveryCloud, bucket: str) -> None:
    """One after the other, while records come from a stream and directly."""
    source, direct = cloud.source(shards=2), cloud.bucket()
    names = [cloud.to_s3(bucket, source=source, mib=1, **NEWLINES), cloud.to_s3(direct, mib=1, **NEWLINES)]
    for round in range(12):
        records = [b"%d" % n for n in range(round * 100, round * 100 + 100)]
        cloud.put(source, *((record.decode(), record) for record in records))
        cloud.send(names[1], *records)
        for name in names:
            cloud.redirect(name, Prefix=f"{round}/", BufferingHints={"SizeInMBs": 1, "IntervalInSeconds": round % 2})
    for name, into in zip(names, (bucket, direct), strict=True):
        cloud.flush(name)
        assert cloud.describe(name)["VersionId"] == "13"
        assert sorted(map(int, cloud.lines(into))) == list(range(1_200))


def test_an_update_to_another_kind_of_destination_loses_nothing(
    cloud: DeliveryCloud, bucket: str, tmp_path: Path
) -> None:
    name = cloud.to_s3(bucket, **NEWLINES)
    cloud.send(name, b'{"n":1}')
    cloud.wait_until_read(name)
    described = cloud.describe(name)
    cloud.raw(
        "UpdateDestination",
        DeliveryStreamName=name,
        CurrentDeliveryStreamVersionId=described["VersionId"],
        DestinationId=described["Destinations"][0]["DestinationId"],
        StreamkitDestinationUpdate={"Url": str(tmp_path), "Format": "json"},
    )
    cloud.send(name, b'{"n":2}')
    cloud.flush(name)
    there = [line for path in tmp_path.rglob("*-*") if path.is_file() for line in path.read_bytes().splitlines()]
    assert cloud.lines(bucket) + there == [b'{"n":1}', b'{"n":2}']


def test_an_update_mends_a_delivery_stream_that_could_not_go_on(cloud: DeliveryCloud, bucket: str) -> None:
    """Its table is missing, so its records wait; they are delivered when the update names one that is there."""
    good = cloud.table([("n", "int")])
    name = cloud.to_s3(bucket, mib=64, **conversion("no_such_table"))
    cloud.send(name, b'{"n":1}')
    time.sleep(1.5)
    assert cloud.keys(bucket) == []
    changed_at = time.monotonic()
    cloud.redirect(name, DataFormatConversionConfiguration=conversion(good)["DataFormatConversionConfiguration"])
    cloud.flush(name)
    assert time.monotonic() - changed_at < 8, "it waited for what cannot be"
    (key,) = cloud.keys(bucket)
    assert Key.of(key).extension == ".parquet"


def conversion(table: str) -> dict[str, Any]:
    return {
        "DataFormatConversionConfiguration": {
            "SchemaConfiguration": {"RoleARN": ROLE, "DatabaseName": "lake", "TableName": table},
            "InputFormatConfiguration": {"Deserializer": {"OpenXJsonSerDe": {}}},
            "OutputFormatConfiguration": {"Serializer": {"ParquetSerDe": {}}},
        }
    }


def test_a_table_that_is_made_later_lets_records_go_on(cloud: DeliveryCloud, bucket: str) -> None:
    other = cloud.table([("n", "int")])
    name = cloud.to_s3(bucket, mib=64, interval_s=1, **conversion(f"{other}_later"))
    cloud.send(name, b'{"n":1}')
    time.sleep(1.2)
    cloud.glue.create_table(DatabaseName="lake", TableInput=table_input(f"{other}_later", [("n", "int")]))
    eventually(lambda: cloud.keys(bucket), within_s=10)


def test_a_delivery_stream_that_is_deleted_delivers_nothing_more(cloud: DeliveryCloud, bucket: str) -> None:
    """One of the same name begins with nothing of it."""
    name = cloud.to_s3(bucket, interval_s=1, **NEWLINES)
    cloud.send(name, b"gone")
    cloud.firehose.delete_delivery_stream(DeliveryStreamName=name)
    with pytest.raises(cloud.firehose.exceptions.ResourceNotFoundException):
        cloud.send(name, b"lost")
    assert name not in cloud.firehose.list_delivery_streams(Limit=100)["DeliveryStreamNames"]
    before = set(cloud.keys(bucket))
    configuration = {
        "BucketARN": f"arn:aws:s3:::{bucket}",
        "RoleARN": ROLE,
        "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 900},
    }
    cloud.firehose.create_delivery_stream(
        DeliveryStreamName=name, ExtendedS3DestinationConfiguration={**configuration, **NEWLINES}
    )
    cloud.send(name, b"new")
    cloud.flush(name)
    (key,) = set(cloud.keys(bucket)) - before
    assert cloud.objects(bucket)[key] == b"new\n"


def test_encryption_and_tags_touch_no_record(cloud: DeliveryCloud, bucket: str) -> None:
    name = cloud.to_s3(bucket)
    cloud.send(name, b"1")
    cloud.firehose.start_delivery_stream_encryption(DeliveryStreamName=name)
    cloud.send(name, b"2")
    cloud.firehose.tag_delivery_stream(DeliveryStreamName=name, Tags=[{"Key": "team", "Value": "x"}])
    cloud.send(name, b"3")
    cloud.firehose.stop_delivery_stream_encryption(DeliveryStreamName=name)
    cloud.send(name, b"4")
    time.sleep(0.2)
    assert cloud.keys(bucket) == []
    cloud.flush(name)
    assert cloud.content(bucket) == b"1234"


def test_a_restart_in_the_middle_neither_loses_nor_doubles(cloud: DeliveryCloud) -> None:
    """A server that is asked to stop delivers what it has; one that is killed does so when it is there again."""
    direct, streamed = cloud.bucket(), cloud.bucket()
    source = cloud.source(shards=2)
    names = [cloud.to_s3(direct, **NEWLINES), cloud.to_s3(streamed, source=source, **NEWLINES)]

    def put(first: int) -> None:
        cloud.send(names[0], *(b"%d" % n for n in range(first, first + 100)))
        cloud.put(source, *((str(n), b"%d" % n) for n in range(first, first + 100)))

    put(0)
    cloud.server.stop()
    assert {len(cloud.lines(direct)), len(cloud.lines(streamed))} == {100}
    cloud.server.start()
    put(100)
    time.sleep(0.3)
    cloud.server.kill()
    cloud.server.start()
    put(200)
    for name, bucket in zip(names, (direct, streamed), strict=True):
        cloud.flush(name)
        assert sorted(map(int, cloud.lines(bucket))) == list(range(300))


# -- metrics ---------------------------------------------------------------------------------------------------------


def test_metrics_say_what_came_in_what_went_out_and_how_old_the_rest_is(cloud: DeliveryCloud, bucket: str) -> None:
    table = cloud.table([("n", "int")])
    name = cloud.to_s3(bucket, mib=64, ErrorOutputPrefix="errors/", **conversion(table))

    def metric(what: str, **labels: str) -> float:
        return cloud.metric(f"streamkit_delivery_{what}", delivery_stream=name, **labels)

    records = [b'{"n":%d}' % n for n in range(50)] + [b"no document"] * 3
    put_at = time.monotonic()
    cloud.send(name, *records)
    eventually(lambda: metric("incoming_records_total") == 53)
    assert metric("incoming_bytes_total") == sum(map(len, records))
    assert metric("records_total") == 0
    waited_s = time.monotonic() - put_at
    assert waited_s - 0.5 < metric("freshness_seconds") < waited_s + 5
    cloud.flush(name)
    assert metric("records_total", destination="S3") == 50
    assert metric("objects_total", destination="S3") == 1
    (body,) = (body for key, body in cloud.objects(bucket).items() if not key.startswith("errors/"))
    assert metric("bytes_total", destination="S3") == len(body)
    assert metric("converted_records_total") == 50
    assert metric("failed_records_total", error_type="format-conversion-failed") == 3
    assert metric("error_records_total") == 3
    assert metric("tries_total", outcome="succeeded") == 2
    assert metric("tries_total", outcome="failed") == 0
    assert metric("freshness_seconds") == 0
    assert metric("staged_bytes") == 0


# -- channels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("compression", "extension", "read"),
    [
        ("GZIP", ".gz", by_command("gzip", "-dc")),
        ("ZSTD", ".zst", lambda body: pa.CompressedInputStream(pa.BufferReader(body), "zstd").read()),
    ],
)
def test_a_channel_delivers_json_to_a_bucket(
    cloud: DeliveryCloud, bucket: str, compression: str, extension: str, read: Callable[[bytes], bytes]
) -> None:
    """On a real S3; what is no JSON is in its dead-letter queue."""
    stream = f"on-demand-{compression.lower()}"
    cloud.kinesis.create_stream(StreamName=stream, StreamModeDetails={"StreamMode": "ON_DEMAND"})
    cloud.kinesis.create_channel(
        ChannelName=stream,
        ServiceExecutionRoleARN=ROLE,
        StreamConfigurationList=[
            {"StreamARN": stream_arn(stream), "RecordConfiguration": {"RecordFormatType": "JSON"}}
        ],
        S3DestinationConfiguration={
            "StorageConfiguration": {
                "BucketARN": f"arn:aws:s3:::{bucket}",
                "ExpectedBucketOwner": ACCOUNT,
                "CompressionType": compression,
                "OutputKeyTemplate": "in/!{yyyy}/!{stream-name}!{extension}",
            },
            "DeadLetterQueueS3Configuration": {
                "BucketARN": f"arn:aws:s3:::{bucket}",
                "ExpectedBucketOwner": ACCOUNT,
                "ErrorOutputPrefix": "dead/",
            },
        },
    )
    documents = [{"n": n, "text": "x" * 100} for n in range(300)]
    cloud.put(stream, *((str(each["n"]), each) for each in documents), ("k", b"nope"))
    cloud.flush(stream)
    ((key, body),) = cloud.objects(bucket, "in/").items()
    assert re.fullmatch(rf"in/{datetime.now(UTC).year}/{stream}-[0-9a-f-]{{36}}{re.escape(extension)}", key)
    assert sorted((json.loads(line) for line in read(body).splitlines()), key=lambda each: each["n"]) == documents
    (dead,) = cloud.objects(bucket, "dead/").values()
    assert "not JSON" in json.loads(read(dead))["errorMessage"]
    assert cloud.metric("streamkit_delivery_records_total", delivery_stream=stream) == 300
