"""A function that transforms: its event, its replies, and what becomes of records when it fails."""

from __future__ import annotations

import asyncio
import json
import random
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.delivery import plan as plans
from streamkit.delivery.processor import Processed
from streamkit.delivery.processors.transform import EventBuilder, Transform
from streamkit.delivery.rows import Rows
from streamkit.model import sequence
from streamkit.model.errors import AccessDenied, RequestTooLarge, ResourceNotFound, ServerError, TooManyRequests
from streamkit.model.limits import INVOCATION_BYTES_MAX, RESPONSE_BYTES_MAX, TRANSFORM_TIMEOUT_MS
from streamkit.testing.clock import VirtualClock, run
from tests.unit.test_delivery_processors import inline, plan_of, rows_of

FUNCTION: str = "arn:aws:lambda:us-east-1:000000000000:function:f"
SOURCE = "arn:aws:kinesis:us-east-1:000000000000:stream/s"

Event = dict[str, Any]


class Answer(NamedTuple):
    payload: bytes
    function_error: str | None = None


Handler = Callable[[Event], Any]


class Function:
    """Answers each invocation with what the handler makes of its event: bytes as they are, an Answer, or JSON; raises
    an exception that it is given."""

    def __init__(self, clock: VirtualClock, handler: Handler) -> None:
        self.events: list[Event] = []
        self.at_ms: list[int] = []
        self._clock = clock
        self._handler = handler

    async def __call__(self, function_arn: str, event: Sequence[bytes]) -> Answer:
        assert function_arn == FUNCTION
        payload = b"".join(event)
        assert len(payload) <= INVOCATION_BYTES_MAX or len(json.loads(payload)["records"]) == 1
        self.events.append(json.loads(payload))
        self.at_ms.append(self._clock.now_ms())
        answer = self._handler(self.events[-1])
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, float):
            await self._clock.sleep(answer)
            return Answer(b"{}")
        if isinstance(answer, Answer):
            return answer
        return Answer(answer if isinstance(answer, bytes) else json.dumps(answer).encode())


class Ran(NamedTuple):
    rows: Rows
    failed: Sequence[Any]
    function: Function

    @property
    def errors(self) -> list[tuple[int, str]]:
        """Offsets and codes of what failed."""
        pairs = [
            (offset, code)
            for each in self.failed
            for offset, (code, _) in zip(each.rows.offset.to_pylist(), each.errors, strict=True)
        ]
        return sorted(pairs)


def transform(rows: Rows, handler: Handler, *, prefix: str | None = None, **settings: Any) -> Ran:
    plan = plan_of()
    if prefix is not None:
        plan = replace(plan, naming=plans.Naming(prefix), is_partitioned=True)

    async def main(clock: VirtualClock, rng: random.Random) -> tuple[Processed, Function]:
        function = Function(clock, handler)
        step = Transform(
            plans.Transform(FUNCTION, **settings),
            plan,
            invoke=function,
            clock=clock,
            random=rng,
            region="us-east-1",
            offload=inline,
        )
        return await step.process(rows), function

    (kept, failed), function = run(main, seed=1)
    return Ran(kept, failed, function)


def reply(event: Event, change: Callable[[bytes], bytes] = bytes.upper) -> Event:
    return {"records": [ok(record["recordId"], change(b64decode(record["data"]))) for record in event["records"]]}


def ok(record_id: str, data: bytes, **more: Any) -> dict[str, Any]:
    return {"recordId": record_id, "result": "Ok", "data": b64encode(data).decode(), **more}


# -- events -----------------------------------------------------------------------------------------------------------


