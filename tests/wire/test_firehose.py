"""Firehose through boto3: AWS's answers, member by member."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from streamkit.testing.clock import ManualClock
from tests.wire.clients import ACCOUNT, REGION, kinesis
from tests.wire.firehose_server import (
    BUCKET,
    CATALOG,
    CONVERTED,
    FUNCTION,
    HTTP,
    ICEBERG,
    KEY,
    OPENSEARCH,
    PARTITIONED,
    REDSHIFT,
    ROLE,
    SPLUNK,
    STREAM,
    TO_S3,
    FirehoseServer,
    create,
    describe,
    destination,
    firehose_client,
    invalid,
    lambda_processor,
    refused,
    serving,
    update,
)


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[FirehoseServer, Any]]:
    with serving() as made:
        yield made


@pytest.fixture
def server(shared: tuple[FirehoseServer, Any]) -> FirehoseServer:
    return shared[0]


@pytest.fixture
def client(shared: tuple[FirehoseServer, Any]) -> Iterator[Any]:
    """Of a server without delivery streams, where all is done at once."""
    yield shared[1]
    shared[0].clear()


# -- delivery streams ------------------------------------------------------------------------------------------------


def test_a_delivery_stream_is_described_with_every_default_filled_in(client: Any) -> None:
    """What Terraform and the console read back is there, member by member."""
    answer = create(client)
    assert answer["DeliveryStreamARN"] == f"arn:aws:firehose:{REGION}:{ACCOUNT}:deliverystream/d"
    description = describe(client)
    created_at = description.pop("CreateTimestamp")
    assert abs(created_at - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(seconds=30)
    bucket = {
        **BUCKET,
        "Prefix": "",
        "BufferingHints": {"SizeInMBs": 5, "IntervalInSeconds": 300},
        "CompressionFormat": "UNCOMPRESSED",
        "EncryptionConfiguration": {"NoEncryptionConfig": "NoEncryption"},
        "CloudWatchLoggingOptions": {"Enabled": False},
    }
    assert description == {
        "DeliveryStreamName": "d",
        "DeliveryStreamARN": answer["DeliveryStreamARN"],
        "DeliveryStreamStatus": "ACTIVE",
        "DeliveryStreamEncryptionConfiguration": {"Status": "DISABLED"},
        "DeliveryStreamType": "DirectPut",
        "VersionId": "1",
        "Destinations": [
            {
                "DestinationId": "destinationId-000000000001",
                "S3DestinationDescription": bucket,
                "ExtendedS3DestinationDescription": {**bucket, "S3BackupMode": "Disabled"},
            }
        ],
        "HasMoreDestinations": False,
    }


def test_a_page_of_destinations_after_the_only_one_is_empty(client: Any) -> None:
    """ExclusiveStartDestinationId is exclusive."""
    create(client)
    answer = client.describe_delivery_stream(
        DeliveryStreamName="d", ExclusiveStartDestinationId="destinationId-000000000001"
    )
    assert answer["DeliveryStreamDescription"]["Destinations"] == []


def test_the_old_way_to_name_a_bucket_makes_the_same_as_the_new_one(client: Any) -> None:
    """S3DestinationConfiguration is shown in both ways too."""
    create(client, S3DestinationConfiguration={**BUCKET, "Prefix": "p/"})
    shown = describe(client)["Destinations"][0]
    assert shown["S3DestinationDescription"]["Prefix"] == "p/"
    assert shown["ExtendedS3DestinationDescription"]["S3BackupMode"] == "Disabled"


def test_a_delivery_stream_of_a_stream_is_described_with_its_source(client: Any) -> None:
    """With the time from which records are delivered."""
    source: dict[str, Any] = {"KinesisStreamARN": STREAM, "RoleARN": ROLE}
    create(client, DeliveryStreamType="KinesisStreamAsSource", KinesisStreamSourceConfiguration=source)
    description = describe(client)
    described = description["Source"]["KinesisStreamSourceDescription"]
    assert described.pop("DeliveryStartTimestamp") == description["CreateTimestamp"]
    assert described == source
    assert description["DeliveryStreamType"] == "KinesisStreamAsSource"


def test_a_hint_for_the_throughput_is_shown(client: Any) -> None:
    """DirectPutSourceConfiguration is kept for information, as with AWS."""
    create(client, DirectPutSourceConfiguration={"ThroughputHintInMBs": 7})
    assert describe(client)["Source"] == {"DirectPutSourceDescription": {"ThroughputHintInMBs": 7}}


def test_a_name_is_taken_once_in_an_account_and_region(client: Any, server: FirehoseServer) -> None:
    """Another region has a delivery stream of its own under the name."""
    create(client)
    with refused("ResourceInUseException", f"Firehose d under accountId {ACCOUNT} already exists"):
        create(client)
    with firehose_client(server.port, region="eu-west-1") as other:
        create(other)
        other.delete_delivery_stream(DeliveryStreamName="d")
        with refused("ResourceNotFoundException", f"Firehose d under account {ACCOUNT} not found."):
            describe(other)
    assert describe(client)["DeliveryStreamStatus"] == "ACTIVE"


def test_a_name_that_aws_would_not_take_is_refused_by_the_model(client: Any) -> None:
    """With the validation error of AWS's front."""
    with refused(
        "ValidationException",
        "1 validation error detected: Value 'a b' at 'deliveryStreamName' failed to satisfy constraint: Member must "
        "satisfy regular expression pattern: [a-zA-Z0-9_.-]+",
    ):
        create(client, "a b")


