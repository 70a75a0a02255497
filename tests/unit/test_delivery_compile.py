"""From what AWS's API is told to the plan the engine works by: nothing is lost on the way, and nothing is made up."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.delivery import documents, rules
from streamkit.delivery.compile import ERRORS_BUCKET, compile_plan
from streamkit.delivery.plan import (
    AppendDelimiter,
    Backup,
    Buffering,
    CatalogTable,
    Conversion,
    Deaggregation,
    Decompression,
    DeliveryPlan,
    DestinationSpec,
    FromDestination,
    Inferred,
    InlineColumns,
    MetadataExtraction,
    Naming,
    OrcFormat,
    ParquetFormat,
    RecordsFormat,
    TextFormat,
    Transform,
)
from streamkit.delivery.state import DeliveryState, DestinationKind, KinesisSource
from streamkit.model.errors import InvalidArgument
from streamkit.model.limits import MIB
from streamkit.model.names import Scope

SCOPE = Scope("000000000000", "us-east-1")
ROLE = "arn:aws:iam::000000000000:role/r"
STREAM = "arn:aws:kinesis:us-east-1:000000000000:stream/s"
ARN = "arn:aws:firehose:us-east-1:000000000000:deliverystream/d.1"
FUNCTION = "arn:aws:lambda:us-east-1:000000000000:function:f"
BUCKET = {"RoleARN": ROLE, "BucketARN": "arn:aws:s3:::b"}
S3 = DestinationSpec("s3", {"bucket": "b"})
HINTS = {"SizeInMBs": 3, "IntervalInSeconds": 7}


def compiled(kind: DestinationKind, given: dict[str, Any], *, source: bool = False) -> DeliveryPlan:
    """The plan of a delivery stream that is made with this configuration, after everything is checked."""
    document = rules.with_processors(kind, documents.make(kind, given, SCOPE))
    rules.require_destination(kind, document, given, SCOPE, lambda arn: True)
    state = DeliveryState(
        id="0" * 32,
        account=SCOPE.account,
        region=SCOPE.region,
        name="d.1",
        type="KinesisStreamAsSource" if source else "DirectPut",
        status="ACTIVE",
        created_at_ms=1,
        kind=kind,
        document=document,
        version=4,
        source=KinesisSource(STREAM, ROLE, 1) if source else None,
    )
    return compile_plan(state)


def own(url: str, *, source: bool = False, **members: Any) -> DeliveryPlan:
    return compiled("Streamkit", {"Url": url, **members}, source=source)


def processing(*processors: tuple[str, dict[str, str]]) -> dict[str, Any]:
    return {
        "Enabled": True,
        "Processors": [
            {
                "Type": kind,
                "Parameters": [{"ParameterName": name, "ParameterValue": value} for name, value in parameters.items()],
            }
            for kind, parameters in processors
        ],
    }


# -- S3 --------------------------------------------------------------------------------------------------------------


def test_a_bucket_with_nothing_said_of_it_has_aws_s_defaults() -> None:
    """5 MiB or 300 s, no compression, retried until it works."""
    for kind in ("S3", "ExtendedS3"):
        assert compiled(kind, BUCKET) == DeliveryPlan(
            name="d.1",
            arn=ARN,
            version=4,
            source_arn=None,
            buffering=Buffering(5 * MIB, 300_000),
            naming=Naming(),
            format=TextFormat(),
            destination=S3,
            error_destination=S3,
        )


def test_everything_that_is_said_of_a_bucket_is_in_the_plan() -> None:
    """Names, hints, compression, and a backup with its own."""
    plan = compiled(
        "ExtendedS3",
        {
            **BUCKET,
            "Prefix": "p/!{timestamp:yyyy}/",
            "ErrorOutputPrefix": "e/!{firehose:error-output-type}/",
            "CustomTimeZone": "Europe/Berlin",
            "FileExtension": ".log",
            "CompressionFormat": "HADOOP_SNAPPY",
            "BufferingHints": HINTS,
            "S3BackupMode": "Enabled",
            "S3BackupConfiguration": {**BUCKET, "BucketARN": "arn:aws:s3:::c", "CompressionFormat": "GZIP"},
        },
    )
    assert plan.naming == Naming("p/!{timestamp:yyyy}/", "e/!{firehose:error-output-type}/", "Europe/Berlin", ".log")
    assert plan.buffering == Buffering(3 * MIB, 7_000)
    assert plan.format == TextFormat("HADOOP_SNAPPY")
    assert plan.backup == Backup(
        "all", DestinationSpec("s3", {"bucket": "c"}), Buffering(5 * MIB, 300_000), Naming(), TextFormat("GZIP")
    )
    assert (plan.destination, plan.error_destination) == (S3, S3)


def test_an_extension_that_is_empty_is_none() -> None:
    """The format's comes back, as with AWS."""
    assert compiled("ExtendedS3", {**BUCKET, "FileExtension": ""}).naming.extension is None