def test_the_event_of_direct_puts_is_the_one_of_the_developer_guide() -> None:
    """Ids are sequence numbers with six digits more; an empty record is an empty string."""
    rows = rows_of(b"\xff\x00data", b"")
    (event,) = transform(rows, reply).function.events
    invocation = event.pop("invocationId")
    assert len(invocation) == 36
    assert event == {
        "deliveryStreamArn": "arn:aws:firehose:us-east-1:000000000000:deliverystream/d",
        "region": "us-east-1",
        "records": [
            {
                "recordId": rows.sequence_number(row) + "000000",
                "approximateArrivalTimestamp": 1_700_000_000_000 + row,
                "data": data,
            }
            for row, data in enumerate(["/wBkYXRh", ""])
        ],
    }


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.binary(max_size=20),
            st.text(st.characters(codec="utf-8"), min_size=1, max_size=5),
            st.integers(0, 300),
            st.integers(0, 2**40),
            st.integers(0, 999_999),
            st.integers(1_000_000_000_000, 2_000_000_000_000),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_the_event_of_a_stream_says_where_each_record_is_from(
    records: list[tuple[bytes, str, int, int, int, int]],
) -> None:
    """Whatever the data, the partition key, the shard and the time."""
    data, keys, shards, offsets, subs, arrivals = zip(*records, strict=True)
    rows = Rows(
        pa.array(data, pa.binary()),
        pa.array(arrivals, pa.int64()),
        pa.array(shards, pa.int32()),
        pa.array(offsets, pa.int64()),
        pa.array(subs, pa.int32()),
        {shard: 1_600_000_000 + shard for shard in shards},
        pa.array([key.encode() for key in keys], pa.binary()),
    )
    builder = EventBuilder(delivery_arn="d", source_arn=SOURCE, region="r")
    ids, text = builder.records(rows)
    event = json.loads(b"".join(builder.pieces("i", text)))
    assert {name: value for name, value in event.items() if name != "records"} == {
        "invocationId": "i",
        "deliveryStreamArn": "d",
        "sourceKinesisStreamArn": SOURCE,
        "region": "r",
    }
    for row, (record, id) in enumerate(zip(event["records"], ids, strict=True)):
        number = sequence.sequence_number(1_600_000_000 + shards[row], shards[row], offsets[row], arrivals[row])
        assert record == {
            "recordId": f"{number}{subs[row]:06}",
            "approximateArrivalTimestamp": arrivals[row],
            "data": b64encode(data[row]).decode(),
            "kinesisRecordMetadata": {
                "sequenceNumber": number,
                "subsequenceNumber": subs[row],
                "partitionKey": keys[row],
                "shardId": f"shardId-{shards[row]:012}",
                "approximateArrivalTimestamp": arrivals[row],
            },
        }
        assert record["recordId"] == id


@settings(deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=30), st.integers(1, 60))
def test_a_chunk_is_cut_at_the_size_of_the_buffer(sizes: list[int], size_bytes: int) -> None:
    """In order, each record once; only a record that is larger by itself goes beyond."""
    ran = transform(rows_of(*[b"x" * size for size in sizes]), reply, size_bytes=size_bytes)
    assert ran.rows.data.to_pylist() == [b"X" * size for size in sizes]
    assert ran.rows.offset.to_pylist() == list(range(len(sizes)))
    for event in ran.function.events:
        batch = [len(b64decode(record["data"])) for record in event["records"]]
        assert sum(batch) <= size_bytes or len(batch) == 1


def test_an_event_is_no_larger_than_an_invocation_may_be() -> None:
    """However large the buffer, and however many small records are in it."""
    rows = rows_of(*[b"x" * 1_000_000] * 7, *[b""] * 30_000)
    ran = transform(rows, reply, size_bytes=64 * 1024 * 1024)
    assert len(ran.rows) == 30_007
    assert len(ran.function.events) > 1


# -- replies ----------------------------------------------------------------------------------------------------------


def test_records_are_ok_dropped_or_failed() -> None:
    """Dropped ones leave no trace; failed ones go to the error output as they came."""
    results = ["Ok", "Dropped", "ProcessingFailed", "Ok"]

    def handler(event: Event) -> Event:
        records = reply(event)["records"]
        return {"records": [{**each, "result": result} for each, result in zip(records, results, strict=True)]}

    ran = transform(rows_of(b"a", b"b", b"c", b"d"), handler)
    assert ran.rows.data.to_pylist() == [b"A", b"D"]
    assert ran.rows.offset.to_pylist() == [0, 3]
    (failed,) = ran.failed
    assert failed.output_type == "processing-failed"
    assert failed.rows.data.to_pylist() == [b"c"]
    assert failed.errors == [("Lambda.ProcessingFailedStatus", "ProcessingFailed status set for record")]
    assert failed.members == {"lambdaARN": FUNCTION}
    assert failed.attempts == 1


