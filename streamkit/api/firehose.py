"""Data Firehose: AWS's operations over `streamkit.delivery.registry`, one function each.

Values come checked against the service model; what a function returns is encoded by it. Rules beyond the model, and
their words, are in `streamkit.delivery.rules`. The model here has one kind of destination more than AWS's: `Streamkit`,
a place by its URL. AWS's own clients cannot send it, and show nothing of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from streamkit.api import firehose_records as records
from streamkit.api.codec import Member, Shape
from streamkit.api.gateway import Action, Body, FastPath, Respond
from streamkit.api.http import Buffer
from streamkit.api.service_model import ServiceModel
from streamkit.clock import Clock
from streamkit.delivery import documents
from streamkit.delivery.registry import DeliveryRegistry
from streamkit.delivery.state import DeliveryState
from streamkit.metrics import Registry
from streamkit.model.limits import DELIVERY_TAGS_MAX
from streamkit.model.names import Scope
from streamkit.streams.service import Streams

Values = dict[str, Any]
Operation = Callable[["Firehose", Scope, Values], Awaitable[Mapping[str, Any] | Body]]

_OPERATIONS: Final[dict[str, Operation]] = {}


def operation(name: str) -> Callable[[Operation], Operation]:
    def register(function: Operation) -> Operation:
        _OPERATIONS[name] = function
        return function

    return register


class Firehose:
    """See `streamkit.api.gateway.JsonService`."""

    def __init__(self, registry: DeliveryRegistry, streams: Streams, clock: Clock, metrics: Registry) -> None:
        self.model = load_model()
        self.registry = registry
        self.clock = clock
        self.puts = records.Puts(registry, streams, metrics)

    @property
    def actions(self) -> Mapping[str, Action]:
        return {name: _bound(self, function) for name, function in _OPERATIONS.items()}

    @property
    def fast_paths(self) -> Mapping[str, FastPath]:
        def put_record(scope: Scope, body: Buffer, respond: Respond) -> bool:
            return self.puts.fast_put_record(scope, body, respond)

        def put_record_batch(scope: Scope, body: Buffer, respond: Respond) -> bool:
            return self.puts.fast_put_record_batch(scope, body, respond)

        return {"PutRecord": put_record, "PutRecordBatch": put_record_batch}


def _bound(firehose: Firehose, function: Operation) -> Action:
    return lambda scope, given: function(firehose, scope, given)


# -- delivery streams ------------------------------------------------------------------------------------------------


@operation("CreateDeliveryStream")
async def create_delivery_stream(firehose: Firehose, scope: Scope, given: Values) -> Mapping[str, Any]:
    state = await firehose.registry.create(scope, given)
    return {"DeliveryStreamARN": str(state.arn)}


@operation("DeleteDeliveryStream")
async def delete_delivery_stream(firehose: Firehose, scope: Scope, given: Values) -> Mapping[str, Any]:
    """AllowForceDelete is about keys that cannot be given back: there are none, so it changes nothing."""
    await firehose.registry.delete(scope, given["DeliveryStreamName"])
    return {}


@operation("DescribeDeliveryStream")
async def describe_delivery_stream(firehose: Firehose, scope: Scope, given: Values) -> Mapping[str, Any]:
    state = firehose.registry.find(scope, given["DeliveryStreamName"])
    after = given.get("ExclusiveStartDestinationId")
    shown = after is None or after < state.destination_id
    return {
        "DeliveryStreamDescription": {
            "DeliveryStreamName": state.name,
            "DeliveryStreamARN": str(state.arn),
            "DeliveryStreamStatus": state.status,
            "FailureDescription": state.failure,
            "DeliveryStreamEncryptionConfiguration": {
                "Status": state.encryption.status,
                "KeyType": state.encryption.key_type,
                "KeyARN": state.encryption.key_arn,
            },
            "DeliveryStreamType": state.type,
            "VersionId": str(state.version),
            "CreateTimestamp": state.created_at_ms,
            "LastUpdateTimestamp": state.updated_at_ms,
            "Source": _source(state),
            "Destinations": [documents.describe(state)] if shown else [],
            "HasMoreDestinations": False,
        }
    }


@operation("ListDeliveryStreams")
async def list_delivery_streams(firehose: Firehose, scope: Scope, given: Values) -> Mapping[str, Any]:
    page = firehose.registry.page(
        scope,
        type=given.get("DeliveryStreamType"),
        after=given.get("ExclusiveStartDeliveryStreamName"),
        limit=given.get("Limit"),
    )
    return {"DeliveryStreamNames": [state.name for state in page.states], "HasMoreDeliveryStreams": page.has_more}


@operation("UpdateDestination")
async def update_destination(firehose: Firehose, scope: Scope, given: Values) -> Mapping[str, Any]:
    await firehose.registry.update_destination(scope, given)
    return {}


def _source(state: DeliveryState) -> Values | None:
    source = state.source
    if source is None:
        return None if state.direct_put is None else {"DirectPutSourceDescription": state.direct_put}
    return {
        "KinesisStreamSourceDescription": {
            "KinesisStreamARN": source.stream_arn,
            "RoleARN": source.role_arn,
            "DeliveryStartTimestamp": source.started_at_ms,
        }
    }


# -- records ---------------------------------------------------------------------------------------------------------


@operation("PutRecord")
async def put_record(firehose: Firehose, scope: Scope, given: Values) -> Body:
    return await firehose.puts.put_record(scope, given["DeliveryStreamName"], given["Record"]["Data"])


@operation("PutRecordBatch")
async def put_record_batch(firehose: Firehose, scope: Scope, given: Values) -> Body:
    values = [record["Data"] for record in given["Records"]]
    return await firehose.puts.put_record_batch(scope, given["DeliveryStreamName"], values)


# -- encryption ------------------------------------------------------------------------------------------------------


@operation("StartDeliveryStreamEncryption")
async def start_delivery_stream_encryption(firehose: Firehose, scope: Scope, given: Values) -> Mapping[str, Any]:
    key = given.get("DeliveryStreamEncryptionConfigurationInput", {})
    await firehose.registry.start_encryption(scope, given["DeliveryStreamName"], key)
    return {}


@operation("StopDeliveryStreamEncryption")
async def stop_delivery_stream_encryption(firehose: Firehose, scope: Scope, given: Values) -> Mapping[str, Any]:
    await firehose.registry.stop_encryption(scope, given["DeliveryStreamName"])
    return {}


# -- tags ------------------------------------------------------------------------------------------------------------


@operation("TagDeliveryStream")
async def tag_delivery_stream(firehose: Firehose, scope: Scope, given: Values) -> Mapping[str, Any]:
    await firehose.registry.tag(scope, given["DeliveryStreamName"], given["Tags"])
    return {}


@operation("UntagDeliveryStream")
async def untag_delivery_stream(firehose: Firehose, scope: Scope, given: Values) -> Mapping[str, Any]:
    await firehose.registry.untag(scope, given["DeliveryStreamName"], given["TagKeys"])
    return {}


@operation("ListTagsForDeliveryStream")
async def list_tags_for_delivery_stream(firehose: Firehose, scope: Scope, given: Values) -> Mapping[str, Any]:
    after = given.get("ExclusiveStartTagKey")
    tags = firehose.registry.tags(scope, given["DeliveryStreamName"])
    found = [(key, value) for key, value in sorted(tags.items()) if after is None or key > after]
    page = found[: given.get("Limit", DELIVERY_TAGS_MAX)]
    return {"Tags": [{"Key": key, "Value": value} for key, value in page], "HasMoreTags": len(page) < len(found)}


# -- our own destination ---------------------------------------------------------------------------------------------

_TEXT: Final = Shape("string", min=1, max=2048)
_OWN_SHAPES: Final = {
    "StreamkitText": _TEXT,
    "StreamkitLong": Shape("long"),
    "StreamkitOptions": Shape("map", key=Member("StreamkitText"), value=Member("StreamkitOption")),
    "StreamkitOption": Shape("string", max=4096),
    "StreamkitFormat": Shape("string", enum=("json", "parquet", "orc", "records")),
    "StreamkitFrom": Shape("string", enum=("TRIM_HORIZON", "LATEST")),
    "StreamkitColumn": Shape(
        "structure",
        members={"Name": Member("StreamkitText"), "Type": Member("StreamkitText")},
        required=("Name", "Type"),
    ),
    "StreamkitColumns": Shape("list", member=Member("StreamkitColumn"), min=1, max=1_000),
    "StreamkitBufferingHints": Shape(
        "structure",
        members={"SizeInBytes": Member("StreamkitLong"), "IntervalInMilliseconds": Member("StreamkitLong")},
    ),
}
_OWN_MEMBERS: Final = {
    "Url": Member("StreamkitText"),
    "Options": Member("StreamkitOptions"),
    "Format": Member("StreamkitFormat"),
    "Compression": Member("StreamkitText"),
    "Columns": Member("StreamkitColumns"),
    "Deserializer": Member("Deserializer"),
    "Prefix": Member("Prefix"),
    "ErrorOutputPrefix": Member("ErrorOutputPrefix"),
    "BufferingHints": Member("StreamkitBufferingHints"),
    "ProcessingConfiguration": Member("ProcessingConfiguration"),
    "DynamicPartitioning": Member("BooleanObject"),
    "CustomTimeZone": Member("CustomTimeZone"),
    "FileExtension": Member("FileExtension"),
    "Manifest": Member("BooleanObject"),
    "From": Member("StreamkitFrom"),
    "RetryDurationInSeconds": Member("RetryDurationInSeconds"),
}


def load_model() -> ServiceModel:
    """AWS's model with our kind of destination."""
    model = ServiceModel.load("firehose", "2015-08-04")
    shapes = model.shapes
    assert isinstance(shapes, dict), "codecs are compiled from it later"
    shapes.update(_OWN_SHAPES)
    update = {name: member for name, member in _OWN_MEMBERS.items() if name != "From"}
    update["Replace"] = Member("BooleanObject")  # what is not given is not kept
    for suffix, members, required, holder in (
        ("Configuration", _OWN_MEMBERS, ("Url",), "CreateDeliveryStreamInput"),
        ("Description", _OWN_MEMBERS, (), "DestinationDescription"),
        ("Update", update, (), "UpdateDestinationInput"),
    ):
        name = f"StreamkitDestination{suffix}"
        shapes[name] = Shape("structure", members=members, required=required)
        held = shapes[holder]
        shapes[holder] = msgspec.structs.replace(held, members={**held.members, name: Member(name)})
    return model
