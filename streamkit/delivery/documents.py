"""A destination's document: the members of AWS's description of it, with every default filled in.

Requests of CreateDeliveryStream and UpdateDestination become documents here, and documents become descriptions. Which
members each kind of destination has is the service model's business; defaults are the service model's texts, and the
developer guide's where the model is silent. How updates merge is what people saw AWS do: member by member, but
processors, encryption and the choice of a serializer are replaced as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from streamkit.delivery.state import DeliveryState, DestinationKind
from streamkit.model.errors import InvalidArgument, NotImplementedHere
from streamkit.model.names import Scope

Given = Mapping[str, Any]
Document = dict[str, Any]

_MEMBERS: Final = {  # as they are called in a configuration or an update, and in a description
    "S3Configuration": "S3DestinationDescription",
    "S3Update": "S3DestinationDescription",
    "S3BackupConfiguration": "S3BackupDescription",
    "S3BackupUpdate": "S3BackupDescription",
    "VpcConfiguration": "VpcConfigurationDescription",
}
_REPLACED: Final = frozenset(  # not merged: they are one choice of several, or belong together
    {
        "ColumnToJsonKeyMappings",
        "CopyCommand",
        "Deserializer",
        "EncryptionConfiguration",
        "Options",
        "ProcessingConfiguration",
        "Serializer",
    }
)
_SECRETS: Final = frozenset({"Password", "HECToken", "AccessKey"})
_SECRET_OPTIONS: Final = ("access_key", "key", "password", "secret", "token")
_ONLY_EXTENDED: Final = frozenset(
    {
        "ProcessingConfiguration",
        "S3BackupMode",
        "S3BackupDescription",
        "DataFormatConversionConfiguration",
        "DynamicPartitioningConfiguration",
        "FileExtension",
        "CustomTimeZone",
    }
)
_VPC_ID: Final = "vpc-00000000"  # a description has one; there is no network to look it up in

_S3_DEFAULTS: Final[Given] = {
    "Prefix": "",
    "BufferingHints": {"SizeInMBs": 5, "IntervalInSeconds": 300},
    "CompressionFormat": "UNCOMPRESSED",
    "EncryptionConfiguration": {"NoEncryptionConfig": "NoEncryption"},
    "CloudWatchLoggingOptions": {"Enabled": False},
}
_LOGGING: Final[Given] = {"CloudWatchLoggingOptions": {"Enabled": False}}
_COLUMNAR_HINTS: Final[Given] = {"SizeInMBs": 128, "IntervalInSeconds": 300}
_OPENSEARCH: Final[Given] = {
    **_LOGGING,
    "BufferingHints": {"SizeInMBs": 5, "IntervalInSeconds": 300},
    "RetryOptions": {"DurationInSeconds": 300},
    "S3BackupMode": "FailedDocumentsOnly",
}
_OPENSEARCH_DOMAIN: Final[Given] = {
    **_OPENSEARCH,
    "IndexRotationPeriod": "OneDay",
    "DocumentIdOptions": {"DefaultDocumentIdFormat": "FIREHOSE_DEFAULT"},
}


@dataclass(frozen=True, slots=True)
class _Kind:
    """`required` must be given where the destination is not updated but replaced; with a dot, in a member."""

    defaults: Given = field(default_factory=dict)
    required: tuple[str, ...] = ()
    family: Literal["s3", "opensearch", "other"] = "other"


_IN_BUCKET: Final = ("S3DestinationDescription.RoleARN", "S3DestinationDescription.BucketARN")

_KINDS: Final[Mapping[DestinationKind, _Kind]] = {
    "S3": _Kind({**_S3_DEFAULTS, "S3BackupMode": "Disabled"}, ("RoleARN", "BucketARN"), "s3"),
    "ExtendedS3": _Kind({**_S3_DEFAULTS, "S3BackupMode": "Disabled"}, ("RoleARN", "BucketARN"), "s3"),
    "Redshift": _Kind(
        {**_LOGGING, "RetryOptions": {"DurationInSeconds": 3_600}, "S3BackupMode": "Disabled"},
        ("RoleARN", "ClusterJDBCURL", "CopyCommand", *_IN_BUCKET),
    ),
    "Elasticsearch": _Kind(_OPENSEARCH_DOMAIN, ("RoleARN", "IndexName", *_IN_BUCKET), "opensearch"),
    "Amazonopensearchservice": _Kind(_OPENSEARCH_DOMAIN, ("RoleARN", "IndexName", *_IN_BUCKET), "opensearch"),
    "AmazonOpenSearchServerless": _Kind(_OPENSEARCH, ("RoleARN", "IndexName", *_IN_BUCKET), "opensearch"),
    "Splunk": _Kind(
        {
            **_LOGGING,
            "BufferingHints": {"SizeInMBs": 5, "IntervalInSeconds": 60},
            "HECAcknowledgmentTimeoutInSeconds": 180,
            "RetryOptions": {"DurationInSeconds": 3_600},
            "S3BackupMode": "FailedEventsOnly",
        },
        ("HECEndpoint", "HECEndpointType", *_IN_BUCKET),
    ),
    "HttpEndpoint": _Kind(
        {
            **_LOGGING,
            "BufferingHints": {"SizeInMBs": 5, "IntervalInSeconds": 300},
            "RequestConfiguration": {"ContentEncoding": "NONE"},
            "RetryOptions": {"DurationInSeconds": 300},
            "S3BackupMode": "FailedDataOnly",
        },
        ("EndpointConfiguration", *_IN_BUCKET),
    ),
    "Iceberg": _Kind(
        {
            **_LOGGING,
            "AppendOnly": False,
            "BufferingHints": {"SizeInMBs": 5, "IntervalInSeconds": 300},
            "RetryOptions": {"DurationInSeconds": 300},
            "S3BackupMode": "FailedDataOnly",
        },
        ("RoleARN", "CatalogConfiguration", *_IN_BUCKET),
    ),
    "Streamkit": _Kind({"Format": "json", "Options": {}}, ("Url",)),
}


def is_opensearch(kind: DestinationKind) -> bool:
    """Whether it is one of the three that AWS lets nobody leave or come to."""
    return _KINDS[kind].family == "opensearch"


def are_alike(before: DestinationKind, after: DestinationKind) -> bool:
    """Whether an update merges; otherwise it replaces."""
    return before == after or _KINDS[before].family == _KINDS[after].family == "s3"


def destination_of(
    given: Given, suffix: Literal["DestinationConfiguration", "DestinationUpdate"]
) -> tuple[DestinationKind, Given] | None:
    """The kind and the members of the one destination of a request; None where there is none, or are several."""
    if given.get(f"Snowflake{suffix}") is not None:
        raise NotImplementedHere(
            "streamkit does not deliver to Snowflake. Its own destination kinds are files, S3, HTTP endpoints, Splunk, "
            "OpenSearch, Redshift, Iceberg and Delta tables."
        )
    kinds = [kind for kind in _KINDS if given.get(f"{kind}{suffix}") is not None]
    return (kinds[0], given[f"{kinds[0]}{suffix}"]) if len(kinds) == 1 else None


def make(kind: DestinationKind, given: Given, scope: Scope) -> Document:
    """A configuration's document."""
    return _with_defaults(kind, _renamed(given), scope)


