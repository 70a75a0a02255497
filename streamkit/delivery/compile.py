"""From a delivery stream's document to the plan that the engine works by. Pure; the document was checked before.

What is wrong with a URL of a `Streamkit` destination, or with what else only it has, is found here: InvalidArgument.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Final, cast, get_args
from urllib.parse import unquote, urlsplit

from streamkit.delivery import documents
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
    Format,
    FromDestination,
    Inferred,
    InlineColumns,
    MetadataExtraction,
    Naming,
    OrcCompression,
    OrcFormat,
    ParquetCompression,
    ParquetFormat,
    Processor,
    RecordsFormat,
    SchemaSource,
    TextCompression,
    TextFormat,
    Transform,
)
from streamkit.delivery.state import DeliveryState
from streamkit.model.errors import InvalidArgument
from streamkit.model.limits import DELIVERY_BUFFER_BYTES_MAX, DELIVERY_INTERVAL_MS_MAX, MIB

Given = Mapping[str, Any]

ERRORS_BUCKET: Final = "streamkit-errors"
"""Takes what could not be delivered to a URL that has no room for it, unless the option `errors` says where."""

_RECORDS: Final = RecordsFormat()
BACKS_UP_ALL: Final = frozenset({"Enabled", "AllDocuments", "AllEvents", "AllData"})
_ESCAPES: Final = {"\\n": "\n", "\\r": "\r", "\\t": "\t", "\\0": "\0", "\\\\": "\\"}
_RETRY_S: Final = 300  # of endpoints that are given by a URL: AWS's for its own
_OWN_BUFFERING: Final = Buffering(64 * MIB, 60_000)
_OWN_RECORDS_BUFFERING: Final = Buffering(4 * MIB, 10_000)
_OWN_ERROR_PREFIX: Final = "_errors/!{firehose:error-output-type}/"  # who reads a folder of Parquet passes over `_...`
_EVERY_COMPRESSION: Final = ("UNCOMPRESSED", "GZIP", "ZIP", "SNAPPY", "HADOOP_SNAPPY", "ZSTD", "ZLIB")
_TABLES: Final = ("iceberg", "delta")
_TAKE_RECORDS: Final = ("http", "splunk", "opensearch")
_DELIMITER: Final = b"\n"


def compile_plan(state: DeliveryState) -> DeliveryPlan:
    """Of a delivery stream; a channel's document is another module's."""
    assert not state.is_channel
    return _own_plan(state) if state.kind == "Streamkit" else _aws_plan(state)


# -- AWS's destinations -----------------------------------------------------------------------------------------------


def _aws_plan(state: DeliveryState) -> DeliveryPlan:
    document = state.document
    bucket_document: Given = document.get("S3DestinationDescription", document)
    bucket = _bucket(bucket_document)
    format, conversion = _format(state, bucket_document)
    hints = document.get("BufferingHints") or bucket_document["BufferingHints"]
    retry_s = None
    if bucket_document is not document:
        retry_s = document["RetryOptions"]["DurationInSeconds"]
    return DeliveryPlan(
        name=state.name,
        arn=str(state.arn),
        version=state.version,
        source_arn=_source_arn(state),
        buffering=_buffering(hints),
        naming=naming_of(bucket_document),
        format=format,
        destination=_destination(state, bucket),
        error_destination=bucket,
        processors=_processors(state),
        conversion=conversion,
        is_partitioned=documents.is_partitioned(document),
        retry_ms=None if retry_s is None else retry_s * 1_000,
        backup=_backup(state, bucket_document),
    )


def naming_of(bucket_document: Given) -> Naming:
    """Of a document that says where in a bucket objects go."""
    return Naming(
        prefix=bucket_document.get("Prefix") or "",
        error_prefix=bucket_document.get("ErrorOutputPrefix") or "",
        time_zone=bucket_document.get("CustomTimeZone") or "UTC",
        extension=bucket_document.get("FileExtension") or None,
    )


def _source_arn(state: DeliveryState) -> str | None:
    return None if state.source is None else state.source.stream_arn


def _bucket(document: Given) -> DestinationSpec:
    return DestinationSpec("s3", {"bucket": document["BucketARN"].rpartition(":::")[2]})


def _buffering(hints: Given) -> Buffering:
    return Buffering(hints["SizeInMBs"] * MIB, hints["IntervalInSeconds"] * 1_000)


def _text(document: Given) -> TextFormat:
    return TextFormat(document.get("CompressionFormat", "UNCOMPRESSED"))


def _backup(state: DeliveryState, bucket_document: Given) -> Backup | None:
    """For S3 and Redshift a place of its own, or none; for the others the bucket that they have to have."""
    document = state.document
    saves_all = document.get("S3BackupMode") in BACKS_UP_ALL
    if bucket_document is document or state.kind == "Redshift":
        if not saves_all:
            return None
        bucket_document = document["S3BackupDescription"]
    return Backup(
        mode="all" if saves_all else "failed",
        destination=_bucket(bucket_document),
        buffering=_buffering(bucket_document["BufferingHints"]),
        naming=naming_of(bucket_document),
        format=_text(bucket_document),
    )


def _format(state: DeliveryState, bucket_document: Given) -> tuple[Format, Conversion | None]:
    if state.kind == "Iceberg":
        return ParquetFormat(), Conversion(FromDestination())
    if documents.converts(state.document):
        conversion = state.document["DataFormatConversionConfiguration"]
        serializer = conversion["OutputFormatConfiguration"]["Serializer"]
        return _columnar(serializer), _conversion(conversion)
    if bucket_document is state.document or state.kind == "Redshift":
        return _text(bucket_document), None
    return _RECORDS, None


def _columnar(serializer: Given) -> Format:
    parquet = serializer.get("ParquetSerDe")
    if parquet is not None:
        return ParquetFormat(
            **_given(
                parquet,
                compression="Compression",
                row_group_bytes="BlockSizeBytes",
                page_bytes="PageSizeBytes",
                dictionary="EnableDictionaryCompression",
                version="WriterVersion",
            )
        )
    orc = dict(serializer["OrcSerDe"])
    orc["BloomFilterColumns"] = tuple(orc.get("BloomFilterColumns") or ())
    return OrcFormat(
        **_given(
            orc,
            compression="Compression",
            stripe_bytes="StripeSizeBytes",
            row_index_stride="RowIndexStride",
            bloom_columns="BloomFilterColumns",
            bloom_false_positives="BloomFilterFalsePositiveProbability",
            dictionary_threshold="DictionaryKeyThreshold",
            padding_tolerance="PaddingTolerance",
            version="FormatVersion",
        )
    )


def _given(document: Given, **members: str) -> dict[str, Any]:
    """By our names, what is given by AWS's: the rest stays at its default."""
    return {name: document[member] for name, member in members.items() if document.get(member) is not None}


