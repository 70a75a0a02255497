"""Kinesis Data Streams: AWS's operations over `streamkit.streams`, one function each.

Values come checked against the service model; what a function returns is encoded by it. Rules beyond the model, and
their words, are in `streamkit.streams.rules`. Operations that are in the model and not here are answered by name as
not implemented.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

import pybase64

from streamkit.api import records
from streamkit.api.channels import Channels
from streamkit.api.gateway import Action, Body, FastPath, Respond
from streamkit.api.http import Buffer
from streamkit.api.service_model import ServiceModel
from streamkit.clock import Clock
from streamkit.metrics import Registry
from streamkit.model import limits, sequence
from streamkit.model.errors import (
    ExpiredIterator,
    ExpiredNextToken,
    InvalidArgument,
    ResourceNotFound,
    ThroughputExceeded,
    ValidationError,
)
from streamkit.model.limits import KIB
from streamkit.model.names import ConsumerArn, Scope, StreamArn, shard_id, shard_index
from streamkit.streams import rules
from streamkit.streams.iterators import Position
from streamkit.streams.service import Streams
from streamkit.streams.state import ConsumerState, ShardState
from streamkit.streams.stream import Stream

Values = dict[str, Any]
Operation = Callable[["Kinesis", Scope, Values], Awaitable[Mapping[str, Any] | Body]]

_OPERATIONS: Final[dict[str, Operation]] = {}
_ANY_SHARD, _OPEN_NOW, _OPEN_AT, _OPEN_FROM = range(4)  # what a list of shards is about
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def operation(name: str) -> Callable[[Operation], Operation]:
    def register(function: Operation) -> Operation:
        _OPERATIONS[name] = function
        return function

    return register


class Kinesis:
    """See `streamkit.api.gateway.JsonService`."""

    def __init__(self, streams: Streams, clock: Clock, metrics: Registry, channels: Channels | None = None) -> None:
        """`channels`: None where nothing delivers."""
        self.channels = channels
        self.model = ServiceModel.load("kinesis", "2013-12-02")
        self.streams = streams
        self.clock = clock
        self.answers = records.Answers()
        self.outgoing_records = metrics.counter(
            "streamkit_outgoing_records_total", "Read by GetRecords (CloudWatch: GetRecords.Records).", ("stream",)
        )
        self.iterator_age = metrics.gauge(
            "streamkit_iterator_age_ms",
            "How far the last GetRecords was from the tip (CloudWatch: GetRecords.IteratorAgeMilliseconds).",
            ("stream",),
        )

    @property
    def actions(self) -> Mapping[str, Action]:
        own = {name: _bound(self, function) for name, function in _OPERATIONS.items()}
        return own if self.channels is None else {**own, **self.channels.actions}

    @property
    def fast_paths(self) -> Mapping[str, FastPath]:
        def put_record(scope: Scope, body: Buffer, respond: Respond) -> bool:
            return records.fast_put_record(self.streams.named(scope), body, respond)

        def put_records(scope: Scope, body: Buffer, respond: Respond) -> bool:
            return records.fast_put_records(self.streams.named(scope), body, respond)

        return {"PutRecord": put_record, "PutRecords": put_records}

    # -- what requests name ------------------------------------------------------------------------------------------

    def arn(self, scope: Scope, given: Values) -> StreamArn:
        """Which stream is meant, by name or ARN; whether it exists is another question."""
        name, text = given.get("StreamName"), given.get("StreamARN")
        if text is None:
            if name is None:
                raise InvalidArgument("Either StreamName or StreamARN should be provided.")
            return StreamArn(scope, name)
        arn = StreamArn.parse(text)
        if arn is None:
            raise InvalidArgument(f"StreamARN {text} is not a valid stream ARN.")
        if name is not None and name != arn.name:
            raise InvalidArgument(f"StreamARN {text} does not match StreamName {name}.")
        return arn

    def stream(self, scope: Scope, given: Values) -> Stream:
        return self.streams.find(*self.arn(scope, given))

    def shard_of(self, scope: Scope, given: Values, member: str) -> tuple[Stream, int]:
        """A stream and the number of a shard in it; AWS judges the shard id's form first."""
        arn = self.arn(scope, given)
        index = rules.parse_shard_id(given[member], arn.scope, arn.name)
        return self.streams.find(*arn), index

    def consumer(self, given: Values) -> tuple[Stream, ConsumerState]:
        if given.get("ConsumerARN") is not None:
            return self.streams.consumer_by_arn(given["ConsumerARN"])
        if given.get("StreamARN") is None or given.get("ConsumerName") is None:
            raise InvalidArgument("Either ConsumerARN or both StreamARN and ConsumerName should be provided.")
        arn = StreamArn.parse(given["StreamARN"])
        if arn is None:
            raise InvalidArgument(f"StreamARN {given['StreamARN']} is not a valid stream ARN.")
        stream = self.streams.find(*arn)
        return stream, self.streams.consumer(stream, given["ConsumerName"])