def test_a_missing_bucket_is_refused_by_the_model(client: Any) -> None:
    """Both members that are missing are named."""
    with refused(
        "ValidationException",
        "2 validation errors detected: Value null at 'extendedS3DestinationConfiguration.roleARN' failed to satisfy "
        "constraint: Member must not be null; Value null at 'extendedS3DestinationConfiguration.bucketARN' failed to "
        "satisfy constraint: Member must not be null",
    ):
        create(client, ExtendedS3DestinationConfiguration={})


@pytest.mark.parametrize(
    "members",
    [{"Tags": [{"Key": "k", "Value": "v"}]}, {**TO_S3, "HttpEndpointDestinationConfiguration": HTTP}],
    ids=["none", "two"],
)
def test_there_is_exactly_one_destination(client: Any, members: dict[str, Any]) -> None:
    """None and two are refused with the same words."""
    with invalid("Exactly one destination configuration is supported for a Firehose"):
        client.create_delivery_stream(DeliveryStreamName="d", **members)


def test_delivery_streams_are_listed_by_name_and_type_in_pages(client: Any) -> None:
    """Ten at a time unless told otherwise; a page goes on after any name."""
    for number in range(11):
        create(client, f"d{number:02}")
    source: dict[str, Any] = {"KinesisStreamARN": STREAM, "RoleARN": ROLE}
    create(client, "k", DeliveryStreamType="KinesisStreamAsSource", KinesisStreamSourceConfiguration=source)
    first = client.list_delivery_streams()
    assert first["DeliveryStreamNames"] == [f"d{number:02}" for number in range(10)]
    assert first["HasMoreDeliveryStreams"] is True
    rest = client.list_delivery_streams(ExclusiveStartDeliveryStreamName="d09", Limit=2)
    assert (rest["DeliveryStreamNames"], rest["HasMoreDeliveryStreams"]) == (["d10", "k"], False)
    assert client.list_delivery_streams(DeliveryStreamType="KinesisStreamAsSource")["DeliveryStreamNames"] == ["k"]
    between = client.list_delivery_streams(ExclusiveStartDeliveryStreamName="d095", DeliveryStreamType="DirectPut")
    assert between["DeliveryStreamNames"] == ["d10"]


def test_what_stands_behind_direct_puts_is_no_stream_for_anybody(client: Any, server: FirehoseServer) -> None:
    """Kinesis neither lists nor finds it."""
    create(client)
    with kinesis(f"http://127.0.0.1:{server.port}") as streams:
        assert streams.list_streams()["StreamNames"] == ["s"]
        with pytest.raises(ClientError, match="not found"):
            streams.describe_stream(StreamName="d")