def _conversion(conversion: Given) -> Conversion:
    schema = conversion["SchemaConfiguration"]
    version = schema.get("VersionId")
    table = CatalogTable(
        database=schema["DatabaseName"],
        table=schema["TableName"],
        version=None if version in (None, "LATEST") else version,
        region=schema.get("Region", ""),
        catalog_id=schema.get("CatalogId", ""),
    )
    return _deserializing(conversion["InputFormatConfiguration"]["Deserializer"], table)


def _deserializing(deserializer: Given, schema: SchemaSource) -> Conversion:
    hive = deserializer.get("HiveJsonSerDe")
    if hive is not None:
        return Conversion(schema, "hive", timestamp_formats=tuple(hive.get("TimestampFormats") or ()))
    openx = deserializer.get("OpenXJsonSerDe") or {}
    return Conversion(
        schema,
        "openx",
        **_given(
            openx,
            case_insensitive="CaseInsensitive",
            dots_to_underscores="ConvertDotsInJsonKeysToUnderscores",
            mappings="ColumnToJsonKeyMappings",
        ),
    )


def _destination(state: DeliveryState, bucket: DestinationSpec) -> DestinationSpec:
    document = state.document
    if state.kind == "Redshift":
        return _redshift(document, bucket)
    if state.kind == "Splunk":
        return DestinationSpec(
            "splunk",
            {
                "url": document["HECEndpoint"],
                "token": document.get("HECToken", ""),
                "type": document["HECEndpointType"],
                "ack_timeout_ms": document["HECAcknowledgmentTimeoutInSeconds"] * 1_000,
            },
        )
    if state.kind == "HttpEndpoint":
        return _http(document, str(state.arn))
    if state.kind == "Iceberg":
        return _iceberg(document, bucket)
    if documents.is_opensearch(state.kind):
        return DestinationSpec(
            "opensearch",
            {
                "url": document.get("ClusterEndpoint") or document["CollectionEndpoint"],
                "index": document["IndexName"],
                "rotation": document.get("IndexRotationPeriod", "NoRotation"),
                "type_name": document.get("TypeName", ""),
                # Collections of time series take no ids of others ("Choosing a collection type"), and nothing else says
                # of which type a collection is.
                "id_format": document.get("DocumentIdOptions", {}).get("DefaultDocumentIdFormat", "NO_DOCUMENT_ID"),
            },
        )
    return bucket


