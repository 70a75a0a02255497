"""Channels of the Kinesis API: five operations of `streamkit.api.kinesis`, over the registry of deliveries.

A channel delivers the records of one on-demand stream, from now on, to a bucket or to a table: what it does is in
`streamkit.delivery.channel_plan`. Rules are those of the service model's documentation and of the developer guide
("Streaming tables and S3 delivery"); the texts of refusals are ours, AWS's are not known. A channel is answered as
CREATING and UPDATING, as the model says; who asks again sees it ACTIVE, unless the server has a transition delay for
new ones. Nothing fails later here: FAILED is never seen.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec
import pybase64

from streamkit.catalog.catalog import Catalog
from streamkit.clock import Clock
from streamkit.delivery.channel_plan import (
    DEFAULT_TEMPLATE,
    EXTENSION,
    NAMES,
    TIMES,
    VARIABLE,
    channel_arn,
    schema_table,
)
from streamkit.delivery.state import DeliveryState, KinesisSource
from streamkit.model.errors import (
    InvalidArgument,
    LimitExceeded,
    ResourceInUse,
    ResourceNotFound,
)
from streamkit.model.limits import (
    CHANNEL_FRESHNESS_S_MAX,
    CHANNEL_FRESHNESS_S_MIN,
    CHANNEL_KEY_CHARACTERS_MAX,
    LIST_CHANNELS_MAX,
)
from streamkit.model.names import Scope, StreamArn
from streamkit.streams import rules
from streamkit.streams.service import Streams
from streamkit.streams.stream import Stream

Values = dict[str, Any]
Action = Callable[[Scope, Values], Awaitable[Mapping[str, Any]]]

_ARN: Final = re.compile(r"arn:aws[^:]*:kinesis:([^:]+):([0-9]{12}):channel/([^/:\s]+)")
_TO_BUCKET: Final = "S3DestinationConfiguration"
_TO_TABLE: Final = "S3TablesDestinationConfiguration"
_LITERALS: Final = re.compile(r"[0-9A-Za-z!\-_'.*()/=]*")
_SERVICE_KEY: Final = "aws/kinesis"


class Registry(Protocol):
    """What is needed of `streamkit.delivery.registry.DeliveryRegistry`."""

    def channels(self, scope: Scope | None = None) -> Sequence[DeliveryState]: ...

    def find_channel(self, scope: Scope, name: str) -> DeliveryState | None: ...

    async def create_channel(self, state: DeliveryState) -> DeliveryState: ...

    async def update_channel(self, state: DeliveryState) -> DeliveryState: ...

    async def delete_channel(self, scope: Scope, name: str) -> None: ...


class Channels:
    """`actions` are part of Kinesis's; the other methods are for its operations that are about channels, too."""

    def __init__(
        self, registry: Registry, streams: Streams, catalog: Catalog, clock: Clock, random: random.Random
    ) -> None:
        self._registry = registry
        self._streams = streams
        self._catalog = catalog
        self._clock = clock
        self._random = random
        self._creating = asyncio.Lock()  # what is checked of the others still holds when one is made

    @property
    def actions(self) -> Mapping[str, Action]:
        return {
            "CreateChannel": self.create,
            "DescribeChannel": self.describe,
            "ListChannels": self.list,
            "UpdateChannel": self.update,
            "DeleteChannel": self.delete,
        }

    # -- operations --------------------------------------------------------------------------------------------------

    async def create(self, scope: Scope, given: Values) -> Mapping[str, Any]:
        async with self._creating:
            state = await self._registry.create_channel(self._new(scope, given))
        return {"ChannelDescription": _description(state, "CREATING")}

    async def describe(self, scope: Scope, given: Values) -> Mapping[str, Any]:
        return {"ChannelDescription": _description(self.find(given["ChannelARN"]))}

    async def list(self, scope: Scope, given: Values) -> Mapping[str, Any]:
        wanted = given.get("StreamFilter")
        after = "" if given.get("NextToken") is None else _listed_name(given["NextToken"])
        found = [
            state
            for state in self._registry.channels(scope)
            if state.name > after and (wanted is None or any(_reads(state, each) for each in wanted))
        ]
        page = found[: min(given.get("MaxResults", LIST_CHANNELS_MAX), LIST_CHANNELS_MAX)]
        return {
            "ChannelSummaries": [_summary(state) for state in page],
            "NextToken": _list_token(page[-1].name) if len(page) < len(found) else None,
        }

    async def update(self, scope: Scope, given: Values) -> Mapping[str, Any]:
        """The new freshness holds from the next object on; how it is logged has no effect."""
        before = self.find(given["ChannelARN"])
        if before.status != "ACTIVE":
            raise ResourceInUse(f"Channel {before.name} is not ACTIVE, instead in state {before.status}.")
        kind = _kind(before.document)
        for member in (_TO_BUCKET, _TO_TABLE):
            if given.get(member) is not None and member != kind:
                raise InvalidArgument(f"{member} does not apply: channel {before.name} has a {kind}.")
        if given.get(kind) is None and given.get("LoggingConfiguration") is None:
            raise InvalidArgument(f"There is nothing to update: specify {kind} or LoggingConfiguration.")
        document, version = dict(before.document), before.version
        if given.get(kind) is not None:
            freshness_s = _freshness(given[kind])
            version += freshness_s != document[kind]["DataFreshnessInSeconds"]
            document[kind] = {**document[kind], "DataFreshnessInSeconds": freshness_s}
        if given.get("LoggingConfiguration") is not None:
            document["LoggingConfiguration"] = _logging(given, before.name, before.id)
        after = msgspec.structs.replace(before, document=document, version=version, updated_at_ms=self._clock.now_ms())
        return {"ChannelDescription": _description(await self._registry.update_channel(after), "UPDATING")}

    async def delete(self, scope: Scope, given: Values) -> Mapping[str, Any]:
        """What it has read and not delivered yet is not delivered any more."""
        state = self.find(given["ChannelARN"])
        await self._registry.delete_channel(state.scope, state.name)
        return {}

    # -- for other operations of Kinesis -----------------------------------------------------------------------------

    def find(self, arn: str) -> DeliveryState:
        """By ARN. Raises InvalidArgument, ResourceNotFound."""
        match = _ARN.fullmatch(arn)
        if match is None:
            raise InvalidArgument(f"ChannelARN {arn} is not a valid channel ARN.")
        scope, channel_id = Scope(match[2], match[1]), match[3]
        for state in self._registry.channels(scope):
            if state.id == channel_id:
                return state
        raise ResourceNotFound(f"Channel {arn} under account {scope.account} not found.")

    def is_arn(self, arn: str) -> bool:
        return _ARN.fullmatch(arn) is not None

    async def add_tags(self, arn: str, tags: Mapping[str, str]) -> None:
        state = self.find(arn)
        await self._retag(state, rules.with_tags(state.tags, tags, state.name, state.account))

    async def remove_tags(self, arn: str, keys: Sequence[str]) -> None:
        state = self.find(arn)
        await self._retag(state, {key: value for key, value in state.tags.items() if key not in keys})

    def require_none(self, stream: StreamArn) -> None:
        """Before a stream is deleted: AWS refuses that while channels read it."""
        names = [state.name for state in self._registry.channels(stream.scope) if _source(state) == str(stream)]
        if names:
            raise ResourceInUse(
                f"Stream {stream.name} under account {stream.scope.account} cannot be deleted while it has channels: "
                f"{', '.join(names)}. Delete them first."
            )

    async def _retag(self, state: DeliveryState, tags: dict[str, str]) -> None:
        await self._registry.update_channel(msgspec.structs.replace(state, tags=tags))

    # -- making one --------------------------------------------------------------------------------------------------

    def _new(self, scope: Scope, given: Values) -> DeliveryState:
        """A channel as it is asked for, all defaults filled in. Raises what is wrong with it."""
        name, channel_id, now_ms = given["ChannelName"], self._random.randbytes(16).hex(), self._clock.now_ms()
        kinds = [member for member in (_TO_BUCKET, _TO_TABLE) if given.get(member) is not None]
        if len(kinds) != 1:
            raise InvalidArgument(f"You must specify either {_TO_BUCKET} or {_TO_TABLE}, but not both.")
        kind = kinds[0]
        stream = self._require_stream(scope, given["StreamConfigurationList"])
        self._require_room(scope, name, kind, stream)
        record = given["StreamConfigurationList"][0]["RecordConfiguration"]
        destination = dict(given[kind])
        destination["DataFreshnessInSeconds"] = _freshness(destination)
        if kind == _TO_BUCKET:
            _require_format(record, ("JSON", "STRING", "BYTE_ARRAY"), "general purpose Amazon S3")
            storage = {"OutputKeyTemplate": DEFAULT_TEMPLATE, "StorageClass": "STANDARD"}
            storage |= {key: value for key, value in destination["StorageConfiguration"].items() if value is not None}
            _require_template(storage, name, channel_id, stream.state.name)
            destination["StorageConfiguration"] = storage
            fallback = {key: storage[key] for key in ("BucketARN", "ExpectedBucketOwner")}
        else:
            self._require_table(destination, record, scope)
            fallback = {}
        errors = {"ErrorOutputPrefix": f"kinesis-channel/errors/{name}/{channel_id}/"}
        destination["DeadLetterQueueS3Configuration"] = (
            errors | fallback | (destination.get("DeadLetterQueueS3Configuration") or {})
        )
        document: Values = {
            "ServiceExecutionRoleARN": given["ServiceExecutionRoleARN"],
            "StreamConfigurationList": [
                {
                    "StreamARN": str(stream.state.arn),
                    "StreamCreationTimestamp": stream.state.created_at_ms,
                    "RecordConfiguration": record,
                }
            ],
            kind: destination,
            "LoggingConfiguration": _logging(given, name, channel_id),
        }
        if given.get("EncryptionConfiguration") is not None:
            document["EncryptionConfiguration"] = _encryption(given["EncryptionConfiguration"])
        return DeliveryState(
            id=channel_id,
            account=scope.account,
            region=scope.region,
            name=name,
            type="KinesisStreamAsSource",
            status="CREATING",
            created_at_ms=now_ms,
            kind="Channel",
            document=document,
            source=KinesisSource(str(stream.state.arn), given["ServiceExecutionRoleARN"], now_ms),
            tags=rules.with_tags({}, given.get("Tags") or {}, name, scope.account),
            is_channel=True,
        )

    def _require_stream(self, scope: Scope, configured: Sequence[Values]) -> Stream:
        if len(configured) != 1:
            raise InvalidArgument(f"StreamConfigurationList has {len(configured)} streams; a channel reads one.")
        arn = StreamArn.parse(configured[0]["StreamARN"])
        if arn is None:
            raise InvalidArgument(f"StreamARN {configured[0]['StreamARN']} is not a valid stream ARN.")
        if arn.scope != scope:
            raise InvalidArgument(
                f"Stream {arn} is not in account {scope.account} and region {scope.region}, where its channel would be."
            )
        stream = self._streams.find(*arn)
        rules.require_active_or_updating(stream.state)
        if stream.state.mode != "ON_DEMAND":
            raise InvalidArgument(
                f"Stream {arn.name} under account {scope.account} is in PROVISIONED mode. Channels are supported for "
                "streams with the ON_DEMAND capacity mode only."
            )
        return stream

    def _require_room(self, scope: Scope, name: str, kind: str, stream: Stream) -> None:
        if self._registry.find_channel(scope, name) is not None:
            raise ResourceInUse(f"Channel {name} under account {scope.account} already exists.")
        arn = str(stream.state.arn)
        for state in self._registry.channels(scope):
            if _source(state) == arn and _kind(state.document) == kind:
                raise LimitExceeded(
                    f"Stream {stream.state.name} under account {scope.account} has the channel {state.name} already; a "
                    "stream can have one channel to a general purpose bucket and one to a table."
                )

    def _require_table(self, destination: Values, record: Values, scope: Scope) -> None:
        tables = destination["S3TablesConfigurationList"]
        if len(tables) != 1:
            raise InvalidArgument(f"S3TablesConfigurationList has {len(tables)} tables; a channel writes to one.")
        if record["RecordFormatType"] == "GSR_JSON":
            raise InvalidArgument(
                "RecordFormatType GSR_JSON is not supported by streamkit, which has no Schema Registry: use JSON."
            )
        _require_format(record, ("JSON",), "streaming table")
        if record.get("GSRSchemaARN") is None:
            raise InvalidArgument("GSRSchemaARN is required when the channel destination is a streaming table.")
        table = schema_table(record["GSRSchemaARN"])
        try:
            self._catalog.columns(Scope(table.catalog_id, table.region), table.database, table.table, None)
        except ResourceNotFound as error:
            raise InvalidArgument(
                f"The schema {record['GSRSchemaARN']} cannot be resolved: {error.message} streamkit has no Schema "
                f"Registry; make a table {table.table} with the schema's columns in the database {table.database} of "
                "the Glue catalog."
            ) from None