def test_a_delivery_stream_is_made_and_deleted_in_the_time_that_is_set() -> None:
    """CREATING, ACTIVE, DELETING, gone; what may not be done meanwhile is refused."""
    clock = ManualClock()
    with serving(clock, 600_000) as (_, client):
        create(client)
        assert describe(client)["DeliveryStreamStatus"] == "CREATING"
        not_active = f"Firehose d under accountId {ACCOUNT} is not ACTIVE, instead in state CREATING"
        with refused("ResourceInUseException", not_active):
            client.delete_delivery_stream(DeliveryStreamName="d", AllowForceDelete=True)
        with refused("ResourceInUseException", not_active):
            update(client, ExtendedS3DestinationUpdate={"Prefix": "p/"})
        with refused("ResourceNotFoundException", f"Firehose d is not active in {ACCOUNT} account."):
            client.put_record(DeliveryStreamName="d", Record={"Data": b"x"})
        clock.step(600_000)
        assert describe(client)["DeliveryStreamStatus"] == "ACTIVE"
        client.put_record(DeliveryStreamName="d", Record={"Data": b"x"})
        client.delete_delivery_stream(DeliveryStreamName="d")
        client.delete_delivery_stream(DeliveryStreamName="d")
        assert describe(client)["DeliveryStreamStatus"] == "DELETING"
        clock.step(600_000)
        assert client.list_delivery_streams()["DeliveryStreamNames"] == []


# -- destinations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "configuration", "defaults"),
    [
        (
            "HttpEndpoint",
            HTTP,
            {
                "EndpointConfiguration": {"Url": "https://h/p", "Name": "n"},
                "BufferingHints": {"SizeInMBs": 5, "IntervalInSeconds": 300},
                "RequestConfiguration": {"ContentEncoding": "NONE"},
                "RetryOptions": {"DurationInSeconds": 300},
                "S3BackupMode": "FailedDataOnly",
            },
        ),
        (
            "Splunk",
            SPLUNK,
            {
                "HECEndpoint": "https://h:8088",
                "HECEndpointType": "Raw",
                "HECAcknowledgmentTimeoutInSeconds": 180,
                "BufferingHints": {"SizeInMBs": 5, "IntervalInSeconds": 60},
                "RetryOptions": {"DurationInSeconds": 3_600},
                "S3BackupMode": "FailedEventsOnly",
            },
        ),
        (
            "Redshift",
            REDSHIFT,
            {
                "RoleARN": ROLE,
                "ClusterJDBCURL": "jdbc:redshift://c.redshift.localhost:5439/db",
                "CopyCommand": {"DataTableName": "t"},
                "Username": "user",
                "RetryOptions": {"DurationInSeconds": 3_600},
                "S3BackupMode": "Disabled",
            },
        ),
        *(
            (
                kind,
                OPENSEARCH,
                {
                    "RoleARN": ROLE,
                    "IndexName": "i",
                    "ClusterEndpoint": "https://h",
                    "IndexRotationPeriod": "OneDay",
                    "DocumentIdOptions": {"DefaultDocumentIdFormat": "FIREHOSE_DEFAULT"},
                    "BufferingHints": {"SizeInMBs": 5, "IntervalInSeconds": 300},
                    "RetryOptions": {"DurationInSeconds": 300},
                    "S3BackupMode": "FailedDocumentsOnly",
                },
            )
            for kind in ("Elasticsearch", "Amazonopensearchservice")
        ),
        (
            "AmazonOpenSearchServerless",
            {"RoleARN": ROLE, "IndexName": "i", "CollectionEndpoint": "https://h", "S3Configuration": BUCKET},
            {
                "RoleARN": ROLE,
                "IndexName": "i",
                "CollectionEndpoint": "https://h",
                "BufferingHints": {"SizeInMBs": 5, "IntervalInSeconds": 300},
                "RetryOptions": {"DurationInSeconds": 300},
                "S3BackupMode": "FailedDocumentsOnly",
            },
        ),
        (
            "Iceberg",
            ICEBERG,
            {
                "RoleARN": ROLE,
                "CatalogConfiguration": CATALOG,
                "DestinationTableConfigurationList": ICEBERG["DestinationTableConfigurationList"],
                "AppendOnly": False,
                "BufferingHints": {"SizeInMBs": 5, "IntervalInSeconds": 300},
                "RetryOptions": {"DurationInSeconds": 300},
                "S3BackupMode": "FailedDataOnly",
            },
        ),
    ],
)
def test_each_destination_has_its_own_defaults_and_tells_no_secret(
    client: Any, server: FirehoseServer, kind: str, configuration: dict[str, Any], defaults: dict[str, Any]
) -> None:
    """AccessKey, HECToken and Password are taken and never shown again. boto3 finds the request right, too."""
    with firehose_client(server.port, checks=True) as checking:
        create(checking, "d", **{f"{kind}DestinationConfiguration": configuration})
    answer = client.describe_delivery_stream(DeliveryStreamName="d")
    assert "secret!" not in json.dumps(answer, default=str)
    shown = answer["DeliveryStreamDescription"]["Destinations"][0][f"{kind}DestinationDescription"]
    bucket = shown.pop("S3DestinationDescription")
    assert bucket["BufferingHints"] == {"SizeInMBs": 5, "IntervalInSeconds": 300}
    assert shown == {**defaults, "CloudWatchLoggingOptions": {"Enabled": False}}