def _bound(kinesis: Kinesis, function: Operation) -> Action:
    return lambda scope, given: function(kinesis, scope, given)


# -- streams ---------------------------------------------------------------------------------------------------------


@operation("CreateStream")
async def create_stream(kinesis: Kinesis, scope: Scope, given: Values) -> Mapping[str, Any]:
    mode = given.get("StreamModeDetails", {}).get("StreamMode")
    shards_count = given.get("ShardCount")
    if mode is None:
        mode = "PROVISIONED" if shards_count is not None else "ON_DEMAND"
    if mode == "PROVISIONED" and shards_count is None:
        raise ValidationError("ShardCount is required for a stream in PROVISIONED mode.")
    if mode == "ON_DEMAND" and shards_count is not None:
        raise ValidationError("ShardCount cannot be given for a stream in ON_DEMAND mode.")
    size_kib = given.get("MaxRecordSizeInKiB")
    await kinesis.streams.create(
        StreamArn(scope, given["StreamName"]),
        shards_count=shards_count,
        mode=mode,
        tags=given.get("Tags"),
        record_bytes_max=None if size_kib is None else size_kib * KIB,
    )
    return {}


@operation("DeleteStream")
async def delete_stream(kinesis: Kinesis, scope: Scope, given: Values) -> Mapping[str, Any]:
    stream = kinesis.stream(scope, given)
    if kinesis.channels is not None:
        kinesis.channels.require_none(StreamArn(Scope(stream.state.account, stream.state.region), stream.state.name))
    await kinesis.streams.delete(stream, with_consumers=bool(given.get("EnforceConsumerDeletion")))
    return {}


@operation("ListStreams")
async def list_streams(kinesis: Kinesis, scope: Scope, given: Values) -> Mapping[str, Any]:
    after = given.get("ExclusiveStartStreamName")
    if given.get("NextToken") is not None:
        after = _listed_name(given["NextToken"])
    found = [stream for stream in kinesis.streams.all(scope) if after is None or stream.state.name > after]
    page = found[: given.get("Limit", limits.LIST_STREAMS_DEFAULT)]
    has_more = len(page) < len(found)
    return {
        "StreamNames": [stream.state.name for stream in page],
        "HasMoreStreams": has_more,
        "NextToken": _list_token(page[-1].state.name) if has_more else None,
        "StreamSummaries": [
            {
                "StreamName": stream.state.name,
                "StreamARN": str(stream.state.arn),
                "StreamStatus": stream.state.status,
                "StreamModeDetails": {"StreamMode": stream.state.mode},
                "StreamCreationTimestamp": stream.state.created_at_ms,
            }
            for stream in page
        ],
    }