@settings(deadline=None)
@given(st.permutations(range(4)))
def test_the_order_of_a_reply_does_not_matter(order: list[int]) -> None:
    """Records stay in theirs."""
    ran = transform(
        rows_of(b"a", b"b", b"c", b"d"), lambda event: {"records": [reply(event)["records"][i] for i in order]}
    )
    assert ran.rows.data.to_pylist() == [b"A", b"B", b"C", b"D"]
    assert ran.rows.offset.to_pylist() == [0, 1, 2, 3]


def with_first(change: dict[str, Any]) -> Handler:
    def handler(event: Event) -> Event:
        first, *others = reply(event)["records"]
        changed = {**first, **change}
        return {"records": [{name: value for name, value in changed.items() if value is not ...}, *others]}

    return handler


@pytest.mark.parametrize(
    ("handler", "kept", "errors"),
    [
        (lambda event: {"records": reply(event)["records"][1:]}, [b"B"], [(0, "Lambda.MissingRecordId")]),
        (with_first({"recordId": "foreign"}), [b"B"], [(0, "Lambda.MissingRecordId")]),
        (lambda event: {"records": [*reply(event)["records"], ok("foreign", b"x")]}, [b"A", b"B"], []),
        (
            lambda event: {"records": [*reply(event)["records"], reply(event)["records"][0]]},
            [b"B"],
            [(0, "Lambda.DuplicatedRecordId")],
        ),
        (with_first({"data": ...}), [b"B"], [(0, "Lambda.InvalidReturnFormat")]),
        (with_first({"data": None}), [b"B"], [(0, "Lambda.InvalidReturnFormat")]),
        (with_first({"data": ..., "result": "Dropped"}), [b"B"], []),
        (with_first({"recordId": ...}), [b"B"], [(0, "Lambda.MissingRecordId")]),
        (with_first({"recordId": 7}), [b"B"], [(0, "Lambda.MissingRecordId")]),
        (with_first({"metadata": "odd"}), [b"A", b"B"], []),
        (lambda event: {"records": ["odd", *reply(event)["records"]]}, [b"A", b"B"], []),
        (lambda _: {"records": []}, [], [(0, "Lambda.MissingRecordId"), (1, "Lambda.MissingRecordId")]),
        (lambda _: {"records": {}}, [], [(0, "Lambda.MissingRecordId"), (1, "Lambda.MissingRecordId")]),
        (lambda _: {}, [], [(0, "Lambda.MissingRecordId"), (1, "Lambda.MissingRecordId")]),
        (lambda _: None, [], [(0, "Lambda.MissingRecordId"), (1, "Lambda.MissingRecordId")]),
        (lambda _: "text", [], [(0, "Lambda.MissingRecordId"), (1, "Lambda.MissingRecordId")]),
        (with_first({"result": "OK"}), [], [(0, "Lambda.FunctionError"), (1, "Lambda.FunctionError")]),
        (with_first({"result": ...}), [], [(0, "Lambda.FunctionError"), (1, "Lambda.FunctionError")]),
        (with_first({"data": "no base64!"}), [], [(0, "Lambda.FunctionError"), (1, "Lambda.FunctionError")]),
        (with_first({"data": 7}), [], [(0, "Lambda.FunctionError"), (1, "Lambda.FunctionError")]),
        (lambda _: b"no JSON", [], [(0, "Lambda.JsonProcessingException"), (1, "Lambda.JsonProcessingException")]),
        (lambda _: b"", [], [(0, "Lambda.JsonProcessingException"), (1, "Lambda.JsonProcessingException")]),
        (lambda _: b"[" * 99_999, [], [(0, "Lambda.JsonProcessingException"), (1, "Lambda.JsonProcessingException")]),
    ],
)
def test_odd_replies_fail_what_aws_fails(handler: Handler, kept: list[bytes], errors: list[tuple[int, str]]) -> None:
    """One record or all of them, without another try: the function did answer."""
    ran = transform(rows_of(b"a", b"b"), handler)
    assert ran.rows.data.to_pylist() == kept
    assert ran.errors == errors
    assert len(ran.function.events) == 1
    assert {failed.attempts for failed in ran.failed} <= {1}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.sampled_from(["Ok", "Dropped", "YQ=="]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["recordId", "result", "data", "metadata", "partitionKeys"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.lists(json_values, max_size=3) | json_values, st.booleans())
def test_no_record_is_lost_or_doubled_by_a_reply(records: Any, knows_ids: bool) -> None:
    """Each is transformed, failed, or was dropped by name."""

    def handler(event: Event) -> Any:
        if knows_ids and isinstance(records, list):
            for record, sent in zip(records, event["records"], strict=False):
                if isinstance(record, dict):
                    record["recordId"] = sent["recordId"]
        return {"records": records}

    ran = transform(rows_of(b"a", b"b"), handler)
    seen = [*ran.rows.offset.to_pylist(), *(offset for offset, _ in ran.errors)]
    assert len(seen) == len(set(seen))
    entries = records if isinstance(records, list) else []
    dropped = [each for each in entries if isinstance(each, dict) and each.get("result") == "Dropped"]
    assert len(seen) + len(dropped) >= 2


# -- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (Answer(b'{"errorMessage":"no"}', "Unhandled"), "Lambda.FunctionError"),
        (
            Answer(
                b'{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: 1 Error: Task timed out after 3.00 '
                b'seconds"}',
                "Unhandled",
            ),
            "Lambda.FunctionTimedOut",
        ),
        (
            Answer(b'{"errorMessage":"Task timed out after 3 seconds","stackTrace":[]}', "Unhandled"),
            "Lambda.FunctionError",
        ),
        (Answer(b" " * (RESPONSE_BYTES_MAX + 1)), "Lambda.FunctionError"),
        (AccessDenied("no"), "Lambda.InvokeAccessDenied"),
        (ResourceNotFound("no"), "Lambda.ResourceNotFound"),
        (TooManyRequests("ReservedFunctionConcurrentInvocationLimitExceeded"), "Lambda.InvokeLimitExceeded"),
        (ServerError("no"), "Lambda.InternalServerError"),
        (1e9, "Lambda.FunctionTimedOut"),
    ],
)
def test_a_function_that_fails_is_asked_again_and_then_all_records_fail(failure: Any, code: str) -> None:
    """With the same records and ids, under another invocation id; attempts are counted."""
    ran = transform(rows_of(b"a", b"b"), lambda _: failure, retries=2)
    assert ran.errors == [(0, code), (1, code)]
    assert not len(ran.rows)
    assert [failed.attempts for failed in ran.failed] == [3]
    first, *others = ran.function.events
    assert len({event.pop("invocationId") for event in ran.function.events}) == 3
    assert others == [first, first]


