"""AWS's rules about delivery streams that are not in the service model, with AWS's words. Pure: they look and raise.

Texts are AWS's answers, recorded by people who test against it; where none is known, this is said, and the text keeps
their form. Documents come with their defaults (`streamkit.delivery.documents`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec

from streamkit.delivery import compile as plans
from streamkit.delivery import documents
from streamkit.delivery.plan import Naming
from streamkit.delivery.state import DeliveryState, DestinationKind, Encryption
from streamkit.model.errors import (
    ConcurrentModification,
    InvalidArgument,
    LimitExceeded,
    NotImplementedHere,
    ResourceInUse,
    ResourceNotFound,
    ServiceUnavailable,
)
from streamkit.model.limits import (
    COLUMNAR_BUFFER_MIB_MIN,
    DELIVERY_STREAMS_MAX,
    DELIVERY_TAGS_MAX,
    ENCRYPTION_CALLS_PER_DAY_MAX,
    FIREHOSE_BATCH_BYTES_MAX,
    HOUR_MS,
    MIB,
    PROCESSORS_MAX,
    TRANSFORM_BUFFER_MIB_MAX,
    TRANSFORM_BUFFER_MIB_MIN,
    TRANSFORM_INTERVAL_S_MAX,
    TRANSFORM_RETRIES_MAX,
)
from streamkit.model.names import FunctionArn, Scope, StreamArn

Given = Mapping[str, Any]
FunctionExists = Callable[[FunctionArn], bool]

DAY_MS: Final = 24 * HOUR_MS
_PRIVATE: Final = ".delivery"
_INTERNAL: Final = "class com.amazonaws.services.firehose.internal.model."
_KEY: Final = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|\$?([A-Za-z_][A-Za-z0-9_-]*))\s*')
_KMS_REGION: Final = re.compile(r"arn:[^:]*:kms:([^:]*):")


# -- the streams behind direct puts -----------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def private_scope(scope: Scope) -> Scope:
    """Where the streams are that hold direct puts until they are delivered: out of the users' sight."""
    return Scope(scope.account, scope.region + _PRIVATE)


def is_private(scope: Scope) -> bool:
    return scope.region.endswith(_PRIVATE)


# -- states -----------------------------------------------------------------------------------------------------------


def not_found(scope: Scope, name: str) -> ResourceNotFound:
    return ResourceNotFound(f"Firehose {name} under account {scope.account} not found.")


def not_active(state: DeliveryState) -> ResourceNotFound:
    """What a put is answered while the delivery stream is being made or deleted."""
    return ResourceNotFound(f"Firehose {state.name} is not active in {state.account} account.")


def already_exists(scope: Scope, name: str) -> ResourceInUse:
    return ResourceInUse(f"Firehose {name} under accountId {scope.account} already exists")


def require_room(scope: Scope, count: int) -> None:
    if count >= DELIVERY_STREAMS_MAX:
        raise LimitExceeded(
            f"You have already consumed your firehose quota of {DELIVERY_STREAMS_MAX} hoses in {scope.region}."
        )


def require_active(state: DeliveryState) -> None:
    """Of changes. AWS's text is not known."""
    if state.status != "ACTIVE":
        raise ResourceInUse(
            f"Firehose {state.name} under accountId {state.account} is not ACTIVE, instead in state {state.status}"
        )


def require_deletable(state: DeliveryState) -> None:
    """One that is being made cannot be deleted (API reference). AWS's text is not known."""
    if state.status == "CREATING":
        require_active(state)


def require_version(state: DeliveryState, version: str, destination_id: str) -> None:
    if version != str(state.version):
        raise ConcurrentModification(
            f"Cannot update firehose: {state.name} since the current version id: {state.version} and specified version "
            f"id: {version} do not match"
        )
    if destination_id != state.destination_id:
        raise InvalidArgument(f"Destination Id {destination_id} not found")


# -- sources ----------------------------------------------------------------------------------------------------------