@operation("DescribeStream")
async def describe_stream(kinesis: Kinesis, scope: Scope, given: Values) -> Mapping[str, Any]:
    stream = kinesis.stream(scope, given)
    # A stream that is being made has no shards yet, AWS says.
    known = _readable(stream) if stream.state.status != "CREATING" else []
    shards = _after(known, given.get("ExclusiveStartShardId"))
    page = shards[: given.get("Limit", limits.DESCRIBE_STREAM_SHARDS_DEFAULT)]
    common = _stream_fields(stream)
    return {
        "StreamDescription": {
            **common,
            "Shards": [_shard_fields(shard) for shard in page],
            "HasMoreShards": len(page) < len(shards),
        }
    }


@operation("DescribeStreamSummary")
async def describe_stream_summary(kinesis: Kinesis, scope: Scope, given: Values) -> Mapping[str, Any]:
    stream = kinesis.stream(scope, given)
    return {
        "StreamDescriptionSummary": {
            **_stream_fields(stream),
            "OpenShardCount": len(stream.state.open_shards),
            "ConsumerCount": len(kinesis.streams.consumers(stream)),
            "MaxRecordSizeInKiB": stream.state.record_bytes_max // KIB,
        }
    }


@operation("DescribeLimits")
async def describe_limits(kinesis: Kinesis, scope: Scope, given: Values) -> Mapping[str, Any]:
    return {
        "ShardLimit": kinesis.streams.settings.shards_per_account_max,
        "OpenShardCount": kinesis.streams.open_shards_count(scope),
        "OnDemandStreamCount": kinesis.streams.on_demand_count(scope),
        "OnDemandStreamCountLimit": limits.ON_DEMAND_STREAMS_MAX,
    }


@operation("IncreaseStreamRetentionPeriod")
async def increase_retention(kinesis: Kinesis, scope: Scope, given: Values) -> Mapping[str, Any]:
    await kinesis.streams.increase_retention(kinesis.stream(scope, given), given["RetentionPeriodHours"])
    return {}


@operation("DecreaseStreamRetentionPeriod")
async def decrease_retention(kinesis: Kinesis, scope: Scope, given: Values) -> Mapping[str, Any]:
    await kinesis.streams.decrease_retention(kinesis.stream(scope, given), given["RetentionPeriodHours"])
    return {}


# -- shards ----------------------------------------------------------------------------------------------------------


@operation("ListShards")
async def list_shards(kinesis: Kinesis, scope: Scope, given: Values) -> Mapping[str, Any]:
    if given.get("NextToken") is not None:
        stream, position = _listed_shard(kinesis, given)
        kept = position.offset
        shards = [shard for shard in _readable(stream) if shard.index > position.shard_index]
    else:
        if given.get("StreamName") is None and given.get("StreamARN") is None:
            raise InvalidArgument("Either NextToken or StreamName should be provided.")
        stream = kinesis.stream(scope, given)
        rules.require_active_or_updating(stream.state)
        created_s = given.get("StreamCreationTimestamp")
        if created_s is not None and created_s // 1000 != stream.state.created_at_ms // 1000:
            raise stream.not_found()
        shards = _after(_readable(stream), given.get("ExclusiveStartShardId"))
        kept = _filter_of(stream, given.get("ShardFilter"), kinesis.clock.now_ms())
        if given.get("ShardFilter", {}).get("Type") == "AFTER_SHARD_ID":
            shards = _after(shards, given["ShardFilter"]["ShardId"])
    shards = [shard for shard in shards if _passes(shard, kept)]
    page = shards[: given.get("MaxResults", limits.LIST_SHARDS_DEFAULT)]
    token = None
    if len(page) < len(shards):
        onward = Position(stream.state.id, page[-1].index, kept, kinesis.clock.now_ms())
        token = kinesis.streams.tokens.next_token(onward)
    return {"Shards": [_shard_fields(shard) for shard in page], "NextToken": token}


@operation("SplitShard")
async def split_shard(kinesis: Kinesis, scope: Scope, given: Values) -> Mapping[str, Any]:
    stream, index = kinesis.shard_of(scope, given, "ShardToSplit")
    await kinesis.streams.split(stream, index, given["NewStartingHashKey"])
    return {}