def test_a_model_s_bound_on_hints_is_each_destination_s_own(client: Any) -> None:
    """Splunk takes 5 MB at most, HTTP endpoints 64, S3 128."""
    hints = {"SizeInMBs": 65, "IntervalInSeconds": 60}
    create(client, ExtendedS3DestinationConfiguration={**BUCKET, "BufferingHints": hints})
    for kind, configuration, most in (("Splunk", SPLUNK, 5), ("HttpEndpoint", HTTP, 64)):
        with pytest.raises(ClientError, match=f"Member must have value less than or equal to {most}") as caught:
            create(client, "e", **{f"{kind}DestinationConfiguration": {**configuration, "BufferingHints": hints}})
        assert caught.value.response["Error"]["Code"] == "ValidationException"


def test_a_transform_is_shown_with_all_its_parameters(client: Any) -> None:
    """In AWS's order, with AWS's defaults; a Splunk endpoint's buffer is smaller."""
    processing = {"Enabled": True, "Processors": [lambda_processor()]}
    create(client, ExtendedS3DestinationConfiguration={**BUCKET, "ProcessingConfiguration": processing})
    shown = destination(client, "ExtendedS3")["ProcessingConfiguration"]["Processors"][0]["Parameters"]
    assert [(each["ParameterName"], each["ParameterValue"]) for each in shown] == [
        ("LambdaArn", FUNCTION),
        ("NumberOfRetries", "3"),
        ("RoleArn", ROLE),
        ("BufferSizeInMBs", "1"),
        ("BufferIntervalInSeconds", "60"),
    ]
    create(client, "e", SplunkDestinationConfiguration={**SPLUNK, "ProcessingConfiguration": processing})
    parameters = destination(client, "Splunk", "e")["ProcessingConfiguration"]["Processors"][0]["Parameters"]
    assert {"ParameterName": "BufferSizeInMBs", "ParameterValue": "0.25"} in parameters


def test_a_conversion_without_hints_gets_128_mebibytes_and_says_which_table_it_means(client: Any) -> None:
    """Enabled unless it says otherwise."""
    create(client, ExtendedS3DestinationConfiguration=CONVERTED)
    shown = destination(client, "ExtendedS3")
    assert shown["BufferingHints"] == {"SizeInMBs": 128, "IntervalInSeconds": 300}
    conversion = shown["DataFormatConversionConfiguration"]
    assert conversion["Enabled"] is True
    assert conversion["SchemaConfiguration"] == {
        "RoleARN": ROLE,
        "CatalogId": ACCOUNT,
        "DatabaseName": "d",
        "TableName": "t",
        "Region": REGION,
        "VersionId": "LATEST",
    }


def test_a_conversion_that_is_off_binds_nothing(client: Any) -> None:
    """Enabled false keeps the configuration and none of its rules."""
    off = {**CONVERTED["DataFormatConversionConfiguration"], "Enabled": False}
    configuration = {**CONVERTED, "DataFormatConversionConfiguration": off, "CompressionFormat": "GZIP"}
    create(client, ExtendedS3DestinationConfiguration=configuration)
    shown = destination(client, "ExtendedS3")
    assert shown["BufferingHints"]["SizeInMBs"] == 5
    assert shown["DataFormatConversionConfiguration"]["Enabled"] is False