def merge(kind: DestinationKind, document: Given, update: Given, scope: Scope) -> Document:
    """The document with what an update gives."""
    return _with_defaults(kind, _merged(document, _renamed(update)), scope)


def require_complete(kind: DestinationKind, document: Given) -> None:
    """AWS: "If the destination type is not the same, all parameters must be specified". Its text is not known."""
    for path in _KINDS[kind].required:
        value: Any = document
        for name in path.split("."):
            value = value.get(name) if value is not None else None
        if value is None:
            raise InvalidArgument(
                f"{path.rpartition('.')[2]} must be specified when the destination type is changed to {kind}."
            )


def _renamed(given: Given) -> Document:
    document = {_MEMBERS.get(name, name): deepcopy(value) for name, value in given.items() if value is not None}
    if (vpc := document.get("VpcConfigurationDescription")) is not None:
        vpc["VpcId"] = _VPC_ID
    return document


def _merged(known: Given, update: Given) -> Document:
    merged = deepcopy(dict(known))
    for name, value in update.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping) and name not in _REPLACED
        merged[name] = _merged(merged[name], value) if both else deepcopy(value)
    return merged


def _filled(defaults: Given, document: Given) -> Document:
    return _merged(defaults, document)


def _with_defaults(kind: DestinationKind, document: Document, scope: Scope) -> Document:
    defaults = _KINDS[kind].defaults
    if converts(document) or is_partitioned(document):
        # AWS stores 128 MiB for conversions where no hint is given. What it stores for partitions is not known; less
        # than 64 MiB it refuses.
        defaults = {**defaults, "BufferingHints": _COLUMNAR_HINTS} if kind != "Streamkit" else defaults
    document = _filled(defaults, document)
    for member in ("S3DestinationDescription", "S3BackupDescription"):
        if member in document:
            document[member] = _filled(_S3_DEFAULTS, document[member])
    conversion = document.get("DataFormatConversionConfiguration")
    if conversion is not None:
        conversion.setdefault("Enabled", True)
        if "SchemaConfiguration" in conversion:
            schema = {"CatalogId": scope.account, "Region": scope.region, "VersionId": "LATEST"}
            conversion["SchemaConfiguration"] = _filled(schema, conversion["SchemaConfiguration"])
    if is_partitioned(document) and kind != "Streamkit":
        partitioning = document["DynamicPartitioningConfiguration"]
        document["DynamicPartitioningConfiguration"] = _filled(
            {"RetryOptions": {"DurationInSeconds": 300}}, partitioning
        )
    return document