def test_tries_wait_longer_each_time() -> None:
    """A second, two, four; the plan's retries are as many."""
    ran = transform(rows_of(b"a"), lambda _: ServerError("no"), retries=3)
    times = ran.function.at_ms
    assert [later - earlier for earlier, later in pairwise(times)] == [1_000, 2_000, 4_000]
    assert len(transform(rows_of(b"a"), lambda _: ServerError("no"), retries=0).function.events) == 1


def test_a_function_that_recovers_is_believed() -> None:
    """Failures before count as attempts of what still fails."""
    answers = iter([Answer(b"{}", "Unhandled"), TooManyRequests("no"), None])

    def handler(event: Event) -> Any:
        return next(answers) or {"records": reply(event)["records"][:1]}

    ran = transform(rows_of(b"a", b"b"), handler)
    assert ran.rows.data.to_pylist() == [b"A"]
    assert ran.errors == [(1, "Lambda.MissingRecordId")]
    assert ran.failed[0].attempts == 3


def test_a_function_has_five_minutes() -> None:
    """Then it is asked again."""
    answers = iter([float(TRANSFORM_TIMEOUT_MS + 60_000), None])
    ran = transform(rows_of(b"a"), lambda event: next(answers) or reply(event))
    assert ran.rows.data.to_pylist() == [b"A"]
    assert ran.function.at_ms[1] - ran.function.at_ms[0] == TRANSFORM_TIMEOUT_MS + 1_000