def test_partitions_by_a_query_and_by_a_function_are_taken(client: Any) -> None:
    """Keys of the query in the prefix; of a function's nobody knows before."""
    create(client, ExtendedS3DestinationConfiguration=PARTITIONED)
    shown = destination(client, "ExtendedS3")
    assert shown["DynamicPartitioningConfiguration"] == {"Enabled": True, "RetryOptions": {"DurationInSeconds": 300}}
    by_function = {
        **PARTITIONED,
        "Prefix": "!{partitionKeyFromLambda:any}/",
        "ProcessingConfiguration": {"Enabled": True, "Processors": [lambda_processor()]},
    }
    create(client, "e", ExtendedS3DestinationConfiguration=by_function)


# -- updates ---------------------------------------------------------------------------------------------------------


def test_an_update_merges_and_counts_versions(client: Any) -> None:
    """What is not given stays; the version is one more and the time of the change is shown."""
    create(client, ExtendedS3DestinationConfiguration={**BUCKET, "CompressionFormat": "GZIP", "Prefix": "p/"})
    hints = {"SizeInMBs": 1, "IntervalInSeconds": 60}
    update(client, ExtendedS3DestinationUpdate={"BufferingHints": hints})
    description = describe(client)
    assert description["VersionId"] == "2"
    assert description["LastUpdateTimestamp"] >= description["CreateTimestamp"]
    shown = description["Destinations"][0]["ExtendedS3DestinationDescription"]
    assert (shown["CompressionFormat"], shown["Prefix"], shown["BufferingHints"]) == ("GZIP", "p/", hints)
    update(client, "2", S3DestinationUpdate={"Prefix": "q/"})
    assert destination(client, "ExtendedS3")["Prefix"] == "q/"
    assert destination(client, "S3")["CompressionFormat"] == "GZIP"


def test_an_update_reaches_into_what_a_destination_holds(client: Any) -> None:
    """The bucket beside an endpoint, and the key that nobody sees; other members of both stay."""
    bucket = {**BUCKET, "Prefix": "p/"}
    create(client, HttpEndpointDestinationConfiguration={**HTTP, "S3Configuration": bucket})
    update(
        client,
        HttpEndpointDestinationUpdate={
            "S3Update": {"CompressionFormat": "GZIP"},
            "RetryOptions": {"DurationInSeconds": 1},
        },
    )
    shown = destination(client, "HttpEndpoint")
    assert shown["S3DestinationDescription"]["Prefix"] == "p/"
    assert shown["S3DestinationDescription"]["CompressionFormat"] == "GZIP"
    assert shown["EndpointConfiguration"] == {"Url": "https://h/p", "Name": "n"}
    assert shown["RetryOptions"] == {"DurationInSeconds": 1}


def test_conversions_merge_and_processors_are_replaced(client: Any) -> None:
    """As people saw AWS do: a new table alone keeps the rest; processors come whole or not at all."""
    processing = {"Enabled": True, "Processors": [lambda_processor()]}
    create(client, ExtendedS3DestinationConfiguration={**CONVERTED, "ProcessingConfiguration": processing})
    table = {"DataFormatConversionConfiguration": {"SchemaConfiguration": {"TableName": "u"}}}
    update(client, ExtendedS3DestinationUpdate=table)
    conversion = destination(client, "ExtendedS3")["DataFormatConversionConfiguration"]
    assert conversion["SchemaConfiguration"]["TableName"] == "u"
    assert conversion["SchemaConfiguration"]["DatabaseName"] == "d"
    orc = {"OutputFormatConfiguration": {"Serializer": {"OrcSerDe": {"Compression": "ZLIB"}}}}
    update(client, "2", ExtendedS3DestinationUpdate={"DataFormatConversionConfiguration": orc})
    serializer = destination(client, "ExtendedS3")["DataFormatConversionConfiguration"]["OutputFormatConfiguration"]
    assert serializer == {"Serializer": {"OrcSerDe": {"Compression": "ZLIB"}}}
    update(client, "3", ExtendedS3DestinationUpdate={"ProcessingConfiguration": {"Enabled": False}})
    assert destination(client, "ExtendedS3")["ProcessingConfiguration"] == {"Enabled": False, "Processors": []}