# -- rules -----------------------------------------------------------------------------------------------------------


def _freshness(destination: Values) -> int:
    """AWS's default is its minimum."""
    seconds: int = destination.get("DataFreshnessInSeconds", CHANNEL_FRESHNESS_S_MIN)
    if not CHANNEL_FRESHNESS_S_MIN <= seconds <= CHANNEL_FRESHNESS_S_MAX:
        raise InvalidArgument(
            f"DataFreshnessInSeconds {seconds} is out of range: it is between {CHANNEL_FRESHNESS_S_MIN} and "
            f"{CHANNEL_FRESHNESS_S_MAX} seconds."
        )
    return seconds


def _require_format(record: Values, allowed: Sequence[str], destination: str) -> None:
    kind = record["RecordFormatType"]
    if kind not in allowed:
        raise InvalidArgument(
            f"RecordFormatType {kind} is not supported for {destination} destinations: use {' or '.join(allowed)}."
        )


def _require_template(storage: Values, channel_name: str, channel_id: str, stream_name: str) -> None:
    """The rules of "S3 output key template for Amazon S3 delivery"."""
    template: str = storage["OutputKeyTemplate"]

    def broken(why: str) -> InvalidArgument:
        return InvalidArgument(f"OutputKeyTemplate {template} is not valid: {why}.")

    variables = VARIABLE.findall(template)
    extensions = [name for name in variables if EXTENSION.fullmatch(name)]
    for name in variables:
        if name not in TIMES and name not in NAMES and name not in extensions:
            raise broken(f"!{{{name}}} is not a supported variable")
    literals = VARIABLE.sub("", template)
    if "!{" in literals:
        raise broken("a variable placeholder is not closed")
    if not _LITERALS.fullmatch(literals):
        raise broken("outside of variables, only letters, digits and ! - _ ' . * ( ) / = are allowed")
    if len(extensions) > 1 or (extensions and not template.endswith(f"!{{{extensions[0]}}}")):
        raise broken("it can have one extension placeholder, at its end")
    if not extensions and storage["CompressionType"] != "NONE":
        raise broken("with compression it must have an extension placeholder")
    values = {"channel-name": channel_name, "channel-id": channel_id, "stream-name": stream_name}
    extension = {"NONE": "", "GZIP": ".gz", "ZSTD": ".zst"}[storage["CompressionType"]]
    expanded = VARIABLE.sub(lambda match: _sample(match[1], values, extension), template)
    if expanded.startswith("/"):
        raise broken("it must not start with a slash")
    if "//" in expanded:
        raise broken("it must not have consecutive slashes")
    if ".." in expanded or "." in expanded.split("/"):
        raise broken("it must not have consecutive periods, or a segment that is a period")
    if len(expanded) > CHANNEL_KEY_CHARACTERS_MAX:
        raise broken(f"expanded it has {len(expanded)} characters, more than {CHANNEL_KEY_CHARACTERS_MAX}")


