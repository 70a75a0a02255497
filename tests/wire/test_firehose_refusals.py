"""Firehose through boto3: AWS's refusals, with AWS's words where they are known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.wire.clients import ACCOUNT, REGION
from tests.wire.firehose_server import (
    BUCKET,
    CONVERTED,
    FUNCTION,
    HTTP,
    ICEBERG,
    KEY,
    OPENSEARCH,
    PARTITIONED,
    QUERY,
    REDSHIFT,
    ROLE,
    SPLUNK,
    STREAM,
    TO_S3,
    FirehoseServer,
    create,
    describe,
    invalid,
    lambda_processor,
    processor,
    serving,
    update,
)

ONE_HINT = "If you specify a value for SizeInMBs, you must also specify a value for IntervalInSeconds, and vice versa."


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


# -- sources ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            {"DeliveryStreamType": "KinesisStreamAsSource"},
            "KinesisSourceStreamConfig is mandatory for KinesisStreamAsSource stream type.",
        ),
        (
            {"KinesisStreamSourceConfiguration": {"KinesisStreamARN": STREAM, "RoleARN": ROLE}},
            "KinesisSourceStreamConfig is only applicable for KinesisStreamAsSource stream type",
        ),
        (
            {
                "DeliveryStreamType": "KinesisStreamAsSource",
                "KinesisStreamSourceConfiguration": {"KinesisStreamARN": f"{STREAM}2", "RoleARN": ROLE},
            },
            f"Stream s2 under account {ACCOUNT} not found.",
        ),
        ({"DeliveryStreamType": "MSKAsSource"}, "MSKSourceConfig is mandatory for MSK as Source stream type."),
    ],
)
def test_a_source_that_cannot_be_is_refused(client: Any, members: dict[str, Any], message: str) -> None:
    """Sources have to be given where they are needed, and there."""
    with invalid(message):
        create(client, **members)


@pytest.mark.parametrize(
    ("members", "name"),
    [
        (
            {
                "DeliveryStreamType": "MSKAsSource",
                "MSKSourceConfiguration": {
                    "MSKClusterARN": "arn:x",
                    "TopicName": "t",
                    "AuthenticationConfiguration": {"RoleARN": ROLE, "Connectivity": "PUBLIC"},
                },
            },
            "Amazon MSK",
        ),
        ({"DeliveryStreamType": "DatabaseAsSource"}, "databases"),
        (
            {
                "SnowflakeDestinationConfiguration": {
                    "AccountUrl": "https://example.snowflakecomputing.com",
                    "Database": "d",
                    "Schema": "s",
                    "Table": "t",
                    "RoleARN": ROLE,
                    "S3Configuration": BUCKET,
                }
            },
            "Snowflake",
        ),
        (
            {
                "SplunkDestinationConfiguration": {
                    **SPLUNK,
                    "SecretsManagerConfiguration": {
                        "Enabled": True,
                        "SecretARN": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:s",
                    },
                }
            },
            "Secrets Manager",
        ),
        (
            {
                "AmazonopensearchserviceDestinationConfiguration": {
                    "RoleARN": ROLE,
                    "IndexName": "i",
                    "DomainARN": f"arn:aws:es:{REGION}:{ACCOUNT}:domain/dom",
                    "S3Configuration": BUCKET,
                }
            },
            "ClusterEndpoint",
        ),
    ],
    ids=["msk", "database", "snowflake", "secrets", "domain"],
)
def test_what_streamkit_does_not_have_is_refused_by_name(client: Any, members: dict[str, Any], name: str) -> None:
    """Nothing is accepted that would never be done."""
    with pytest.raises(ClientError, match=name) as caught:
        create(client, **members)
    assert caught.value.response["Error"]["Code"] == "NotImplementedException"
    assert client.list_delivery_streams()["DeliveryStreamNames"] == []


# -- destinations ----------------------------------------------------------------------------------------------------


S3_REFUSALS: list[tuple[dict[str, Any], str]] = [
    (
        {"BufferingHints": {"SizeInMBs": 1}},
        ONE_HINT,
    ),
    (
        {
            "EncryptionConfiguration": {
                "NoEncryptionConfig": "NoEncryption",
                "KMSEncryptionConfig": {"AWSKMSKeyARN": KEY},
            }
        },
        "Exactly one of NoEncryptionConfig or KMSEncryptionConfig must be specified",
    ),
    (
        {"CloudWatchLoggingOptions": {"Enabled": True, "LogStreamName": "l"}},
        "CloudWatch Log Group Name is required if CloudWatch Logging is enabled",
    ),
    (
        {"S3BackupMode": "Enabled"},
        "S3 backup destination configuration is required when enabling S3 backup.",
    ),
    (
        {"S3BackupMode": "Enabled", "S3BackupConfiguration": {**BUCKET, "BufferingHints": {"IntervalInSeconds": 60}}},
        ONE_HINT,
    ),
    (
        {"CustomTimeZone": "CET"},
        "Provided custom time zone is not supported. Custom time zones are limited to UTC and non-3-letter IANA time "
        "zones.",
    ),
    (
        {"Prefix": "!{partitionKeyFromQuery:day}/", "ErrorOutputPrefix": "e/!{firehose:error-output-type}/"},
        "Dynamic Partitioning Namespaces can only be part of a prefix expression when Dynamic Partitioning is enabled.",
    ),
]
PROCESSOR_REFUSALS: list[tuple[list[dict[str, Any]], str]] = [
    ([], "A maximum of 5 and a minimum of 1 processor needs to be supplied when processing is enabled."),
    ([processor("Lambda")], "LambdaArn is required when Lambda processor is used."),
    ([lambda_processor(LambdaArn=f"{FUNCTION}2")], f"Function not found: {FUNCTION}2"),
    ([lambda_processor(NumberOfRetries="301")], "Number of retries for lambda must be between 0 and 300."),
    ([lambda_processor(NumberOfRetries="many")], "Number of retries for lambda must be between 0 and 300."),
    (
        [lambda_processor(BufferSizeInMBs="1")],
        "Both BufferSizeInMBs and BufferIntervalInSeconds are required to configure buffering for lambda processor.",
    ),
    (
        [lambda_processor(BufferSizeInMBs="4", BufferIntervalInSeconds="60")],
        "BufferSizeInMBs for lambda processor must be between 0.2 and 3.",
    ),
    (
        [lambda_processor(BufferSizeInMBs="1", BufferIntervalInSeconds="901")],
        "BufferIntervalInSeconds for lambda processor must be between 0 and 900.",
    ),
    ([lambda_processor(), lambda_processor()], "Cannot have more than 1 Lambda processor."),
    ([processor("Decompression", CompressionFormat="ZIP")], "CompressionFormat has to be GZIP"),
    (
        [processor("CloudWatchLogProcessing", DataMessageExtraction="true")],
        "CloudWatchLogProcessingProcessor can only be enabled with DecompressionProcessor",
    ),
    (
        [processor("Decompression"), processor("CloudWatchLogProcessing", DataMessageExtraction="yes")],
        "Invalid parameter value for DataMessageExtraction. Allowed values are True and False.",
    ),
    (
        [processor("RecordDeAggregation", SubRecordType="JSON")],
        "class com.amazonaws.services.firehose.internal.model.RecordDeAggregationProcessor can only be present when "
        "Dynamic Partitioning is enabled.",
    ),
    (
        [QUERY],
        "class com.amazonaws.services.firehose.internal.model.MetadataExtractionProcessor can only be present when "
        "Dynamic Partitioning is enabled.",
    ),
]
PARTITION_REFUSALS: list[tuple[dict[str, Any], str]] = [
    (
        {"BufferingHints": {"SizeInMBs": 63, "IntervalInSeconds": 60}},
        "BufferingHints.SizeInMBs must be at least 64 when Dynamic Partitioning is enabled.",
    ),
    (
        {"BufferingHints": {"SizeInMBs": 64, "IntervalInSeconds": 0}},
        "BufferingHints.IntervalInSeconds cannot be 0 when Dynamic Partitioning is enabled.",
    ),
    (
        {"ProcessingConfiguration": {"Enabled": False}},
        "Processing Configuration is not enabled when DataPartitioning is enabled",
    ),
    ({"Prefix": "p/"}, "S3 Prefix should contain Dynamic Partitioning namespaces when Dynamic Partitioning is enabled"),
    (
        {"ProcessingConfiguration": {"Enabled": True, "Processors": [processor("MetadataExtraction")]}},
        "MetaDataExtraction JSON Parsing Engine has to be one of JQ-1.6",
    ),
    (
        {"ProcessingConfiguration": {"Enabled": True, "Processors": [lambda_processor()]}},
        "MetadataExtraction processor should be present when S3 Prefix has partitionKeyFromQuery namespace.",
    ),
    (
        {
            "ProcessingConfiguration": {
                "Enabled": True,
                "Processors": [QUERY, processor("RecordDeAggregation", SubRecordType="CSV")],
            }
        },
        "SubRecordType has to be one of JSON, DELIMITED",
    ),
    (
        {
            "ProcessingConfiguration": {
                "Enabled": True,
                "Processors": [QUERY, processor("RecordDeAggregation", SubRecordType="DELIMITED")],
            }
        },
        "Delimiter should be present for DELIMITED",
    ),
    (
        {
            "ProcessingConfiguration": {
                "Enabled": True,
                "Processors": [
                    processor(
                        "MetadataExtraction",
                        MetadataExtractionQuery='{day: .day, "hour": .at[1:3] | {a: 1}}',
                        JsonParsingEngine="JQ-1.6",
                    )
                ],
            }
        },
        "MetaDataExtraction JQ Query can't contain keys that are not present in the S3 Prefix expression",
    ),
]
CONVERSION = CONVERTED["DataFormatConversionConfiguration"]
CONVERSION_REFUSALS: list[tuple[dict[str, Any], str]] = [
    (
        {"CompressionFormat": "GZIP", "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 60}},
        "The S3 destination's compression format must be set to UNCOMPRESSED when data format conversion is enabled. "
        "To enable compression within the converted output format, set the appropriate serialization option in the "
        "output format configuration.",
    ),
    (
        {"BufferingHints": {"SizeInMBs": 63, "IntervalInSeconds": 60}},
        "BufferingHints.SizeInMBs must be at least 64 when data format conversion is enabled.",
    ),
    ({"DataFormatConversionConfiguration": {}}, "InputFormatConfiguration must not be null"),
    (
        {"DataFormatConversionConfiguration": {**CONVERSION, "InputFormatConfiguration": {"Deserializer": {}}}},
        "Deserializer must not be null",
    ),
    (
        {
            "DataFormatConversionConfiguration": {
                **CONVERSION,
                "OutputFormatConfiguration": {"Serializer": {"ParquetSerDe": {}, "OrcSerDe": {}}},
            }
        },
        "More than one serializer specified. Only one may be chosen.",
    ),
    (
        {"DataFormatConversionConfiguration": {**CONVERSION, "SchemaConfiguration": {"DatabaseName": "d"}}},
        "SchemaConfiguration.RoleArn must not be null or empty",
    ),
]


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        *(({**BUCKET, **members}, message) for members, message in S3_REFUSALS),
        *(
            ({**BUCKET, "ProcessingConfiguration": {"Enabled": True, "Processors": processors}}, message)
            for processors, message in PROCESSOR_REFUSALS
        ),
        *(({**PARTITIONED, **members}, message) for members, message in PARTITION_REFUSALS),
        *(({**CONVERTED, **members}, message) for members, message in CONVERSION_REFUSALS),
    ],
)
def test_a_bucket_that_cannot_be_filled_so_is_refused(client: Any, configuration: dict[str, Any], message: str) -> None:
    """With AWS's words where they are known; nothing is made."""
    with invalid(message):
        create(client, ExtendedS3DestinationConfiguration=configuration)
    assert client.list_delivery_streams()["DeliveryStreamNames"] == []