def require_source(given: Given, stream_exists: Callable[[str], bool]) -> StreamArn | None:
    """The stream to read; None for direct puts. Whether AWS says the last of these so is not known."""
    kind = given.get("DeliveryStreamType") or "DirectPut"
    if kind == "MSKAsSource" and given.get("MSKSourceConfiguration") is None:
        raise InvalidArgument("MSKSourceConfig is mandatory for MSK as Source stream type.")
    if kind == "MSKAsSource" or given.get("MSKSourceConfiguration") is not None:
        raise _no_source("Amazon MSK")
    if kind == "DatabaseAsSource" or given.get("DatabaseSourceConfiguration") is not None:
        raise _no_source("databases")
    source = given.get("KinesisStreamSourceConfiguration")
    if kind == "DirectPut":
        if source is not None:
            raise InvalidArgument("KinesisSourceStreamConfig is only applicable for KinesisStreamAsSource stream type")
        return None
    if source is None:
        raise InvalidArgument("KinesisSourceStreamConfig is mandatory for KinesisStreamAsSource stream type.")
    arn = StreamArn.parse(source["KinesisStreamARN"])
    if arn is None or is_private(arn.scope) or not stream_exists(str(arn)):
        name = source["KinesisStreamARN"].rpartition("/")[2]
        account = arn.scope.account if arn else "unknown"
        raise InvalidArgument(f"Stream {name} under account {account} not found.")
    return arn


def _no_source(what: str) -> NotImplementedHere:
    return NotImplementedHere(
        f"streamkit has no delivery streams that read {what} yet. It has them for direct puts and for Kinesis data "
        "streams."
    )


def no_direct_puts() -> InvalidArgument:
    """A put on a delivery stream that reads a stream. The code is the one AWS was seen to answer; what its model has
    InvalidSourceException for is CloudWatch Logs."""
    return InvalidArgument("This operation is not permitted on KinesisStreamAsSource delivery stream type.")


# -- destinations -----------------------------------------------------------------------------------------------------


def one_destination() -> InvalidArgument:
    return InvalidArgument("Exactly one destination configuration is supported for a Firehose")


def one_update() -> InvalidArgument:
    """AWS's text for several is not known."""
    return InvalidArgument("At least one destination or source configuration update must be provided")


def require_change(state: DeliveryState, kind: DestinationKind, document: Given) -> None:
    """Whether a destination may become this one. `document` is what it would be."""
    for each in (state.kind, kind):
        # The API reference says so of OpenSearch; of HTTP endpoints people saw it.
        refuses = documents.is_opensearch(each) or each == "HttpEndpoint"
        if refuses and state.kind != kind:
            raise InvalidArgument(f"Changing the destination type to or from {each} is not supported at this time.")
    before, after = state.document.get("S3BackupMode"), document.get("S3BackupMode")
    if documents.are_alike(state.kind, kind) and before in plans.BACKS_UP_ALL and after not in plans.BACKS_UP_ALL:
        raise InvalidArgument("Disabling S3 backup is not currently supported.")
    if not documents.are_alike(state.kind, kind):
        documents.require_complete(kind, document)
    if documents.is_partitioned(document) and not documents.is_partitioned(state.document) and kind != "Streamkit":
        raise InvalidArgument(  # the developer guide says so; AWS's text is not known
            "Dynamic Partitioning can only be enabled when a Firehose is created."
        )


def require_destination(
    kind: DestinationKind, document: Given, given: Given, scope: Scope, function_exists: FunctionExists
) -> None:
    """`given` is what the request had of it; hints that it has are held against the rules, defaults are not."""
    require_hints(kind, given)
    if kind == "Streamkit":
        _require_own(document)
    else:
        for place in _buckets(document):
            _require_bucket(place)
        _require_logging(document)
        _require_credentials(document)
        _REQUIRE.get(kind, _nothing_more)(document)
    if documents.converts(document):
        _require_conversion(document)
    _require_processors(kind, document, scope, function_exists)
    if documents.is_partitioned(document) and kind != "Streamkit":
        hints = document["BufferingHints"]
        if hints["SizeInMBs"] < COLUMNAR_BUFFER_MIB_MIN:
            raise InvalidArgument(
                f"BufferingHints.SizeInMBs must be at least {COLUMNAR_BUFFER_MIB_MIN} when Dynamic Partitioning is "
                "enabled."
            )
        if hints["IntervalInSeconds"] == 0:  # "Zero buffering feature is not available": AWS's text is not known
            raise InvalidArgument("BufferingHints.IntervalInSeconds cannot be 0 when Dynamic Partitioning is enabled.")
    if documents.is_partitioned(document) and not documents.processors(document):
        raise InvalidArgument("Processing Configuration is not enabled when DataPartitioning is enabled")
    _require_prefixes(kind, document)


