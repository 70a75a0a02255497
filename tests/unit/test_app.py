"""The promises of `App`: plain functions that read streams, over a directory that outlives them."""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import boto3
import pyarrow as pa
import pytest

import streamkit
from streamkit import App, FunctionFailed, RecordBatch, StreamkitError
from streamkit.kit.app import Environment
from streamkit.model.errors import ResourceNotFound, UsageError
from streamkit.testing.server import ServerProcess
from tests.unit import app_functions

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 30


def run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    async def within() -> T:
        return await asyncio.wait_for(work(), TIMEOUT_S)

    return asyncio.run(within())


def client(app_or_server: Any, service: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=app_or_server.endpoint,
        region_name="us-east-1",
        aws_access_key_id="000000000000",
        aws_secret_access_key="secret",
    )


async def until(is_so: Callable[[], Any]) -> None:
    while not is_so():  # noqa: ASYNC110 handlers in threads and other processes change it
        await asyncio.sleep(0.01)


async def data_in(app: App, stream: str) -> list[bytes]:
    """All records of a stream."""
    found = app.kit.consumer(stream, f"reader-{time.monotonic_ns()}", follow=False)
    return [bytes(value) async for batch in found for value in batch.values()]


def data_of(event: Any) -> list[str]:
    return [base64.b64decode(record["kinesis"]["data"]).decode() for record in event["Records"]]


def numbers(count: int, first: int = 0) -> list[tuple[str, str]]:
    return [(f"key-{number % 10}", str(number)) for number in range(first, first + count)]


def texts(count: int, first: int = 0) -> list[str]:
    return [text for _, text in numbers(count, first)]


class Collector:
    """An app with one function that collects the data of stream `s`."""

    def __init__(self, path: Path, port: int | None = None, name: str = "f", **options: Any) -> None:
        self.app = App(path, port=port)
        self.batches: list[list[str]] = []
        self.app.function(stream="s", name=name, **options)(self.handle)

    def handle(self, event: Any, context: Any) -> None:
        self.batches.append(data_of(event))

    @property
    def seen(self) -> list[str]:
        return [text for batch in self.batches for text in batch]

    async def put(self, records: list[tuple[str, str]]) -> None:
        await self.app.kit.put_many("s", records)

    async def work_off(self, records: list[tuple[str, str]] | None = None) -> list[str]:
        """From start to stop, with these records put; what the function saw."""
        async with self.app:
            await self.put(records or [])
            await self.app.caught_up()
        return self.seen


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Any]]:
    """What handlers of `app_functions` noted."""
    path = tmp_path / "seen"
    monkeypatch.setenv("SEEN", str(path))
    return lambda: [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


# -- events and batches ----------------------------------------------------------------------------------------------


def test_a_plain_function_gets_the_event_that_lambda_would_give_it(tmp_path: Path) -> None:
    """Member for member what AWS documents, with the values that boto3 reads from the stream."""

    async def work() -> None:
        app = App(tmp_path / "data", port=0)
        events: list[Any] = []

        @app.function(stream="clicks", batching_window_s=1, batch_size=2)
        def count(event: Any, context: Any) -> None:
            assert (context.function_name, context.function_version) == ("count", "$LATEST")
            assert 0 < context.get_remaining_time_in_millis() <= 60_000
            events.append(event)

        async with app:
            await app.kit.put_many("clicks", [("user-1", b"\x00\xff"), ("user-2", "text")])
            await app.caught_up()

            def read() -> list[Any]:
                kinesis = client(app, "kinesis")
                found = kinesis.get_shard_iterator(
                    StreamName="clicks", ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
                )
                records: list[Any] = kinesis.get_records(ShardIterator=found["ShardIterator"])["Records"]
                return records

            records = await asyncio.to_thread(read)
        expected = [
            {
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": record["PartitionKey"],
                    "sequenceNumber": record["SequenceNumber"],
                    "data": base64.b64encode(record["Data"]).decode(),
                    "approximateArrivalTimestamp": record["ApproximateArrivalTimestamp"].timestamp(),
                },
                "eventSource": "aws:kinesis",
                "eventVersion": "1.0",
                "eventID": f"shardId-000000000000:{record['SequenceNumber']}",
                "eventName": "aws:kinesis:record",
                "invokeIdentityArn": "arn:aws:iam::000000000000:role/streamkit-app",
                "awsRegion": "us-east-1",
                "eventSourceARN": "arn:aws:kinesis:us-east-1:000000000000:stream/clicks",
            }
            for record in records
        ]
        assert events == [{"Records": expected}]
        assert [record["Data"] for record in records] == [b"\x00\xff", b"text"]

    run(work)