@pytest.mark.parametrize(
    ("kind", "configuration", "message"),
    [
        (
            "Splunk",
            {**SPLUNK, "HECEndpoint": "http://h"},
            "Invalid HECEndpoint. Supported endpoint format is https://<domain>:<port>.",
        ),
        (
            "HttpEndpoint",
            {
                **HTTP,
                "RequestConfiguration": {"CommonAttributes": [{"AttributeName": "a", "AttributeValue": "1"}] * 2},
            },
            "Http Endpoint Common Attributes have duplicate name a",
        ),
        (
            "HttpEndpoint",
            {**HTTP, "BufferingHints": {"SizeInMBs": 1}},
            ONE_HINT,
        ),
        (
            "Redshift",
            {name: value for name, value in REDSHIFT.items() if name != "Password"},
            "Redshift Database Password is required for Redshift Destination",
        ),
        (
            "Redshift",
            {**REDSHIFT, "S3Configuration": {**BUCKET, "CompressionFormat": "ZIP"}},
            "Only the following compression formats are allowed when using Redshift: [UNCOMPRESSED, GZIP]",
        ),
        (
            "Redshift",
            {**REDSHIFT, "S3Configuration": {**BUCKET, "Prefix": "!{timestamp:yyyy}/"}},
            "Prefix Expressions or ErrorOutputPrefix is currently not supported for this destination",
        ),
        (
            "Elasticsearch",
            {name: value for name, value in OPENSEARCH.items() if name != "ClusterEndpoint"},
            "Provide either the Elasticsearch cluster endpoint or domain arn.",
        ),
        (
            "Amazonopensearchservice",
            {**OPENSEARCH, "DomainARN": f"arn:aws:es:{REGION}:{ACCOUNT}:domain/dom"},
            "Cannot provide both Elasticsearch cluster endpoint and domain ARN. Provide either the cluster endpoint or "
            "domain arn.",
        ),
        (
            "AmazonOpenSearchServerless",
            {"RoleARN": ROLE, "IndexName": "i", "S3Configuration": BUCKET},
            "Must specify collection endpoint for delivery to OpenSearch serverless.",
        ),
        (
            "Iceberg",
            {**ICEBERG, "S3BackupMode": "AllData"},
            "S3BackupMode.AllData is not supported for Iceberg as destination.",
        ),
        (
            "Iceberg",
            {**ICEBERG, "DestinationTableConfigurationList": []},
            "A single default destination table configuration must be provided when both Lambda and MetadataExtraction "
            "processors are not provided",
        ),
    ],
)
def test_a_destination_that_cannot_be_is_refused(
    client: Any, kind: str, configuration: dict[str, Any], message: str
) -> None:
    """Each kind by rules of its own."""
    with invalid(message):
        create(client, "d", **{f"{kind}DestinationConfiguration": configuration})


