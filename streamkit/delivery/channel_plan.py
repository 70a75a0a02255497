"""From a channel's document to the plan that the engine works by. Pure.

A channel delivers a stream's records to a bucket as they are, or JSON to a table ("How Amazon S3 delivery works", "How
streaming table delivery works", "S3 output key template for Amazon S3 delivery", Kinesis developer guide). What the
guide leaves open, and what is done here:

- Between records of an object: a line feed after each where they are JSON or STRING, so that they can be told apart;
  nothing where they are BYTE_ARRAY. The guide says "as-is" of all three.
- How large an object becomes: CHANNEL_BUFFER_BYTES, or what came in a freshness interval.
- Which time a template's variables mean: the arrival of the object's oldest record. (On AWS somebody saw objects for
  each minute of arrival under a template with minutes: github.com/jajera/kinesis-s3-delivery-walkthrough.)
- The unique end of a name stands before the extension (seen there, too): `-` and a UUID here, other digits on AWS.
- Names and documents in the dead-letter queue: those of Firehose, below the prefix. AWS's have no data, it says.
- StorageClass, EncryptionConfiguration and LoggingConfiguration are told and have no effect.
- The schema of a table: there is no Schema Registry here. The ARN `...:schema/<registry>/<name>` means the table
  `<name>` of the database `<registry>` in our Glue catalog. The Iceberg table is in the warehouse
  `s3://<table bucket>`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from streamkit.delivery.plan import (
    AppendDelimiter,
    Buffering,
    CatalogTable,
    Conversion,
    DeliveryPlan,
    DestinationSpec,
    Naming,
    ParquetCompression,
    ParquetFormat,
    Processor,
    TextCompression,
    TextFormat,
    Validation,
)
from streamkit.delivery.state import DeliveryState
from streamkit.model.limits import CHANNEL_BUFFER_BYTES

DEFAULT_TEMPLATE: Final = (
    "kinesis-channel/!{channel-name}/!{channel-id}/!{yyyy}/!{MM}/!{dd}/!{HH}/"
    "!{channel-name}-!{channel-id}-!{yyyy}-!{MM}-!{dd}-!{HH}-!{mm}!{extension}"
)
VARIABLE: Final = re.compile(r"!\{([^{}]*)\}")
TIMES: Final = frozenset(("yyyy", "yy", "MM", "dd", "HH", "mm"))
NAMES: Final = frozenset(("channel-name", "channel-id", "stream-name"))
EXTENSION: Final = re.compile(r"extension(?::(\.[a-z.]+))?")
TEXT_COMPRESSIONS: Final[Mapping[str, TextCompression]] = {"NONE": "UNCOMPRESSED", "GZIP": "GZIP", "ZSTD": "ZSTD"}
_TABLE_COMPRESSIONS: Final[Mapping[str, ParquetCompression]] = {
    "NONE": "UNCOMPRESSED",
    "SNAPPY": "SNAPPY",
    "ZSTD": "ZSTD",
}
_SCHEMA_ARN: Final = re.compile(r"arn:aws[^:]*:glue:([^:]+):([0-9]{12}):schema/([^/]+)/([^/]+)")


def compile_channel(state: DeliveryState) -> DeliveryPlan:
    """Of a channel: `state.document` has the members of its description, all defaults filled in."""
    assert state.is_channel
    assert state.source is not None
    document = state.document
    to_table = document.get("S3TablesDestinationConfiguration")
    destination: Mapping[str, Any] = to_table or document["S3DestinationConfiguration"]
    errors = destination["DeadLetterQueueS3Configuration"]
    common = {
        "name": state.name,
        "arn": channel_arn(state),
        "version": state.version,
        "source_arn": state.source.stream_arn,
        "buffering": Buffering(CHANNEL_BUFFER_BYTES, destination["DataFreshnessInSeconds"] * 1_000),
        "error_destination": _bucket(errors["BucketARN"]),
    }
    error_prefix = _literal(errors["ErrorOutputPrefix"])
    if to_table:
        return _table_plan(document, to_table["S3TablesConfigurationList"][0], error_prefix, common)
    return _bucket_plan(state, destination["StorageConfiguration"], error_prefix, common)


def channel_arn(state: DeliveryState) -> str:
    """With the channel's id, not its name (seen)."""
    return f"arn:aws:kinesis:{state.region}:{state.account}:channel/{state.id}"


def schema_table(schema_arn: str) -> CatalogTable:
    """The table of our catalog that stands for a schema."""
    match = _SCHEMA_ARN.fullmatch(schema_arn)
    assert match is not None, "the service model has checked it"
    region, account, registry, name = match.groups()
    return CatalogTable(registry, name, region=region, catalog_id=account)


def _bucket_plan(
    state: DeliveryState, storage: Mapping[str, Any], error_prefix: str, common: dict[str, Any]
) -> DeliveryPlan:
    kind = state.document["StreamConfigurationList"][0]["RecordConfiguration"]["RecordFormatType"]
    processors: list[Processor] = [Validation(kind)]
    if kind != "BYTE_ARRAY":
        processors.append(AppendDelimiter())
    prefix, extension = _prefix(state, storage["OutputKeyTemplate"])
    return DeliveryPlan(
        naming=Naming(prefix, error_prefix, extension=extension, is_key=True),
        format=TextFormat(TEXT_COMPRESSIONS[storage["CompressionType"]]),
        destination=_bucket(storage["BucketARN"]),
        processors=tuple(processors),
        **common,
    )


def _table_plan(
    document: Mapping[str, Any], table: Mapping[str, Any], error_prefix: str, common: dict[str, Any]
) -> DeliveryPlan:
    schema_arn = document["StreamConfigurationList"][0]["RecordConfiguration"]["GSRSchemaARN"]
    described: dict[str, Any] = {"database": table["Namespace"], "table": table["TableName"]}
    fields = (table.get("PartitionSpec") or {}).get("PartitionFields", ())
    if fields:
        described["partition_by"] = [f"hour({field['SourceName']})" for field in fields]
    bucket = table["TableBucketARN"].rpartition("/")[2]
    return DeliveryPlan(
        naming=Naming("", error_prefix),
        format=ParquetFormat(_TABLE_COMPRESSIONS[table["CompressionType"]]),
        destination=DestinationSpec("iceberg", {"path": f"s3://{bucket}", "tables": [described]}),
        conversion=Conversion(schema_table(schema_arn)),
        processors=(Validation("BYTE_ARRAY"),),  # the conversion tells what is no JSON
        **common,
    )


def _bucket(arn: str) -> DestinationSpec:
    return DestinationSpec("s3", {"bucket": arn.rpartition(":::")[2]})


def _prefix(state: DeliveryState, template: str) -> tuple[str, str | None]:
    """A template as a prefix with Firehose's expressions, and an extension where it has one of its own."""
    assert state.source is not None
    values = {
        "channel-name": state.name,
        "channel-id": state.id,
        "stream-name": state.source.stream_arn.rpartition("/")[2],
    }
    extension: str | None = ""  # none at all, where the template has no place for one

    def expression(match: re.Match[str]) -> str:
        nonlocal extension
        name = match[1]
        found = EXTENSION.fullmatch(name)
        if found:
            extension = found[1]
            return ""
        return f"!{{timestamp:{name}}}" if name in TIMES else values[name]

    return VARIABLE.sub(expression, template), extension


def _literal(prefix: str) -> str:
    """The service model lets no braces into it, so that there are no expressions."""
    assert "{" not in prefix
    return prefix