@operation("MergeShards")
async def merge_shards(kinesis: Kinesis, scope: Scope, given: Values) -> Mapping[str, Any]:
    stream, lower = kinesis.shard_of(scope, given, "ShardToMerge")
    _, upper = kinesis.shard_of(scope, given, "AdjacentShardToMerge")
    await kinesis.streams.merge(stream, lower, upper)
    return {}


@operation("UpdateShardCount")
async def update_shard_count(kinesis: Kinesis, scope: Scope, given: Values) -> Mapping[str, Any]:
    stream = kinesis.stream(scope, given)
    current = await kinesis.streams.update_shard_count(stream, given["TargetShardCount"])
    return {
        "StreamName": stream.state.name,
        "CurrentShardCount": current,
        "TargetShardCount": given["TargetShardCount"],
        "StreamARN": str(stream.state.arn),
    }


# -- records ---------------------------------------------------------------------------------------------------------


@operation("PutRecord")
async def put_record(kinesis: Kinesis, scope: Scope, given: Values) -> Body:
    _require_partition_keys([("partitionKey", given.get("PartitionKey"))])
    stream = kinesis.stream(scope, given)
    rules.require_record_sizes(stream.state, [("data", len(given["Data"]))])
    hash_key = _hash_key(given)
    if given.get("SequenceNumberForOrdering") is not None:
        rules.require_ordering_number(given["SequenceNumberForOrdering"], stream.state, kinesis.clock.now_ms())
    await stream.ready()
    key, data = given["PartitionKey"].encode(), given["Data"]
    return await records.response(lambda respond: records.put_record(stream, key, data, hash_key, respond))


@operation("PutRecords")
async def put_records(kinesis: Kinesis, scope: Scope, given: Values) -> Body:
    entries: list[Values] = given["Records"]
    _require_partition_keys(
        (f"records.{place}.member.partitionKey", entry.get("PartitionKey")) for place, entry in enumerate(entries, 1)
    )
    stream = kinesis.stream(scope, given)
    values: list[bytes] = [entry["Data"] for entry in entries]
    rules.require_record_sizes(
        stream.state, ((f"records.{place}.member.data", len(value)) for place, value in enumerate(values, 1))
    )
    keys: list[bytes] = [entry["PartitionKey"].encode() for entry in entries]
    rules.require_put_size(sum(map(len, values)) + sum(map(len, keys)))
    hash_keys = [_hash_key(entry) for entry in entries]
    await stream.ready()
    given_hash_keys = hash_keys if any(hash_keys) else None
    return await records.response(lambda respond: records.put_records(stream, keys, values, given_hash_keys, respond))


@operation("GetShardIterator")
async def get_shard_iterator(kinesis: Kinesis, scope: Scope, given: Values) -> Mapping[str, Any]:
    arn = kinesis.arn(scope, given)
    index = rules.parse_shard_id(given["ShardId"], arn.scope, arn.name)
    try:
        stream = kinesis.streams.find(*arn)
        shard = stream.shard(index)
        await stream.ready()
    except ResourceNotFound:
        shard = None
    if shard is None:
        raise rules.shard_does_not_exist(index, arn.scope, arn.name)
    offset = await _starting_offset(kinesis, stream, shard, given)
    position = Position(stream.state.id, shard.index, offset, kinesis.clock.now_ms())
    return {"ShardIterator": kinesis.streams.tokens.iterator(position)}