# -- changes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "change", "message"),
    [
        (
            {"ElasticsearchDestinationConfiguration": OPENSEARCH},
            {"ExtendedS3DestinationUpdate": BUCKET},
            "Changing the destination type to or from Elasticsearch is not supported at this time.",
        ),
        (
            TO_S3,
            {"AmazonopensearchserviceDestinationUpdate": {"IndexName": "i"}},
            "Changing the destination type to or from Amazonopensearchservice is not supported at this time.",
        ),
        (
            {"HttpEndpointDestinationConfiguration": HTTP},
            {"ExtendedS3DestinationUpdate": BUCKET},
            "Changing the destination type to or from HttpEndpoint is not supported at this time.",
        ),
        (
            {
                "ExtendedS3DestinationConfiguration": {
                    **BUCKET,
                    "S3BackupMode": "Enabled",
                    "S3BackupConfiguration": BUCKET,
                }
            },
            {"ExtendedS3DestinationUpdate": {"S3BackupMode": "Disabled"}},
            "Disabling S3 backup is not currently supported.",
        ),
        (
            {"SplunkDestinationConfiguration": {**SPLUNK, "S3BackupMode": "AllEvents"}},
            {"SplunkDestinationUpdate": {"S3BackupMode": "FailedEventsOnly"}},
            "Disabling S3 backup is not currently supported.",
        ),
        (
            TO_S3,
            {"ExtendedS3DestinationUpdate": PARTITIONED},
            "Dynamic Partitioning can only be enabled when a Firehose is created.",
        ),
        (
            TO_S3,
            {"ExtendedS3DestinationUpdate": {"BufferingHints": {"SizeInMBs": 1}}},
            ONE_HINT,
        ),
    ],
)
def test_a_change_that_aws_does_not_make_is_refused(
    client: Any, members: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    """And the delivery stream is what it was."""
    create(client, **members)
    before = describe(client)
    with invalid(message):
        update(client, **change)
    assert describe(client) == before