def conversion(deserializer: dict[str, Any], serializer: dict[str, Any], **schema: str) -> dict[str, Any]:
    return {
        **BUCKET,
        "DataFormatConversionConfiguration": {
            "SchemaConfiguration": {"RoleARN": ROLE, "DatabaseName": "db", "TableName": "t", **schema},
            "InputFormatConfiguration": {"Deserializer": deserializer},
            "OutputFormatConfiguration": {"Serializer": serializer},
        },
    }


def test_a_conversion_to_parquet_with_nothing_said_of_it_has_aws_s_defaults() -> None:
    """SNAPPY, row groups of 256 MiB, keys in any case, the latest version of the table."""
    plan = compiled("ExtendedS3", conversion({"OpenXJsonSerDe": {}}, {"ParquetSerDe": {}}))
    assert plan.format == ParquetFormat()
    table = CatalogTable("db", "t", None, "us-east-1", "000000000000")
    assert plan.conversion == Conversion(table, "openx", case_insensitive=True)
    assert plan.buffering == Buffering(128 * MIB, 300_000)


def test_everything_that_is_said_of_a_conversion_is_in_the_plan() -> None:
    """Of both deserializers and both serializers."""
    openx = {
        "CaseInsensitive": False,
        "ConvertDotsInJsonKeysToUnderscores": True,
        "ColumnToJsonKeyMappings": {"ts": "timestamp"},
    }
    parquet = {
        "Compression": "GZIP",
        "BlockSizeBytes": 67108864,
        "PageSizeBytes": 65536,
        "EnableDictionaryCompression": True,
        "WriterVersion": "V2",
    }
    plan = compiled("ExtendedS3", conversion({"OpenXJsonSerDe": openx}, {"ParquetSerDe": parquet}, VersionId="3"))
    assert plan.format == ParquetFormat("GZIP", None, 67108864, 65536, True, "V2")
    assert plan.conversion is not None
    assert plan.conversion.schema == CatalogTable("db", "t", "3", "us-east-1", "000000000000")
    assert (plan.conversion.case_insensitive, plan.conversion.dots_to_underscores) == (False, True)
    assert plan.conversion.mappings == {"ts": "timestamp"}
    orc = {
        "Compression": "ZLIB",
        "StripeSizeBytes": 8388608,
        "RowIndexStride": 1_000,
        "BloomFilterColumns": ["a"],
        "BloomFilterFalsePositiveProbability": 0.1,
        "DictionaryKeyThreshold": 0.2,
        "PaddingTolerance": 0.3,
        "FormatVersion": "V0_11",
    }
    hive = {"HiveJsonSerDe": {"TimestampFormats": ["yyyy-MM-dd", "millis"]}}
    plan = compiled("ExtendedS3", conversion(hive, {"OrcSerDe": orc}, Region="eu-west-1", CatalogId="1"))
    assert plan.format == OrcFormat("ZLIB", 8388608, 1_000, ("a",), 0.1, 0.2, 0.3, "V0_11")
    assert plan.conversion == Conversion(
        CatalogTable("db", "t", None, "eu-west-1", "1"), "hive", timestamp_formats=("yyyy-MM-dd", "millis")
    )


def test_a_conversion_that_is_off_converts_nothing() -> None:
    """It is kept, and the records are written as they are."""
    given = conversion({"OpenXJsonSerDe": {}}, {"ParquetSerDe": {}})
    given["DataFormatConversionConfiguration"]["Enabled"] = False
    plan = compiled("ExtendedS3", given)
    assert (plan.format, plan.conversion) == (TextFormat(), None)