def _http(document: Given, source_arn: str) -> DestinationSpec:
    endpoint, request = document["EndpointConfiguration"], document["RequestConfiguration"]
    return DestinationSpec(
        "http",
        {
            "url": endpoint["Url"],
            "access_key": endpoint.get("AccessKey", ""),
            "common_attributes": {
                each["AttributeName"]: each["AttributeValue"] for each in request.get("CommonAttributes") or []
            },
            "content_encoding": request["ContentEncoding"],
            "name": endpoint.get("Name", ""),
            "source_arn": source_arn,
        },
    )


def _redshift(document: Given, bucket: DestinationSpec) -> DestinationSpec:
    copy, staged = document["CopyCommand"], document["S3DestinationDescription"]
    return DestinationSpec(
        "redshift",
        {
            "jdbc_url": document["ClusterJDBCURL"],
            "user": document.get("Username", ""),
            "password": document.get("Password", ""),
            "table": copy["DataTableName"],
            "columns": copy.get("DataTableColumns", ""),
            "copy_options": copy.get("CopyOptions", ""),
            "bucket": bucket.options["bucket"],
            "s3_prefix": staged.get("Prefix", ""),
            "compression": staged["CompressionFormat"],
            "role_arn": document.get("RoleARN", ""),
        },
    )


def _iceberg(document: Given, bucket: DestinationSpec) -> DestinationSpec:
    catalog = document["CatalogConfiguration"]
    tables = [
        {
            "database": each["DestinationDatabaseName"],
            "table": each["DestinationTableName"],
            "unique_keys": list(each.get("UniqueKeys") or []),
            "partition_by": [field["SourceName"] for field in (each.get("PartitionSpec") or {}).get("Identity") or []],
        }
        for each in document.get("DestinationTableConfigurationList") or []
    ]
    return DestinationSpec(
        "iceberg",
        {
            "catalog_arn": catalog.get("CatalogARN", ""),
            # Glue's tables know where they are. A table that is made here goes where its errors go, if nothing is said.
            "warehouse": catalog.get("WarehouseLocation") or f"s3://{bucket.options['bucket']}/",
            "tables": tables,
            "append_only": document["AppendOnly"],
        },
    )


# -- processors -------------------------------------------------------------------------------------------------------