@operation("GetRecords")
async def get_records(kinesis: Kinesis, scope: Scope, given: Values) -> Body:
    now_ms = kinesis.clock.now_ms()
    position = kinesis.streams.tokens.read_iterator(given["ShardIterator"])
    if position is None:
        raise InvalidArgument("Invalid ShardIterator.")
    if now_ms - position.issued_at_ms > limits.ITERATOR_AGE_MS_MAX:
        raise ExpiredIterator(_expired("Iterator", "iterator", position.issued_at_ms, now_ms))
    stream = kinesis.streams.by_id(position.stream)
    if stream is None:
        # The iterator's stream was deleted. Its name is not in the token; the ARN says it where SDKs send one.
        name = given.get("StreamARN", "").rpartition("/")[2] or "unknown"
        raise rules.shard_does_not_exist(position.shard_index, scope, name)
    arn = given.get("StreamARN")
    if arn is not None and arn != str(stream.state.arn):
        raise InvalidArgument(f"StreamARN {arn} does not match the stream of the ShardIterator.")
    shard = stream.shard(position.shard_index)
    is_theirs = arn is not None or stream.state.arn.scope == scope  # an ARN may name another account's stream
    if shard is None or not is_theirs:
        raise rules.shard_does_not_exist(position.shard_index, scope, stream.state.name)
    await stream.ready()
    bytes_max = kinesis.answers.room()
    if not bytes_max:
        raise ThroughputExceeded(stream.rate_exceeded(shard.index))
    read = await stream.read(
        shard,
        position.offset,
        records_max=given.get("Limit", limits.GET_RECORDS_COUNT_MAX),
        bytes_max=bytes_max,
    )
    held = records.Held(kinesis.answers, read.batches)
    kinesis.outgoing_records.add(sum(map(len, read.batches)), stream.state.name)
    kinesis.iterator_age.set(read.behind_ms, stream.state.name)
    output: Values = {"MillisBehindLatest": read.behind_ms}
    if read.next_offset is not None:
        following = Position(stream.state.id, shard.index, read.next_offset, now_ms)
        output["NextShardIterator"] = kinesis.streams.tokens.iterator(following)
    else:
        output["ChildShards"] = _child_shards(stream, shard)
    # The records are written by the hot path; the rest goes in front of them as the model has it.
    head = kinesis.model.operations["GetRecords"].encode({**output, "Records": []})
    assert head.endswith(b'"Records":[]}')
    return [head[:-2], *await records.encode_records(read.batches, held), b"]}"]


# -- tags ------------------------------------------------------------------------------------------------------------


@operation("AddTagsToStream")
async def add_tags_to_stream(kinesis: Kinesis, scope: Scope, given: Values) -> Mapping[str, Any]:
    await kinesis.streams.add_tags(kinesis.stream(scope, given), given["Tags"])
    return {}


@operation("RemoveTagsFromStream")
async def remove_tags_from_stream(kinesis: Kinesis, scope: Scope, given: Values) -> Mapping[str, Any]:
    await kinesis.streams.remove_tags(kinesis.stream(scope, given), given["TagKeys"])
    return {}


@operation("ListTagsForStream")
async def list_tags_for_stream(kinesis: Kinesis, scope: Scope, given: Values) -> Mapping[str, Any]:
    after = given.get("ExclusiveStartTagKey")
    tags = kinesis.stream(scope, given).state.tags
    found = [(key, value) for key, value in sorted(tags.items()) if after is None or key > after]
    page = found[: given.get("Limit", limits.LIST_TAGS_DEFAULT)]
    return {"Tags": _tag_fields(dict(page)), "HasMoreTags": len(page) < len(found)}


@operation("TagResource")
async def tag_resource(kinesis: Kinesis, scope: Scope, given: Values) -> Mapping[str, Any]:
    if ConsumerArn.parse(given["ResourceARN"]):
        stream, consumer = kinesis.streams.consumer_by_arn(given["ResourceARN"])
        await kinesis.streams.tag_consumer(stream, consumer, given["Tags"])
    elif kinesis.channels is not None and kinesis.channels.is_arn(given["ResourceARN"]):
        await kinesis.channels.add_tags(given["ResourceARN"], given["Tags"])
    else:
        await kinesis.streams.add_tags(_resource(kinesis, given), given["Tags"])
    return {}