# -- processors ------------------------------------------------------------------------------------------------------

QUERY = ("MetadataExtraction", {"MetadataExtractionQuery": "{day: .day}", "JsonParsingEngine": "JQ-1.6"})


def test_processors_run_in_aws_s_order_whatever_order_they_are_given_in() -> None:
    """Aggregates of a stream's producers are split first, compressed logs next."""
    plan = compiled(
        "ExtendedS3",
        {
            **BUCKET,
            "Prefix": "!{partitionKeyFromQuery:day}/",
            "ErrorOutputPrefix": "!{firehose:error-output-type}/",
            "DynamicPartitioningConfiguration": {"Enabled": True},
            "ProcessingConfiguration": processing(
                ("AppendDelimiterToRecord", {"Delimiter": "\\n"}),
                QUERY,
                ("Lambda", {"LambdaArn": FUNCTION, "NumberOfRetries": "0"}),
                ("RecordDeAggregation", {"SubRecordType": "DELIMITED", "Delimiter": "O3w="}),
                ("Decompression", {"CompressionFormat": "GZIP"}),
            ),
        },
        source=True,
    )
    assert plan.processors == (
        Deaggregation("KPL"),
        Decompression(False),
        Deaggregation("DELIMITED", b";|"),
        Transform(FUNCTION, 0, MIB, 60_000),
        MetadataExtraction("{day: .day}"),
        AppendDelimiter(b"\n"),
    )
    assert plan.is_partitioned
    assert plan.source_arn == STREAM
    assert plan.buffering == Buffering(128 * MIB, 300_000)


def test_direct_puts_are_not_split_by_themselves() -> None:
    """Aggregates come from streams."""
    assert compiled("ExtendedS3", BUCKET).processors == ()
    assert compiled("ExtendedS3", BUCKET, source=True).processors == (Deaggregation("KPL"),)


def test_a_transform_has_the_buffer_it_is_given() -> None:
    """Fractions of a MiB too; Splunk's is a quarter by default."""
    hints = {"BufferSizeInMBs": "0.2", "BufferIntervalInSeconds": "900"}
    lambda_ = processing(("Lambda", {"LambdaArn": f"{FUNCTION}:live", **hints}))
    plan = compiled("ExtendedS3", {**BUCKET, "ProcessingConfiguration": lambda_})
    assert plan.transform == Transform(f"{FUNCTION}:live", 3, round(0.2 * MIB), 900_000)
    splunk = {"HECEndpoint": "https://h", "HECEndpointType": "Raw", "HECToken": "t", "S3Configuration": BUCKET}
    plan = compiled("Splunk", {**splunk, "ProcessingConfiguration": processing(("Lambda", {"LambdaArn": FUNCTION}))})
    assert plan.transform == Transform(FUNCTION, 3, MIB // 4, 60_000)


def test_processing_that_is_not_enabled_does_nothing() -> None:
    """Also where it is not said: AWS was seen to take that for off."""
    for enabled in ({}, {"Enabled": False}):
        off = {**processing(("AppendDelimiterToRecord", {})), "Enabled": None, **enabled}
        off = {name: value for name, value in off.items() if value is not None}
        assert compiled("ExtendedS3", {**BUCKET, "ProcessingConfiguration": off}).processors == ()


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        (None, b"\n"),
        ("\\n", b"\n"),
        ("\\r\\n", b"\r\n"),
        ("|", b"|"),
        ("\\\\n", b"\\n"),
        ("ü", "ü".encode()),
    ],
)
def test_a_delimiter_is_written_with_escapes(text: str | None, delimiter: bytes) -> None:
    """As AWS's examples have it; a line end if none is given."""
    parameters = {} if text is None else {"Delimiter": text}
    plan = compiled(
        "ExtendedS3", {**BUCKET, "ProcessingConfiguration": processing(("AppendDelimiterToRecord", parameters))}
    )
    assert plan.processors == (AppendDelimiter(delimiter),)


