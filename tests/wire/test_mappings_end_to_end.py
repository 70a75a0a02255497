"""Event source mappings with nothing but boto3: a stream, a function, and what the function was given.

The function is `lambda_code.RECORDER`; what becomes of a record is in the record itself.
"""

from __future__ import annotations

import datetime
import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from streamkit.testing.plugin import StartStreamkit
from streamkit.testing.server import ServerProcess
from tests.wire.clients import list_shards
from tests.wire.cloud import Cloud, eventually, function_arn, open_cloud, stream_arn
from tests.wire.lambda_code import RECORDER, History, Line

Recorder = Callable[..., History]


def make_recorder(cloud: Cloud, directory: Path) -> Recorder:
    """A function that makes functions: each has a history of its own."""

    def make(name: str = "f", *, more: dict[str, Any] | None = None, **variables: str) -> History:
        history = History(directory / f"{name}.history")
        members = {"Timeout": 30, "MemorySize": 256, **(more or {})}
        cloud.create(name, RECORDER, variables={**history.variables, **variables}, **members)
        return history

    return make


@pytest.fixture
def recorder(cloud: Cloud, tmp_path: Path) -> Recorder:
    return make_recorder(cloud, tmp_path)


def ok(n: int, rule: str = "ok", **more: Any) -> dict[str, Any]:
    return {"n": n, "rule": rule, **more}


def interleaved(keys: int, each: int) -> list[tuple[str, Any]]:
    """Records of many keys, one of each key after the other; a key's numbers grow."""
    return [(f"key-{key}", ok(n)) for n in range(each) for key in range(keys)]


def wait_for(history: History, count: int, within_s: float = 20) -> None:
    """Until that many different records were given."""
    eventually(lambda: len({each.number for each in history.given()}) >= count, within_s, so_far=history.batches)


def require_each_once_in_order(history: History, keys: int, each: int) -> None:
    assert history.first_by_key() == {f"key-{key}": list(range(each)) for key in range(keys)}
    assert set(Counter(given.number for given in history.given()).values()) == {1}


# -- batches ---------------------------------------------------------------------------------------------------------


def test_a_backlog_comes_in_full_batches_and_what_is_left(cloud: Cloud, recorder: Recorder) -> None:
    history = recorder()
    source = cloud.stream("s")
    cloud.put("s", *[("k", ok(n)) for n in range(250)])
    cloud.map(source, "f", BatchSize=100)
    wait_for(history, 250)
    assert history.batches() == [list(range(100)), list(range(100, 200)), list(range(200, 250))]


def test_the_event_is_awss_member_by_member(cloud: Cloud) -> None:
    cloud.create("f", "import json\ndef handler(event, context):\n    print(json.dumps(event))\n")
    source = cloud.stream("s")
    [number] = cloud.put("s", ("kéy", b"\x00\xff"))
    cloud.map(source, "f")
    eventually(lambda: '{"Records"' in cloud.log_of("f"))
    [line] = [line for line in cloud.log_of("f").splitlines() if line.startswith('{"Records"')]
    [arrived_ms] = cloud.arrivals_ms("s").values()
    assert json.loads(line) == {
        "Records": [
            {
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": "kéy",
                    "sequenceNumber": number,
                    "data": "AP8=",
                    "approximateArrivalTimestamp": arrived_ms / 1000,
                },
                "eventSource": "aws:kinesis",
                "eventVersion": "1.0",
                "eventID": f"shardId-000000000000:{number}",
                "eventName": "aws:kinesis:record",
                "invokeIdentityArn": "arn:aws:iam::000000000000:role/r",
                "awsRegion": "us-east-1",
                "eventSourceARN": source,
            }
        ]
    }


def test_a_batch_is_never_larger_than_an_invocation_takes(cloud: Cloud, recorder: Recorder) -> None:
    """Twelve records of 900 KB: base64 makes 1.2 MB of each, five fit into 6 MiB."""
    history = recorder(more={"MemorySize": 512})
    source = cloud.stream("s")
    for n in range(12):
        cloud.put("s", ("k", ok(n, pad="x" * 900_000)))
    cloud.map(source, "f", BatchSize=1000)
    wait_for(history, 12)
    assert history.batches() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]