def require_hints(kind: DestinationKind, given: Given) -> None:
    """Both hints or neither, where the service model says so. AWS's text is not known; this is the model's."""
    strict = kind in ("S3", "ExtendedS3", "HttpEndpoint", "Iceberg")
    for value in _holding(given, "BufferingHints", strict):
        if ("SizeInMBs" in value) != ("IntervalInSeconds" in value):
            raise InvalidArgument(
                "If you specify a value for SizeInMBs, you must also specify a value for IntervalInSeconds, and vice "
                "versa."
            )


def _holding(given: Given, member: str, here: bool) -> Iterator[Given]:
    for name, value in given.items():
        if name == member and here:
            yield value
        elif isinstance(value, Mapping) and name.startswith("S3"):
            yield from _holding(value, member, True)


def _buckets(document: Given) -> Iterator[Given]:
    if "BucketARN" in document:
        yield document
    for member in ("S3DestinationDescription", "S3BackupDescription"):
        if document.get(member) is not None:
            yield document[member]


def _require_bucket(document: Given) -> None:
    encryption = document["EncryptionConfiguration"]
    if ("NoEncryptionConfig" in encryption) == ("KMSEncryptionConfig" in encryption):
        raise InvalidArgument("Exactly one of NoEncryptionConfig or KMSEncryptionConfig must be specified")
    _require_logging(document)


def _require_logging(document: Given) -> None:
    logging = document.get("CloudWatchLoggingOptions") or {}
    for member, name in (("LogGroupName", "Group"), ("LogStreamName", "Stream")):
        if logging.get("Enabled") and not logging.get(member):
            raise InvalidArgument(f"CloudWatch Log {name} Name is required if CloudWatch Logging is enabled")


def _require_credentials(document: Given) -> None:
    secrets = document.get("SecretsManagerConfiguration") or {}
    if secrets.get("Enabled"):
        if not secrets.get("SecretARN"):
            raise InvalidArgument("Invalid secret ARN: null")
        raise NotImplementedHere("streamkit has no Secrets Manager: give the credentials themselves.")


def _require_prefixes(kind: DestinationKind, document: Given) -> None:
    from streamkit.delivery.naming import check_prefixes  # compiles Java's date patterns: nothing else here does

    partitioned = documents.is_partitioned(document)
    if kind == "Streamkit":
        naming = plans.own_naming(document)
        check_prefixes(naming, is_partitioned=partitioned, keys=_partition_keys(document, naming))
        return
    for place in _buckets(document):
        naming = plans.naming_of(place)
        is_main = place is document
        keys = _partition_keys(document, naming) if is_main else ()
        check_prefixes(naming, is_partitioned=partitioned and is_main, keys=keys)


def _partition_keys(document: Given, naming: Naming) -> set[str]:
    """What `naming.check_prefixes` calls keys: those of the query, and one that stands for all of a function's. A query
    that is no list of keys is taken to give what the prefix has."""
    from streamkit.delivery.naming import LAMBDA, QUERY

    keys = set()
    for processor in documents.processors(document):
        if processor["Type"] == "Lambda":
            keys.add(f"{LAMBDA}:*")
        elif processor["Type"] == "MetadataExtraction":
            names = query_keys(documents.parameters(processor)["MetadataExtractionQuery"])
            if names is None:
                names = set(re.findall(rf"!\{{{QUERY}:([^{{}}]+)\}}", naming.prefix))
            keys |= {f"{QUERY}:{name}" for name in names}
    return keys