# -- what a document says ---------------------------------------------------------------------------------------------


def converts(document: Given) -> bool:
    """Whether records become Parquet or ORC. A configuration that does not say so is enabled (seen)."""
    conversion = document.get("DataFormatConversionConfiguration")
    return conversion is not None and conversion.get("Enabled") is not False


def is_partitioned(document: Given) -> bool:
    if "DynamicPartitioning" in document:  # ours
        return bool(document["DynamicPartitioning"])
    return bool((document.get("DynamicPartitioningConfiguration") or {}).get("Enabled"))


def processors(document: Given) -> list[Given]:
    """Those at work. A configuration that does not say that it is enabled is not (seen)."""
    configuration = document.get("ProcessingConfiguration") or {}
    return list(configuration.get("Processors") or []) if configuration.get("Enabled") else []


def parameters(processor: Given) -> dict[str, str]:
    return {each["ParameterName"]: each["ParameterValue"] for each in processor.get("Parameters") or []}


# -- descriptions -----------------------------------------------------------------------------------------------------


def describe(state: DeliveryState) -> Document:
    """AWS's DestinationDescription. Secrets are left out, also HECToken, which AWS's model has a place for."""
    shown = _shown(state.document)
    description: Document = {"DestinationId": state.destination_id}
    if _KINDS[state.kind].family == "s3":
        # AWS shows every delivery stream to S3 in both ways, however it was made.
        description["S3DestinationDescription"] = {
            name: value for name, value in shown.items() if name not in _ONLY_EXTENDED
        }
        description["ExtendedS3DestinationDescription"] = shown
    else:
        description[f"{state.kind}DestinationDescription"] = shown
    return description


def _shown(document: Given) -> Document:
    shown: Document = {}
    for name, value in document.items():
        if name == "Options":
            shown[name] = {key: text for key, text in value.items() if not key.lower().endswith(_SECRET_OPTIONS)}
        elif name not in _SECRETS:
            shown[name] = _shown(value) if isinstance(value, Mapping) else value
    return shown