def _processors(state: DeliveryState) -> tuple[Processor, ...]:
    """In AWS's order ("Understand data delivery", "Dynamic partitioning"), whatever order they were given in.

    AWS does not say where decompression is: it has to come before whatever looks at the data. Aggregates of the
    producer library are split before all else, if they come from a stream.
    """
    given = {each["Type"]: documents.parameters(each) for each in documents.processors(state.document)}
    made: list[Processor] = []
    if state.source is not None:
        made.append(Deaggregation("KPL"))
    if "Decompression" in given:
        extraction = given.get("CloudWatchLogProcessing", {}).get("DataMessageExtraction", "false")
        made.append(Decompression(extracts_messages=extraction.lower() == "true"))
    if (split := given.get("RecordDeAggregation")) is not None:
        kind = split.get("SubRecordType", "JSON")
        delimiter = decode_delimiter(split["Delimiter"]) if kind == "DELIMITED" else b""
        made.append(Deaggregation("DELIMITED" if kind == "DELIMITED" else "JSON", delimiter))
    if (transform := given.get("Lambda")) is not None:
        made.append(
            Transform(
                transform["LambdaArn"],
                retries=int(float(transform["NumberOfRetries"])),
                size_bytes=round(float(transform["BufferSizeInMBs"]) * MIB),
                interval_ms=round(float(transform["BufferIntervalInSeconds"]) * 1_000),
            )
        )
    if (extraction_of_keys := given.get("MetadataExtraction")) is not None:
        made.append(MetadataExtraction(extraction_of_keys["MetadataExtractionQuery"]))
    if (append := given.get("AppendDelimiterToRecord")) is not None:
        made.append(AppendDelimiter(_unescaped(append.get("Delimiter", "\\n"))))
    return tuple(made)


def decode_delimiter(text: str) -> bytes:
    """Of RecordDeAggregation, which has it in base64. Raises InvalidArgument; AWS's text is not known."""
    try:
        delimiter = base64.b64decode(text, validate=True)
    except binascii.Error:
        delimiter = b""
    if not delimiter:
        raise InvalidArgument(f"Delimiter {text} is not base64 of at least one byte")
    return delimiter


def _unescaped(text: str) -> bytes:
    r"""Of AppendDelimiterToRecord, as AWS's examples write it: a line end is `\n`, two characters."""
    result, rest = "", text
    while rest:
        escape = _ESCAPES.get(rest[:2])
        result += rest[0] if escape is None else escape
        rest = rest[1 if escape is None else 2 :]
    return result.encode()


# -- destinations by URL ----------------------------------------------------------------------------------------------


def _own_plan(state: DeliveryState) -> DeliveryPlan:
    document = state.document
    main = _place(document["Url"], document["Options"], state.name)
    if main.service == "http":
        main = DestinationSpec("http", {"source_arn": str(state.arn), **main.options})
    errors_url = document["Options"].get("errors")
    errors = _place(errors_url, {}, state.name) if errors_url else _errors_beside(main)
    if errors.service not in ("files", "s3"):
        raise InvalidArgument(f"errors is {errors_url}; it must be a directory or an s3:// URL.")
    format, conversion, delimiter = _own_format(document, main)
    if main.service in _TABLES and document.get("Columns"):
        columns = [[each["Name"], each["Type"]] for each in document["Columns"]]
        main = DestinationSpec(main.service, {**main.options, "columns": columns})
    processors = _processors(state)
    if delimiter and not any(isinstance(each, AppendDelimiter) for each in processors):
        processors = (*processors, AppendDelimiter(delimiter))
    retry_s = document.get("RetryDurationInSeconds", _RETRY_S if main.service in _TAKE_RECORDS else None)
    return DeliveryPlan(
        name=state.name,
        arn=str(state.arn),
        version=state.version,
        source_arn=_source_arn(state),
        buffering=_own_buffering(document, main),
        naming=own_naming(document),
        format=format,
        destination=main,
        error_destination=errors,
        processors=processors,
        conversion=conversion,
        is_partitioned=documents.is_partitioned(document),
        retry_ms=None if retry_s is None else retry_s * 1_000,
        manifest=bool(document.get("Manifest")),
    )


def own_naming(document: Given) -> Naming:
    """Errors have a place of their own also where none is given: one can always tell them from the rest."""
    return naming_of({**document, "ErrorOutputPrefix": document.get("ErrorOutputPrefix") or _OWN_ERROR_PREFIX})