def test_a_batching_window_gathers_what_comes_in_it(cloud: Cloud, recorder: Recorder) -> None:
    history = recorder()
    source = cloud.stream("s")
    cloud.map(source, "f", MaximumBatchingWindowInSeconds=1)
    began_s = time.time()
    for n in range(4):
        cloud.put("s", ("k", ok(n)))
        time.sleep(0.15)
    wait_for(history, 4)
    [line] = history.lines()
    assert [each.n for each in line.records] == [0, 1, 2, 3]
    assert 1.0 <= line.began_s - began_s < 2.0


def test_without_a_window_a_record_is_handled_at_once(cloud: Cloud, recorder: Recorder) -> None:
    history = recorder()
    source = cloud.stream("s")
    cloud.map(source, "f")
    cloud.put("s", ("k", ok(0)))
    wait_for(history, 1)
    delays_s = []
    for n in range(1, 30):
        put_at_s = time.time()
        cloud.put("s", ("k", ok(n)))
        wait_for(history, n + 1)
        delays_s.append(history.lines()[-1].began_s - put_at_s)
    assert sorted(delays_s)[len(delays_s) // 2] < 0.1


# -- shards and keys -------------------------------------------------------------------------------------------------


def test_each_shard_has_its_order_and_batches_are_of_one_shard(cloud: Cloud, recorder: Recorder) -> None:
    history = recorder()
    source = cloud.stream("s", shards=4)
    cloud.map(source, "f", BatchSize=37)
    cloud.put("s", *interleaved(keys=40, each=25))
    wait_for(history, 1000)
    require_each_once_in_order(history, keys=40, each=25)
    assert {line.shard for line in history.lines()} == set(cloud.shards("s"))
    for shard in cloud.shards("s"):
        numbers = [int(each.number) for line in history.lines() if line.shard == shard for each in line.records]
        assert numbers == sorted(numbers)


def test_a_parallelization_factor_keeps_the_order_of_each_key(cloud: Cloud, recorder: Recorder) -> None:
    """Batches of one shard run at the same time, but never two with the same key."""
    history = recorder(PAUSE_S="0.05")
    source = cloud.stream("s")
    cloud.put("s", *interleaved(keys=21, each=10))
    cloud.map(source, "f", BatchSize=5, ParallelizationFactor=4)
    wait_for(history, 210)
    require_each_once_in_order(history, keys=21, each=10)
    lines = history.lines()
    assert most_at_once(lines) == 4
    by_key: dict[str, list[Line]] = defaultdict(list)
    for line in sorted(lines, key=lambda line: line.began_s):
        for key in {each.key for each in line.records}:
            by_key[key].append(line)
    assert all(one.ended_s <= next.began_s for lines in by_key.values() for one, next in pairwise(lines))


def most_at_once(lines: list[Line]) -> int:
    """How many invocations were under way at the same time."""
    edges = sorted([(line.began_s, 1) for line in lines] + [(line.ended_s, -1) for line in lines])
    running = most = 0
    for _, step in edges:
        running += step
        most = max(most, running)
    return most


def test_a_reshard_during_processing_keeps_the_order_of_each_key(cloud: Cloud, recorder: Recorder) -> None:
    """Children wait until their parents are done, whoever is quicker to put than to process."""
    history = recorder(PAUSE_S="0.02")
    source = cloud.stream("s", shards=2)
    cloud.map(source, "f", BatchSize=20)
    records = interleaved(keys=20, each=45)
    third = len(records) // 3
    cloud.put("s", *records[:third])
    split_all(cloud, "s")
    cloud.put("s", *records[third : 2 * third])
    first, second = sorted(open_shards(cloud, "s"), key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"]))[:2]
    cloud.kinesis.merge_shards(StreamName="s", ShardToMerge=first["ShardId"], AdjacentShardToMerge=second["ShardId"])
    cloud.put("s", *records[2 * third :])
    wait_for(history, len(records))
    require_each_once_in_order(history, keys=20, each=45)
    assert len({line.shard for line in history.lines()}) > 4, "parents, children and grandchildren were read"


def open_shards(cloud: Cloud, stream: str) -> list[dict[str, Any]]:
    return list_shards(cloud.kinesis, stream, ShardFilter={"Type": "AT_LATEST"})


def split_all(cloud: Cloud, stream: str) -> None:
    for shard in open_shards(cloud, stream):
        first, last = (int(shard["HashKeyRange"][f"{edge}HashKey"]) for edge in ("Starting", "Ending"))
        cloud.kinesis.split_shard(
            StreamName=stream, ShardToSplit=shard["ShardId"], NewStartingHashKey=str((first + last) // 2)
        )


# -- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["stream", "bucket"])
def test_a_batch_that_keeps_failing_is_recorded_and_the_shard_goes_on(
    cloud: Cloud, recorder: Recorder, streamkit_shared_server: ServerProcess, tmp_path: Path, place: str
) -> None:
    history = recorder()
    source = cloud.stream("s")
    cloud.stream("dead")
    bucket = "failures-" + "".join(filter(str.isalnum, tmp_path.name)).lower()[-40:]
    numbers = cloud.put("s", *[("k", ok(n, "poison" if n == 1 else "ok")) for n in range(3)])
    destination = stream_arn("dead") if place == "stream" else f"arn:aws:s3:::{bucket}"
    uuid = cloud.map(
        source, "f", BatchSize=3, MaximumRetryAttempts=2, DestinationConfig={"OnFailure": {"Destination": destination}}
    )
    folder = streamkit_shared_server.data / "buckets" / bucket

    def documents() -> list[Any]:
        if place == "stream":
            return cloud.documents("dead")
        return [json.loads(path.read_bytes()) for path in folder.rglob("*") if path.is_file()]

    eventually(documents)
    assert history.batches() == [[0, 1, 2]] * 3, "retries + 1"
    began = [line.began_s for line in history.lines()]
    assert began[1] - began[0] >= 0.1
    assert began[2] - began[1] >= 0.2, "the pauses grow"
    [document] = documents()
    at_ms = cloud.arrivals_ms("s")
    info = {
        "shardId": "shardId-000000000000",
        "startSequenceNumber": numbers[0],
        "endSequenceNumber": numbers[2],
        "approximateArrivalOfFirstRecord": iso(at_ms[numbers[0]]),
        "approximateArrivalOfLastRecord": iso(at_ms[numbers[2]]),
        "batchSize": 3,
        "streamArn": source,
    }
    payload = json.loads(document.pop("payload", "null"))
    assert document == {
        "requestContext": {
            "requestId": document["requestContext"]["requestId"],
            "functionArn": function_arn("f"),
            "condition": "RetryAttemptsExhausted",
            "approximateInvokeCount": 3,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "version": "1.0",
        "timestamp": document["timestamp"],
        "KinesisBatchInfo": info,
    }
    if place == "bucket":
        assert [record["kinesis"]["sequenceNumber"] for record in payload["Records"]] == numbers
        [path] = [path for path in folder.rglob("*") if path.is_file()]
        assert str(path.relative_to(folder)).startswith(f"aws/lambda/{uuid}/shardId-000000000000/")
    else:
        assert payload is None, "AWS sends the event to S3 only"
    cloud.put("s", ("k", ok(3)))
    wait_for(history, 4)
    eventually(lambda: cloud.last_result(uuid) == "OK")
    assert history.batches()[3:] == [[3]]


def iso(epoch_ms: int) -> str:
    at = datetime.datetime.fromtimestamp(epoch_ms // 1000, datetime.UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{epoch_ms % 1000:03}Z"


def test_a_failing_batch_holds_up_its_shard_and_no_other(cloud: Cloud, recorder: Recorder) -> None:
    """Without a bound on retries the shard waits for its batch; then it goes on in order."""
    history = recorder()
    source = cloud.stream("s", shards=2)
    cloud.map(source, "f", BatchSize=1)
    keys = one_key_for_each_shard(cloud)
    cloud.put("s", (keys[0], ok(0, "flaky 3")), (keys[0], ok(1)), (keys[1], ok(0)))
    wait_for(history, 3)
    order = [(each.key, each.n) for each in history.given()]
    assert [n for key, n in order if key == keys[0]] == [0, 0, 0, 0, 1]
    assert order.index((keys[1], 0)) < order.index((keys[0], 1))


def one_key_for_each_shard(cloud: Cloud) -> list[str]:
    """Of the stream `s`; nothing that matters to a recorder is put."""
    cloud.stream("elsewhere", shards=len(cloud.shards("s")))
    found: dict[str, str] = {}
    for number in range(100):
        placed = cloud.kinesis.put_record(StreamName="elsewhere", PartitionKey=f"k{number}", Data=b"{}")
        found.setdefault(placed["ShardId"], f"k{number}")
    return [found[shard] for shard in sorted(found)]


@pytest.mark.parametrize("poison", [0, 6, 15])
def test_bisect_leaves_a_poison_record_alone(cloud: Cloud, recorder: Recorder, poison: int) -> None:
    history = recorder()
    source = cloud.stream("s")
    cloud.stream("dead")
    numbers = cloud.put("s", *[("k", ok(n, "poison" if n == poison else "ok")) for n in range(16)])
    cloud.map(
        source,
        "f",
        MaximumRetryAttempts=1,
        BisectBatchOnFunctionError=True,
        DestinationConfig={"OnFailure": {"Destination": stream_arn("dead")}},
    )
    good = {n for n in range(16) if n != poison}

    def processed() -> set[int]:
        lines = [line for line in history.lines() if not any(each.has_failed for each in line.records)]
        return {each.n for line in lines for each in line.records}

    eventually(lambda: processed() == good and cloud.documents("dead"), so_far=history.batches)
    [document] = cloud.documents("dead")
    info = document["KinesisBatchInfo"]
    assert (info["startSequenceNumber"], info["endSequenceNumber"], info["batchSize"]) == (
        numbers[poison],
        numbers[poison],
        1,
    )
    sizes = [len(batch) for batch in history.batches() if poison in batch]
    assert sizes == [16, 8, 4, 2, 1, 1], "halves, and then a retry"


def test_a_reported_failure_is_a_checkpoint(cloud: Cloud, recorder: Recorder) -> None:
    history = recorder(ANSWER="report")
    source = cloud.stream("s")
    cloud.put("s", *[("k", ok(n, "flaky 1" if n in (2, 5) else "ok")) for n in range(8)])
    cloud.map(source, "f", FunctionResponseTypes=["ReportBatchItemFailures"])
    eventually(lambda: len(history.batches()) >= 2)
    assert history.batches() == [list(range(8)), list(range(2, 8))]


def test_throttles_are_waited_out_and_count_as_no_attempt(cloud: Cloud, recorder: Recorder) -> None:
    history = recorder()
    source = cloud.stream("s")
    cloud.stream("dead")
    cloud.functions.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=0)
    uuid = cloud.map(
        source,
        "f",
        MaximumRetryAttempts=0,
        DestinationConfig={"OnFailure": {"Destination": stream_arn("dead")}},
    )
    cloud.put("s", ("k", ok(0)))
    eventually(lambda: cloud.last_result(uuid).startswith("PROBLEM"))
    time.sleep(0.5)
    assert history.lines() == []
    cloud.functions.delete_function_concurrency(FunctionName="f")
    wait_for(history, 1)
    assert cloud.documents("dead") == []


def test_the_last_result_says_how_the_last_invocation_went(cloud: Cloud, recorder: Recorder) -> None:
    history = recorder()
    source = cloud.stream("s")
    uuid = cloud.map(source, "f", MaximumRetryAttempts=0)
    assert cloud.last_result(uuid) == "No records processed"
    cloud.put("s", ("k", ok(0)))
    eventually(lambda: cloud.last_result(uuid) == "OK")
    cloud.put("s", ("k", ok(1, "poison")))
    eventually(lambda: cloud.last_result(uuid) == "PROBLEM: Function call failed")
    cloud.put("s", ("k", ok(2)))
    eventually(lambda: cloud.last_result(uuid) == "OK")
    assert history.batches() == [[0], [1], [2]]


# -- filters and windows ---------------------------------------------------------------------------------------------


def test_a_filter_lets_through_what_matches_and_the_rest_counts_as_done(cloud: Cloud, recorder: Recorder) -> None:
    history = recorder()
    source = cloud.stream("s")
    patterns = [{"data": {"n": [{"numeric": [">=", 95]}]}}, {"partitionKey": ["vip"], "data": {"rule": ["ok"]}}]
    labels = {"function": function_arn("f"), "source": source}
    filtered = cloud.metric("streamkit_mapping_filtered_records_total", **labels)
    uuid = cloud.map(
        source, "f", FilterCriteria={"Filters": [{"Pattern": json.dumps(pattern)} for pattern in patterns]}
    )
    cloud.put("s", *[("vip" if n % 10 == 0 else "k", ok(n)) for n in range(100)], ("vip", b"no json"))
    wait_for(history, 15)
    assert [each.n for each in history.given()] == [*range(0, 100, 10), *range(95, 100)]
    eventually(lambda: cloud.metric("streamkit_mapping_filtered_records_total", **labels) - filtered == 86)
    cloud.change_mapping(uuid, FilterCriteria={"Filters": []})
    cloud.put("s", ("k", ok(7)))
    wait_for(history, 16)
    assert history.batches()[-1] == [7], "what was filtered out before is not looked at again"


def test_the_windows_sums_are_those_of_the_records_that_arrived_in_them(cloud: Cloud, recorder: Recorder) -> None:
    """Windows of a second over three seconds of records: each has one final invocation, told so and without records,
    whose state has the window's count and sum; no earlier state is carried into the next one."""
    history = recorder()
    source = cloud.stream("s")
    cloud.map(source, "f", TumblingWindowInSeconds=1, BatchSize=7)
    ends_at = time.monotonic() + 2.6
    n = 0
    while time.monotonic() < ends_at:
        cloud.put("s", *[("k", ok(n + each)) for each in range(10)])
        n += 10
        time.sleep(0.02)
    truth: dict[int, list[int]] = defaultdict(list)
    at_ms = cloud.arrivals_ms("s")
    order = sorted(at_ms, key=int)
    for value, number in enumerate(order):
        truth[at_ms[number] // 1000].append(value)

    def finals() -> list[Line]:
        return [line for line in history.lines() if line.is_final]

    eventually(lambda: len(finals()) >= len(truth), so_far=finals)
    found = {line.window["start"]: line for line in finals() if line.window}
    assert len(found) == len(finals()) == len(truth), "one final invocation for each window"
    assert len(truth) >= 3
    for second, values in truth.items():
        line = found[f"{datetime.datetime.fromtimestamp(second, datetime.UTC):%Y-%m-%dT%H:%M:%S}Z"]
        assert line.records == []
        assert line.state == {"count": len(values), "sum": sum(values)}
    for line in history.lines():
        assert line.window is not None
        inside = {at_ms[each.number] // 1000 for each in line.records}
        assert len(inside) <= 1, "a batch is of one window"


# -- where it starts, and how it changes -----------------------------------------------------------------------------


def test_a_mapping_starts_where_it_was_told_to(cloud: Cloud, recorder: Recorder) -> None:
    histories = {name: recorder(name) for name in ("horizon", "latest", "timestamp")}
    source = cloud.stream("s")
    cloud.put("s", *[("k", ok(n)) for n in range(3)])
    time.sleep(0.05)
    at = datetime.datetime.now(datetime.UTC)
    time.sleep(0.05)
    cloud.put("s", *[("k", ok(n)) for n in range(3, 6)])
    time.sleep(0.05)
    cloud.map(source, "horizon")
    cloud.map(source, "latest", StartingPosition="LATEST")
    cloud.map(source, "timestamp", StartingPosition="AT_TIMESTAMP", StartingPositionTimestamp=at)
    cloud.put("s", *[("k", ok(n)) for n in range(6, 9)])
    wanted = {"horizon": range(9), "timestamp": range(3, 9), "latest": range(6, 9)}
    for name, numbers in wanted.items():
        wait_for(histories[name], len(numbers))
        assert [each.n for each in histories[name].given()] == list(numbers)


def test_latest_takes_what_arrives_once_the_mapping_is_made(cloud: Cloud, recorder: Recorder) -> None:
    """Also while it is still being created: nothing is lost between the answer and the first read."""
    history = recorder()
    source = cloud.stream("s", shards=3)
    cloud.map(source, "f", StartingPosition="LATEST", wait=False)
    cloud.put("s", *interleaved(keys=10, each=3))
    wait_for(history, 30)
    require_each_once_in_order(history, keys=10, each=3)


def test_a_disabled_mapping_keeps_its_place(cloud: Cloud, recorder: Recorder) -> None:
    history = recorder()
    source = cloud.stream("s", shards=2)
    uuid = cloud.map(source, "f")
    records = interleaved(keys=10, each=9)
    cloud.put("s", *records[:30])
    wait_for(history, 30)
    cloud.change_mapping(uuid, Enabled=False)
    cloud.put("s", *records[30:60])
    time.sleep(0.2)
    assert len(history.given()) == 30
    cloud.change_mapping(uuid, Enabled=True)
    cloud.put("s", *records[60:])
    wait_for(history, 90)
    require_each_once_in_order(history, keys=10, each=9)


def test_a_mapping_made_disabled_does_nothing_until_it_is_enabled(cloud: Cloud, recorder: Recorder) -> None:
    history = recorder()
    source = cloud.stream("s")
    uuid = cloud.map(source, "f", Enabled=False, wait=False)
    cloud.wait_for_mapping(uuid, "Disabled")
    cloud.put("s", ("k", ok(0)))
    time.sleep(0.2)
    assert history.lines() == []
    cloud.change_mapping(uuid, Enabled=True)
    wait_for(history, 1)


def test_a_changed_batch_size_is_that_of_the_next_batches(cloud: Cloud, recorder: Recorder) -> None:
    history = recorder(PAUSE_S="0.05")
    source = cloud.stream("s")
    cloud.put("s", *[("k", ok(n)) for n in range(200)])
    uuid = cloud.map(source, "f", BatchSize=5)
    wait_for(history, 10)
    cloud.change_mapping(uuid, BatchSize=50)
    wait_for(history, 200)
    assert [n for batch in history.batches() for n in batch] == list(range(200))
    sizes = [len(batch) for batch in history.batches()]
    assert sizes == sorted(sizes[:-1]) + sizes[-1:]
    assert set(sizes[:-1]) == {5, 50}


def test_several_mappings_on_a_stream_do_not_know_of_each_other(cloud: Cloud, recorder: Recorder) -> None:
    """One of them fails all the time, one is slow; each gets every record in order."""
    histories = {"quick": recorder("quick"), "slow": recorder("slow", PAUSE_S="0.1"), "stuck": recorder("stuck")}
    source = cloud.stream("s")
    cloud.map(source, "quick", BatchSize=10)
    cloud.map(source, "slow", BatchSize=10)
    pattern = json.dumps({"data": {"rule": [{"prefix": "flaky"}]}})
    cloud.map(source, "stuck", FilterCriteria={"Filters": [{"Pattern": pattern}]})
    cloud.put("s", *[("k", ok(n)) for n in range(50)])
    wait_for(histories["quick"], 50)
    assert len(histories["slow"].given()) < 50
    cloud.put("s", ("k", ok(50, "flaky 2")))
    for name in ("quick", "slow"):
        wait_for(histories[name], 51)
        assert list(dict.fromkeys(each.n for each in histories[name].given())) == list(range(51))
    eventually(lambda: histories["stuck"].batches() == [[50]] * 3)


def test_a_function_is_updated_in_the_middle_without_losing_or_repeating_a_record(
    cloud: Cloud, recorder: Recorder
) -> None:
    history = recorder(PAUSE_S="0.02", TAG="old")
    source = cloud.stream("s", shards=2)
    cloud.put("s", *interleaved(keys=10, each=40))
    cloud.map(source, "f", BatchSize=10)
    wait_for(history, 60)
    cloud.functions.update_function_configuration(
        FunctionName="f", Environment={"Variables": {**history.variables, "TAG": "new"}}
    )
    wait_for(history, 400)
    require_each_once_in_order(history, keys=10, each=40)
    for shard in cloud.shards("s"):
        tags = [line.tag for line in history.lines() if line.shard == shard]
        assert tags == sorted(tags, reverse=True), "the old ones, then the new ones"
        assert set(tags) == {"old", "new"}


def test_a_mapping_to_an_alias_follows_it(cloud: Cloud, recorder: Recorder) -> None:
    history = recorder(more={"Publish": True})
    cloud.functions.update_function_configuration(FunctionName="f", Description="second")
    cloud.wait_until_updated("f")
    assert cloud.publish("f") == "2"
    cloud.functions.create_alias(FunctionName="f", Name="live", FunctionVersion="1")
    source = cloud.stream("s")
    uuid = cloud.map(source, function_arn("f") + ":live")
    assert cloud.functions.get_event_source_mapping(UUID=uuid)["FunctionArn"] == function_arn("f") + ":live"
    cloud.put("s", ("k", ok(0)))
    wait_for(history, 1)
    cloud.functions.update_alias(FunctionName="f", Name="live", FunctionVersion="2")
    cloud.put("s", ("k", ok(1)))
    wait_for(history, 2)
    assert [(line.version, line.records[0].n) for line in history.lines()] == [("1", 0), ("2", 1)]


def test_a_deleted_mapping_is_gone_and_a_new_one_begins_anew(cloud: Cloud, recorder: Recorder) -> None:
    history = recorder()
    source = cloud.stream("s")
    uuid = cloud.map(source, "f")
    cloud.put("s", ("k", ok(0)))
    wait_for(history, 1)
    assert cloud.functions.delete_event_source_mapping(UUID=uuid)["State"] == "Deleting"

    def is_gone() -> bool:
        try:
            cloud.functions.get_event_source_mapping(UUID=uuid)
        except ClientError as error:
            return bool(error.response["Error"]["Code"] == "ResourceNotFoundException")
        return False

    eventually(is_gone)
    cloud.put("s", ("k", ok(1)))
    time.sleep(0.2)
    assert history.batches() == [[0]]
    assert cloud.map(source, "f") != uuid
    eventually(lambda: [each.n for each in history.given()] == [0, 0, 1])


# -- limits, restarts, figures ---------------------------------------------------------------------------------------


def test_a_consumer_as_source_has_a_throughput_of_its_own(start_streamkit: StartStreamkit, tmp_path: Path) -> None:
    """Limits are enforced, and somebody uses up the shard's reads: the mapping that reads as a registered consumer is
    as quick as ever."""
    server = start_streamkit(enforce_limits=True)
    with open_cloud(server.endpoint) as cloud, greedy_reader(cloud) as refusals:
        history = make_recorder(cloud, tmp_path)("f")
        consumer = cloud.kinesis.register_stream_consumer(StreamARN=stream_arn("s"), ConsumerName="c")["Consumer"]
        arn = consumer["ConsumerARN"]
        eventually(
            lambda: (
                cloud.kinesis.describe_stream_consumer(ConsumerARN=arn)["ConsumerDescription"]["ConsumerStatus"]
                == "ACTIVE"
            )
        )
        cloud.map(arn, "f", BatchSize=1)
        for n in range(30):
            cloud.put("s", ("k", ok(n)))
            time.sleep(0.02)
        wait_for(history, 30, within_s=2)
        assert [each.n for each in history.given()] == list(range(30))
        assert {line.source for line in history.lines()} == {arn}
        assert refusals, "the reader was refused: the shard's reads were used up"


class greedy_reader:
    """Reads the stream `s`, which it makes, more often than a shard allows; what it was refused is what it gives."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._ending = threading.Event()
        self._refusals: list[str] = []
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> list[str]:
        self._cloud.stream("s")
        self._thread.start()
        return self._refusals

    def __exit__(self, *error: object) -> None:
        self._ending.set()
        self._thread.join()

    def _read(self) -> None:
        members = {"StreamName": "s", "ShardId": "shardId-000000000000", "ShardIteratorType": "TRIM_HORIZON"}
        iterator = self._cloud.kinesis.get_shard_iterator(**members)["ShardIterator"]
        while not self._ending.is_set():
            try:
                self._cloud.kinesis.get_records(ShardIterator=iterator)
            except ClientError as error:
                self._refusals.append(error.response["Error"]["Code"])


@pytest.fixture
def own_cloud(streamkit_server: ServerProcess) -> Iterator[Cloud]:
    with open_cloud(streamkit_server.endpoint) as made:
        yield made


def test_a_restarted_server_goes_on_where_it_stopped(
    own_cloud: Cloud, streamkit_server: ServerProcess, tmp_path: Path
) -> None:
    """A stop lets what is under way finish, and remembers it: no record is given twice."""
    history = make_recorder(own_cloud, tmp_path)(PAUSE_S="0.02")
    source = own_cloud.stream("s", shards=2)
    own_cloud.put("s", *interleaved(keys=10, each=60))
    uuid = own_cloud.map(source, "f", BatchSize=10)
    wait_for(history, 50)
    streamkit_server.stop()
    stopped_at = len(history.given())
    assert stopped_at < 600
    time.sleep(0.1)
    assert len(history.given()) == stopped_at
    streamkit_server.start()
    own_cloud.wait_for_mapping(uuid, "Enabled")
    wait_for(history, 600)
    require_each_once_in_order(history, keys=10, each=60)


def test_retries_are_counted_across_a_restart(
    own_cloud: Cloud, streamkit_server: ServerProcess, tmp_path: Path
) -> None:
    history = make_recorder(own_cloud, tmp_path)()
    source = own_cloud.stream("s")
    own_cloud.stream("dead")
    own_cloud.put("s", ("k", ok(0, "poison")))
    own_cloud.map(
        source, "f", MaximumRetryAttempts=4, DestinationConfig={"OnFailure": {"Destination": stream_arn("dead")}}
    )
    eventually(lambda: len(history.lines()) == 3)
    streamkit_server.restart()
    eventually(lambda: own_cloud.documents("dead"))
    assert history.batches() == [[0]] * 5
    [document] = own_cloud.documents("dead")
    assert document["requestContext"]["approximateInvokeCount"] == 5


def test_the_metrics_tell_what_mappings_do(cloud: Cloud, recorder: Recorder) -> None:
    history = recorder()
    source = cloud.stream("s")
    labels = {"function": function_arn("f"), "source": source}

    def counts() -> dict[str, float]:
        names = ("records", "filtered_records", "discarded_records")
        counted = {name: cloud.metric(f"streamkit_mapping_{name}_total", **labels) for name in names}
        invoked = ("invocations", "invocation_errors")
        return counted | {name: cloud.metric(f"streamkit_{name}_total", function="f") for name in invoked}

    before = counts()
    pattern = json.dumps({"data": {"rule": [{"anything-but": "skip"}]}})
    cloud.put("s", *[("k", ok(n)) for n in range(6)], *[("k", ok(n, "skip")) for n in range(4)])
    time.sleep(0.3)
    uuid = cloud.map(
        source, "f", MaximumRetryAttempts=1, BatchSize=6, FilterCriteria={"Filters": [{"Pattern": pattern}]}
    )
    wait_for(history, 6)
    assert 300 <= cloud.metric("streamkit_mapping_iterator_age_ms", **labels) < 10_000
    cloud.put("s", ("k", ok(10, "poison")))
    eventually(lambda: counts()["discarded_records"] > before["discarded_records"])
    assert {name: count - before[name] for name, count in counts().items()} == {
        "records": 6 + 2,
        "filtered_records": 4,
        "discarded_records": 1,
        "invocations": 3,
        "invocation_errors": 2,
    }
    assert cloud.last_result(uuid) == "PROBLEM: Function call failed"