@operation("UntagResource")
async def untag_resource(kinesis: Kinesis, scope: Scope, given: Values) -> Mapping[str, Any]:
    if ConsumerArn.parse(given["ResourceARN"]):
        stream, consumer = kinesis.streams.consumer_by_arn(given["ResourceARN"])
        await kinesis.streams.untag_consumer(stream, consumer, given["TagKeys"])
    elif kinesis.channels is not None and kinesis.channels.is_arn(given["ResourceARN"]):
        await kinesis.channels.remove_tags(given["ResourceARN"], given["TagKeys"])
    else:
        await kinesis.streams.remove_tags(_resource(kinesis, given), given["TagKeys"])
    return {}


@operation("ListTagsForResource")
async def list_tags_for_resource(kinesis: Kinesis, scope: Scope, given: Values) -> Mapping[str, Any]:
    if ConsumerArn.parse(given["ResourceARN"]):
        return {"Tags": _tag_fields(kinesis.streams.consumer_by_arn(given["ResourceARN"])[1].tags)}
    if kinesis.channels is not None and kinesis.channels.is_arn(given["ResourceARN"]):
        return {"Tags": _tag_fields(kinesis.channels.find(given["ResourceARN"]).tags)}
    return {"Tags": _tag_fields(_resource(kinesis, given).state.tags)}


# -- consumers -------------------------------------------------------------------------------------------------------


@operation("RegisterStreamConsumer")
async def register_stream_consumer(kinesis: Kinesis, scope: Scope, given: Values) -> Mapping[str, Any]:
    stream = kinesis.stream(scope, given)
    consumer = await kinesis.streams.register_consumer(stream, given["ConsumerName"], given.get("Tags", {}))
    return {"Consumer": _consumer_fields(kinesis, stream, consumer)}


@operation("DeregisterStreamConsumer")
async def deregister_stream_consumer(kinesis: Kinesis, scope: Scope, given: Values) -> Mapping[str, Any]:
    await kinesis.streams.deregister_consumer(*kinesis.consumer(given))
    return {}


@operation("DescribeStreamConsumer")
async def describe_stream_consumer(kinesis: Kinesis, scope: Scope, given: Values) -> Mapping[str, Any]:
    stream, consumer = kinesis.consumer(given)
    fields = _consumer_fields(kinesis, stream, consumer)
    return {"ConsumerDescription": {**fields, "StreamARN": str(stream.state.arn)}}


@operation("ListStreamConsumers")
async def list_stream_consumers(kinesis: Kinesis, scope: Scope, given: Values) -> Mapping[str, Any]:
    stream = kinesis.stream(scope, given)
    created_s = given.get("StreamCreationTimestamp")
    if created_s is not None and created_s // 1000 != stream.state.created_at_ms // 1000:
        raise stream.not_found()
    after = _listed_name(given["NextToken"]) if given.get("NextToken") is not None else ""
    found = [consumer for consumer in kinesis.streams.consumers(stream) if consumer.name > after]
    page = found[: given.get("MaxResults", limits.LIST_CONSUMERS_DEFAULT)]
    return {
        "Consumers": [_consumer_fields(kinesis, stream, consumer) for consumer in page],
        "NextToken": _list_token(page[-1].name) if len(page) < len(found) else None,
    }


# -- how things look -------------------------------------------------------------------------------------------------


def _stream_fields(stream: Stream) -> Values:
    """What DescribeStream and DescribeStreamSummary have in common."""
    state = stream.state
    return {
        "StreamName": state.name,
        "StreamARN": str(state.arn),
        "StreamStatus": state.status,
        "StreamModeDetails": {"StreamMode": state.mode},
        "RetentionPeriodHours": state.retention_hours,
        "StreamCreationTimestamp": state.created_at_ms,
        "EnhancedMonitoring": [{"ShardLevelMetrics": []}],
        "EncryptionType": "NONE",
    }


def _shard_fields(shard: ShardState) -> Values:
    return {
        "ShardId": shard.shard_id,
        "ParentShardId": _shard_name(shard.parent),
        "AdjacentParentShardId": _shard_name(shard.adjacent_parent),
        "HashKeyRange": {"StartingHashKey": shard.first_hash_key, "EndingHashKey": shard.last_hash_key},
        "SequenceNumberRange": {
            "StartingSequenceNumber": sequence.starting_sequence_number(shard.created_s, shard.index),
            "EndingSequenceNumber": shard.ending_sequence_number,
        },
    }