def test_messages_are_taken_out_of_logs_where_that_is_asked_for() -> None:
    """The value in any case."""
    for value, extracts in (("True", True), ("false", False)):
        given = processing(("CloudWatchLogProcessing", {"DataMessageExtraction": value}), ("Decompression", {}))
        plan = compiled("ExtendedS3", {**BUCKET, "ProcessingConfiguration": given})
        assert plan.processors == (Decompression(extracts),)


# -- AWS's other destinations ----------------------------------------------------------------------------------------


def test_an_http_endpoint_gets_records_and_its_bucket_what_fails() -> None:
    """With all that a request says."""
    plan = compiled(
        "HttpEndpoint",
        {
            "EndpointConfiguration": {"Url": "https://h/p", "Name": "n", "AccessKey": "k"},
            "BufferingHints": HINTS,
            "RequestConfiguration": {
                "ContentEncoding": "GZIP",
                "CommonAttributes": [{"AttributeName": "a", "AttributeValue": "1"}],
            },
            "RetryOptions": {"DurationInSeconds": 9},
            "S3Configuration": {**BUCKET, "Prefix": "p/", "CompressionFormat": "GZIP"},
        },
    )
    assert plan.destination == DestinationSpec(
        "http",
        {
            "url": "https://h/p",
            "access_key": "k",
            "common_attributes": {"a": "1"},
            "content_encoding": "GZIP",
            "name": "n",
            "source_arn": ARN,
        },
    )
    assert (plan.format, plan.error_destination, plan.naming) == (RecordsFormat(), S3, Naming("p/"))
    assert (plan.buffering, plan.retry_ms) == (Buffering(3 * MIB, 7_000), 9_000)
    assert plan.backup == Backup("failed", S3, Buffering(5 * MIB, 300_000), Naming("p/"), TextFormat("GZIP"))


@pytest.mark.parametrize(
    ("kind", "members", "everything"),
    [
        ("HttpEndpoint", {"EndpointConfiguration": {"Url": "https://h"}}, "AllData"),
        ("Splunk", {"HECEndpoint": "https://h", "HECEndpointType": "Raw", "HECToken": "t"}, "AllEvents"),
        ("Elasticsearch", {"RoleARN": ROLE, "IndexName": "i", "ClusterEndpoint": "https://h"}, "AllDocuments"),
        (
            "AmazonOpenSearchServerless",
            {"RoleARN": ROLE, "IndexName": "i", "CollectionEndpoint": "https://h"},
            "AllDocuments",
        ),
    ],
)
def test_each_destination_has_its_own_word_for_backing_up_everything(
    kind: DestinationKind, members: dict[str, Any], everything: str
) -> None:
    """Only what failed is backed up where nothing is said."""
    for mode, expected in (({}, "failed"), ({"S3BackupMode": everything}, "all")):
        backup = compiled(kind, {**members, "S3Configuration": BUCKET, **mode}).backup
        assert backup is not None
        assert backup.mode == expected


def test_splunk_gets_what_its_protocol_needs() -> None:
    """Times in milliseconds."""
    plan = compiled(
        "Splunk",
        {
            "HECEndpoint": "https://h:8088",
            "HECEndpointType": "Event",
            "HECToken": "t",
            "HECAcknowledgmentTimeoutInSeconds": 200,
            "S3Configuration": BUCKET,
        },
    )
    options = {"url": "https://h:8088", "token": "t", "type": "Event", "ack_timeout_ms": 200_000}
    assert plan.destination == DestinationSpec("splunk", options)
    assert (plan.buffering, plan.retry_ms) == (Buffering(5 * MIB, 60_000), 3_600_000)