def test_another_kind_of_destination_replaces_the_first(client: Any) -> None:
    """Nothing is merged then, so everything has to be there."""
    create(client, ExtendedS3DestinationConfiguration={**BUCKET, "Prefix": "p/"})
    members = {name: value for name, value in SPLUNK.items() if name != "S3Configuration"}
    with invalid("RoleARN must be specified when the destination type is changed to Splunk."):
        update(client, SplunkDestinationUpdate=members)
    assert describe(client)["VersionId"] == "1"
    update(client, SplunkDestinationUpdate={**members, "S3Update": BUCKET})
    shown = describe(client)["Destinations"]
    assert [set(each) for each in shown] == [{"DestinationId", "SplunkDestinationDescription"}]
    assert destination(client, "Splunk")["S3DestinationDescription"]["Prefix"] == ""


def test_an_update_of_another_version_or_destination_is_refused(client: Any) -> None:
    """So that two who change it at the same time do not undo each other's work."""
    create(client)
    with refused(
        "ConcurrentModificationException",
        "Cannot update firehose: d since the current version id: 1 and specified version id: 2 do not match",
    ):
        update(client, "2", ExtendedS3DestinationUpdate={"Prefix": "p/"})
    with invalid("Destination Id destinationId-000000000002 not found"):
        update(client, destination_id="destinationId-000000000002", ExtendedS3DestinationUpdate={"Prefix": "p/"})
    with invalid("At least one destination or source configuration update must be provided"):
        update(client)


def test_a_backup_can_be_turned_on_later(client: Any) -> None:
    """With its bucket, whose members have their defaults."""
    create(client)
    update(client, ExtendedS3DestinationUpdate={"S3BackupMode": "Enabled", "S3BackupUpdate": BUCKET})
    shown = destination(client, "ExtendedS3")
    assert shown["S3BackupMode"] == "Enabled"
    assert shown["S3BackupDescription"]["CompressionFormat"] == "UNCOMPRESSED"


# -- encryption and tags ---------------------------------------------------------------------------------------------


def test_encryption_is_told_to_whoever_asks_and_to_whoever_puts(client: Any) -> None:
    """Started with a key of AWS's or one's own, and stopped."""
    create(client)
    assert client.put_record(DeliveryStreamName="d", Record={"Data": b"x"})["Encrypted"] is False
    client.start_delivery_stream_encryption(DeliveryStreamName="d")
    assert describe(client)["DeliveryStreamEncryptionConfiguration"] == {
        "Status": "ENABLED",
        "KeyType": "AWS_OWNED_CMK",
    }
    assert client.put_record(DeliveryStreamName="d", Record={"Data": b"x"})["Encrypted"] is True
    assert client.put_record_batch(DeliveryStreamName="d", Records=[{"Data": b"x"}])["Encrypted"] is True
    key = {"KeyType": "CUSTOMER_MANAGED_CMK", "KeyARN": KEY}
    client.start_delivery_stream_encryption(DeliveryStreamName="d", DeliveryStreamEncryptionConfigurationInput=key)
    assert describe(client)["DeliveryStreamEncryptionConfiguration"] == {"Status": "ENABLED", **key}
    client.stop_delivery_stream_encryption(DeliveryStreamName="d")
    assert describe(client)["DeliveryStreamEncryptionConfiguration"] == {"Status": "DISABLED"}


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ({"KeyType": "CUSTOMER_MANAGED_CMK"}, "KeyARN has to be specified when KeyType is CUSTOMER_MANAGED_CMK"),
        ({"KeyType": "AWS_OWNED_CMK", "KeyARN": KEY}, "KeyARN cannot be specified when KeyType is AWS_OWNED_CMK"),
        (
            {"KeyType": "CUSTOMER_MANAGED_CMK", "KeyARN": KEY.replace(REGION, "eu-west-1")},
            "Cross-region keys are not allowed for SSE. Please provide CMKs in the same region as firehose",
        ),
    ],
)
def test_a_key_that_cannot_be_used_is_refused(client: Any, key: dict[str, Any], message: str) -> None:
    """Both when a delivery stream is made and later."""
    with invalid(message):
        create(client, DeliveryStreamEncryptionConfigurationInput=key)
    create(client)
    with invalid(message):
        client.start_delivery_stream_encryption(DeliveryStreamName="d", DeliveryStreamEncryptionConfigurationInput=key)