def _sample(name: str, values: Mapping[str, str], extension: str) -> str:
    """What a variable becomes, or something as long."""
    if name in TIMES:
        return "0" * len(name)
    found = EXTENSION.fullmatch(name)
    if found:
        return found[1] or extension
    return values[name]


def _logging(given: Values, name: str, channel_id: str) -> Values:
    """With AWS's names for what was not named. Where nothing was asked for it is off: AWS's default is not known."""
    wanted = (given.get("LoggingConfiguration") or {"CloudWatchLogs": {"Enabled": False}})["CloudWatchLogs"]
    named = {"LogGroupName": f"/aws/kinesis/{name}/{channel_id}", "LogStreamName": "DestinationDelivery"}
    return {"CloudWatchLogs": named | {key: value for key, value in wanted.items() if value is not None}}


def _encryption(given: Values) -> Values:
    if given["KeyId"].endswith(_SERVICE_KEY):
        raise InvalidArgument(f"KeyId {given['KeyId']} is the service's own key: use a customer managed key.")
    return given


# -- how things look -------------------------------------------------------------------------------------------------


def _kind(document: Mapping[str, Any]) -> str:
    return _TO_TABLE if _TO_TABLE in document else _TO_BUCKET


def _source(state: DeliveryState) -> str:
    assert state.source is not None
    return state.source.stream_arn


