"""Channels as boto3 has them: from CreateChannel to objects in a bucket."""

from __future__ import annotations

import gzip
import http.client
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from botocore.exceptions import ClientError

from streamkit.testing.server import ServerProcess
from tests.wire.clients import ACCOUNT, REGION

ROLE = f"arn:aws:iam::{ACCOUNT}:role/r"
STREAM_ARN = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/s"


@pytest.fixture
def kinesis(client: Any) -> Any:
    """boto3 on the shared server, with the on-demand stream `s`."""
    client.create_stream(StreamName="s", StreamModeDetails={"StreamMode": "ON_DEMAND"})
    return client


def create(kinesis: Any, name: str = "c", kind: str = "JSON", compression: str = "GZIP", **storage: Any) -> Any:
    return kinesis.create_channel(
        ChannelName=name,
        ServiceExecutionRoleARN=ROLE,
        StreamConfigurationList=[{"StreamARN": STREAM_ARN, "RecordConfiguration": {"RecordFormatType": kind}}],
        S3DestinationConfiguration={
            "StorageConfiguration": {
                "BucketARN": "arn:aws:s3:::lake",
                "ExpectedBucketOwner": ACCOUNT,
                "CompressionType": compression,
                **storage,
            }
        },
        Tags={"team": "x"},
    )["ChannelDescription"]


def put(kinesis: Any, *records: bytes) -> None:
    entries = [{"Data": data, "PartitionKey": "k"} for data in records]
    assert kinesis.put_records(StreamName="s", Records=entries)["FailedRecordCount"] == 0


def flush(server: ServerProcess) -> None:
    """Delivers what is in buffers: freshness is five minutes at least."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("POST", "/_streamkit/deliveries/flush")
    assert connection.getresponse().status == 200
    connection.close()


def objects(server: ServerProcess, bucket: str = "lake") -> dict[str, bytes]:
    """By key: buckets are folders where there is no object store. They outlive a reset, so each test has its own."""
    root = server.data / "buckets" / bucket
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_what_comes_after_a_channel_was_made_is_delivered(kinesis: Any, streamkit_shared_server: ServerProcess) -> None:
    """Nothing of before; what is no JSON is in the dead-letter queue; names are the template's."""
    put(kinesis, b'{"n":0}')
    told = create(kinesis, OutputKeyTemplate="data/!{channel-name}/!{yyyy}/!{stream-name}-!{mm}!{extension}")
    put(kinesis, b'{"n":1}', b"nope", b'{"n":2}')
    flush(streamkit_shared_server)
    found = objects(streamkit_shared_server)
    errors = {key: found.pop(key) for key in list(found) if key.startswith("kinesis-channel/")}
    assert len(found) == 1
    (key, body), *_ = found.items()
    assert re.fullmatch(r"data/c/\d{4}/s-\d{2}-[0-9a-f-]{36}\.gz", key)
    assert gzip.decompress(body) == b'{"n":1}\n{"n":2}\n'
    (error_key, error_body), *_ = errors.items()
    assert error_key.startswith(f"kinesis-channel/errors/c/{told['ChannelId']}/")
    text = gzip.decompress(error_body) if error_body[:2] == b"\x1f\x8b" else error_body
    assert "not JSON" in json.loads(text)["errorMessage"]


def test_bytes_are_delivered_as_they_are(kinesis: Any, streamkit_shared_server: ServerProcess) -> None:
    """Also what looks like an aggregate, and nothing between records; ZSTD for those who want it."""
    create(kinesis, kind="BYTE_ARRAY", compression="ZSTD", BucketARN="arn:aws:s3:::raw")
    records = [b"\xf3\x89\x9a\xc2" + b"\x00" * 20, b"\xff\n", b"a"]
    put(kinesis, *records)
    flush(streamkit_shared_server)
    ((key, body),) = objects(streamkit_shared_server, "raw").items()
    assert key.endswith(".zst")
    assert pa.CompressedInputStream(pa.BufferReader(body), "zstd").read() == b"".join(records)


