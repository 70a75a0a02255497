"""AWS's errors, code and text, as its users have recorded them: raw HTTP, so that no client refuses first."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from streamkit.testing.plugin import StartStreamkit
from streamkit.testing.server import ServerProcess
from tests.wire.clients import RawClient, blob, eventually, kinesis

ACCOUNT = "000000000000"
ARN = f"arn:aws:kinesis:us-east-1:{ACCOUNT}:stream"
FIRST = "shardId-000000000000"
TOP = str(2**128 - 1)
MIDDLE = str(2**127)

NOT_FOUND = ("ResourceNotFoundException", f"Stream nobody under account {ACCOUNT} not found.")
COMBINATION = (
    "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or (2) "
    "TRIM_HORIZON or LATEST and no StartingSequenceNumber. Request specified "
)
INVALID_TAGS = (
    "Some tags contain invalid characters. Valid characters: Unicode letters, digits, white space, _ . / = + - % @ :."
)
HASH_KEY = r"^(0|([1-9]\d{0,38}))$"


class World(NamedTuple):
    """Streams that nothing here changes: `one` has a shard; `two` two; `split` a closed shard and two children;
    `demand` is on-demand; `old` was made again under its name, with two shards and then three."""

    raw: RawClient
    numbers: dict[str, str]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    data = tmp_path_factory.mktemp("world") / "data"
    with ServerProcess(data, durability="none") as server, RawClient(server.port) as raw:
        for name, count in (("one", 1), ("two", 2), ("three", 3), ("split", 1)):
            raw.ok("CreateStream", StreamName=name, ShardCount=count)
        raw.ok("CreateStream", StreamName="demand")
        raw.ok("SplitShard", StreamName="split", ShardToSplit=FIRST, NewStartingHashKey=MIDDLE)
        raw.ok("RegisterStreamConsumer", StreamARN=f"{ARN}/one", ConsumerName="known")
        raw.ok("AddTagsToStream", StreamName="two", Tags={f"tag{index}": "" for index in range(50)})
        raw.ok("IncreaseStreamRetentionPeriod", StreamName="two", RetentionPeriodHours=48)
        time.sleep(1.1)  # a sequence number tells two streams apart by the second their shards were made in
        raw.ok("CreateStream", StreamName="later", ShardCount=2)
        numbers = {
            name: raw.ok("PutRecord", StreamName=name, Data="", PartitionKey="k", ExplicitHashKey="0")["SequenceNumber"]
            for name in ("one", "two", "later")
        }
        second = raw.ok("PutRecord", StreamName="two", Data="", PartitionKey="k", ExplicitHashKey=TOP)
        yield World(raw, {**numbers, "second": second["SequenceNumber"]})


def refused(world: World, operation: str, members: dict[str, Any]) -> tuple[str, str]:
    answer = world.raw.call(operation, **members)
    assert answer.status == 400, answer
    assert answer.headers["content-type"] == "application/x-amz-json-1.1"
    assert set(answer.json) == {"__type", "message"}
    return answer.json["__type"], answer.json["message"]


# -- a stream that is not there --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "members"),
    [
        ("DescribeStream", {}),
        ("DescribeStreamSummary", {}),
        ("DeleteStream", {}),
        ("ListShards", {}),
        ("PutRecord", {"Data": "", "PartitionKey": "k"}),
        ("PutRecords", {"Records": [{"Data": "", "PartitionKey": "k"}]}),
        ("SplitShard", {"ShardToSplit": FIRST, "NewStartingHashKey": "5"}),
        ("MergeShards", {"ShardToMerge": FIRST, "AdjacentShardToMerge": FIRST}),
        ("UpdateShardCount", {"TargetShardCount": 2, "ScalingType": "UNIFORM_SCALING"}),
        ("IncreaseStreamRetentionPeriod", {"RetentionPeriodHours": 48}),
        ("DecreaseStreamRetentionPeriod", {"RetentionPeriodHours": 48}),
        ("AddTagsToStream", {"Tags": {"a": "b"}}),
        ("RemoveTagsFromStream", {"TagKeys": ["a"]}),
        ("ListTagsForStream", {}),
    ],
)
def test_a_stream_that_is_not_there_is_said_by_name_and_account(
    world: World, operation: str, members: dict[str, Any]
) -> None:
    assert refused(world, operation, {"StreamName": "nobody", **members}) == NOT_FOUND
    assert refused(world, operation, {"StreamARN": f"{ARN}/nobody", **members}) == NOT_FOUND
    neither = ("InvalidArgumentException", "Either StreamName or StreamARN should be provided.")
    if operation == "ListShards":
        neither = ("InvalidArgumentException", "Either NextToken or StreamName should be provided.")
    assert refused(world, operation, members) == neither


# -- semantics: operation, members, code, text -----------------------------------------------------------------------


def iterator(kind: str, **more: Any) -> dict[str, Any]:
    return {"StreamName": "one", "ShardId": FIRST, "ShardIteratorType": kind, **more}


def put(**more: Any) -> dict[str, Any]:
    return {"StreamName": "one", "Data": "", "PartitionKey": "k", **more}


def puts(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"StreamName": "one", "Records": [{"Data": "", "PartitionKey": "k", **entry} for entry in entries]}


def too_long(*wheres: str, limit: int = 1_048_576) -> str:
    plural = "error" if len(wheres) == 1 else "errors"
    faults = (
        f"Value at '{where}' failed to satisfy constraint: Member must have length less than or equal to {limit}"
        for where in wheres
    )
    return f"{len(wheres)} validation {plural} detected: " + "; ".join(faults)


def hash_key_out_of_range(shard: str, stream: str, key: str, first: str, last: str) -> str:
    return (
        f"NewStartingHashKey {key} used in SplitShard() on shard {shard} in stream {stream} under account {ACCOUNT} is "
        f"not both greater than one plus the shard's StartingHashKey {first} and less than the shard's EndingHashKey "
        f"{last}."
    )


def not_of_any_layout(number: str) -> str:
    return (
        f"StartingSequenceNumber {number} used in GetShardIterator on shard {FIRST} in stream one under account "
        f"{ACCOUNT} is invalid."
    )


ARGUMENT, MISSING, INVALID, LIMIT, IN_USE = (
    "InvalidArgumentException",
    "ResourceNotFoundException",
    "ValidationException",
    "LimitExceededException",
    "ResourceInUseException",
)
BIG = blob(b"x" * 1_048_577)
FOREIGN = "arn:aws:kinesis:us-east-1:123456789012:stream/one"
ON_DEMAND = f"Request is invalid. Stream demand under account {ACCOUNT} is in On-Demand mode."
SCALE = {"ScalingType": "UNIFORM_SCALING"}

SEMANTICS: list[tuple[str, dict[str, Any], str, str]] = [
    # names and ARNs
    ("DescribeStream", {"StreamARN": FOREIGN}, MISSING, "Stream one under account 123456789012 not found."),
    (
        "DescribeStream",
        {"StreamARN": f"{ARN}/one", "StreamName": "two"},
        ARGUMENT,
        f"StreamARN {ARN}/one does not match StreamName two.",
    ),
    ("DescribeStream", {"StreamARN": f"{ARN}/a/b"}, ARGUMENT, f"StreamARN {ARN}/a/b is not a valid stream ARN."),
    # CreateStream
    (
        "CreateStream",
        {"StreamName": "one", "ShardCount": 1},
        IN_USE,
        f"Stream one under account {ACCOUNT} already exists.",
    ),
    (
        "CreateStream",
        {"StreamName": "new", "ShardCount": 490},
        LIMIT,
        f"This request would exceed the shard limit for the account {ACCOUNT} in us-east-1. Current shard count for "
        "the account: 14. Limit: 500. Number of additional shards that would have resulted from this request: 490. "
        "Refer to the AWS Service Limits page (http://docs.aws.amazon.com/general/latest/gr/aws_service_limits.html) "
        "for current limits and how to request higher limits.",
    ),
    # DeleteStream
    (
        "DeleteStream",
        {"StreamName": "one"},
        IN_USE,
        f"DeleteStream can’t delete {ACCOUNT}:one because there are consumers associated with this data stream. To "
        "delete one anyway, set the EnforceConsumerDeletion parameter to true to force the deletion of all the "
        "consumers that are associated with it.",
    ),
    # ListShards
    *(
        (
            "ListShards",
            {"NextToken": "x", member: value},
            ARGUMENT,
            f"NextToken and {member} cannot be provided together.",
        )
        for member, value in {
            "StreamName": "one",
            "StreamARN": f"{ARN}/one",
            "ExclusiveStartShardId": FIRST,
            "ShardFilter": {"Type": "AT_LATEST"},
            "StreamCreationTimestamp": 0,
        }.items()
    ),
    (
        "ListShards",
        {"NextToken": "x", "StreamName": "one", "ExclusiveStartShardId": FIRST},
        ARGUMENT,
        "NextToken and StreamName cannot be provided together.",
    ),
    ("ListShards", {"NextToken": "bm9uc2Vuc2U="}, ARGUMENT, "Invalid NextToken."),
    (
        "ListShards",
        {"StreamName": "one", "ShardFilter": {"Type": "AFTER_SHARD_ID"}},
        ARGUMENT,
        "Must specify ShardId parameter for ShardFilter of type AFTER_SHARD_ID.",
    ),
    (
        "ListShards",
        {"StreamName": "one", "ShardFilter": {"Type": "AT_TIMESTAMP"}},
        ARGUMENT,
        "Must specify Timestamp parameter for ShardFilter of type AT_TIMESTAMP.",
    ),
    # PutRecord
    (
        "PutRecord",
        put(ExplicitHashKey=str(2**128)),
        ARGUMENT,
        f"Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was {2**128}",
    ),
    (
        "PutRecord",
        put(SequenceNumberForOrdering="1"),
        ARGUMENT,
        f"ExclusiveMinimumSequenceNumber 1 used in PutRecord on stream one under account {ACCOUNT} is invalid.",
    ),
    ("PutRecord", put(Data=BIG), INVALID, too_long("data")),
    (
        "PutRecord",
        {"StreamName": "one", "Data": ""},
        INVALID,
        "1 validation error detected: Value null at 'partitionKey' failed to satisfy constraint: Member must not be "
        "null",
    ),
    # PutRecords
    (
        "PutRecords",
        puts({}, {"ExplicitHashKey": str(2**128)}),
        ARGUMENT,
        f"Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was {2**128}",
    ),
    ("PutRecords", puts({}, {"Data": BIG}), INVALID, too_long("records.2.member.data")),
    (
        "PutRecords",
        puts({"Data": BIG}, {}, {"Data": BIG}),
        INVALID,
        too_long("records.1.member.data", "records.3.member.data"),
    ),
    (
        "PutRecords",
        puts(*[{"Data": blob(b"x" * 1_048_576)}] * 10, {}),
        ARGUMENT,
        "Records size exceeds 10 MB limit",
    ),
    (
        "PutRecords",
        {"StreamName": "one", "Records": [{"Data": "", "PartitionKey": "k"}, {"Data": ""}]},
        INVALID,
        "1 validation error detected: Value null at 'records.2.member.partitionKey' failed to satisfy constraint: "
        "Member must not be null",
    ),
    # GetShardIterator
    (
        "GetShardIterator",
        iterator("LATEST", StreamName="nobody"),
        MISSING,
        f"Shard {FIRST} in stream nobody under account {ACCOUNT} does not exist",
    ),
    (
        "GetShardIterator",
        iterator("LATEST", ShardId="5"),
        MISSING,
        f"Shard shardId-000000000005 in stream one under account {ACCOUNT} does not exist",
    ),
    *(
        (
            "GetShardIterator",
            iterator("LATEST", StreamName="nobody", ShardId=shard),
            MISSING,
            f"Could not find shard {shard} in stream nobody under account {ACCOUNT}.",
        )
        for shard in ("shardId-five", "shardId-2.14E4", "shardId-2147483648", "x")
    ),
    (
        "GetShardIterator",
        iterator("AT_SEQUENCE_NUMBER"),
        ARGUMENT,
        f"{COMBINATION}AT_SEQUENCE_NUMBER and no StartingSequenceNumber.",
    ),
    (
        "GetShardIterator",
        iterator("AFTER_SEQUENCE_NUMBER"),
        ARGUMENT,
        f"{COMBINATION}AFTER_SEQUENCE_NUMBER and no StartingSequenceNumber.",
    ),
    (
        "GetShardIterator",
        iterator("LATEST", StartingSequenceNumber="5"),
        ARGUMENT,
        f"{COMBINATION}LATEST and also a StartingSequenceNumber.",
    ),
    (
        "GetShardIterator",
        iterator("TRIM_HORIZON", StartingSequenceNumber="5"),
        ARGUMENT,
        f"{COMBINATION}TRIM_HORIZON and also a StartingSequenceNumber.",
    ),
    (
        "GetShardIterator",
        iterator("AT_TIMESTAMP"),
        ARGUMENT,
        "Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. Current request has no timestamp "
        "parameter.",
    ),
    (
        "GetShardIterator",
        iterator("AT_SEQUENCE_NUMBER", StartingSequenceNumber="9" * 56),
        ARGUMENT,
        not_of_any_layout("9" * 56),
    ),
    # GetRecords
    ("GetRecords", {"ShardIterator": "nonsense"}, ARGUMENT, "Invalid ShardIterator."),
    ("GetRecords", {"ShardIterator": "é"}, ARGUMENT, "Invalid ShardIterator."),
    ("GetRecords", {"ShardIterator": blob(bytes(53))}, ARGUMENT, "Invalid ShardIterator."),
    # SplitShard
    (
        "SplitShard",
        {"StreamName": "one", "ShardToSplit": "shardId-5", "NewStartingHashKey": "5"},
        MISSING,
        f"Could not find shard shardId-000000000005 in stream one under account {ACCOUNT}.",
    ),
    (
        "SplitShard",
        {"StreamName": "nobody", "ShardToSplit": "shardId-five", "NewStartingHashKey": "5"},
        MISSING,
        f"Could not find shard shardId-five in stream nobody under account {ACCOUNT}.",
    ),
    *(
        (
            "SplitShard",
            {"StreamName": "one", "ShardToSplit": "0", "NewStartingHashKey": key},
            ARGUMENT,
            hash_key_out_of_range(FIRST, "one", key, "0", TOP),
        )
        for key in ("0", "1", TOP, str(2**128))
    ),
    (
        "SplitShard",
        {"StreamName": "split", "ShardToSplit": FIRST, "NewStartingHashKey": "5"},
        ARGUMENT,
        f"Shard {FIRST} in stream split under account {ACCOUNT} has already been merged or split, and thus is not "
        "eligible for merging or splitting.",
    ),
    (
        "SplitShard",
        {"StreamName": "demand", "ShardToSplit": FIRST, "NewStartingHashKey": "5"},
        INVALID,
        ON_DEMAND,
    ),
    # MergeShards
    (
        "MergeShards",
        {"StreamName": "two", "ShardToMerge": "7", "AdjacentShardToMerge": "8"},
        MISSING,
        f"Could not find shard shardId-000000000007 in stream two under account {ACCOUNT}.",
    ),
    (
        "MergeShards",
        {"StreamName": "two", "ShardToMerge": "0", "AdjacentShardToMerge": "8"},
        MISSING,
        f"Could not find shard shardId-000000000008 in stream two under account {ACCOUNT}.",
    ),
    *(
        (
            "MergeShards",
            {"StreamName": "three", "ShardToMerge": str(lower), "AdjacentShardToMerge": str(upper)},
            ARGUMENT,
            f"Shards shardId-00000000000{lower} and shardId-00000000000{upper} in stream three under account {ACCOUNT} "
            "are not an adjacent pair of shards eligible for merging",
        )
        for lower, upper in ((1, 0), (0, 2), (1, 1))
    ),
    (
        "MergeShards",
        {"StreamName": "split", "ShardToMerge": "0", "AdjacentShardToMerge": "1"},
        ARGUMENT,
        f"Shard {FIRST} in stream split under account {ACCOUNT} has already been merged or split, and thus is not "
        "eligible for merging or splitting.",
    ),
    ("MergeShards", {"StreamName": "demand", "ShardToMerge": "0", "AdjacentShardToMerge": "1"}, INVALID, ON_DEMAND),
    # UpdateShardCount
    (
        "UpdateShardCount",
        {"StreamName": "two", "TargetShardCount": 5, **SCALE},
        LIMIT,
        "UpdateShardCount cannot scale up over double your current open shard count. Current open shard count: 2, "
        "Target shard count: 5",
    ),
    (
        "UpdateShardCount",
        {"StreamName": "three", "TargetShardCount": 1, **SCALE},
        LIMIT,
        "UpdateShardCount cannot scale down below half your current open shard count. Current open shard count: 3, "
        "Target shard count: 1",
    ),
    ("UpdateShardCount", {"StreamName": "demand", "TargetShardCount": 4, **SCALE}, INVALID, ON_DEMAND),
    # retention
    *(
        (
            f"{change}StreamRetentionPeriod",
            {"StreamName": "two", "RetentionPeriodHours": hours},
            ARGUMENT,
            text.format(hours),
        )
        for change in ("Increase", "Decrease")
        for hours, text in (
            (23, "Minimum allowed retention period is 24 hours. Requested retention period ({} hours) is too short."),
            (-1, "Minimum allowed retention period is 24 hours. Requested retention period ({} hours) is too short."),
            (
                8761,
                "Maximum allowed retention period is 8760 hours. Requested retention period ({} hours) is too long.",
            ),
        )
    ),
    (
        "IncreaseStreamRetentionPeriod",
        {"StreamName": "two", "RetentionPeriodHours": 47},
        ARGUMENT,
        "Requested retention period (47 hours) for stream two can not be shorter than existing retention period (48 "
        "hours). Use DecreaseRetentionPeriod API.",
    ),
    (
        "DecreaseStreamRetentionPeriod",
        {"StreamName": "two", "RetentionPeriodHours": 49},
        ARGUMENT,
        "Requested retention period (49 hours) for stream two can not be longer than existing retention period (48 "
        "hours). Use IncreaseRetentionPeriod API.",
    ),
    # tags
    *(
        (operation, {"StreamName": "one", **tags}, ARGUMENT, INVALID_TAGS)
        for bad in ("a;b", "a,b", "a\tb", "a\nb", "a!")
        for operation, tags in (
            ("AddTagsToStream", {"Tags": {bad: "v"}}),
            ("AddTagsToStream", {"Tags": {"k": bad}}),
            ("RemoveTagsFromStream", {"TagKeys": [bad]}),
        )
    ),
    *(
        (
            f"{verb}Stream",
            {"StreamName": "one", **tags},
            ARGUMENT,
            f"Failed to {words} stream one under account {ACCOUNT} because some tags contained illegal characters. The "
            "allowed characters are Unicode letters, white-spaces, '_',',','/','=','+','-','@',':'.",
        )
        for verb, words, tags in (
            ("AddTagsTo", "add tags to", {"Tags": {"a%": "v"}}),
            ("AddTagsTo", "add tags to", {"Tags": {"a": "100%"}}),
            ("RemoveTagsFrom", "remove tags from", {"TagKeys": ["a%"]}),
        )
    ),
    (
        "AddTagsToStream",
        {"StreamName": "two", "Tags": {"one more": ""}},
        ARGUMENT,
        f"Failed to add tags to stream two under account {ACCOUNT} because a given stream cannot "
        "have more than 50 tags associated with it.",
    ),
    (
        "AddTagsToStream",
        {"StreamName": "one", "Tags": {"aws:x": ""}},
        ARGUMENT,
        "Tag keys starting with aws: are reserved for system use.",
    ),
    (
        "ListTagsForResource",
        {"ResourceARN": f"{ARN}/nobody"},
        *NOT_FOUND,
    ),
    # consumers
    (
        "RegisterStreamConsumer",
        {"StreamARN": f"{ARN}/one", "ConsumerName": "known"},
        IN_USE,
        f"Consumer known under stream one already exists for account {ACCOUNT}.",
    ),
    ("RegisterStreamConsumer", {"StreamARN": f"{ARN}/nobody", "ConsumerName": "c"}, *NOT_FOUND),
    (
        "DescribeStreamConsumer",
        {"StreamARN": f"{ARN}/one", "ConsumerName": "nobody"},
        MISSING,
        f"Consumer nobody, account {ACCOUNT} not found.",
    ),
    (
        "DeregisterStreamConsumer",
        {"ConsumerARN": f"{ARN}/one/consumer/known:1"},
        MISSING,
        f"Consumer {ARN}/one/consumer/known:1, account {ACCOUNT} not found.",
    ),
    (
        "DescribeStreamConsumer",
        {"ConsumerName": "known"},
        ARGUMENT,
        "Either ConsumerARN or both StreamARN and ConsumerName should be provided.",
    ),
]


@pytest.mark.parametrize(
    ("operation", "members", "code", "text"),
    SEMANTICS,
    ids=[f"{index}-{case[0]}" for index, case in enumerate(SEMANTICS)],
)
def test_what_is_well_formed_but_wrong_gets_awss_words(
    world: World, operation: str, members: dict[str, Any], code: str, text: str
) -> None:
    assert refused(world, operation, members) == (code, text)


@pytest.mark.parametrize("shard", ["shardId-000000000000", "shardId-0", "0", "anything-0", "-00000"])
def test_what_follows_the_first_hyphen_of_a_shard_id_is_what_counts(world: World, shard: str) -> None:
    assert world.raw.ok("GetShardIterator", **iterator("LATEST", ShardId=shard))["ShardIterator"]


def test_a_sequence_number_of_another_shard_is_told_by_both_shards(world: World) -> None:
    number = world.numbers["second"]
    assert refused(
        world, "GetShardIterator", iterator("AT_SEQUENCE_NUMBER", StreamName="two", StartingSequenceNumber=number)
    ) == (
        ARGUMENT,
        "Invalid StartingSequenceNumber. It encodes shardId-000000000001, while it was used in a call to a shard with "
        f"{FIRST}",
    )


def test_a_sequence_number_of_another_stream_did_not_come_from_this_one(world: World) -> None:
    number = world.numbers["later"]
    for kind in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"):
        members = iterator(kind, StreamName="two", StartingSequenceNumber=number)
        assert refused(world, "GetShardIterator", members) == (
            ARGUMENT,
            f"StartingSequenceNumber {number} used in GetShardIterator on shard {FIRST} in stream two under account "
            f"{ACCOUNT} is invalid because it did not come from this stream.",
        )


def test_an_ordering_number_from_the_future_is_refused(world: World) -> None:
    later = str(int(world.numbers["one"]) + (3_600 << 36))
    code, text = refused(world, "PutRecord", put(SequenceNumberForOrdering=later))
    assert (code, text) == (
        ARGUMENT,
        f"ExclusiveMinimumSequenceNumber {later} used in PutRecord on stream one under account {ACCOUNT} is invalid.",
    )
    world.raw.ok("PutRecord", **put(SequenceNumberForOrdering=world.numbers["one"]))


def test_a_timestamp_in_the_future_is_told_with_the_time_that_it_is(world: World) -> None:
    at_ms = round((time.time() + 100) * 1000)
    code, text = refused(world, "GetShardIterator", iterator("AT_TIMESTAMP", Timestamp=at_ms / 1000))
    assert code == ARGUMENT
    found = re.fullmatch(
        r"The timestampInMillis parameter cannot be greater than the currentTimestampInMillis\. "
        rf"timestampInMillis: {at_ms}, currentTimestampInMillis: (\d+)",
        text,
    )
    assert found is not None, text
    assert abs(int(found[1]) - time.time() * 1000) < 10_000


def test_an_iterator_of_a_deleted_stream_finds_no_shard(world: World) -> None:
    world.raw.ok("CreateStream", StreamName="brief", ShardCount=1)
    token = world.raw.ok("GetShardIterator", **iterator("LATEST", StreamName="brief"))["ShardIterator"]
    world.raw.ok("DeleteStream", StreamName="brief")
    assert refused(world, "GetRecords", {"ShardIterator": token, "StreamARN": f"{ARN}/brief"}) == (
        MISSING,
        f"Shard {FIRST} in stream brief under account {ACCOUNT} does not exist",
    )


def test_the_twenty_first_consumer_and_the_eleventh_scaling_are_too_many(world: World) -> None:
    world.raw.ok("CreateStream", StreamName="busy", ShardCount=1)
    for index in range(20):
        world.raw.ok("RegisterStreamConsumer", StreamARN=f"{ARN}/busy", ConsumerName=f"c{index}")
    assert refused(world, "RegisterStreamConsumer", {"StreamARN": f"{ARN}/busy", "ConsumerName": "c"}) == (
        LIMIT,
        f"This request would exceed the limit of 20 registered consumers for stream busy under account {ACCOUNT}.",
    )
    for index in range(10):
        world.raw.ok("UpdateShardCount", StreamName="busy", TargetShardCount=2 - index % 2, **SCALE)
    assert refused(world, "UpdateShardCount", {"StreamName": "busy", "TargetShardCount": 2, **SCALE}) == (
        LIMIT,
        "UpdateShardCount operation limit exceeded: a stream can be scaled at most 10 times per "
        "rolling 24-hour period.",
    )
    world.raw.ok("DeleteStream", StreamName="busy", EnforceConsumerDeletion=True)


def test_a_stream_in_transition_is_told_by_its_state(start_streamkit: StartStreamkit) -> None:
    server = start_streamkit(transition_delay_ms=1_500)
    with RawClient(server.port) as raw, kinesis(server.endpoint) as client:
        raw.ok("CreateStream", StreamName="s", ShardCount=2)
        world = World(raw, {})
        creating = f"Stream s under account {ACCOUNT} not ACTIVE or UPDATING, instead in state CREATING"
        assert refused(world, "ListShards", {"StreamName": "s"}) == (IN_USE, creating)
        consumer = {"StreamARN": f"{ARN}/s", "ConsumerName": "c"}
        assert refused(world, "RegisterStreamConsumer", consumer) == (IN_USE, creating)
        not_found = (MISSING, f"Stream s under account {ACCOUNT} not found.")
        assert refused(world, "PutRecord", {"StreamName": "s", "Data": "", "PartitionKey": "k"}) == not_found
        changes: list[tuple[str, dict[str, Any]]] = [
            ("SplitShard", {"ShardToSplit": "0", "NewStartingHashKey": "5"}),
            ("MergeShards", {"ShardToMerge": "0", "AdjacentShardToMerge": "1"}),
            ("UpdateShardCount", {"TargetShardCount": 3, **SCALE}),
        ]

        def status() -> Any:
            return client.describe_stream_summary(StreamName="s")["StreamDescriptionSummary"]["StreamStatus"]

        eventually(lambda: status() == "ACTIVE")
        raw.ok("SplitShard", StreamName="s", ShardToSplit="1", NewStartingHashKey=str(2**127 + 5))
        for operation, members in changes:
            assert refused(world, operation, {"StreamName": "s", **members}) == (
                IN_USE,
                f"Stream s under account {ACCOUNT} not ACTIVE, instead in state UPDATING",
            )


# -- constraints of the model ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "members", "text"),
    [
        (
            "CreateStream",
            {"ShardCount": 0},
            "2 validation errors detected: Value null at 'streamName' failed to satisfy constraint: Member must not be "
            "null; Value '0' at 'shardCount' failed to satisfy constraint: Member must have value "
            "greater than or equal "
            "to 1",
        ),
        (
            "CreateStream",
            {"StreamName": "a b"},
            "1 validation error detected: Value 'a b' at 'streamName' failed to satisfy constraint: "
            "Member must satisfy "
            "regular expression pattern: [a-zA-Z0-9_.-]+",
        ),
        (
            "DescribeStream",
            {"StreamName": "n" * 129},
            f"1 validation error detected: Value '{'n' * 129}' at 'streamName' failed to satisfy constraint: Member "
            "must have length less than or equal to 128",
        ),
        (
            "PutRecord",
            {"StreamName": "one", "Data": "", "PartitionKey": "k" * 257, "ExplicitHashKey": "-1"},
            f"2 validation errors detected: Value '{'k' * 257}' at 'partitionKey' failed to satisfy constraint: Member "
            "must have length less than or equal to 256; Value '-1' at 'explicitHashKey' failed to satisfy constraint: "
            f"Member must satisfy regular expression pattern: {HASH_KEY}",
        ),
        (
            "PutRecord",
            {"StreamName": "one", "PartitionKey": ""},
            "2 validation errors detected: Value null at 'data' failed to satisfy constraint: Member must not be null; "
            "Value '' at 'partitionKey' failed to satisfy constraint: Member must have length greater "
            "than or equal to 1",
        ),
        (
            "PutRecords",
            {"StreamName": "one", "Records": [{"Data": "", "PartitionKey": "k"}] * 501},
            "1 validation error detected: Value at 'records' failed to satisfy constraint: Member must "
            "have length less "
            "than or equal to 500",
        ),
        (
            "GetShardIterator",
            {"StreamName": "one", "ShardId": FIRST, "ShardIteratorType": "OLDEST"},
            "1 validation error detected: Value 'OLDEST' at 'shardIteratorType' failed to satisfy constraint: Member "
            "must satisfy enum value set: [AT_SEQUENCE_NUMBER, AFTER_SEQUENCE_NUMBER, TRIM_HORIZON, LATEST, "
            "AT_TIMESTAMP]",
        ),
        (
            "GetRecords",
            {"ShardIterator": "x", "Limit": 10_001},
            "1 validation error detected: Value '10001' at 'limit' failed to satisfy constraint: "
            "Member must have value "
            "less than or equal to 10000",
        ),
        (
            "SplitShard",
            {"StreamName": "one"},
            "2 validation errors detected: Value null at 'shardToSplit' failed to satisfy constraint: Member must not "
            "be null; Value null at 'newStartingHashKey' failed to satisfy constraint: Member must not be null",
        ),
    ],
)
def test_a_broken_constraint_is_told_before_anything_is_looked_up(
    world: World, operation: str, members: dict[str, Any], text: str
) -> None:
    assert refused(world, operation, members) == (INVALID, text)


# -- what comes before the model -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", None),
        (b"{", None),
        (b'"text"', None),
        (b"[]", "Start of list found where not expected"),
        (b'{"StreamName":5}', "NUMBER_VALUE can not be converted to a String"),
        (b'{"StreamName":true}', "TRUE_VALUE can not be converted to a String"),
        (b'{"StreamName":[]}', "Start of list found where not expected"),
        (b'{"StreamName":{}}', "Start of structure or map found where not expected."),
        (b'{"Data":5}', "NUMBER_VALUE can not be converted to a Blob"),
        (
            b'{"Data":"abc"}',
            "'abc' can not be converted to a Blob: Base64 encoded length is expected a multiple of 4 "
            "bytes but found: 3",
        ),
        (b'{"Data":"*AAA"}', "'*AAA' can not be converted to a Blob: Invalid Base64 character: '*'"),
    ],
)
def test_a_body_that_cannot_be_read_is_a_serialization_exception(world: World, body: bytes, text: str | None) -> None:
    answer = world.raw.send("PutRecord", body)
    assert answer.status == 400
    message = {} if text is None else {"Message": text}
    assert answer.json == {"__type": "SerializationException", **message}


def test_an_operation_that_is_none_is_unknown(world: World) -> None:
    targets: list[str | None] = ["Kinesis_20131202.Nothing", "Kinesis", None]
    for headers in ({"X-Amz-Target": target} for target in targets):
        answer = world.raw.send("PutRecord", b"{}", headers)
        assert (answer.status, answer.json) == (400, {"__type": "UnknownOperationException"})


def test_a_broken_body_is_told_before_an_unknown_operation_and_a_missing_signature(world: World) -> None:
    wrong: list[dict[str, str | None]] = [
        {"X-Amz-Target": "Kinesis_20131202.Nothing"},
        {"X-Amz-Target": None},
        {"Authorization": None},
    ]
    for headers in wrong:
        answer = world.raw.send("PutRecord", b"{", headers)
        assert (answer.status, answer.json) == (400, {"__type": "SerializationException"})


def test_a_request_without_a_signature_is_refused(world: World) -> None:
    answer = world.raw.send("PutRecord", json.dumps(put()).encode(), {"Authorization": None})
    assert (answer.status, answer.json) == (
        400,
        {"__type": "MissingAuthenticationTokenException", "message": "Missing Authentication Token"},
    )


def test_a_signature_with_parts_missing_says_which(world: World) -> None:
    header = "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/kinesis/aws4_request, SignedHeaders=host"
    answer = world.raw.send("PutRecord", json.dumps(put()).encode(), {"Authorization": header})
    assert (answer.status, answer.json) == (
        400,
        {
            "__type": "IncompleteSignatureException",
            "message": f"Authorization header requires 'Signature' parameter. Authorization={header}",
        },
    )


def test_an_operation_that_streamkit_lacks_is_said_by_name(world: World) -> None:
    answer = world.raw.call("CreateQueue")
    assert (answer.status, answer.json["__type"]) == (501, "NotImplementedException")
    assert answer.json["message"] == "streamkit does not implement CreateQueue yet."