def query_keys(query: str) -> set[str] | None:
    """The keys of a jq query that makes one object, `{a: .b, "c": .d, e}`; None for any other."""
    text = query.strip()
    if not (text.startswith("{") and text.endswith("}")):
        return None
    keys: set[str] = set()
    depth, quoted, expects_key = 0, False, False
    place = 0
    while place < len(text):
        letter = text[place]
        if expects_key:
            match = _KEY.match(text, place)
            if match is None or text[match.end() : match.end() + 1] not in (":", ",", "}"):
                return None
            keys.add(match[1] if match[1] is not None else match[2])
            place, expects_key = match.end(), False
            continue
        if letter == '"':
            quoted = not quoted
        elif quoted and letter == "\\":
            place += 1
        elif not quoted and letter in "{[(":
            depth += 1
            expects_key = place == 0
        elif not quoted and letter in ")]}":
            depth -= 1
            if depth == 0 and place != len(text) - 1:
                return None
        elif not quoted and letter == "," and depth == 1:
            expects_key = True
        place += 1
    return keys or None


# -- the kinds --------------------------------------------------------------------------------------------------------


def _nothing_more(document: Given) -> None:
    return None


def _require_s3(document: Given) -> None:
    _require_backup(document)


def _require_backup(document: Given) -> None:
    if document["S3BackupMode"] == "Enabled" and document.get("S3BackupDescription") is None:
        raise InvalidArgument("S3 backup destination configuration is required when enabling S3 backup.")


def _require_redshift(document: Given) -> None:
    for member, name in (("Username", "Username"), ("Password", "Password")):  # the first text is made like the second
        if not document.get(member):
            raise InvalidArgument(f"Redshift Database {name} is required for Redshift Destination")
    _require_backup(document)
    staged = document["S3DestinationDescription"]
    if staged["CompressionFormat"] not in ("UNCOMPRESSED", "GZIP"):
        raise InvalidArgument(
            "Only the following compression formats are allowed when using Redshift: [UNCOMPRESSED, GZIP]"
        )
    if any("!{" in (staged.get(member) or "") for member in ("Prefix", "ErrorOutputPrefix")):
        raise InvalidArgument("Prefix Expressions or ErrorOutputPrefix is currently not supported for this destination")


def _require_domain(document: Given) -> None:
    domain, endpoint = document.get("DomainARN"), document.get("ClusterEndpoint")
    if domain and endpoint:
        raise InvalidArgument(
            "Cannot provide both Elasticsearch cluster endpoint and domain ARN. Provide either the cluster endpoint or "
            "domain arn."
        )
    if not domain and not endpoint:
        raise InvalidArgument("Provide either the Elasticsearch cluster endpoint or domain arn.")
    if not endpoint:
        raise NotImplementedHere(f"streamkit knows no endpoint of {domain}: give ClusterEndpoint instead.")


def _require_collection(document: Given) -> None:
    if not document.get("CollectionEndpoint"):
        raise InvalidArgument("Must specify collection endpoint for delivery to OpenSearch serverless.")


def _require_splunk(document: Given) -> None:
    if not document["HECEndpoint"].startswith("https://"):
        raise InvalidArgument("Invalid HECEndpoint. Supported endpoint format is https://<domain>:<port>.")
    if not document.get("HECToken"):  # AWS's text is not known
        raise InvalidArgument("HECToken is required for Splunk Destination")


def _require_http(document: Given) -> None:
    names = [each["AttributeName"] for each in document["RequestConfiguration"].get("CommonAttributes") or []]
    for name in names:
        if names.count(name) > 1:
            raise InvalidArgument(f"Http Endpoint Common Attributes have duplicate name {name}")


def _require_iceberg(document: Given) -> None:
    mode = document["S3BackupMode"]
    if mode != "FailedDataOnly":
        raise InvalidArgument(f"S3BackupMode.{mode} is not supported for Iceberg as destination.")
    tables = document.get("DestinationTableConfigurationList") or []
    routes = {"Lambda", "MetadataExtraction"} & {each["Type"] for each in documents.processors(document)}
    if not tables and not routes:
        raise InvalidArgument(
            "A single default destination table configuration must be provided when both Lambda and "
            "MetadataExtraction processors are not provided"
        )
    if len(tables) != 1:
        raise NotImplementedHere("streamkit delivers to one Iceberg table: records are not routed to several.")