def check_batch(told: Any, placed: dict[str, str]) -> None:
    """Everything a batch says is of the records that were placed: data to sequence number."""
    expected = [placed[text] for text in told["data"]]
    offsets = [app_functions.offset_of(number) for number in expected]
    assert told["numbers"] == expected
    assert told["offsets"] == offsets
    assert told["tail"] == expected[len(expected) // 2 :]
    assert (told["last"], told["next"]) == (expected[-1], offsets[-1] + 1)
    assert told["keys"] == [json.loads(text)["key"] for text in told["data"]]
    columns = zip(told["keys"], told["data"], expected, told["arrivals"], strict=True)
    assert told["records"] == [list(each) for each in columns]
    assert told["arrow"] == [told["keys"], told["data"], offsets, told["arrivals"]]


ODD = [{"data": {"odd": [True]}}]
GAPS = {
    "filters": {"filters": ODD},
    "lanes": {"parallelization_factor": 4},
    "filters and lanes": {"parallelization_factor": 4, "filters": ODD},
}
BATCH_CASES = [
    pytest.param("inline", {}, False, id="inline"),
    pytest.param("fork", {}, False, id="fork"),
    *(pytest.param("inline", options, True, id=f"inline, {name}") for name, options in GAPS.items()),
    *(pytest.param("fork", options, True, id=f"fork, {name}") for name, options in GAPS.items()),
]


@pytest.mark.parametrize(("environment", "options", "has_gaps"), BATCH_CASES)
def test_a_function_that_asks_for_batches_gets_them_with_each_records_own_place(
    tmp_path: Path, seen: Callable[[], list[Any]], environment: Environment, options: dict[str, Any], has_gaps: bool
) -> None:
    """Offsets, sequence numbers and Arrow columns are right also where records between them are somebody else's."""

    async def work() -> dict[str, str]:
        app = App(tmp_path / "data")
        variables = {"SEEN": os.environ["SEEN"]}
        app.function(stream="s", environment=environment, variables=variables, **options)(app_functions.tell_batch)
        async with app:
            placed: dict[str, str] = {}
            for first in range(0, 120, 40):  # several appends: batches are made of parts of several
                records = [
                    (
                        f"key-{number % 17}",
                        json.dumps({"n": number, "key": f"key-{number % 17}", "odd": number % 2 > 0}),
                    )
                    for number in range(first, first + 40)
                ]
                placements = await app.kit.put_many("s", records)
                pairs = zip(records, placements, strict=True)
                placed |= {text: str(place.sequence_number) for (_, text), place in pairs}
            await app.caught_up()
        return placed

    placed = run(work)
    told = seen()
    for each in told:
        check_batch(each, placed)
        assert (each["pid"] == os.getpid()) == (environment == "inline")
    wanted = [text for text in placed if "filters" not in options or json.loads(text)["odd"]]
    assert sorted(text for each in told for text in each["data"]) == sorted(wanted)
    gaps = [each for each in told if each["offsets"][-1] - each["offsets"][0] >= len(each["offsets"])]
    assert bool(gaps) == has_gaps


def annotated(annotation: object) -> Callable[[Any, Any], None]:
    def handler(first: Any, context: Any) -> None:
        raise AssertionError("it is replaced")

    handler.__annotations__["first"] = annotation
    return handler


@pytest.mark.parametrize(
    ("annotation", "input_type"),
    [
        (RecordBatch, RecordBatch),
        ("RecordBatch", RecordBatch),
        ("streamkit.RecordBatch", RecordBatch),
        ("app_functions.RecordBatch", RecordBatch),
        ("pa.RecordBatch", dict),
        (pa.RecordBatch, dict),
        ("NameThatIsNotThere", dict),
        (dict, dict),
        ("Any", dict),
    ],
)
def test_an_annotation_asks_for_batches_however_it_is_written(
    tmp_path: Path, annotation: object, input_type: type
) -> None:
    """Evaluated or not, under whichever name it was imported; Arrow's class of the same name is another one."""
    app = App(tmp_path / "data")
    types: list[type] = []

    @functools.wraps(annotated(annotation))
    def handler(first: Any, context: Any) -> None:
        types.append(type(first))

    app.function(stream="s", name="f")(handler)

    async def work() -> None:
        async with app:
            await app.kit.put("s", "x", partition_key="k")
            await app.caught_up()

    run(work)
    assert types == [input_type]


def test_async_handlers_run_on_the_event_loop(tmp_path: Path) -> None:
    """They may await, with events and with batches, and use the app's own kit."""

    async def work() -> None:
        app = App(tmp_path / "data")

        @app.function(stream="s")
        async def copy(batch: RecordBatch, context: Any) -> None:
            await asyncio.sleep(0)
            await app.kit.put_many("copies", [(record.partition_key, record.data) for record in batch.records()])

        copied: list[str] = []

        @app.function(stream="copies")
        async def collect(event: Any, context: Any) -> None:
            assert asyncio.get_running_loop() is loop
            copied.extend(data_of(event))

        loop = asyncio.get_running_loop()
        async with app:
            await app.kit.put_many("s", numbers(20))
            await until(lambda: len(copied) == 20)
        assert copied == texts(20)

    run(work)


def test_a_handler_stays_the_function_it_was(tmp_path: Path) -> None:
    """So that it can be called in a test of its own."""
    app = App(tmp_path / "data")

    @app.function(stream="s")
    def double(event: int, context: Any) -> int:
        return 2 * event

    assert double(21, None) == 42


def test_a_function_in_a_process_of_its_own_has_its_variables_and_returns_its_result(
    tmp_path: Path, seen: Callable[[], list[Any]]
) -> None:
    async def work() -> None:
        app = App(tmp_path / "data")
        variables = {"SEEN": os.environ["SEEN"], "COLOUR": "red"}
        app.function(name="told", environment="fork", variables=variables)(app_functions.tell_event)
        async with app:
            assert await app.invoke("told", {"a": [1]}) == {"a": [1]}

    run(work)
    (told,) = seen()
    assert told.pop("pid") != os.getpid()
    assert told == {"event": {"a": [1]}, "name": "told", "variable": "red"}


# -- failures --------------------------------------------------------------------------------------------------------


class Poisoned(Collector):
    """Fails for batches with a certain record."""

    def handle(self, event: Any, context: Any) -> None:
        super().handle(event, context)
        if "13" in data_of(event):
            raise ValueError("unlucky")


def test_what_cannot_be_processed_is_told_of_in_a_stream(tmp_path: Path) -> None:
    """The poison record is found by bisecting, tried as often as allowed, and everything else is processed."""

    async def work() -> None:
        poisoned = Poisoned(tmp_path / "data", retries_max=2, bisect=True, on_failure="s-failed")
        app = poisoned.app
        async with app:
            placed = await app.kit.put_many("s", numbers(40))
            await app.caught_up()
            (document,) = map(json.loads, await data_in(app, "s-failed"))
        assert poisoned.batches.count(["13"]) == 3
        assert {"13"} == set(texts(40)) - {text for batch in poisoned.batches if "13" not in batch for text in batch}
        info, number = document["KinesisBatchInfo"], placed[13].sequence_number
        assert (info["startSequenceNumber"], info["endSequenceNumber"], info["batchSize"]) == (number, number, 1)
        assert info["streamArn"] == "arn:aws:kinesis:us-east-1:000000000000:stream/s"
        assert document["requestContext"]["condition"] == "RetryAttemptsExhausted"
        assert document["requestContext"]["functionArn"] == "arn:aws:lambda:us-east-1:000000000000:function:f"
        assert document["responseContext"]["functionError"] == "Unhandled"

    run(work)


def test_what_cannot_be_processed_is_kept_whole_in_a_bucket(tmp_path: Path) -> None:
    """With the event as the function got it, in a folder of the directory."""

    async def work() -> list[str]:
        poisoned = Poisoned(tmp_path / "data", retries_max=0, batch_size=1, on_failure="arn:aws:s3:::failures")
        await poisoned.work_off(numbers(15))
        return poisoned.seen

    assert run(work) == texts(15)
    (path,) = [each for each in (tmp_path / "data" / "buckets" / "failures").rglob("*") if each.is_file()]
    document = json.loads(path.read_text())
    payload = document["payload"]
    assert data_of(payload if isinstance(payload, dict) else json.loads(payload)) == ["13"]


def test_failures_of_a_batch_function_are_told_of_too(tmp_path: Path) -> None:
    """With records named by their own sequence numbers, which is all a batch function needs to report one."""

    async def work() -> None:
        app = App(tmp_path / "data")

        @app.function(stream="s", retries_max=0, bisect=True, report_item_failures=True, on_failure="failed")
        def handle(batch: RecordBatch, context: Any) -> Any:
            bad = [record for record in batch.records() if record.data == b"13"]
            return {"batchItemFailures": [{"itemIdentifier": record.sequence_number} for record in bad]}

        async with app:
            placed = await app.kit.put_many("s", numbers(40))
            await app.caught_up()
            (document,) = map(json.loads, await data_in(app, "failed"))
        assert document["KinesisBatchInfo"]["startSequenceNumber"] == placed[13].sequence_number
        assert document["KinesisBatchInfo"]["batchSize"] == 1

    run(work)


def test_records_before_a_reported_failure_do_not_come_again(tmp_path: Path) -> None:
    """Only that record and those after it do."""

    class Reporting(Collector):
        def handle(self, event: Any, context: Any) -> Any:
            super().handle(event, context)
            if len(self.batches) == 1:
                number = event["Records"][7]["kinesis"]["sequenceNumber"]
                return {"batchItemFailures": [{"itemIdentifier": number}]}
            return {"batchItemFailures": []}

    reporting = Reporting(tmp_path / "data", report_item_failures=True, batching_window_s=1, batch_size=10)
    run(lambda: reporting.work_off(numbers(10)))
    assert reporting.batches == [texts(10), texts(3, 7)]


# -- the mapping's options -------------------------------------------------------------------------------------------


def test_filters_leave_out_what_they_do_not_match(tmp_path: Path) -> None:
    collector = Collector(tmp_path / "data", filters=[{"data": {"a": [1]}}, {"partitionKey": ["special"]}])
    records = [("k", '{"a":1}'), ("k", '{"a":2}'), ("special", '{"a":3}'), ("k", "no JSON"), ("k", '{"a":1,"b":2}')]
    assert run(lambda: collector.work_off(records)) == ['{"a":1}', '{"a":3}', '{"a":1,"b":2}']


def test_a_tumbling_windows_state_goes_from_batch_to_batch_until_its_end(tmp_path: Path) -> None:
    async def work() -> None:
        app = App(tmp_path / "data")
        sums: list[int] = []

        @app.function(stream="s", tumbling_window_s=1, batch_size=10)
        def add(event: Any, context: Any) -> Any:
            total = event["state"].get("total", 0) + sum(map(int, data_of(event)))
            if event["isFinalInvokeForWindow"]:
                sums.append(total)
            return {"state": {"total": total}}

        async with app:
            await app.kit.put_many("s", numbers(100))
            await until(lambda: sum(sums) == sum(range(100)))
        assert len(sums) <= 2  # the put may have come at the end of a window

    run(work)


def test_a_function_can_start_at_an_instant(tmp_path: Path) -> None:
    """A record that arrived at it or later is for the function, one that arrived before is not."""

    async def work() -> list[str]:
        async with streamkit.open(tmp_path / "data") as kit:
            await kit.create_stream("s")
            await kit.put_many("s", numbers(5))
            await asyncio.sleep(0.02)
            instant = datetime.now(UTC)
            await asyncio.sleep(0.02)
            await kit.put_many("s", numbers(5, 5))
        return await Collector(tmp_path / "data", start=instant).work_off()

    assert run(work) == texts(5, 5)


def test_a_function_can_start_at_the_tip(tmp_path: Path) -> None:
    async def work() -> list[str]:
        async with streamkit.open(tmp_path / "data") as kit:
            await kit.create_stream("s")
            await kit.put_many("s", numbers(5))
            await asyncio.sleep(0.02)
        return await Collector(tmp_path / "data", start="LATEST").work_off(numbers(5, 5))

    assert run(work) == texts(5, 5)


def test_a_stream_is_made_with_as_many_shards_as_its_function_says(tmp_path: Path) -> None:
    """One that is there keeps those it has."""

    async def work(shards: int) -> int:
        collector = Collector(tmp_path / "data", shards=shards)
        async with collector.app as app:
            return len((await app.kit.describe("s")).shards)

    assert [run(lambda: work(shards)) for shards in (3, 5)] == [3, 3]  # noqa: B023 it is called at once


# -- restarts --------------------------------------------------------------------------------------------------------


def test_an_app_goes_on_where_the_one_before_stopped(tmp_path: Path) -> None:
    """Each record is processed by one of them, also those that were put between them."""

    async def work() -> list[list[str]]:
        first = await Collector(tmp_path / "data").work_off(numbers(10))
        async with streamkit.open(tmp_path / "data") as kit:
            await kit.put_many("s", numbers(10, 10))
        second = await Collector(tmp_path / "data").work_off(numbers(10, 20))
        return [first, second, await Collector(tmp_path / "data").work_off()]

    assert run(work) == [texts(10), texts(20, 10), []]


def test_one_app_can_be_opened_again(tmp_path: Path) -> None:
    async def work() -> list[str]:
        collector = Collector(tmp_path / "data")
        await collector.work_off(numbers(10))
        return await collector.work_off(numbers(10, 10))

    assert run(work) == texts(20)


def test_what_is_changed_holds_for_the_first_record_after_a_restart(tmp_path: Path) -> None:
    """Records that waited meet the new filters and the new batch size, not those of before."""

    async def work() -> list[list[str]]:
        await Collector(tmp_path / "data", batch_size=100).work_off(numbers(10))
        async with streamkit.open(tmp_path / "data") as kit:
            await kit.put_many("s", [("even" if number % 2 == 0 else "odd", str(number)) for number in range(2_000)])
        second = Collector(tmp_path / "data", batch_size=7, filters=[{"partitionKey": ["odd"]}])
        await second.work_off()
        return second.batches

    batches = run(work)
    assert [text for batch in batches for text in batch] == [str(number) for number in range(1, 2_000, 2)]
    assert max(map(len, batches)) == 7


def test_changed_options_change_the_mapping_that_is_stored(tmp_path: Path) -> None:
    """The one mapping that there is, and the function; what is not changed stays, and what is left out is undone."""

    async def stored(**options: Any) -> tuple[Any, Any]:
        collector = Collector(tmp_path / "data", port=0, **options)
        async with collector.app as app:
            await collector.put(numbers(1))
            await app.caught_up()
            functions = client(app, "lambda")
            mappings = (await asyncio.to_thread(functions.list_event_source_mappings))["EventSourceMappings"]
            configuration = await asyncio.to_thread(functions.get_function_configuration, FunctionName="f")
        (mapping,) = mappings
        return mapping, configuration

    async def work() -> None:
        first, function = await stored(retries_max=3, on_failure="failed", timeout_s=5, variables={"A": "1"})
        assert (first["MaximumRetryAttempts"], first["BatchSize"], first["StartingPosition"]) == (
            3,
            100,
            "TRIM_HORIZON",
        )
        assert first["DestinationConfig"]["OnFailure"]["Destination"].endswith(":stream/failed")
        assert (function["Timeout"], function["Environment"]["Variables"]) == (5, {"A": "1"})
        second, function = await stored(
            batch_size=9, bisect=True, parallelization_factor=2, start="LATEST", memory_mib=256
        )
        assert second["UUID"] == first["UUID"]
        assert (second["State"], second["StartingPosition"]) == ("Enabled", "TRIM_HORIZON")
        assert (second["MaximumRetryAttempts"], second["BatchSize"], second["ParallelizationFactor"]) == (-1, 9, 2)
        assert second["BisectBatchOnFunctionError"] is True
        assert not second.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination")
        assert (function["Timeout"], function["MemorySize"]) == (60, 256)
        assert not function.get("Environment", {}).get("Variables")

    run(work)


def test_a_changed_handler_is_the_one_that_runs(tmp_path: Path, seen: Callable[[], list[Any]]) -> None:
    """Also where it is moved out of this process and back, and from events to batches."""

    async def work() -> None:
        assert await Collector(tmp_path / "data").work_off(numbers(3)) == texts(3)
        app = App(tmp_path / "data")
        options: dict[str, Any] = {"environment": "fork", "variables": {"SEEN": os.environ["SEEN"]}}
        app.function(stream="s", name="f", **options)(app_functions.tell_batch)
        async with app:
            await app.kit.put_many("s", numbers(3, 3))
            await app.caught_up()
        assert [text for each in seen() for text in each["data"]] == texts(3, 3)
        assert await Collector(tmp_path / "data").work_off(numbers(3, 6)) == texts(3, 6)

    run(work)


def test_a_function_that_is_not_defined_any_more_keeps_its_records_waiting(tmp_path: Path) -> None:
    """Nobody waits for it meanwhile; defined again, it gets them all, and none has lost an attempt."""

    async def work() -> None:
        options: dict[str, Any] = {"retries_max": 0, "on_failure": "failed"}
        assert await Collector(tmp_path / "data", **options).work_off(numbers(3)) == texts(3)
        other = App(tmp_path / "data")
        got: list[str] = []
        other.function(stream="s", name="g")(lambda event, context: got.extend(data_of(event)))
        async with other:
            await other.kit.put_many("s", numbers(3, 3))
            await other.caught_up()
            assert got == texts(6)
            await asyncio.sleep(0.3)  # f is tried meanwhile, without success
        again = Collector(tmp_path / "data", **options)
        async with again.app as app:
            await until(lambda: again.seen == texts(3, 3))
            assert await data_in(app, "failed") == []

    run(work)


def test_a_server_leaves_the_functions_of_an_app_alone(tmp_path: Path) -> None:
    """Their records wait, no attempt is counted, and the mapping says why."""

    async def work() -> None:
        options: dict[str, Any] = {"retries_max": 0, "on_failure": "failed"}
        assert await Collector(tmp_path / "data", **options).work_off(numbers(3)) == texts(3)

        def serve() -> str:
            with ServerProcess(tmp_path / "data") as server:
                records = [{"PartitionKey": key, "Data": text.encode()} for key, text in numbers(3, 3)]
                client(server, "kinesis").put_records(StreamName="s", Records=records)
                functions = client(server, "lambda")
                deadline_s = time.monotonic() + TIMEOUT_S / 2
                while time.monotonic() < deadline_s:
                    (mapping,) = functions.list_event_source_mappings()["EventSourceMappings"]
                    if mapping["LastProcessingResult"].startswith("PROBLEM"):
                        time.sleep(0.3)
                        return str(mapping["LastProcessingResult"])
                raise AssertionError(mapping)

        assert "f runs 'f', which is not registered in this process" in await asyncio.to_thread(serve)
        again = Collector(tmp_path / "data", **options)
        async with again.app as app:
            await app.caught_up()
            assert again.batches == [texts(3, 3)]
            assert await data_in(app, "failed") == []

    run(work)


# -- calls -----------------------------------------------------------------------------------------------------------


def test_invoke_returns_what_the_function_returns(tmp_path: Path) -> None:
    """As JSON has it, from plain and async functions, with and without an event."""

    async def work() -> None:
        app = App(tmp_path / "data")

        @app.function()
        def echo(event: Any, context: Any) -> Any:
            return {"got": event, "pair": (1, 2)}

        @app.function()
        async def nothing(event: Any, context: Any) -> None:
            assert event is None

        @app.function()
        def count(batch: RecordBatch, context: Any) -> int:
            return len(batch)

        async with app:
            assert await app.invoke("echo", {"ä": [1.5, None]}) == {"got": {"ä": [1.5, None]}, "pair": [1, 2]}
            assert await app.invoke("nothing") is None
            await app.kit.create_stream("s")
            await app.kit.put_many("s", numbers(4))
            async for batch in app.kit.consumer("s", "c", follow=False):
                assert await app.invoke("count", batch) == 4
                with pytest.raises(UsageError, match="echo takes an event that can be JSON"):
                    await app.invoke("echo", batch)
            with pytest.raises(UsageError, match="count takes a RecordBatch"):
                await app.invoke("count", {})
            with pytest.raises(ResourceNotFound, match="nobody"):
                await app.invoke("nobody")

    run(work)


def test_invoke_raises_what_the_function_failed_of(tmp_path: Path) -> None:
    """AWS's error object: of an exception, and of a timeout."""

    async def work() -> None:
        app = App(tmp_path / "data")
        released = threading.Event()

        @app.function()
        def fail(event: Any, context: Any) -> None:
            raise KeyError("missing")

        @app.function(timeout_s=1)
        def hang(event: Any, context: Any) -> None:
            released.wait(TIMEOUT_S)

        async with app:
            with pytest.raises(FunctionFailed, match="fail failed: KeyError: 'missing'") as failed:
                await app.invoke("fail")
            assert failed.value.error["errorType"] == "KeyError"
            assert any("raise KeyError" in line for line in failed.value.error["stackTrace"])
            with pytest.raises(FunctionFailed, match=r"Task timed out after 1\.00 seconds"):
                await app.invoke("hang")
            released.set()
        assert isinstance(failed.value, StreamkitError)

    run(work)


def test_caught_up_means_that_every_record_put_before_is_done(tmp_path: Path) -> None:
    """By all functions, in all shards, with retries; not before."""

    async def work() -> None:
        app = App(tmp_path / "data")
        done: dict[str, list[str]] = {"slow": [], "flaky": []}
        failures = iter([True, True])

        @app.function(stream="s", shards=3, batch_size=10)
        def slow(event: Any, context: Any) -> None:
            time.sleep(0.02)
            done["slow"] += data_of(event)

        @app.function(stream="s", batch_size=50)
        def flaky(event: Any, context: Any) -> None:
            if next(failures, False):
                raise RuntimeError
            done["flaky"] += data_of(event)

        async with app:
            for first in range(0, 300, 100):
                await app.kit.put_many("s", numbers(100, first))
                await app.caught_up()
                for seen in done.values():
                    assert sorted(seen, key=int) == texts(first + 100)

    run(work)


def test_a_served_app_processes_what_is_put_with_boto3(tmp_path: Path) -> None:
    """The same streams and functions over the wire: put, invoked and listed by an AWS SDK."""

    async def work() -> None:
        app = App(tmp_path / "data", port=0)
        got: list[str] = []

        @app.function(stream="s")
        def collect(event: Any, context: Any) -> Any:
            got.extend(data_of(event) if "Records" in event else [])
            return {"count": len(got)}

        def use() -> Any:
            client(app, "kinesis").put_record(StreamName="s", PartitionKey="k", Data=b"from afar")
            functions = client(app, "lambda")
            assert [each["FunctionName"] for each in functions.list_functions()["Functions"]] == ["collect"]
            return json.loads(functions.invoke(FunctionName="collect", Payload=b"{}")["Payload"].read())

        async with app:
            answer = await asyncio.to_thread(use)
            await app.caught_up()
        assert answer["count"] in (0, 1)
        assert got == ["from afar"]

    run(work)


def test_a_handler_that_blocks_holds_up_nobody_else(tmp_path: Path) -> None:
    """Neither other functions, nor other shards, nor puts."""

    async def work() -> None:
        app = App(tmp_path / "data")
        released, began = threading.Event(), threading.Event()
        got: list[str] = []

        @app.function(stream="s")
        def block(event: Any, context: Any) -> None:
            began.set()
            released.wait(TIMEOUT_S)

        @app.function(stream="s")
        def quick(event: Any, context: Any) -> None:
            got.extend(data_of(event))

        async with app:
            await app.kit.put_many("s", numbers(5))
            await asyncio.to_thread(began.wait)
            await app.kit.put_many("s", numbers(5, 5))
            await until(lambda: got == texts(10))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(app.caught_up(), 0.1)
            released.set()
            await app.caught_up()

    run(work)


# -- stopping --------------------------------------------------------------------------------------------------------


SCRIPT = """
import time
from pathlib import Path
import streamkit

here = Path(__file__).parent
app = streamkit.App(here / "data")

@app.function(stream="s", batch_size=1)
def slow(event, context):
    with open(here / "notes", "a", buffering=1) as notes:
        notes.write("begun\\n")
        time.sleep(0.5)
        notes.write("done\\n")

@app.function(environment="fork")
def forked(event, context):
    return "from the script's own file"

if __name__ == "__main__":
    app.run()
    print("the end")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_finishes_what_is_under_way_when_it_is_told_to_end(tmp_path: Path, number: int) -> None:
    """The record in the handler is done and does not come again, the one after it does; the script goes on."""
    script, notes = tmp_path / "script.py", tmp_path / "notes"
    script.write_text(SCRIPT)
    notes.touch()

    async def put() -> None:
        async with streamkit.open(tmp_path / "data") as kit:
            await kit.create_stream("s")
            await kit.put_many("s", numbers(2))

    run(put)
    command: list[str | Path] = [sys.executable, script]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            ends_s = time.monotonic() + TIMEOUT_S
            while not notes.read_text() and time.monotonic() < ends_s:
                time.sleep(0.01)
            process.send_signal(number)
            output, _ = process.communicate(timeout=TIMEOUT_S)
        finally:
            process.kill()
    assert (process.returncode, output) == (0, b"the end\n")
    assert notes.read_text() == "begun\ndone\n"

    async def rest() -> list[str]:
        return await Collector(tmp_path / "data", name="slow").work_off()

    assert run(rest) == texts(1, 1)


def test_a_script_runs_its_own_functions_in_processes_of_their_own(tmp_path: Path) -> None:
    """They import the script's file, which must not run the app then: `run` stands under `if __name__`."""
    script = tmp_path / "script.py"
    main = """
import asyncio
async def main():
    async with app:
        print(await app.invoke("forked"))
asyncio.run(main())
"""
    script.write_text(SCRIPT.replace("app.run()", "\n    ".join(main.splitlines())))
    command: list[str | Path] = [sys.executable, script]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=TIMEOUT_S, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"from the script's own file\nthe end\n", b"")