def test_a_table_channel_makes_an_iceberg_table(kinesis: Any, streamkit_shared_server: ServerProcess) -> None:
    """Columns are those of the table that stands for the schema; it is read by pyiceberg."""
    from pyiceberg.catalog.sql import SqlCatalog

    glue = boto3_glue(streamkit_shared_server)
    glue.create_database(DatabaseInput={"Name": "registry"})
    columns = [{"Name": "id", "Type": "bigint"}, {"Name": "name", "Type": "string"}]
    glue.create_table(DatabaseName="registry", TableInput={"Name": "orders", "StorageDescriptor": {"Columns": columns}})
    record = {
        "RecordFormatType": "JSON",
        "GSRSchemaARN": f"arn:aws:glue:{REGION}:{ACCOUNT}:schema/registry/orders",
    }
    kinesis.create_channel(
        ChannelName="t",
        ServiceExecutionRoleARN=ROLE,
        StreamConfigurationList=[{"StreamARN": STREAM_ARN, "RecordConfiguration": record}],
        S3TablesDestinationConfiguration={
            "DeadLetterQueueS3Configuration": {"BucketARN": "arn:aws:s3:::dead", "ExpectedBucketOwner": ACCOUNT},
            "S3TablesConfigurationList": [
                {
                    "TableBucketARN": f"arn:aws:s3tables:{REGION}:{ACCOUNT}:bucket/tables",
                    "Namespace": "sales",
                    "TableName": "orders",
                    "CompressionType": "ZSTD",
                }
            ],
        },
    )
    put(kinesis, b'{"id":1,"name":"a"}', b"nope", b'{"id":2}')
    flush(streamkit_shared_server)
    warehouse = streamkit_shared_server.data / "buckets" / "tables"
    catalog = SqlCatalog("streamkit", uri=f"sqlite:///{warehouse}/catalog.sqlite", warehouse=warehouse.as_uri())
    found = catalog.load_table(("sales", "orders")).scan().to_arrow().sort_by("id")
    catalog.engine.dispose()
    assert found.to_pylist() == [{"id": 1, "name": "a"}, {"id": 2, "name": None}]
    assert len(objects(streamkit_shared_server, "dead")) == 1


def test_the_five_operations_and_tags(kinesis: Any) -> None:
    """As one client after the other would use them."""
    told = create(kinesis)
    assert told["ChannelStatus"] == "CREATING"
    channel_arn = told["ChannelARN"]
    assert channel_arn == f"arn:aws:kinesis:{REGION}:{ACCOUNT}:channel/{told['ChannelId']}"
    assert kinesis.describe_channel(ChannelARN=channel_arn)["ChannelDescription"] == {**told, "ChannelStatus": "ACTIVE"}
    kinesis.update_channel(ChannelARN=channel_arn, S3DestinationConfiguration={"DataFreshnessInSeconds": 600})
    found = kinesis.describe_channel(ChannelARN=channel_arn)["ChannelDescription"]
    assert found["S3DestinationConfiguration"]["DataFreshnessInSeconds"] == 600
    listed = kinesis.list_channels(StreamFilter=[{"StreamARN": STREAM_ARN}])["ChannelSummaries"]
    assert [(each["ChannelName"], each["ChannelStatus"]) for each in listed] == [("c", "ACTIVE")]
    kinesis.tag_resource(ResourceARN=channel_arn, Tags={"more": "y"})
    kinesis.untag_resource(ResourceARN=channel_arn, TagKeys=["team"])
    assert kinesis.list_tags_for_resource(ResourceARN=channel_arn)["Tags"] == [{"Key": "more", "Value": "y"}]
    with pytest.raises(ClientError, match="channels: c") as refused:
        kinesis.delete_stream(StreamName="s")
    assert refused.value.response["Error"]["Code"] == "ResourceInUseException"
    kinesis.delete_channel(ChannelARN=channel_arn)
    with pytest.raises(ClientError) as gone:
        kinesis.describe_channel(ChannelARN=channel_arn)
    assert gone.value.response["Error"]["Code"] == "ResourceNotFoundException"
    kinesis.delete_stream(StreamName="s")


def test_a_channel_goes_on_after_the_server_was_killed(tmp_path: Path) -> None:
    """What it read and had not delivered comes once."""
    from tests.wire.clients import kinesis as connected

    with ServerProcess(tmp_path / "data") as server:
        with connected(server.endpoint) as client:
            client.create_stream(StreamName="s", StreamModeDetails={"StreamMode": "ON_DEMAND"})
            told = create(client, kind="STRING", compression="NONE")
            put(client, b"1")
            server.kill()
            server.start()
            put(client, b"2")
            found = client.describe_channel(ChannelARN=told["ChannelARN"])["ChannelDescription"]
        assert found == {**told, "ChannelStatus": "ACTIVE"}
        flush(server)
        assert sorted(b"".join(objects(server).values()).split()) == [b"1", b"2"]


def boto3_glue(server: ServerProcess) -> Any:
    import boto3

    return boto3.client(
        "glue",
        endpoint_url=server.endpoint,
        region_name=REGION,
        aws_access_key_id=ACCOUNT,
        aws_secret_access_key="secret",
    )