def test_a_record_that_no_invocation_can_hold_fails_at_once() -> None:
    """It would be too large the next time, too."""
    ran = transform(rows_of(b"x" * 5_000_000, b"a"), lambda event: _too_large(event) or reply(event))
    assert ran.rows.data.to_pylist() == [b"A"]
    assert ran.errors == [(0, "Lambda.RequestTooLargeException")]
    assert len(ran.function.events) == 2


def _too_large(event: Event) -> Exception | None:
    size = sum(len(record["data"]) for record in event["records"])
    return RequestTooLarge("too large") if size > INVOCATION_BYTES_MAX else None


def test_a_batch_that_fails_does_not_take_others_with_it() -> None:
    """Each batch of a chunk has its own tries and its own attempts."""
    ran = transform(
        rows_of(b"a", b"b", b"c"),
        lambda event: ServerError("no") if event["records"][0]["data"] == "Yg==" else reply(event),
        size_bytes=1,
        retries=1,
    )
    assert ran.rows.data.to_pylist() == [b"A", b"C"]
    assert ran.errors == [(1, "Lambda.InternalServerError")]


def test_a_transform_that_is_cancelled_leaves_no_invocation_behind() -> None:
    """Stopping a delivery stream does not wait for functions."""

    async def main(clock: VirtualClock, rng: random.Random) -> int:
        ended = 0

        async def invoke(function_arn: str, event: Sequence[bytes]) -> Answer:
            nonlocal ended
            try:
                await clock.sleep(1e6)
            finally:
                ended += 1
            return Answer(b"")

        step = Transform(
            plans.Transform(FUNCTION, size_bytes=1),
            plan_of(),
            invoke=invoke,
            clock=clock,
            random=rng,
            region="r",
            offload=inline,
        )
        task = asyncio.ensure_future(step.process(rows_of(b"a", b"b", b"c")))
        await clock.sleep(10)
        task.cancel()
        await asyncio.wait([task])
        await clock.sleep(10)
        return ended

    assert run(main, seed=1) == 3


# -- partition keys ---------------------------------------------------------------------------------------------------

PREFIX = "!{partitionKeyFromLambda:day}/!{partitionKeyFromLambda:n}/!{partitionKeyFromQuery:other}/"


def test_partition_keys_come_with_the_reply() -> None:
    """Those that the prefix names; a record without one of them fails alone."""
    keys: list[Any] = [
        {"day": "mon", "n": 1, "unused": "x"},
        {"day": "mon"},
        {"day": "tue", "n": True},
        {"day": "", "n": 1},
        None,
        [],
    ]

    def handler(event: Event) -> Event:
        return {
            "records": [
                ok(record["recordId"], b"x", metadata={"partitionKeys": each})
                for record, each in zip(event["records"], keys, strict=True)
            ]
        }

    ran = transform(rows_of(*[b"a"] * len(keys)), handler, prefix=PREFIX)
    assert {name: column.to_pylist() for name, column in ran.rows.keys.items()} == {
        "partitionKeyFromLambda:day": ["mon", "tue"],
        "partitionKeyFromLambda:n": ["1", "true"],
    }
    (failed,) = ran.failed
    assert failed.output_type == "metadata-extraction-failed"
    assert failed.rows.offset.to_pylist() == [1, 3, 4, 5]
    assert set(failed.errors) == {
        ("DynamicPartitioning.MetadataExtractionFailed", "partitionKeys values must not be null or empty")
    }


def test_partition_keys_of_several_batches_are_joined() -> None:
    """Also where a batch has no records left."""

    def handler(event: Event) -> Any:
        (record,) = event["records"]
        if record["data"] == "Yg==":
            return Answer(b"", "Unhandled")
        return {"records": [ok(record["recordId"], b"x", metadata={"partitionKeys": {"day": record["data"]}})]}

    ran = transform(
        rows_of(b"a", b"b", b"c"), handler, prefix="!{partitionKeyFromLambda:day}/", size_bytes=1, retries=0
    )
    assert ran.rows.keys["partitionKeyFromLambda:day"].to_pylist() == ["YQ==", "Yw=="]
    assert ran.rows.offset.to_pylist() == [0, 2]