def test_what_reads_a_stream_has_no_encryption_of_its_own(client: Any) -> None:
    """The stream's would be that."""
    source: dict[str, Any] = {"KinesisStreamARN": STREAM, "RoleARN": ROLE}
    members: dict[str, Any] = {
        "DeliveryStreamType": "KinesisStreamAsSource",
        "KinesisStreamSourceConfiguration": source,
    }
    message = (
        "Server side encryption from firehose is only allowed for direct put delivery streams and database as a source "
        "delivery streams"
    )
    with invalid(message):
        create(client, **members, DeliveryStreamEncryptionConfigurationInput={"KeyType": "AWS_OWNED_CMK"})
    create(client, **members)
    with invalid(message):
        client.start_delivery_stream_encryption(DeliveryStreamName="d")


def test_tags_are_added_changed_paged_and_removed(client: Any) -> None:
    """By key; a tag without a value has an empty one."""
    create(client, Tags=[{"Key": "b", "Value": "1"}])
    client.tag_delivery_stream(DeliveryStreamName="d", Tags=[{"Key": "a"}, {"Key": "b", "Value": "2"}, {"Key": "c"}])
    page = client.list_tags_for_delivery_stream(DeliveryStreamName="d", Limit=2)
    assert page["Tags"] == [{"Key": "a", "Value": ""}, {"Key": "b", "Value": "2"}]
    assert page["HasMoreTags"] is True
    rest = client.list_tags_for_delivery_stream(DeliveryStreamName="d", ExclusiveStartTagKey="b")
    assert (rest["Tags"], rest["HasMoreTags"]) == ([{"Key": "c", "Value": ""}], False)
    client.untag_delivery_stream(DeliveryStreamName="d", TagKeys=["a", "unknown"])
    assert [tag["Key"] for tag in client.list_tags_for_delivery_stream(DeliveryStreamName="d")["Tags"]] == ["b", "c"]


def test_there_are_fifty_tags_at_most_and_none_of_aws_s(client: Any) -> None:
    """The model refuses a request; the sum of two is refused here."""
    create(client, Tags=[{"Key": f"k{number}"} for number in range(50)])
    with refused("LimitExceededException", "A Firehose can have at most 50 tags; it would have 51."):
        client.tag_delivery_stream(DeliveryStreamName="d", Tags=[{"Key": "one more"}])
    client.tag_delivery_stream(DeliveryStreamName="d", Tags=[{"Key": "k7", "Value": "changed"}])
    for key in ("aws:x", "what?"):
        with pytest.raises(ClientError, match="failed to satisfy constraint") as caught:
            client.tag_delivery_stream(DeliveryStreamName="d", Tags=[{"Key": key}])
        assert caught.value.response["Error"]["Code"] == "ValidationException"


@pytest.mark.parametrize(
    ("method", "members"),
    [
        ("describe_delivery_stream", {}),
        ("delete_delivery_stream", {}),
        ("put_record", {"Record": {"Data": b"x"}}),
        ("put_record_batch", {"Records": [{"Data": b"x"}]}),
        ("start_delivery_stream_encryption", {}),
        ("stop_delivery_stream_encryption", {}),
        ("tag_delivery_stream", {"Tags": [{"Key": "k"}]}),
        ("untag_delivery_stream", {"TagKeys": ["k"]}),
        ("list_tags_for_delivery_stream", {}),
        (
            "update_destination",
            {"CurrentDeliveryStreamVersionId": "1", "DestinationId": "d", "ExtendedS3DestinationUpdate": {}},
        ),
    ],
)
def test_every_operation_on_an_unknown_name_says_so(client: Any, method: str, members: dict[str, Any]) -> None:
    """In the same words."""
    with refused("ResourceNotFoundException", f"Firehose x under account {ACCOUNT} not found."):
        getattr(client, method)(DeliveryStreamName="x", **members)