def test_opensearch_gets_what_its_indexes_need() -> None:
    """A collection has no rotation and no ids."""
    for kind in ("Elasticsearch", "Amazonopensearchservice"):
        given = {"RoleARN": ROLE, "IndexName": "i", "ClusterEndpoint": "https://h", "S3Configuration": BUCKET}
        more = {"IndexRotationPeriod": "OneHour", "TypeName": "t"}
        ids = {"DocumentIdOptions": {"DefaultDocumentIdFormat": "NO_DOCUMENT_ID"}}
        options = {"url": "https://h", "index": "i", "type_name": "", "id_format": "FIREHOSE_DEFAULT"}
        assert compiled(kind, given).destination == DestinationSpec("opensearch", {**options, "rotation": "OneDay"})
        options = {**options, "type_name": "t", "id_format": "NO_DOCUMENT_ID", "rotation": "OneHour"}
        assert compiled(kind, {**given, **more, **ids}).destination == DestinationSpec("opensearch", options)
    given = {"RoleARN": ROLE, "IndexName": "i", "CollectionEndpoint": "https://h", "S3Configuration": BUCKET}
    options = {"url": "https://h", "index": "i", "type_name": "", "id_format": "NO_DOCUMENT_ID"}
    assert compiled("AmazonOpenSearchServerless", given).destination.options == {**options, "rotation": "NoRotation"}


def test_redshift_gets_objects_in_its_bucket_and_a_copy_of_them() -> None:
    """Buffered and compressed as the bucket is; a backup has a bucket of its own."""
    plan = compiled(
        "Redshift",
        {
            "RoleARN": ROLE,
            "ClusterJDBCURL": "jdbc:redshift://c.redshift.localhost:5439/db",
            "CopyCommand": {"DataTableName": "t", "DataTableColumns": "a,b", "CopyOptions": "JSON 'auto'"},
            "Username": "u",
            "Password": "p",
            "S3Configuration": {**BUCKET, "Prefix": "x/", "BufferingHints": HINTS, "CompressionFormat": "GZIP"},
            "S3BackupMode": "Enabled",
            "S3BackupConfiguration": {**BUCKET, "BucketARN": "arn:aws:s3:::c"},
        },
    )
    assert plan.destination == DestinationSpec(
        "redshift",
        {
            "jdbc_url": "jdbc:redshift://c.redshift.localhost:5439/db",
            "user": "u",
            "password": "p",
            "table": "t",
            "columns": "a,b",
            "copy_options": "JSON 'auto'",
            "bucket": "b",
            "s3_prefix": "x/",
            "compression": "GZIP",
            "role_arn": ROLE,
        },
    )
    assert (plan.format, plan.buffering) == (TextFormat("GZIP"), Buffering(3 * MIB, 7_000))
    assert (plan.naming, plan.retry_ms) == (Naming("x/"), 3_600_000)
    assert plan.backup is not None
    assert (plan.backup.mode, plan.backup.destination.options) == ("all", {"bucket": "c"})


def test_an_iceberg_table_gets_parquet_with_its_own_columns() -> None:
    """In the warehouse that is given, or else in the bucket."""
    table = {
        "DestinationTableName": "t",
        "DestinationDatabaseName": "db",
        "UniqueKeys": ["id"],
        "PartitionSpec": {"Identity": [{"SourceName": "day"}]},
    }
    given = {
        "RoleARN": ROLE,
        "CatalogConfiguration": {"CatalogARN": "arn:aws:glue:us-east-1:000000000000:catalog"},
        "DestinationTableConfigurationList": [table],
        "S3Configuration": BUCKET,
    }
    plan = compiled("Iceberg", given)
    assert plan.destination == DestinationSpec(
        "iceberg",
        {
            "catalog_arn": "arn:aws:glue:us-east-1:000000000000:catalog",
            "warehouse": "s3://b/",
            "tables": [{"database": "db", "table": "t", "unique_keys": ["id"], "partition_by": ["day"]}],
            "append_only": False,
        },
    )
    assert (plan.format, plan.conversion) == (ParquetFormat(), Conversion(FromDestination()))
    catalog = {"WarehouseLocation": "s3://w/x"}
    assert (
        compiled("Iceberg", {**given, "CatalogConfiguration": catalog}).destination.options["warehouse"] == "s3://w/x"
    )