_REQUIRE: Final[Mapping[DestinationKind, Callable[[Given], None]]] = {
    "S3": _require_s3,
    "ExtendedS3": _require_s3,
    "Redshift": _require_redshift,
    "Elasticsearch": _require_domain,
    "Amazonopensearchservice": _require_domain,
    "AmazonOpenSearchServerless": _require_collection,
    "Splunk": _require_splunk,
    "HttpEndpoint": _require_http,
    "Iceberg": _require_iceberg,
}


def _require_own(document: Given) -> None:
    """Of destinations by URL; the URL itself is for `compile_plan` to judge."""
    columns = [each["Name"] for each in document.get("Columns") or []]
    for name in columns:
        if columns.count(name) > 1:
            raise InvalidArgument(f"Columns has {name} twice.")
    if columns and document["Format"] in ("records",):
        raise InvalidArgument("Columns mean nothing to records that are written as they come.")


# -- conversion -------------------------------------------------------------------------------------------------------


def _require_conversion(document: Given) -> None:
    """In the order in which AWS was seen to look."""
    if document["CompressionFormat"] != "UNCOMPRESSED":
        raise InvalidArgument(
            "The S3 destination's compression format must be set to UNCOMPRESSED when data format conversion is "
            "enabled. To enable compression within the converted output format, set the appropriate serialization "
            "option in the output format configuration."
        )
    if document["BufferingHints"]["SizeInMBs"] < COLUMNAR_BUFFER_MIB_MIN:
        raise InvalidArgument(
            f"BufferingHints.SizeInMBs must be at least {COLUMNAR_BUFFER_MIB_MIN} when data format conversion is "
            "enabled."
        )
    conversion = document["DataFormatConversionConfiguration"]
    for member in ("InputFormatConfiguration", "OutputFormatConfiguration", "SchemaConfiguration"):
        if conversion.get(member) is None:
            raise InvalidArgument(f"{member} must not be null")
    _require_one(conversion["InputFormatConfiguration"], "Deserializer", ("OpenXJsonSerDe", "HiveJsonSerDe"))
    _require_one(conversion["OutputFormatConfiguration"], "Serializer", ("ParquetSerDe", "OrcSerDe"))
    schema = conversion["SchemaConfiguration"]
    for member, name in (("RoleARN", "RoleArn"), ("DatabaseName", "DatabaseName"), ("TableName", "TableName")):
        if not schema.get(member):
            raise InvalidArgument(f"SchemaConfiguration.{name} must not be null or empty")


def _require_one(configuration: Given, member: str, choices: tuple[str, ...]) -> None:
    chosen = [each for each in choices if (configuration.get(member) or {}).get(each) is not None]
    if not chosen:
        raise InvalidArgument(f"{member} must not be null")
    if len(chosen) > 1:
        raise InvalidArgument(f"More than one {member.lower()} specified. Only one may be chosen.")


# -- processors -------------------------------------------------------------------------------------------------------


def with_processors(kind: DestinationKind, document: documents.Document) -> documents.Document:
    """The document with what AWS adds to the parameters of processors, in the order in which it shows them."""
    configuration = document.get("ProcessingConfiguration")
    if configuration is None:
        return document
    made = [_with_parameters(kind, document, each) for each in configuration.get("Processors") or []]
    complete = {"Enabled": bool(configuration.get("Enabled")), "Processors": made}
    return {**document, "ProcessingConfiguration": complete}


