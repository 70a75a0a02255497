"""Every Kinesis operation that streamkit has, as boto3 uses it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamkit.testing.plugin import StartStreamkit
from streamkit.testing.server import ServerProcess
from tests.wire.clients import (
    ACCOUNT,
    REGION,
    eventually,
    iterator_at,
    kinesis,
    list_shards,
    read_all,
    read_shard,
)

FIRST = "shardId-000000000000"
SECOND = "shardId-000000000001"
THIRD = "shardId-000000000002"
HASH_KEYS_COUNT = 1 << 128
MIB = 1 << 20


def arn(name: str, account: str = ACCOUNT, region: str = REGION) -> str:
    return f"arn:aws:kinesis:{region}:{account}:stream/{name}"


def describe(client: Any, name: str) -> Any:
    return client.describe_stream(StreamName=name)["StreamDescription"]


def status_of(client: Any, name: str) -> str:
    status: str = describe(client, name)["StreamStatus"]
    return status


def code_of(error: pytest.ExceptionInfo[ClientError]) -> str:
    code: str = error.value.response["Error"]["Code"]
    return code


def datas(records: list[dict[str, Any]]) -> list[bytes]:
    return [record["Data"] for record in records]


# -- streams ---------------------------------------------------------------------------------------------------------


def test_a_stream_is_created_described_listed_and_deleted(client: Any) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    client.create_stream(StreamName="orders", ShardCount=2, Tags={"team": "blue"})
    client.get_waiter("stream_exists").wait(StreamName="orders", WaiterConfig={"Delay": 0, "MaxAttempts": 1})
    described = describe(client, "orders")
    assert before < described.pop("StreamCreationTimestamp") <= datetime.now(UTC)
    shards = described.pop("Shards")
    assert described == {
        "StreamName": "orders",
        "StreamARN": arn("orders"),
        "StreamStatus": "ACTIVE",
        "StreamModeDetails": {"StreamMode": "PROVISIONED"},
        "HasMoreShards": False,
        "RetentionPeriodHours": 24,
        "EnhancedMonitoring": [{"ShardLevelMetrics": []}],
        "EncryptionType": "NONE",
    }
    assert [(shard["ShardId"], shard["HashKeyRange"]) for shard in shards] == [
        (FIRST, {"StartingHashKey": "0", "EndingHashKey": str(HASH_KEYS_COUNT // 2 - 1)}),
        (SECOND, {"StartingHashKey": str(HASH_KEYS_COUNT // 2), "EndingHashKey": str(HASH_KEYS_COUNT - 1)}),
    ]
    assert all("EndingSequenceNumber" not in shard["SequenceNumberRange"] for shard in shards)
    assert all("ParentShardId" not in shard for shard in shards)
    summary = client.describe_stream_summary(StreamName="orders")["StreamDescriptionSummary"]
    assert (summary["OpenShardCount"], summary["ConsumerCount"], summary["MaxRecordSizeInKiB"]) == (2, 0, 1024)
    listed = client.list_streams()
    assert listed["StreamNames"] == ["orders"]
    assert listed["StreamSummaries"][0]["StreamARN"] == arn("orders")
    client.delete_stream(StreamName="orders")
    client.get_waiter("stream_not_exists").wait(StreamName="orders", WaiterConfig={"Delay": 0, "MaxAttempts": 1})
    assert client.list_streams()["StreamNames"] == []


def test_a_stream_without_a_shard_count_is_on_demand_with_four_shards(client: Any) -> None:
    client.create_stream(StreamName="s")
    assert describe(client, "s")["StreamModeDetails"] == {"StreamMode": "ON_DEMAND"}
    assert len(list_shards(client, "s")) == 4
    limits = client.describe_limits()
    assert (limits["OpenShardCount"], limits["OnDemandStreamCount"]) == (4, 1)
    assert (limits["ShardLimit"], limits["OnDemandStreamCountLimit"]) == (500, 50)


def test_every_operation_takes_the_arn_in_place_of_the_name(client: Any) -> None:
    client.create_stream(StreamName="s", ShardCount=1)
    by_arn = {"StreamARN": arn("s")}
    assert client.describe_stream(**by_arn)["StreamDescription"]["StreamName"] == "s"
    assert client.describe_stream_summary(**by_arn)["StreamDescriptionSummary"]["StreamName"] == "s"
    put = client.put_record(**by_arn, Data=b"1", PartitionKey="k")
    client.put_records(**by_arn, Records=[{"Data": b"2", "PartitionKey": "k"}])
    iterator = client.get_shard_iterator(**by_arn, ShardId=FIRST, ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
    answer = client.get_records(**by_arn, ShardIterator=iterator)
    assert datas(answer["Records"]) == [b"1", b"2"]
    assert answer["Records"][0]["SequenceNumber"] == put["SequenceNumber"]
    client.add_tags_to_stream(**by_arn, Tags={"a": "b"})
    assert client.list_tags_for_stream(**by_arn)["Tags"] == [{"Key": "a", "Value": "b"}]
    client.remove_tags_from_stream(**by_arn, TagKeys=["a"])
    client.increase_stream_retention_period(**by_arn, RetentionPeriodHours=48)
    client.decrease_stream_retention_period(**by_arn, RetentionPeriodHours=24)
    client.split_shard(**by_arn, ShardToSplit=FIRST, NewStartingHashKey=str(HASH_KEYS_COUNT // 2))
    client.merge_shards(**by_arn, ShardToMerge=SECOND, AdjacentShardToMerge=THIRD)
    assert client.update_shard_count(**by_arn, TargetShardCount=2, ScalingType="UNIFORM_SCALING") | {
        "ResponseMetadata": None
    } == {
        "StreamName": "s",
        "StreamARN": arn("s"),
        "CurrentShardCount": 1,
        "TargetShardCount": 2,
        "ResponseMetadata": None,
    }
    assert len(client.list_shards(**by_arn)["Shards"]) == 6
    assert client.list_stream_consumers(**by_arn)["Consumers"] == []
    client.delete_stream(**by_arn)
    assert client.list_streams()["StreamNames"] == []


def test_paginators_find_every_stream_shard_and_consumer_once(client: Any) -> None:
    names = [f"stream-{index:02}" for index in range(7)]
    for name in names:
        client.create_stream(StreamName=name, ShardCount=7)
    pages = list(client.get_paginator("list_streams").paginate(PaginationConfig={"PageSize": 3}))
    assert [page["StreamNames"] for page in pages] == [names[:3], names[3:6], names[6:]]
    described = client.get_paginator("describe_stream").paginate(StreamName=names[0], PaginationConfig={"PageSize": 2})
    ids = [shard["ShardId"] for page in described for shard in page["StreamDescription"]["Shards"]]
    assert ids == [f"shardId-{index:012}" for index in range(7)]
    listed = client.get_paginator("list_shards").paginate(StreamName=names[0])
    assert [len(page["Shards"]) for page in listed] == [7]
    for index in range(5):
        client.register_stream_consumer(StreamARN=arn(names[0]), ConsumerName=f"c{index}")
    consumers = client.get_paginator("list_stream_consumers").paginate(
        StreamARN=arn(names[0]), PaginationConfig={"PageSize": 2}
    )
    found = [consumer["ConsumerName"] for page in consumers for consumer in page["Consumers"]]
    assert found == ["c0", "c1", "c2", "c3", "c4"]


def test_a_stream_made_again_under_its_name_shows_nothing_of_the_first(client: Any) -> None:
    client.create_stream(StreamName="s", ShardCount=1, Tags={"of": "the first"})
    number = client.put_record(StreamName="s", Data=b"old", PartitionKey="k")["SequenceNumber"]
    client.register_stream_consumer(StreamARN=arn("s"), ConsumerName="c")
    iterator = iterator_at(client, "s")
    client.delete_stream(StreamName="s", EnforceConsumerDeletion=True)
    client.create_stream(StreamName="s", ShardCount=1)
    assert read_all(client, "s") == {FIRST: []}
    assert client.list_tags_for_stream(StreamName="s")["Tags"] == []
    assert client.list_stream_consumers(StreamARN=arn("s"))["Consumers"] == []
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_records(ShardIterator=iterator)
    # In the same second a number of the first stream looks like one of the second: at its place is nothing yet.
    client.put_record(StreamName="s", Data=b"new", PartitionKey="k")
    assert datas(read_shard(client, iterator_at(client, "s"))) == [b"new"]
    assert number


def test_accounts_and_regions_do_not_see_each_other(streamkit_shared_server: ServerProcess) -> None:
    endpoint = streamkit_shared_server.endpoint
    scopes = [("111111111111", "us-east-1"), ("222222222222", "us-east-1"), ("111111111111", "eu-west-1")]
    for number, (account, region) in enumerate(scopes):
        with kinesis(endpoint, account, region) as client:
            assert client.list_streams()["StreamNames"] == []
            client.create_stream(StreamName="s", ShardCount=1)
            assert describe(client, "s")["StreamARN"] == arn("s", account, region)
            client.put_record(StreamName="s", Data=b"%d" % number, PartitionKey="k")
    iterators = []
    for number, (account, region) in enumerate(scopes):
        with kinesis(endpoint, account, region) as client:
            iterators.append(iterator_at(client, "s"))
            assert datas(read_shard(client, iterators[number])) == [b"%d" % number]
            assert client.describe_limits()["OpenShardCount"] == 1
    with kinesis(endpoint, *scopes[0]) as client, pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_records(ShardIterator=iterators[1])
    with kinesis(endpoint, *scopes[0]) as client:  # by its ARN another account's stream can be read, as with a policy
        answer = client.get_records(ShardIterator=iterators[1], StreamARN=arn("s", *scopes[1]))
        assert datas(answer["Records"]) == [b"1"]


# -- records ---------------------------------------------------------------------------------------------------------


def test_records_come_back_as_they_were_put(client: Any) -> None:
    client.create_stream(StreamName="s", ShardCount=1)
    puts = [
        (b"", "empty data"),
        (bytes(range(256)), "every byte"),
        ("Zoë 😀".encode(), "ключ-😀-鍵"),
        (b"k" * MIB, "a whole MiB"),
        (b"x", "k" * 256),
        (b"x", "é" * 256),
        (b"x", '"\\\n\t\x00'),
    ]
    before = datetime.now(UTC) - timedelta(seconds=1)
    placed = [client.put_record(StreamName="s", Data=data, PartitionKey=key) for data, key in puts]
    records = read_shard(client, iterator_at(client, "s"))
    assert [(record["Data"], record["PartitionKey"]) for record in records] == puts
    assert [record["SequenceNumber"] for record in records] == [put["SequenceNumber"] for put in placed]
    for record in records:
        assert set(record) == {"Data", "PartitionKey", "SequenceNumber", "ApproximateArrivalTimestamp"}
        assert before < record["ApproximateArrivalTimestamp"] <= datetime.now(UTC)
    numbers = [int(record["SequenceNumber"]) for record in records]
    assert numbers == sorted(set(numbers))


@given(
    st.lists(
        st.tuples(st.binary(max_size=50), st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)), max_size=20
    )
)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_records_survive_the_trip(client: Any, puts: list[tuple[bytes, str]]) -> None:
    name = f"s{time.time_ns()}"
    client.create_stream(StreamName=name, ShardCount=2)
    if puts:
        client.put_records(StreamName=name, Records=[{"Data": data, "PartitionKey": key} for data, key in puts])
    found = [record for records in read_all(client, name).values() for record in records]
    assert sorted((record["Data"], record["PartitionKey"]) for record in found) == sorted(puts)
    client.delete_stream(StreamName=name)


def test_five_hundred_records_are_put_at_once_and_each_is_where_the_answer_says(client: Any) -> None:
    client.create_stream(StreamName="s", ShardCount=4)
    entries = [{"Data": b"%d" % row, "PartitionKey": f"key-{row}"} for row in range(500)]
    answer = client.put_records(StreamName="s", Records=entries)
    assert answer["FailedRecordCount"] == 0
    by_place = {
        (shard, record["SequenceNumber"]): record["Data"]
        for shard, records in read_all(client, "s").items()
        for record in records
    }
    places = [(each["ShardId"], each["SequenceNumber"]) for each in answer["Records"]]
    assert [by_place.pop(place) for place in places] == [entry["Data"] for entry in entries]
    assert by_place == {}


def test_ten_mebibytes_are_put_at_once_and_read_in_answers_of_at_most_ten(client: Any) -> None:
    client.create_stream(StreamName="s", ShardCount=1)
    for part in range(2):
        entries = [{"Data": bytes([part, row]) * (MIB // 2), "PartitionKey": "k"} for row in range(9)]
        assert client.put_records(StreamName="s", Records=entries)["FailedRecordCount"] == 0
    iterator = iterator_at(client, "s")
    sizes: list[int] = []
    while not sizes or sizes[-1]:
        answer = client.get_records(ShardIterator=iterator)
        sizes.append(sum(len(record["Data"]) for record in answer["Records"]))
        iterator = answer["NextShardIterator"]
    assert sum(sizes) == 18 * MIB
    assert max(sizes) <= 10 * MIB


def test_an_explicit_hash_key_decides_the_shard_in_place_of_the_partition_key(client: Any) -> None:
    client.create_stream(StreamName="s", ShardCount=2)
    edge = HASH_KEYS_COUNT // 2
    expected = {0: FIRST, edge - 1: FIRST, edge: SECOND, HASH_KEYS_COUNT - 1: SECOND}
    for key, shard in expected.items():
        put = client.put_record(StreamName="s", Data=b"x", PartitionKey="same", ExplicitHashKey=str(key))
        assert put["ShardId"] == shard
    entries = [{"Data": b"x", "PartitionKey": "same", "ExplicitHashKey": str(key)} for key in expected]
    entries.insert(2, {"Data": b"x", "PartitionKey": "same"})  # MD5 51037a4a... is below the edge
    shards = [each["ShardId"] for each in client.put_records(StreamName="s", Records=entries)["Records"]]
    assert shards == [FIRST, FIRST, FIRST, SECOND, SECOND]


def test_a_larger_record_is_taken_where_the_stream_was_made_for_it(client: Any) -> None:
    client.create_stream(StreamName="s", ShardCount=1, MaxRecordSizeInKiB=4096)
    client.put_record(StreamName="s", Data=b"x" * 4 * MIB, PartitionKey="k")
    with pytest.raises(ClientError) as refused:
        client.put_record(StreamName="s", Data=b"x" * (4 * MIB + 1), PartitionKey="k")
    assert code_of(refused) == "ValidationException"
    assert [len(data) for data in datas(read_shard(client, iterator_at(client, "s")))] == [4 * MIB]


# -- iterators -------------------------------------------------------------------------------------------------------


def test_each_type_of_iterator_starts_where_it_says(client: Any) -> None:
    client.create_stream(StreamName="s", ShardCount=1)
    numbers = []
    for data in (b"0", b"1", b"2"):
        numbers.append(client.put_record(StreamName="s", Data=data, PartitionKey="k")["SequenceNumber"])
        time.sleep(0.002)
    arrived = [each["ApproximateArrivalTimestamp"] for each in read_shard(client, iterator_at(client, "s"))]
    start = list_shards(client, "s")[0]["SequenceNumberRange"]["StartingSequenceNumber"]

    def found(kind: str, **members: Any) -> list[bytes]:
        return datas(read_shard(client, iterator_at(client, "s", ShardIteratorType=kind, **members)))

    assert found("TRIM_HORIZON") == [b"0", b"1", b"2"]
    assert found("LATEST") == []
    assert found("AT_SEQUENCE_NUMBER", StartingSequenceNumber=numbers[1]) == [b"1", b"2"]
    assert found("AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=numbers[1]) == [b"2"]
    assert found("AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=numbers[2]) == []
    assert found("AT_SEQUENCE_NUMBER", StartingSequenceNumber=start) == [b"0", b"1", b"2"]
    assert found("AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=start) == [b"0", b"1", b"2"]
    assert found("AT_TIMESTAMP", Timestamp=arrived[1]) == [b"1", b"2"]
    assert found("AT_TIMESTAMP", Timestamp=arrived[1] + timedelta(milliseconds=1)) == [b"2"]
    assert found("AT_TIMESTAMP", Timestamp=arrived[0] - timedelta(days=400)) == [b"0", b"1", b"2"]


def test_a_latest_iterator_sees_what_comes_after_it(client: Any) -> None:
    client.create_stream(StreamName="s", ShardCount=1)
    client.put_record(StreamName="s", Data=b"before", PartitionKey="k")
    iterator = iterator_at(client, "s", ShardIteratorType="LATEST")
    client.put_record(StreamName="s", Data=b"after", PartitionKey="k")
    assert datas(read_shard(client, iterator)) == [b"after"]


def test_an_iterator_can_be_used_more_than_once(client: Any) -> None:
    client.create_stream(StreamName="s", ShardCount=1)
    client.put_record(StreamName="s", Data=b"x", PartitionKey="k")
    iterator = iterator_at(client, "s")
    first, second = (client.get_records(ShardIterator=iterator)["Records"] for _ in range(2))
    assert first == second != []


def test_get_records_heeds_its_limit_and_says_how_far_behind_it_is(client: Any) -> None:
    client.create_stream(StreamName="s", ShardCount=1)
    client.put_records(StreamName="s", Records=[{"Data": b"%d" % row, "PartitionKey": "k"} for row in range(5)])
    time.sleep(0.05)
    client.put_record(StreamName="s", Data=b"5", PartitionKey="k")
    iterator, rows, behind = iterator_at(client, "s"), [], []
    for _ in range(4):
        answer = client.get_records(ShardIterator=iterator, Limit=2)
        rows.append(datas(answer["Records"]))
        behind.append(answer["MillisBehindLatest"])
        iterator = answer["NextShardIterator"]
    assert rows == [[b"0", b"1"], [b"2", b"3"], [b"4", b"5"], []]
    assert min(behind[:2]) >= 50
    assert behind[2:] == [0, 0]


# -- shards ----------------------------------------------------------------------------------------------------------


def test_a_split_closes_the_parent_and_its_reader_is_led_to_the_children(client: Any) -> None:
    client.create_stream(StreamName="s", ShardCount=1)
    middle = HASH_KEYS_COUNT // 2
    parent_number = int(client.put_record(StreamName="s", Data=b"old", PartitionKey="k")["SequenceNumber"])
    open_iterator = iterator_at(client, "s")
    client.split_shard(StreamName="s", ShardToSplit=FIRST, NewStartingHashKey=str(middle))
    parent, lower, upper = list_shards(client, "s")
    assert "ParentShardId" not in parent
    ranges = [
        (int(each["HashKeyRange"]["StartingHashKey"]), int(each["HashKeyRange"]["EndingHashKey"]))
        for each in (lower, upper)
    ]
    assert ranges == [(0, middle - 1), (middle, HASH_KEYS_COUNT - 1)]
    assert {each["ParentShardId"] for each in (lower, upper)} == {FIRST}
    ending = int(parent["SequenceNumberRange"]["EndingSequenceNumber"])
    assert parent_number < ending
    placed = [
        client.put_record(StreamName="s", Data=b"new", PartitionKey="k", ExplicitHashKey=str(key))
        for key in (0, middle)
    ]
    assert [each["ShardId"] for each in placed] == [SECOND, THIRD]
    assert all(int(each["SequenceNumber"]) > ending for each in placed)
    answer = client.get_records(ShardIterator=open_iterator)
    assert datas(answer["Records"]) == [b"old"]
    assert "NextShardIterator" not in answer
    assert answer["MillisBehindLatest"] == 0
    assert [(child["ShardId"], child["ParentShards"]) for child in answer["ChildShards"]] == [
        (SECOND, [FIRST]),
        (THIRD, [FIRST]),
    ]
    assert answer["ChildShards"][1]["HashKeyRange"] == upper["HashKeyRange"]


def test_a_merge_leads_both_readers_to_the_child(client: Any) -> None:
    client.create_stream(StreamName="s", ShardCount=2)
    client.merge_shards(StreamName="s", ShardToMerge=FIRST, AdjacentShardToMerge=SECOND)
    child = list_shards(client, "s")[2]
    assert (child["ShardId"], child["ParentShardId"], child["AdjacentParentShardId"]) == (THIRD, FIRST, SECOND)
    assert child["HashKeyRange"] == {"StartingHashKey": "0", "EndingHashKey": str(HASH_KEYS_COUNT - 1)}
    for parent in (FIRST, SECOND):
        answer = client.get_records(ShardIterator=iterator_at(client, "s", parent))
        assert [each["ShardId"] for each in answer["ChildShards"]] == [THIRD]
        assert answer["ChildShards"][0]["ParentShards"] == [FIRST, SECOND]
        assert client.get_records(ShardIterator=iterator_at(client, "s", parent, ShardIteratorType="LATEST"))[
            "ChildShards"
        ]


def test_a_limit_that_ends_at_a_closed_shards_last_record_ends_the_shard(client: Any) -> None:
    client.create_stream(StreamName="s", ShardCount=1)
    client.put_records(StreamName="s", Records=[{"Data": b"x", "PartitionKey": "k"}] * 4)
    client.split_shard(StreamName="s", ShardToSplit=FIRST, NewStartingHashKey="2")
    first = client.get_records(ShardIterator=iterator_at(client, "s"), Limit=2)
    second = client.get_records(ShardIterator=first["NextShardIterator"], Limit=2)
    assert (len(first["Records"]), len(second["Records"])) == (2, 2)
    assert "NextShardIterator" not in second
    assert len(second["ChildShards"]) == 2


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 3), (3, 5), (4, 2), (5, 3), (4, 4)])
def test_update_shard_count_makes_equal_shards_with_one_or_two_parents(client: Any, before: int, after: int) -> None:
    client.create_stream(StreamName="s", ShardCount=before)
    client.update_shard_count(StreamName="s", TargetShardCount=after, ScalingType="UNIFORM_SCALING")
    shards = {shard["ShardId"]: shard for shard in list_shards(client, "s")}
    open_ids = [shard["ShardId"] for shard in list_shards(client, "s", ShardFilter={"Type": "AT_LATEST"})]
    width = HASH_KEYS_COUNT // after
    starts = sorted(int(shards[each]["HashKeyRange"]["StartingHashKey"]) for each in open_ids)
    assert starts == [index * width for index in range(after)]
    for shard in shards.values():
        parents = [shard[name] for name in ("ParentShardId", "AdjacentParentShardId") if name in shard]
        own = int(shard["SequenceNumberRange"]["StartingSequenceNumber"])
        for parent in parents:
            assert int(shards[parent]["SequenceNumberRange"]["EndingSequenceNumber"]) < own
        assert ("EndingSequenceNumber" in shard["SequenceNumberRange"]) == (shard["ShardId"] not in open_ids)


def test_list_shards_filters_and_a_page_after_the_first_is_filtered_alike(client: Any) -> None:
    client.create_stream(StreamName="s", ShardCount=3)
    created = describe(client, "s")["StreamCreationTimestamp"]
    time.sleep(0.01)
    client.split_shard(StreamName="s", ShardToSplit=SECOND, NewStartingHashKey=str(HASH_KEYS_COUNT // 2))
    time.sleep(0.01)
    client.merge_shards(
        StreamName="s", ShardToMerge="shardId-000000000003", AdjacentShardToMerge="shardId-000000000004"
    )

    def found(page: int, **shard_filter: Any) -> list[int]:
        shards = list_shards(client, "s", ShardFilter=shard_filter, MaxResults=page)
        return [int(shard["ShardId"].partition("-")[2]) for shard in shards]

    for page in (1, 2, 100):
        assert found(page, Type="AT_LATEST") == [0, 2, 5]
        assert found(page, Type="AT_TRIM_HORIZON") == [0, 1, 2]
        assert found(page, Type="FROM_TRIM_HORIZON") == [0, 1, 2, 3, 4, 5]
        assert found(page, Type="AFTER_SHARD_ID", ShardId=THIRD) == [3, 4, 5]
        assert found(page, Type="AT_TIMESTAMP", Timestamp=created + timedelta(milliseconds=1)) == [0, 1, 2]
        assert found(page, Type="FROM_TIMESTAMP", Timestamp=created) == [0, 1, 2, 3, 4, 5]
        assert found(page, Type="AT_TIMESTAMP", Timestamp=datetime.now(UTC)) == [0, 2, 5]
        assert found(page, Type="FROM_TIMESTAMP", Timestamp=datetime.now(UTC)) == [0, 2, 5]
    assert [each["ShardId"] for each in list_shards(client, "s", ExclusiveStartShardId="shardId-000000000004")] == [
        "shardId-000000000005"
    ]
    assert list_shards(client, "s", StreamCreationTimestamp=created)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        list_shards(client, "s", StreamCreationTimestamp=created + timedelta(seconds=5))


# -- retention, tags, consumers --------------------------------------------------------------------------------------


def test_retention_is_raised_and_lowered(client: Any) -> None:
    client.create_stream(StreamName="s", ShardCount=1)
    for change, hours in (("increase", 8760), ("increase", 8760), ("decrease", 24), ("decrease", 24)):
        getattr(client, f"{change}_stream_retention_period")(StreamName="s", RetentionPeriodHours=hours)
        assert describe(client, "s")["RetentionPeriodHours"] == hours


def test_tags_are_added_changed_removed_and_paged(client: Any) -> None:
    client.create_stream(StreamName="s", ShardCount=1, Tags={"b": "1"})
    client.add_tags_to_stream(StreamName="s", Tags={"a": "", "c": "über +-=._:/@", "b": "2"})
    assert client.list_tags_for_stream(StreamName="s")["Tags"] == [
        {"Key": "a", "Value": ""},
        {"Key": "b", "Value": "2"},
        {"Key": "c", "Value": "über +-=._:/@"},
    ]
    first = client.list_tags_for_stream(StreamName="s", Limit=2)
    assert first["HasMoreTags"]
    second = client.list_tags_for_stream(StreamName="s", Limit=2, ExclusiveStartTagKey=first["Tags"][-1]["Key"])
    assert ([tag["Key"] for tag in second["Tags"]], second["HasMoreTags"]) == (["c"], False)
    client.remove_tags_from_stream(StreamName="s", TagKeys=["a", "never there"])
    assert [tag["Key"] for tag in client.list_tags_for_stream(StreamName="s")["Tags"]] == ["b", "c"]


def test_resources_streams_and_consumers_are_tagged_by_their_arn(client: Any) -> None:
    client.create_stream(StreamName="s", ShardCount=1)
    consumer = client.register_stream_consumer(StreamARN=arn("s"), ConsumerName="c", Tags={"x": "0"})["Consumer"]
    for resource, known in ((arn("s"), {}), (consumer["ConsumerARN"], {"x": "0"})):
        client.tag_resource(ResourceARN=resource, Tags={"k": "v", "l": "w"})
        client.untag_resource(ResourceARN=resource, TagKeys=["l"])
        tags = client.list_tags_for_resource(ResourceARN=resource)["Tags"]
        assert {tag["Key"]: tag["Value"] for tag in tags} == {"k": "v", **known}
    assert client.list_tags_for_stream(StreamName="s")["Tags"] == [{"Key": "k", "Value": "v"}]


def test_consumers_are_registered_described_and_deregistered(client: Any) -> None:
    client.create_stream(StreamName="s", ShardCount=1)
    registered = client.register_stream_consumer(StreamARN=arn("s"), ConsumerName="c")["Consumer"]
    assert registered["ConsumerARN"].startswith(f"{arn('s')}/consumer/c:")
    assert registered["ConsumerStatus"] == "ACTIVE"
    by_name = client.describe_stream_consumer(StreamARN=arn("s"), ConsumerName="c")["ConsumerDescription"]
    by_arn = client.describe_stream_consumer(ConsumerARN=registered["ConsumerARN"])["ConsumerDescription"]
    assert by_name == by_arn == {**registered, "StreamARN": arn("s")}
    assert client.describe_stream_summary(StreamName="s")["StreamDescriptionSummary"]["ConsumerCount"] == 1
    with pytest.raises(client.exceptions.ResourceInUseException):
        client.delete_stream(StreamName="s")
    client.deregister_stream_consumer(ConsumerARN=registered["ConsumerARN"])
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.describe_stream_consumer(ConsumerARN=registered["ConsumerARN"])
    client.delete_stream(StreamName="s")


# -- transitions -----------------------------------------------------------------------------------------------------


def test_streams_show_their_transitions(start_streamkit: StartStreamkit) -> None:
    server = start_streamkit(transition_delay_ms=1_000)
    with kinesis(server.endpoint) as client:
        client.create_stream(StreamName="s", ShardCount=1)
        assert (status_of(client, "s"), describe(client, "s")["Shards"]) == ("CREATING", [])
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            client.put_record(StreamName="s", Data=b"x", PartitionKey="k")
        eventually(lambda: status_of(client, "s") == "ACTIVE")
        client.put_record(StreamName="s", Data=b"1", PartitionKey="k")
        client.split_shard(StreamName="s", ShardToSplit=FIRST, NewStartingHashKey="100")
        assert status_of(client, "s") == "UPDATING"
        client.put_record(StreamName="s", Data=b"2", PartitionKey="k")  # goes on while it is UPDATING
        with pytest.raises(client.exceptions.ResourceInUseException):
            client.split_shard(StreamName="s", ShardToSplit=FIRST, NewStartingHashKey="200")
        assert len(list_shards(client, "s")) == 1
        eventually(lambda: status_of(client, "s") == "ACTIVE")
        assert len(list_shards(client, "s")) == 3
        assert datas(read_shard(client, iterator_at(client, "s"))) == [b"1", b"2"]
        consumer = client.register_stream_consumer(StreamARN=arn("s"), ConsumerName="c")["Consumer"]
        assert consumer["ConsumerStatus"] == "CREATING"
        client.delete_stream(StreamName="s", EnforceConsumerDeletion=True)
        assert status_of(client, "s") == "DELETING"
        with pytest.raises(client.exceptions.ResourceInUseException):
            client.create_stream(StreamName="s", ShardCount=1)
        eventually(lambda: client.list_streams()["StreamNames"] == [])


def test_a_transition_goes_on_after_a_restart_in_its_middle(start_streamkit: StartStreamkit) -> None:
    server = start_streamkit(transition_delay_ms=3_000)
    with kinesis(server.endpoint, attempts=5) as client:
        for name in ("created", "split", "deleted"):
            client.create_stream(StreamName=name, ShardCount=1)
        eventually(lambda: all(status_of(client, name) == "ACTIVE" for name in ("created", "split", "deleted")))
        client.create_stream(StreamName="new", ShardCount=1)
        client.put_record(StreamName="split", Data=b"x", PartitionKey="k")
        client.split_shard(StreamName="split", ShardToSplit=FIRST, NewStartingHashKey="100")
        client.delete_stream(StreamName="deleted")
        server.kill()
        server.restart()
        states = {name: status_of(client, name) for name in ("new", "split", "deleted")}
        assert states == {"new": "CREATING", "split": "UPDATING", "deleted": "DELETING"}
        eventually(lambda: client.list_streams()["StreamNames"] == ["created", "new", "split"])
        eventually(lambda: status_of(client, "split") == "ACTIVE" and status_of(client, "new") == "ACTIVE")
        assert len(list_shards(client, "split")) == 3
        client.put_record(StreamName="new", Data=b"x", PartitionKey="k")


def test_a_stream_deleted_in_the_middle_of_a_transition_takes_its_successor_nothing(
    start_streamkit: StartStreamkit,
) -> None:
    """The timers of the first stream must not hit the second."""
    server = start_streamkit(transition_delay_ms=200, allow_reset=True)
    with kinesis(server.endpoint) as client:
        client.create_stream(StreamName="s", ShardCount=1)
        client.delete_stream(StreamName="s")  # while it is CREATING
        eventually(lambda: client.list_streams()["StreamNames"] == [])
        client.create_stream(StreamName="s", ShardCount=1)
        server.reset()
        client.create_stream(StreamName="s", ShardCount=1)
        eventually(lambda: status_of(client, "s") == "ACTIVE")
        client.put_record(StreamName="s", Data=b"x", PartitionKey="k")
        time.sleep(0.3)
        assert datas(read_shard(client, iterator_at(client, "s"))) == [b"x"]
    assert "Traceback" not in server.log.read_text()


# -- limits ----------------------------------------------------------------------------------------------------------


def test_enforced_limits_throttle_and_boto3_gets_through_by_trying_again(start_streamkit: StartStreamkit) -> None:
    server = start_streamkit(enforce_limits=True)
    with kinesis(server.endpoint) as once, kinesis(server.endpoint, attempts=10) as patient:
        once.create_stream(StreamName="s", ShardCount=1)
        put = {"StreamName": "s", "Data": b"x" * 600_000, "PartitionKey": "k"}
        once.put_record(**put)
        with pytest.raises(once.exceptions.ProvisionedThroughputExceededException) as refused:
            once.put_record(**put)
        assert refused.value.response["Error"]["Message"] == (
            f"Rate exceeded for shard {FIRST} in stream s under account {ACCOUNT}."
        )
        patient.put_record(**put)
        iterator = iterator_at(once, "s", ShardIteratorType="LATEST")
        for _ in range(5):
            once.get_records(ShardIterator=iterator, Limit=1)
        with pytest.raises(once.exceptions.ProvisionedThroughputExceededException):
            once.get_records(ShardIterator=iterator, Limit=1)
        assert patient.get_records(ShardIterator=iterator)["Records"] == []


def test_put_records_names_the_records_that_were_over_the_limit(start_streamkit: StartStreamkit) -> None:
    server = start_streamkit(enforce_limits=True)
    with kinesis(server.endpoint) as client:
        client.create_stream(StreamName="s", ShardCount=2)
        keys = ["0", str(HASH_KEYS_COUNT - 1)]
        entries = [
            {"Data": bytes([row]) * size, "PartitionKey": "k", "ExplicitHashKey": keys[row % 2]}
            for row, size in enumerate([700_000, 10, 700_000, 10, 10])
        ]
        answer = client.put_records(StreamName="s", Records=entries)
        assert answer["FailedRecordCount"] == 1
        assert [each.get("ErrorCode") for each in answer["Records"]] == [
            None,
            None,
            "ProvisionedThroughputExceededException",
            None,
            None,
        ]
        assert answer["Records"][2]["ErrorMessage"] == (
            f"Rate exceeded for shard {FIRST} in stream s under account {ACCOUNT}."
        )
        found = read_all(client, "s")
        assert [data[:1] for data in datas(found[FIRST])] == [b"\x00", b"\x04"]
        assert [data[:1] for data in datas(found[SECOND])] == [b"\x01", b"\x03"]


# -- restarts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_restart_keeps_everything(start_streamkit: StartStreamkit, how: str, tmp_path: Path) -> None:
    server = start_streamkit()
    with kinesis(server.endpoint, attempts=5) as client:
        client.create_stream(StreamName="s", ShardCount=2, Tags={"a": "b"})
        puts = client.put_records(
            StreamName="s", Records=[{"Data": b"%d" % row, "PartitionKey": f"k{row}"} for row in range(100)]
        )["Records"]
        client.split_shard(StreamName="s", ShardToSplit=FIRST, NewStartingHashKey="1000")
        client.register_stream_consumer(StreamARN=arn("s"), ConsumerName="c")
        client.increase_stream_retention_period(StreamName="s", RetentionPeriodHours=100)
        iterators = {shard: iterator_at(client, "s", shard) for shard in (FIRST, SECOND)}
        before = (read_all(client, "s"), describe(client, "s"), list_shards(client, "s"))
        getattr(server, how)()
        server.restart()
        assert (read_all(client, "s"), describe(client, "s"), list_shards(client, "s")) == before
        for shard, iterator in iterators.items():
            assert read_shard(client, iterator) == before[0][shard]
        assert {record["SequenceNumber"] for records in before[0].values() for record in records} == {
            put["SequenceNumber"] for put in puts
        }
        assert client.list_tags_for_stream(StreamName="s")["Tags"] == [{"Key": "a", "Value": "b"}]
        assert [each["ConsumerName"] for each in client.list_stream_consumers(StreamARN=arn("s"))["Consumers"]] == ["c"]
        following = client.put_record(StreamName="s", Data=b"after", PartitionKey="k1")
        same_shard = [put["SequenceNumber"] for put in puts if put["ShardId"] == following["ShardId"]]
        assert all(int(number) < int(following["SequenceNumber"]) for number in same_shard)