def _child_shards(stream: Stream, parent: ShardState) -> list[Values]:
    """The shards that go on where this one ended, each with all its parents."""
    return [
        {
            "ShardId": shard.shard_id,
            "ParentShards": [_shard_name(each) for each in (shard.parent, shard.adjacent_parent) if each is not None],
            "HashKeyRange": {"StartingHashKey": shard.first_hash_key, "EndingHashKey": shard.last_hash_key},
        }
        for shard in stream.state.shards
        if parent.index in (shard.parent, shard.adjacent_parent)
    ]


def _consumer_fields(kinesis: Kinesis, stream: Stream, consumer: ConsumerState) -> Values:
    return {
        "ConsumerName": consumer.name,
        "ConsumerARN": str(ConsumerArn(stream.state.arn, consumer.name, consumer.created_at_ms // 1000)),
        "ConsumerStatus": consumer.status(kinesis.clock.now_ms()),
        "ConsumerCreationTimestamp": consumer.created_at_ms,
    }


def _tag_fields(tags: Mapping[str, str]) -> list[Values]:
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def _shard_name(index: int | None) -> str | None:
    return None if index is None else shard_id(index)


# -- what requests mean ----------------------------------------------------------------------------------------------


def _require_partition_keys(keys: Iterable[tuple[str, str | None]]) -> None:
    """The model has them optional since streams can distribute records by themselves; other streams still want them."""
    missing = [where for where, key in keys if key is None]
    if missing:
        plural = "error" if len(missing) == 1 else "errors"
        faults = "; ".join(
            f"Value null at '{where}' failed to satisfy constraint: Member must not be null" for where in missing[:10]
        )
        raise ValidationError(f"{len(missing)} validation {plural} detected: {faults}")


def _hash_key(given: Values) -> bytes | None:
    text = given.get("ExplicitHashKey")
    return None if text is None else rules.require_hash_key(text)


def _readable(stream: Stream) -> list[ShardState]:
    """Open shards, and closed ones whose records are within the retention."""
    return [shard for shard in stream.state.shards if not stream.has_expired(shard)]


def _after(shards: list[ShardState], exclusive_start: str | None) -> list[ShardState]:
    if exclusive_start is None:
        return shards
    after = shard_index(exclusive_start)
    return [shard for shard in shards if after is None or shard.index > after]


async def _starting_offset(kinesis: Kinesis, stream: Stream, shard: ShardState, given: Values) -> int:
    kind, number, at_ms = given["ShardIteratorType"], given.get("StartingSequenceNumber"), given.get("Timestamp")
    if kind in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"):
        if number is None:
            raise _wrong_combination(f"{kind} and no StartingSequenceNumber.")
        offset = rules.require_sequence_number(number, shard, stream.state)
        return max(offset, 0) if kind == "AT_SEQUENCE_NUMBER" else offset + 1
    if kind == "AT_TIMESTAMP":
        if at_ms is None:
            raise InvalidArgument(
                "Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. Current request has no "
                "timestamp parameter."
            )
        now_ms = kinesis.clock.now_ms()
        if at_ms > now_ms:
            raise InvalidArgument(
                "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. "
                f"timestampInMillis: {at_ms}, currentTimestampInMillis: {now_ms}"
            )
        return await stream.seek(shard.index, at_ms)
    if number is not None:
        raise _wrong_combination(f"{kind} and also a StartingSequenceNumber.")
    return 0 if kind == "TRIM_HORIZON" else await stream.seek(shard.index, None)


def _wrong_combination(what: str) -> InvalidArgument:
    return InvalidArgument(
        "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or (2) "
        f"TRIM_HORIZON or LATEST and no StartingSequenceNumber. Request specified {what}"
    )


def _filter_of(stream: Stream, given: Values | None, now_ms: int) -> int:
    """ListShards' ShardFilter, as the API reference describes its six types, in a number that fits into a token: a
    time, times four, and which shards are meant."""
    if given is None:
        return _ANY_SHARD
    kind, at_ms = given["Type"], given.get("Timestamp")
    if kind == "AFTER_SHARD_ID":
        if given.get("ShardId") is None:
            raise InvalidArgument(f"Must specify ShardId parameter for ShardFilter of type {kind}.")
        return _ANY_SHARD
    if kind == "AT_LATEST":
        return _OPEN_NOW
    if kind == "FROM_TRIM_HORIZON":
        return _ANY_SHARD
    if kind in ("AT_TIMESTAMP", "FROM_TIMESTAMP"):
        if at_ms is None:
            raise InvalidArgument(f"Must specify Timestamp parameter for ShardFilter of type {kind}.")
        if at_ms > now_ms:
            raise InvalidArgument(f"The Timestamp {at_ms} of the ShardFilter is in the future; it is now {now_ms}.")
    at_ms = max(at_ms or 0, stream.horizon_ms, stream.state.created_at_ms)
    return at_ms << 2 | (_OPEN_FROM if kind == "FROM_TIMESTAMP" else _OPEN_AT)


def _passes(shard: ShardState, kept: int) -> bool:
    which, at_ms = kept & 3, kept >> 2
    if which == _OPEN_FROM:
        return shard.closed_at_ms is None or shard.closed_at_ms >= at_ms
    if which == _OPEN_AT:
        return shard.created_at_ms <= at_ms and (shard.closed_at_ms is None or shard.closed_at_ms > at_ms)
    return shard.is_open if which == _OPEN_NOW else True


def _listed_shard(kinesis: Kinesis, given: Values) -> tuple[Stream, Position]:
    """Where a list of shards goes on; a token says all, so nothing else may be given with it."""
    for member in ("StreamName", "StreamARN", "ExclusiveStartShardId", "ShardFilter", "StreamCreationTimestamp"):
        if given.get(member) is not None:
            raise InvalidArgument(f"NextToken and {member} cannot be provided together.")
    position = kinesis.streams.tokens.read_next_token(given["NextToken"])
    stream = None if position is None else kinesis.streams.by_id(position.stream)
    if position is None or stream is None:
        raise InvalidArgument("Invalid NextToken.")
    now_ms = kinesis.clock.now_ms()
    if now_ms - position.issued_at_ms > limits.ITERATOR_AGE_MS_MAX:
        raise ExpiredNextToken(_expired("NextToken", "token", position.issued_at_ms, now_ms))
    return stream, position


def _expired(subject: str, noun: str, created_ms: int, now_ms: int) -> str:
    return (
        f"{subject} expired. The {noun} was created at time {_java_date(created_ms)} while right now it is "
        f"{_java_date(now_ms)} which is further in the future than the tolerated delay of "
        f"{limits.ITERATOR_AGE_MS_MAX} milliseconds."
    )


def _java_date(at_ms: int) -> str:
    """As AWS prints it, whatever this process's locale is."""
    at = time.gmtime(at_ms // 1000)
    clock = f"{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02}"
    return f"{_DAYS[at.tm_wday]} {_MONTHS[at.tm_mon - 1]} {at.tm_mday:02} {clock} UTC {at.tm_year}"


def _list_token(name: str) -> str:
    """Where a list by name goes on. Nothing in it is secret, and a made-up one does no harm."""
    return pybase64.b64encode_as_string(name.encode())


def _listed_name(token: str) -> str:
    try:
        return pybase64.b64decode(token, validate=True).decode()
    except ValueError:
        raise InvalidArgument("Invalid NextToken.") from None


def _resource(kinesis: Kinesis, given: Values) -> Stream:
    arn = StreamArn.parse(given["ResourceARN"])
    if arn is None:
        raise InvalidArgument(f"ResourceARN {given['ResourceARN']} is neither a stream's nor a consumer's ARN.")
    return kinesis.streams.find(*arn)