def _own_buffering(document: Given, main: DestinationSpec) -> Buffering:
    default = _OWN_RECORDS_BUFFERING if main.service in _TAKE_RECORDS else _OWN_BUFFERING
    hints = document.get("BufferingHints") or {}
    size_bytes = hints.get("SizeInBytes", default.size_bytes)
    interval_ms = hints.get("IntervalInMilliseconds", default.interval_ms)
    if not 0 < size_bytes <= DELIVERY_BUFFER_BYTES_MAX:
        raise InvalidArgument(
            f"BufferingHints.SizeInBytes is {size_bytes}; it must be from 1 to {DELIVERY_BUFFER_BYTES_MAX}."
        )
    if not 0 <= interval_ms <= DELIVERY_INTERVAL_MS_MAX:
        raise InvalidArgument(
            f"BufferingHints.IntervalInMilliseconds is {interval_ms}; it must be from 0 to {DELIVERY_INTERVAL_MS_MAX}."
        )
    return Buffering(size_bytes, interval_ms)


def _own_format(document: Given, main: DestinationSpec) -> tuple[Format, Conversion | None, bytes]:
    """And what follows each record."""
    format, columns = document["Format"], document.get("Columns")
    if main.service in _TAKE_RECORDS:
        if format != "json" or document.get("Compression"):
            raise InvalidArgument(f"{document['Url']} takes records one by one: Format and Compression mean nothing.")
        return _RECORDS, None, b""
    if main.service in _TABLES:
        parquet = _parquet(document.get("Compression"))
        return parquet, _deserializing(document.get("Deserializer") or {}, FromDestination()), b""
    if format in ("json", "records"):
        compression = _compression(document.get("Compression"), "UNCOMPRESSED")
        compression = "Snappy" if compression == "SNAPPY" else compression
        text = TextFormat(cast(TextCompression, _allowed(compression, get_args(TextCompression))))
        return text, None, _DELIMITER if format == "json" else b""
    schema: SchemaSource = Inferred()
    if columns:
        schema = InlineColumns(tuple((each["Name"], each["Type"]) for each in columns))
    conversion = _deserializing(document.get("Deserializer") or {}, schema)
    if format == "parquet":
        return _parquet(document.get("Compression")), conversion, b""
    return _orc(document.get("Compression")), conversion, b""


def _compression(text: str | None, default: str) -> str:
    """In capital letters, and `UNCOMPRESSED` for none; whether the format has it is another question."""
    if text is None:
        return default
    return _allowed("UNCOMPRESSED" if text.upper() == "NONE" else text.upper(), _EVERY_COMPRESSION)


def _parquet(text: str | None) -> ParquetFormat:
    compression = _compression(text, "ZSTD")
    return ParquetFormat(cast(ParquetCompression, _allowed(compression, get_args(ParquetCompression))))


def _orc(text: str | None) -> OrcFormat:
    compression = _compression(text, "SNAPPY")
    compression = "NONE" if compression == "UNCOMPRESSED" else compression
    return OrcFormat(cast(OrcCompression, _allowed(compression, get_args(OrcCompression))))