# -- ours ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "options", "expected"),
    [
        ("/a/b/", {}, DestinationSpec("files", {"path": "/a/b"})),
        ("file:///a/b%20c", {}, DestinationSpec("files", {"path": "/a/b c"})),
        ("s3://b", {}, S3),
        (
            "s3://b/p/q",
            {"endpoint": "http://h", "region": "eu-west-1"},
            DestinationSpec("s3", {"bucket": "b", "prefix": "p/q", "endpoint": "http://h", "region": "eu-west-1"}),
        ),
        (
            "http://localhost:1/p",
            {"access_key": "k", "attribute.team": "t", "content_encoding": "GZIP"},
            DestinationSpec(
                "http",
                {
                    "url": "http://localhost:1/p",
                    "access_key": "k",
                    "content_encoding": "GZIP",
                    "name": "",
                    "common_attributes": {"team": "t"},
                    "source_arn": ARN,
                },
            ),
        ),
        (
            "splunk+https://h:8088",
            {"token": "t", "type": "Raw", "ack_timeout_ms": "5"},
            DestinationSpec("splunk", {"url": "https://h:8088", "token": "t", "type": "Raw", "ack_timeout_ms": 5}),
        ),
        (
            "opensearch+http://h:9200/flights",
            {},
            DestinationSpec(
                "opensearch",
                {
                    "url": "http://h:9200",
                    "index": "flights",
                    "rotation": "NoRotation",
                    "type_name": "",
                    "id_format": "FIREHOSE_DEFAULT",
                },
            ),
        ),
        (
            "opensearch+http://h/base",
            {"index": "i", "rotation": "OneDay", "user": "u"},
            DestinationSpec(
                "opensearch",
                {
                    "url": "http://h/base",
                    "index": "i",
                    "rotation": "OneDay",
                    "type_name": "",
                    "id_format": "FIREHOSE_DEFAULT",
                    "user": "u",
                },
            ),
        ),
        (
            "delta+s3://b/t",
            {"partition_by": "day"},
            DestinationSpec("delta", {"url": "s3://b/t", "partition_by": "day"}),
        ),
        (
            "iceberg+file:///w",
            {"table": "db.t"},
            DestinationSpec(
                "iceberg",
                {
                    "warehouse": "file:///w",
                    "tables": [{"database": "db", "table": "t", "unique_keys": []}],
                    "append_only": True,
                },
            ),
        ),
        (
            "iceberg+https://catalog",
            {},
            DestinationSpec(
                "iceberg",
                {
                    "catalog_url": "https://catalog",
                    "tables": [{"database": "streamkit", "table": "d_1", "unique_keys": []}],
                    "append_only": True,
                },
            ),
        ),
    ],
)
def test_a_url_says_which_destination_is_meant(url: str, options: dict[str, str], expected: DestinationSpec) -> None:
    """What options are not ours are the destination's."""
    assert own(url, Options=options).destination == expected


@pytest.mark.parametrize(
    "url",
    ["", "a/b", "file://a/b", "s3://", "s3:///x", "gopher://h", "kafka+https://h", "splunk+file:///a", "+https://h"],
)
def test_a_url_that_leads_nowhere_is_refused(url: str) -> None:
    """With those that there are."""
    with pytest.raises(InvalidArgument, match="is no place that streamkit delivers to: /a/directory"):
        own(url)


SCHEMES = ["", "/", "file://", "s3://", "http://", "splunk+https://", "opensearch+http://", "delta+", "iceberg+"]


@given(st.sampled_from(SCHEMES), st.text(alphabet="abC01/:+[]@?#%.é ", max_size=20))
def test_no_url_is_an_error_of_ours(scheme: str, rest: str) -> None:
    """It leads somewhere, or it is refused."""
    try:
        assert own(scheme + rest).destination.service
    except InvalidArgument:
        pass


@pytest.mark.parametrize(
    ("url", "options", "expected"),
    [
        ("/a", {}, DestinationSpec("files", {"path": "/a"})),
        ("s3://b/p", {}, DestinationSpec("s3", {"bucket": "b", "prefix": "p"})),
        ("/a", {"errors": "s3://e/x"}, DestinationSpec("s3", {"bucket": "e", "prefix": "x"})),
        ("delta+file:///t/", {}, DestinationSpec("files", {"path": "/t/_errors"})),
        ("iceberg+s3://b/w", {}, DestinationSpec("s3", {"bucket": "b", "prefix": "w/_errors"})),
        ("iceberg+https://c", {}, DestinationSpec("s3", {"bucket": ERRORS_BUCKET})),
        ("https://h", {}, DestinationSpec("s3", {"bucket": ERRORS_BUCKET})),
        ("https://h", {"errors": "/e"}, DestinationSpec("files", {"path": "/e"})),
    ],
)
def test_what_cannot_be_delivered_has_a_place(url: str, options: dict[str, str], expected: DestinationSpec) -> None:
    """Beside the rest where objects can be; otherwise where the options say."""
    plan = own(url, Options=options)
    assert plan.error_destination == expected
    assert plan.naming.error_prefix == "_errors/!{firehose:error-output-type}/"
    assert "errors" not in plan.destination.options