def _reads(state: DeliveryState, wanted: Values) -> bool:
    created_at_ms = wanted.get("StreamCreationTimestamp")
    stream = state.document["StreamConfigurationList"][0]
    return stream["StreamARN"] == wanted["StreamARN"] and (
        created_at_ms is None or created_at_ms // 1000 == stream["StreamCreationTimestamp"] // 1000
    )


def _common(state: DeliveryState, status: str | None) -> Values:
    return {
        "ChannelName": state.name,
        "ChannelARN": channel_arn(state),
        "ChannelId": state.id,
        "ChannelStatus": status or state.status,
        "ChannelCreationTimestamp": state.created_at_ms,
    }


def _description(state: DeliveryState, status: str | None = None) -> Values:
    return {**_common(state, status), **state.document}


def _summary(state: DeliveryState) -> Values:
    streams = state.document["StreamConfigurationList"]
    return {
        **_common(state, None),
        "ChannelDestinationType": "S3_TABLES" if _kind(state.document) == _TO_TABLE else "S3",
        "Streams": [{key: each[key] for key in ("StreamARN", "StreamCreationTimestamp")} for each in streams],
    }


def _list_token(name: str) -> str:
    return pybase64.b64encode_as_string(f"channel/{name}".encode())


def _listed_name(token: str) -> str:
    try:
        kind, _, name = pybase64.b64decode(token, validate=True).decode().partition("/")
    except ValueError:
        kind, name = "", ""
    if kind != "channel":
        raise InvalidArgument("The NextToken is not valid.")
    return name