def _allowed(value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise InvalidArgument(f"Compression {value} is none of {', '.join(allowed)}.")
    return value


def _place(url: str, options: Mapping[str, str], name: str) -> DestinationSpec:
    """Where a URL leads. Options that are not ours are the destination's own."""
    own = {key: value for key, value in options.items() if key != "errors"}
    if url.startswith("/"):
        return DestinationSpec("files", {**own, "path": str(PurePosixPath(url))})
    scheme, _, rest = url.partition("://")
    kind, plus, inner = scheme.partition("+")
    if not rest or not kind:
        raise _no_url(url)
    if plus:
        return _inside(kind, f"{inner}://{rest}", own, name)
    if kind == "file":
        if not rest.startswith("/"):
            raise _no_url(url)
        return DestinationSpec("files", {**own, "path": str(PurePosixPath(unquote(rest)))})
    if kind == "s3":
        bucket, _, prefix = rest.partition("/")
        if not bucket:
            raise _no_url(url)
        return DestinationSpec("s3", {**own, "bucket": bucket, **({"prefix": prefix} if prefix else {})})
    if kind in ("http", "https"):
        return DestinationSpec("http", _of_http(url, own))
    raise _no_url(url)


def _inside(kind: str, url: str, own: Mapping[str, str], name: str) -> DestinationSpec:
    """`kind+url`."""
    if kind == "delta":
        return DestinationSpec("delta", {**own, "url": url})
    if kind == "iceberg":
        return _own_iceberg(url, own, name)
    if not url.startswith(("http://", "https://")):
        raise _no_url(f"{kind}+{url}")
    if kind == "splunk":
        rest = {key: value for key, value in own.items() if key not in ("token", "type", "ack_timeout_ms")}
        timeout_ms = _number("ack_timeout_ms", own.get("ack_timeout_ms", "180000"))
        type = own.get("type", "Event")
        return DestinationSpec(
            "splunk", {**rest, "url": url, "token": own.get("token", ""), "type": type, "ack_timeout_ms": timeout_ms}
        )
    if kind == "opensearch":
        options: dict[str, Any] = {"rotation": "NoRotation", "type_name": "", "id_format": "FIREHOSE_DEFAULT", **own}
        if "index" not in own:  # it is the path, then
            try:
                split = urlsplit(url)
            except ValueError:
                raise _no_url(f"{kind}+{url}") from None
            options["index"] = split.path.strip("/") or name.lower()
            url = f"{split.scheme}://{split.netloc}"
        return DestinationSpec("opensearch", {**options, "url": url})
    raise _no_url(f"{kind}+{url}")


def _of_http(url: str, own: Mapping[str, str]) -> dict[str, Any]:
    """Options that begin with `attribute.` are common attributes."""
    attributes = {key.partition(".")[2]: value for key, value in own.items() if key.startswith("attribute.")}
    rest = {key: value for key, value in own.items() if not key.startswith("attribute.")}
    defaults = {"access_key": "", "content_encoding": "NONE", "name": ""}
    return {**defaults, **rest, "url": url, "common_attributes": attributes}


def _own_iceberg(url: str, own: Mapping[str, str], name: str) -> DestinationSpec:
    """A warehouse, with a catalog in it, or the URL of a REST catalog. The table is the option `table`, with its
    database before a dot; otherwise it is called as the delivery stream is."""
    options: dict[str, Any] = {key: value for key, value in own.items() if key not in ("table", "database")}
    database, _, table = own.get("table", "").rpartition(".")
    default_table = "".join(letter if letter.isalnum() else "_" for letter in name.lower())
    options["tables"] = [
        {
            "database": database or own.get("database", "streamkit"),
            "table": table or default_table,
            "unique_keys": [],
        }
    ]
    options["append_only"] = True
    options["catalog_url" if url.startswith(("http://", "https://")) else "warehouse"] = url
    return DestinationSpec("iceberg", options)


def _errors_beside(main: DestinationSpec) -> DestinationSpec:
    """Beside what was delivered, where objects can be: in a table's folder, readers pass over `_errors`."""
    if main.service in ("files", "s3"):
        return main
    url = str(main.options.get("warehouse") or main.options.get("url") or "") if main.service in _TABLES else ""
    beside = url.rstrip("/") + "/_errors"
    if url.startswith(("file://", "s3://")):
        return _place(beside, {}, "")
    return DestinationSpec("s3", {"bucket": ERRORS_BUCKET})


def _number(option: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise InvalidArgument(f"The option {option} is {text}; it must be a whole number.")
    return int(text)


def _no_url(url: str) -> InvalidArgument:
    return InvalidArgument(
        f"{url} is no place that streamkit delivers to: /a/directory, file:///a/directory, s3://bucket/prefix, "
        "https://host/path, splunk+https://host:port, opensearch+https://host, delta+file:///table, delta+s3://bucket/"
        "table, iceberg+file:///warehouse, iceberg+s3://bucket/warehouse, iceberg+https://catalog."
    )