def _with_parameters(kind: DestinationKind, document: Given, processor: Given) -> documents.Document:
    given = documents.parameters(processor)
    defaults: dict[str, str] = {}
    if processor["Type"] == "Lambda":
        role = {"RoleArn": document["RoleARN"]} if document.get("RoleARN") else {}
        defaults = {
            "LambdaArn": "",
            "NumberOfRetries": "3",
            **role,
            "BufferSizeInMBs": "0.25" if kind == "Splunk" else "1",
            "BufferIntervalInSeconds": "60",
        }
        has_hint = "BufferSizeInMBs" in given, "BufferIntervalInSeconds" in given
        if has_hint[0] != has_hint[1]:
            raise InvalidArgument(
                "Both BufferSizeInMBs and BufferIntervalInSeconds are required to configure buffering for lambda "
                "processor."
            )
    elif processor["Type"] == "Decompression":
        defaults = {"CompressionFormat": "GZIP"}
    elif "DataMessageExtraction" in given:
        given["DataMessageExtraction"] = given["DataMessageExtraction"].lower()
    values = {name: value for name, value in {**defaults, **given}.items() if value}
    return {
        "Type": processor["Type"],
        "Parameters": [{"ParameterName": name, "ParameterValue": value} for name, value in values.items()],
    }


def _require_processors(kind: DestinationKind, document: Given, scope: Scope, function_exists: FunctionExists) -> None:
    """AWS does not look whether a function exists. Here it has to: what else could its name be but a mistake?"""
    configuration = document.get("ProcessingConfiguration") or {}
    given = configuration.get("Processors") or []
    if configuration.get("Enabled") and not 1 <= len(given) <= PROCESSORS_MAX:
        raise InvalidArgument(
            f"A maximum of {PROCESSORS_MAX} and a minimum of 1 processor needs to be supplied when processing is "
            "enabled."
        )
    kinds = [each["Type"] for each in given]
    for type in kinds:
        if kinds.count(type) > 1:  # AWS's text is known of functions
            raise InvalidArgument(f"Cannot have more than 1 {type} processor.")
    if "CloudWatchLogProcessing" in kinds and "Decompression" not in kinds:
        raise InvalidArgument("CloudWatchLogProcessingProcessor can only be enabled with DecompressionProcessor")
    splits = documents.is_partitioned(document)
    for processor in given:
        type, values = processor["Type"], documents.parameters(processor)
        if type == "Lambda":
            _require_transform(values, scope, function_exists)
        elif type == "Decompression" and values["CompressionFormat"] != "GZIP":
            raise InvalidArgument("CompressionFormat has to be GZIP")
        elif type == "CloudWatchLogProcessing" and values.get("DataMessageExtraction") not in ("true", "false"):
            raise InvalidArgument(
                "Invalid parameter value for DataMessageExtraction. Allowed values are True and False."
            )
        elif type == "RecordDeAggregation":
            if not splits and kind != "Streamkit":
                raise _only_partitioned("RecordDeAggregationProcessor")
            _require_split(values)
        elif type == "MetadataExtraction":
            if not splits and kind != "Iceberg":  # there it tells which table a record is for
                raise _only_partitioned("MetadataExtractionProcessor")
            if values.get("JsonParsingEngine") != "JQ-1.6":
                raise InvalidArgument("MetaDataExtraction JSON Parsing Engine has to be one of JQ-1.6")
            if not values.get("MetadataExtractionQuery"):  # AWS's text is not known
                raise InvalidArgument("MetadataExtractionQuery is required when MetadataExtraction processor is used.")


def _only_partitioned(processor: str) -> InvalidArgument:
    return InvalidArgument(f"{_INTERNAL}{processor} can only be present when Dynamic Partitioning is enabled.")


def _require_split(values: Mapping[str, str]) -> None:
    kind = values.get("SubRecordType")
    if kind not in ("JSON", "DELIMITED"):
        raise InvalidArgument("SubRecordType has to be one of JSON, DELIMITED")
    if kind == "DELIMITED":
        if not values.get("Delimiter"):
            raise InvalidArgument("Delimiter should be present for DELIMITED")
        plans.decode_delimiter(values["Delimiter"])