def test_errors_cannot_go_where_only_records_go() -> None:
    """They are objects."""
    with pytest.raises(InvalidArgument, match=r"it must be a directory or an s3:// URL"):
        own("/a", Options={"errors": "https://h"})


@pytest.mark.parametrize(
    ("members", "format", "schema"),
    [
        ({}, TextFormat(), None),
        ({"Format": "records", "Compression": "gzip"}, TextFormat("GZIP"), None),
        ({"Compression": "snappy"}, TextFormat("Snappy"), None),
        ({"Compression": "zstd"}, TextFormat("ZSTD"), None),
        ({"Compression": "none"}, TextFormat(), None),
        ({"Format": "parquet"}, ParquetFormat("ZSTD"), Inferred()),
        ({"Format": "parquet", "Compression": "snappy"}, ParquetFormat("SNAPPY"), Inferred()),
        ({"Format": "orc"}, OrcFormat("SNAPPY"), Inferred()),
        (
            {"Format": "orc", "Compression": "NONE", "Columns": [{"Name": "a", "Type": "bigint"}]},
            OrcFormat("NONE"),
            InlineColumns((("a", "bigint"),)),
        ),
    ],
)
def test_a_format_says_what_objects_are(members: dict[str, Any], format: Any, schema: Any) -> None:
    """JSON is a record a line; columns that are not given are found."""
    plan = own("/a", **members)
    assert plan.format == format
    assert (plan.conversion.schema if plan.conversion else None) == schema
    is_lines = members.get("Format", "json") == "json"
    assert plan.processors == ((AppendDelimiter(b"\n"),) if is_lines else ())


def test_a_table_gets_parquet_whatever_format_is_said_and_columns_to_be_made_with() -> None:
    """Its own columns decide once it is there."""
    plan = own("delta+file:///t", Columns=[{"Name": "a", "Type": "array<int>"}])
    assert plan.format == ParquetFormat("ZSTD")
    assert plan.conversion == Conversion(FromDestination())
    assert plan.destination.options == {"url": "file:///t", "columns": [["a", "array<int>"]]}
    assert plan.retry_ms is None


@pytest.mark.parametrize("url", ["https://h", "splunk+https://h", "opensearch+https://h"])
def test_what_takes_records_gets_them_one_by_one_and_not_for_ever(url: str) -> None:
    """Small buffers, and five minutes of trying."""
    plan = own(url)
    assert (plan.format, plan.processors, plan.conversion) == (RecordsFormat(), (), None)
    assert (plan.retry_ms, plan.buffering) == (300_000, Buffering(4 * MIB, 10_000))
    assert own(url, RetryDurationInSeconds=0).retry_ms == 0


def test_everything_that_is_said_of_a_place_is_in_the_plan() -> None:
    """Names, buffers, processors, partitions, a manifest."""
    plan = own(
        "/a",
        Prefix="!{partitionKeyFromQuery:day}/",
        ErrorOutputPrefix="bad/!{firehose:error-output-type}/",
        CustomTimeZone="Europe/Berlin",
        FileExtension=".jsonl",
        BufferingHints={"SizeInBytes": 10, "IntervalInMilliseconds": 0},
        DynamicPartitioning=True,
        Manifest=True,
        RetryDurationInSeconds=5,
        ProcessingConfiguration=processing(QUERY, ("AppendDelimiterToRecord", {"Delimiter": "|"})),
        source=True,
    )
    error_prefix = "bad/!{firehose:error-output-type}/"
    assert plan.naming == Naming("!{partitionKeyFromQuery:day}/", error_prefix, "Europe/Berlin", ".jsonl")
    assert plan.buffering == Buffering(10, 0)
    assert plan.processors == (Deaggregation("KPL"), MetadataExtraction("{day: .day}"), AppendDelimiter(b"|"))
    assert (plan.is_partitioned, plan.manifest, plan.retry_ms) == (True, True, 5_000)