def _require_transform(values: Mapping[str, str], scope: Scope, function_exists: FunctionExists) -> None:
    text = values.get("LambdaArn")
    if not text:
        raise InvalidArgument("LambdaArn is required when Lambda processor is used.")
    arn = FunctionArn.parse(text, scope)
    if arn is None or not function_exists(arn):
        raise InvalidArgument(f"Function not found: {text}")
    retries = _number(values["NumberOfRetries"])
    if retries is None or not 0 <= retries <= TRANSFORM_RETRIES_MAX or retries != int(retries):
        raise InvalidArgument(f"Number of retries for lambda must be between 0 and {TRANSFORM_RETRIES_MAX}.")
    size = _number(values["BufferSizeInMBs"])
    if size is None or not TRANSFORM_BUFFER_MIB_MIN <= size <= TRANSFORM_BUFFER_MIB_MAX:
        raise InvalidArgument(
            f"BufferSizeInMBs for lambda processor must be between {TRANSFORM_BUFFER_MIB_MIN:g} and "
            f"{TRANSFORM_BUFFER_MIB_MAX:g}."
        )
    interval = _number(values["BufferIntervalInSeconds"])
    if interval is None or not 0 <= interval <= TRANSFORM_INTERVAL_S_MAX:
        raise InvalidArgument(
            f"BufferIntervalInSeconds for lambda processor must be between 0 and {TRANSFORM_INTERVAL_S_MAX}."
        )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


# -- encryption -------------------------------------------------------------------------------------------------------


def require_key(given: Given, scope: Scope) -> Encryption:
    """The encryption that is asked for."""
    kind, arn = given.get("KeyType", "AWS_OWNED_CMK"), given.get("KeyARN")
    if kind == "CUSTOMER_MANAGED_CMK" and arn is None:
        raise InvalidArgument("KeyARN has to be specified when KeyType is CUSTOMER_MANAGED_CMK")
    if kind == "AWS_OWNED_CMK" and arn is not None:
        raise InvalidArgument("KeyARN cannot be specified when KeyType is AWS_OWNED_CMK")
    match = _KMS_REGION.match(arn or "")
    if match is not None and match[1] != scope.region:
        raise InvalidArgument(
            "Cross-region keys are not allowed for SSE. Please provide CMKs in the same region as firehose"
        )
    return Encryption("ENABLED", kind, arn)


def require_direct_puts(has_source: bool) -> None:
    if has_source:
        raise InvalidArgument(
            "Server side encryption from firehose is only allowed for direct put delivery streams and database as a "
            "source delivery streams"
        )


def with_call(encryption: Encryption, state: DeliveryState, now_ms: int) -> Encryption:
    """Counts a start or a stop. AWS's texts are not known."""
    if encryption.status in ("ENABLING", "DISABLING"):
        raise ResourceInUse(
            f"Firehose {state.name} under accountId {state.account} has its encryption in state {encryption.status}"
        )
    calls_ms = [at_ms for at_ms in encryption.calls_ms if at_ms > now_ms - DAY_MS]
    if len(calls_ms) >= ENCRYPTION_CALLS_PER_DAY_MAX:
        raise LimitExceeded(
            f"The encryption of a Firehose can be started and stopped {ENCRYPTION_CALLS_PER_DAY_MAX} times in 24 hours."
        )
    return msgspec.structs.replace(encryption, calls_ms=[*calls_ms, now_ms])


# -- tags -------------------------------------------------------------------------------------------------------------


def with_tags(known: Mapping[str, str], given: Collection[Given]) -> dict[str, str]:
    """The tags with more added or changed. Their form is the model's rule; AWS's text for too many is not known."""
    keys = [each["Key"] for each in given]
    for key in keys:
        if keys.count(key) > 1:  # nor is this one
            raise InvalidArgument(f"Tags has the key {key} twice.")
    tags = {**known, **{each["Key"]: each.get("Value") or "" for each in given}}
    if len(tags) > DELIVERY_TAGS_MAX:
        raise LimitExceeded(f"A Firehose can have at most {DELIVERY_TAGS_MAX} tags; it would have {len(tags)}.")
    return tags


# -- records ----------------------------------------------------------------------------------------------------------


def require_batch_size(size_bytes: int) -> None:
    if size_bytes > FIREHOSE_BATCH_BYTES_MAX:
        raise InvalidArgument(f"Records size exceeds {FIREHOSE_BATCH_BYTES_MAX // MIB} MB limit")


def slow_down() -> ServiceUnavailable:
    return ServiceUnavailable("Slow down.")