def test_buffers_of_a_place_have_bounds() -> None:
    """Of size and of time."""
    size, interval = "SizeInBytes", "IntervalInMilliseconds"
    for hints in ({size: 0}, {size: 1 << 40}, {interval: -1}, {interval: 1 << 40}):
        with pytest.raises(InvalidArgument, match="it must be from"):
            own("/a", BufferingHints=hints)


# -- laws ------------------------------------------------------------------------------------------------------------

MINIMAL: dict[DestinationKind, dict[str, Any]] = {
    "S3": BUCKET,
    "ExtendedS3": BUCKET,
    "Redshift": {
        "RoleARN": ROLE,
        "ClusterJDBCURL": "jdbc:redshift://c.redshift.localhost:5439/db",
        "CopyCommand": {"DataTableName": "t"},
        "Username": "u",
        "Password": "p",
        "S3Configuration": BUCKET,
    },
    "Elasticsearch": {"RoleARN": ROLE, "IndexName": "i", "ClusterEndpoint": "https://h", "S3Configuration": BUCKET},
    "Amazonopensearchservice": {
        "RoleARN": ROLE,
        "IndexName": "i",
        "ClusterEndpoint": "https://h",
        "S3Configuration": BUCKET,
    },
    "AmazonOpenSearchServerless": {
        "RoleARN": ROLE,
        "IndexName": "i",
        "CollectionEndpoint": "https://h",
        "S3Configuration": BUCKET,
    },
    "Splunk": {"HECEndpoint": "https://h", "HECEndpointType": "Raw", "HECToken": "t", "S3Configuration": BUCKET},
    "HttpEndpoint": {"EndpointConfiguration": {"Url": "https://h"}, "S3Configuration": BUCKET},
    "Iceberg": {
        "RoleARN": ROLE,
        "CatalogConfiguration": {"CatalogARN": "arn:aws:glue:us-east-1:000000000000:catalog"},
        "DestinationTableConfigurationList": [{"DestinationTableName": "t", "DestinationDatabaseName": "d"}],
        "S3Configuration": BUCKET,
    },
    "Streamkit": {"Url": "/a"},
}


def test_every_kind_of_destination_compiles_and_has_somewhere_for_errors() -> None:
    """None was forgotten."""
    assert {*MINIMAL, "Channel"} == set(get_args(DestinationKind))  # channels are compiled elsewhere
    for kind, configuration in MINIMAL.items():
        assert compiled(kind, configuration).error_destination.service in ("s3", "files")


@pytest.mark.parametrize("kind", MINIMAL)
def test_an_update_that_gives_nothing_new_changes_nothing(kind: DestinationKind) -> None:
    """Merging with nothing, with the same and twice gives the same document; and leaves what it was given alone."""
    configuration = MINIMAL[kind]
    document = documents.make(kind, configuration, SCOPE)
    assert documents.merge(kind, document, {}, SCOPE) == document
    assert documents.merge(kind, document, configuration, SCOPE) == document
    assert documents.make(kind, MINIMAL[kind], SCOPE) == document


@given(st.integers(1, 128), st.integers(0, 900), st.sampled_from(["GZIP", "ZIP", "Snappy"]), st.booleans())
def test_what_is_merged_last_is_what_counts(size: int, interval: int, compression: str, nested: bool) -> None:
    """In a bucket's own document, and in one that holds a bucket."""
    change = {"BufferingHints": {"SizeInMBs": size, "IntervalInSeconds": interval}, "CompressionFormat": compression}
    kind: DestinationKind = "HttpEndpoint" if nested else "ExtendedS3"
    update: dict[str, Any] = {"S3Update": change} if nested else change
    document = documents.merge(kind, documents.make(kind, MINIMAL[kind], SCOPE), update, SCOPE)
    held = document["S3DestinationDescription"] if nested else document
    assert (held["BufferingHints"], held["CompressionFormat"]) == (change["BufferingHints"], compression)
    assert held["BucketARN"] == BUCKET["BucketARN"]
