"""The event queue's rules and documents, one at a time; `tests/simulation` has them together, with crashes."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.control import ControlFile
from streamkit.functions.destination_files import BucketFiles
from streamkit.functions.destinations import Delivery, RecordDestinations
from streamkit.functions.outcomes import Ended, LastResponse, Outcome, dead_letter, is_loop, pass_by, record
from streamkit.functions.queue import AsyncSettings, EventQueue, EventState, after, before
from streamkit.model.errors import InvalidParameterValue, RequestTooLarge, StorageUnavailable, TooManyRequests
from streamkit.model.limits import ASYNC_PAYLOAD_BYTES_MAX, HOUR_MS
from streamkit.model.names import FunctionArn, Scope
from streamkit.testing.clock import START_MS, VirtualClock, run

T = TypeVar("T")

SCOPE = Scope("000000000000", "us-east-1")
ARN = FunctionArn(SCOPE, "f", None)
ERROR = b'{"errorMessage": "no way", "errorType": "E"}'
FAILED = Outcome("failed", ERROR, "3", "E")
DONE = Outcome("succeeded", b'{"a":1}', "3")
THROTTLED = Outcome("throttled")


def event(**changes: Any) -> EventState:
    return EventState(**{"id": "r", "function_arn": str(ARN), "accepted_at_ms": 0, "due_at_ms": 0, **changes})


# -- rules -----------------------------------------------------------------------------------------------------------


def test_a_failed_event_waits_one_minute_then_two() -> None:
    state, condition = after(event(), FAILED, AsyncSettings(), 1_000)
    assert (state.attempts, state.due_at_ms, condition) == (1, 61_000, None)
    state, condition = after(state, FAILED, AsyncSettings(), 61_000)
    assert (state.attempts, state.due_at_ms, condition) == (2, 181_000, None)
    state, condition = after(state, FAILED, AsyncSettings(), 181_000)
    assert (state.attempts, condition) == (3, "RetriesExhausted")


@given(st.integers(0, 2))
def test_attempts_are_retries_and_one(retries_max: int) -> None:
    settings, state, condition, attempts = AsyncSettings(retries_max), event(), None, 0
    while condition is None:
        state, condition = after(state, FAILED, settings, state.due_at_ms)
        attempts += 1
    assert attempts == state.attempts == retries_max + 1


def test_throttles_double_their_wait_up_to_five_minutes_and_count_for_nothing() -> None:
    state, delays_s, now_ms = event(), [], 0
    for _ in range(12):
        state, condition = after(state, THROTTLED, AsyncSettings(), now_ms)
        assert condition is None
        delays_s.append((state.due_at_ms - now_ms) / 1000)
        now_ms = state.due_at_ms
    assert delays_s == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    assert state.attempts == 0
    state, _ = after(state, FAILED, AsyncSettings(), now_ms)
    assert (state.attempts, state.backoffs) == (1, 0)


def test_an_event_is_looked_at_again_when_it_gets_too_old() -> None:
    settings = AsyncSettings(age_s_max=60)
    state, condition = after(event(), FAILED, settings, 30_000)
    assert (state.due_at_ms, condition) == (60_001, None)
    assert before(state, settings, 60_000) is None
    assert before(state, settings, 60_001) == "EventAgeExceeded"


def test_a_function_that_was_stopped_gets_nothing() -> None:
    assert before(event(), AsyncSettings(is_stopped=True), 0) == "ZeroReservedConcurrency"


def test_an_event_of_a_loop_ends_at_once() -> None:
    state, condition = after(event(), Outcome("looping"), AsyncSettings(), 0)
    assert (state.attempts, condition) == (1, "RetriesExhausted")


# -- documents -------------------------------------------------------------------------------------------------------

AT_MS = 1_573_754_765_568


def test_a_failure_record_has_aws_shape() -> None:
    ended = Ended("r", ARN, "RetriesExhausted", 3, b'{"b": 1.0}', LastResponse("3", "Unhandled", ERROR.decode()), AT_MS)
    delivery = record(ended, "u-1")
    assert json.loads(delivery.body) == {
        "version": "1.0",
        "timestamp": "2019-11-14T18:06:05.568Z",
        "requestContext": {
            "requestId": "r",
            "functionArn": "arn:aws:lambda:us-east-1:000000000000:function:f:$LATEST",
            "condition": "RetriesExhausted",
            "approximateInvokeCount": 3,
        },
        "requestPayload": {"b": 1.0},
        "responseContext": {"statusCode": 200, "executedVersion": "3", "functionError": "Unhandled"},
        "responsePayload": {"errorMessage": "no way", "errorType": "E"},
    }
    assert b'{"b": 1.0}' in delivery.body, "the payload is not written anew"
    assert delivery.object_name == "aws/lambda/async/f/2019/11/14/2019-11-14T18.06.05-u-1"


def test_a_success_record_names_no_error() -> None:
    aliased = ARN._replace(qualifier="live")
    ended = Ended("r", aliased, "Success", 1, b"{}", LastResponse("3", None, '"ok"'), AT_MS, "Root=1")
    delivery = record(ended, "u")
    document = json.loads(delivery.body)
    assert document["requestContext"]["functionArn"].endswith(":f:live")
    assert document["responseContext"] == {"statusCode": 200, "executedVersion": "3"}
    assert document["responsePayload"] == "ok"
    assert delivery.attributes == {"AWSTraceHeader": "Root=1"}


def test_where_nothing_ran_there_is_no_response() -> None:
    document = json.loads(record(Ended("r", ARN, "ZeroReservedConcurrency", 0, b"{}", None, AT_MS), "u").body)
    assert {"responseContext", "responsePayload"}.isdisjoint(document)
    assert document["requestContext"]["approximateInvokeCount"] == 0


def test_a_dead_letter_is_the_event_with_three_attributes() -> None:
    response = LastResponse("3", "Unhandled", ERROR.decode())
    letter = dead_letter(Ended("r", ARN, "RetriesExhausted", 3, b'{"b": 1.0}', response, AT_MS), "u")
    assert letter.body == b'{"b": 1.0}'
    assert letter.attributes == {"RequestID": "r", "ErrorCode": "200", "ErrorMessage": "no way"}


# -- recursion -------------------------------------------------------------------------------------------------------


def test_the_seventeenth_time_round_is_a_loop() -> None:
    """However many functions are in it; other members of the header go with it."""
    for others in range(4):
        header, rounds = "Root=1-a;Parent=b;Sampled=1", 0
        while True:
            header, invocations = pass_by(header, ARN)
            rounds += 1
            assert invocations == rounds
            if is_loop(invocations):
                break
            for other in range(others):
                header, _ = pass_by(header, FunctionArn(SCOPE, f"g{other}", "live"))
        assert rounds == 17
        assert header.startswith("Root=1-a;Parent=b;Sampled=1;Lineage=")


def test_a_first_invocation_has_aws_form() -> None:
    header, invocations = pass_by("", ARN)
    assert invocations == 1
    name, _, count = header.removeprefix("Lineage=").partition(":")
    assert (len(name), count) == (8, "0")


@given(st.text(alphabet="abc019;=|: Lineg", max_size=60))
def test_a_header_of_any_making_is_bounded_and_harmless(header: str) -> None:
    for _ in range(3):
        header, invocations = pass_by(header, ARN)
        assert invocations >= 1
    for number in range(40):
        header, _ = pass_by(header, FunctionArn(SCOPE, f"g{number}", None))
    assert header.rpartition("Lineage=")[2].count("|") < 16


# -- the queue -------------------------------------------------------------------------------------------------------

Main = Callable[["Bench"], Coroutine[Any, Any, T]]


class Bench:
    """A queue in virtual time; `outcomes` is what the function does next, the last for ever."""

    def __init__(self, clock: VirtualClock, rng: random.Random, path: Path | None, **options: Any) -> None:
        self.clock = clock
        self.settings: AsyncSettings | None = AsyncSettings()
        self.outcomes = [DONE]
        self.calls: list[tuple[int, str, int, str, str | None]] = []
        self.running = self.running_max = 0
        self.duration_ms = 10
        self.delivered: list[Delivery] = []
        self.file = ControlFile(path)
        self.queue = EventQueue(
            self.file,
            self.invoke,
            lambda arn: self.settings,
            RecordDestinations({"test": lambda arn: self}),
            clock=clock,
            random=rng,
            **options,
        )

    async def invoke(
        self,
        arn: FunctionArn,
        payload: bytes,
        request_id: str,
        attempt: int,
        /,
        *,
        trace_header: str,
        client_context: str | None,
    ) -> Outcome:
        self.calls.append((self.clock.now_ms(), request_id, attempt, trace_header, client_context))
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        self.running += 1
        self.running_max = max(self.running_max, self.running)
        await self.clock.sleep(self.duration_ms)
        self.running -= 1
        return outcome

    async def position(self) -> str | None:
        return None

    async def deliver(self, delivery: Delivery, *, since: str | None = None, may_be_there: bool = False) -> None:
        self.delivered.append(delivery)


def bench(main: Main[T], path: Path | None = None, *, seed: int = 1, **options: Any) -> T:
    async def whole(clock: VirtualClock, rng: random.Random) -> T:
        made = Bench(clock, rng, path, **options)
        made.queue.start()
        try:
            return await main(made)
        finally:
            await made.queue.close()
            await made.file.flush()
            made.file.close()

    return run(whole, seed=seed)


def test_an_event_is_tried_at_once_with_what_came_with_it() -> None:
    async def main(made: Bench) -> None:
        await made.queue.accept(ARN, b"{}", "r", trace_header="Root=1", client_context='{"a":1}')
        await made.clock.sleep(1_000)
        assert made.calls == [(START_MS, "r", 1, "Root=1", '{"a":1}')]
        assert made.queue.statistics.waiting == 0
        assert made.queue.statistics.succeeded == 1

    bench(main)


def test_attempts_are_numbered_and_events_of_a_function_start_in_order() -> None:
    async def main(made: Bench) -> None:
        made.outcomes = [FAILED, DONE]
        await made.queue.accept(ARN, b"{}", "a")
        await made.clock.sleep(HOUR_MS)
        assert [call[1:3] for call in made.calls] == [("a", 1), ("a", 2)]
        made.calls.clear()
        for number in range(200):
            await made.queue.accept(ARN, b"{}", f"b{number}")
        await made.clock.sleep(HOUR_MS)
        assert [call[1] for call in made.calls] == [f"b{number}" for number in range(200)]

    bench(main)


def test_an_accepted_event_is_on_disk(tmp_path: Path) -> None:
    """Another process that opens the file finds it."""

    async def main(made: Bench) -> None:
        made.settings = None
        await made.queue.close()  # nothing is tried
        await made.queue.accept(ARN, b'{"a":1}', "r")
        other = ControlFile(tmp_path / "control")
        assert other.db.execute("select payload from event_payloads where id = 'r'").fetchall() == [(b'{"a":1}',)]
        other.close()

    bench(main, tmp_path / "control")


def test_the_queue_is_bounded_in_events_and_bytes() -> None:
    async def main(made: Bench) -> None:
        made.duration_ms = 60_000
        await made.queue.accept(ARN, b"12345", "a")
        await made.queue.accept(ARN, b"12345", "b")
        with pytest.raises(TooManyRequests):
            await made.queue.accept(ARN, b"1", "c")
        await made.clock.sleep(60_001)
        await made.queue.accept(ARN, b"123456789", "d")
        with pytest.raises(TooManyRequests):
            await made.queue.accept(ARN, b"12", "e")
        await made.clock.sleep(60_001)
        assert (made.queue.statistics.waiting, made.queue.statistics.bytes) == (0, 0)
        assert len(made.calls) == 3

    bench(main, events_max=2, bytes_max=10)


def test_a_payload_of_more_than_a_mebibyte_is_refused() -> None:
    async def main(made: Bench) -> None:
        with pytest.raises(RequestTooLarge) as refused:
            await made.queue.accept(ARN, b"x" * (ASYNC_PAYLOAD_BYTES_MAX + 1), "r")
        assert refused.value.message == (
            "1048577 byte payload is too large for the Event invocation type (limit 1048576 bytes)"
        )

    bench(main)


def test_what_could_not_be_stored_was_not_accepted() -> None:
    async def main(made: Bench) -> None:
        made.file.db.execute("pragma query_only = on")
        with pytest.raises(StorageUnavailable):
            await made.queue.accept(ARN, b"{}", "r")
        made.file.db.execute("pragma query_only = off")
        assert made.queue.statistics.waiting == 0
        await made.clock.sleep(1_000)
        assert not made.calls

    bench(main)


def test_an_end_that_cannot_be_stored_is_stored_later() -> None:
    """The event is neither lost nor tried again because of it."""

    async def main(made: Bench) -> None:
        await made.queue.accept(ARN, b"{}", "r")
        made.file.db.execute("pragma query_only = on")
        await made.clock.sleep(10_000)
        assert made.queue.statistics.waiting == 1
        made.file.db.execute("pragma query_only = off")
        await made.clock.sleep(10_000)
        assert made.queue.statistics.waiting == 0
        assert len(made.calls) == 1

    bench(main)


def test_a_caller_that_goes_away_does_not_undo_what_was_being_stored() -> None:
    async def main(made: Bench) -> None:
        task = asyncio.ensure_future(made.queue.accept(ARN, b"{}", "r"))
        await asyncio.sleep(0)
        task.cancel()
        await made.clock.sleep(1_000)
        assert [call[1] for call in made.calls] == ["r"]
        assert made.queue.statistics.waiting == 0

    bench(main)


def test_a_busy_function_is_not_asked_for_each_of_its_events() -> None:
    """While others use its concurrency, the queue asks about once a second, not a thousand times at once."""

    async def main(made: Bench) -> None:
        made.outcomes = [THROTTLED]
        for number in range(1_000):
            await made.queue.accept(ARN, b"{}", f"{number}")
        await made.clock.sleep(60_000)
        assert len(made.calls) < 200
        made.outcomes = [DONE]
        await made.clock.sleep(600_000)
        assert made.queue.statistics.succeeded == 1_000

    bench(main)


def test_how_many_events_of_a_function_run_at_once_is_bounded() -> None:
    async def main(made: Bench) -> None:
        for number in range(300):
            await made.queue.accept(ARN, b"{}", f"{number}")
        await made.clock.sleep(60_000)
        assert made.running_max == 64
        assert made.queue.statistics.succeeded == 300

    bench(main)


def test_a_slow_function_does_not_hold_up_another() -> None:
    async def main(made: Bench) -> None:
        made.duration_ms = 60_000
        for number in range(300):
            await made.queue.accept(ARN, b"{}", f"{number}")
        await made.queue.accept(FunctionArn(SCOPE, "other", None), b"{}", "quick")
        await made.clock.sleep(100)
        assert "quick" in [call[1] for call in made.calls]

    bench(main)


def test_events_of_a_deleted_function_are_dropped() -> None:
    async def main(made: Bench) -> None:
        made.outcomes = [FAILED]
        await made.queue.accept(ARN, b"{}", "r")
        await made.clock.sleep(1_000)
        assert made.queue.statistics.waiting == 1
        made.queue.forget(ARN)  # it is still there: nothing happens
        await made.clock.sleep(1_000)
        assert len(made.calls) == made.queue.statistics.waiting == 1
        made.settings = None
        made.queue.forget(ARN)
        await made.clock.sleep(1_000)
        assert (made.queue.statistics.waiting, made.queue.statistics.dropped) == (0, 1)
        assert len(made.calls) == 1

    bench(main)


def test_a_stopped_function_sends_its_events_to_the_failure_destination_at_once() -> None:
    async def main(made: Bench) -> None:
        made.settings = AsyncSettings(is_stopped=True, on_failure_arn="arn:aws:test:::x")
        await made.queue.accept(ARN, b"{}", "r")
        await made.clock.sleep(100)
        (delivery,) = made.delivered
        assert json.loads(delivery.body)["requestContext"]["condition"] == "ZeroReservedConcurrency"
        assert not made.calls

    bench(main)


def test_a_destination_that_is_unknown_is_given_up_after_hours() -> None:
    """It may be configured meanwhile; the event does not stay for ever."""

    async def main(made: Bench) -> None:
        made.settings = AsyncSettings(on_success_arn="arn:aws:nothing:::x")
        await made.queue.accept(ARN, b"{}", "r")
        await made.clock.sleep(5 * HOUR_MS)
        assert made.queue.statistics.waiting == 1
        await made.clock.sleep(2 * HOUR_MS)
        assert (made.queue.statistics.waiting, made.queue.statistics.deliveries_given_up) == (0, 1)
        assert len(made.calls) == 1

    bench(main)


def test_a_record_carries_the_chain_of_invocations_on() -> None:
    """So that functions that tell each other of their outcomes are found to be a loop."""

    async def main(made: Bench) -> None:
        made.settings = AsyncSettings(on_success_arn="arn:aws:test:::x")
        header, rounds = "Root=1", 0
        while not is_loop(pass_by(header, ARN)[1]):
            await made.queue.accept(ARN, b"{}", f"{rounds}", trace_header=header)
            await made.clock.sleep(1_000)
            header = made.delivered[-1].attributes["AWSTraceHeader"]
            rounds += 1
        assert rounds == 16

    bench(main)


def test_a_cleared_queue_is_empty_and_goes_on(tmp_path: Path) -> None:
    async def main(made: Bench) -> None:
        made.outcomes = [FAILED]
        for number in range(100):
            await made.queue.accept(ARN, b"{}", f"{number}")
        await made.clock.sleep(15)
        await made.queue.clear()
        assert (made.queue.statistics.waiting, made.queue.statistics.bytes) == (0, 0)
        made.calls.clear()
        await made.queue.accept(ARN, b"{}", "new")
        await made.clock.sleep(HOUR_MS)
        assert {call[1] for call in made.calls} == {"new"}
        assert made.file.db.execute("select count(*) from event_payloads").fetchone() == (0,)

    bench(main, tmp_path / "control")


def test_a_queue_that_cannot_be_cleared_goes_on(tmp_path: Path) -> None:
    async def main(made: Bench) -> None:
        made.outcomes = [DONE]
        await made.queue.accept(ARN, b"{}", "kept")
        made.file.db.execute("pragma query_only = true")
        with pytest.raises(StorageUnavailable):
            await made.queue.clear()
        made.file.db.execute("pragma query_only = false")
        await made.queue.accept(ARN, b"{}", "new")
        await made.clock.sleep(HOUR_MS)
        assert {call[1] for call in made.calls} == {"kept", "new"}
        assert (made.queue.statistics.waiting, made.queue.statistics.bytes) == (0, 0)

    bench(main, tmp_path / "control")


def test_a_clock_that_is_set_back_only_delays() -> None:
    async def main(made: Bench) -> None:
        made.outcomes = [FAILED, DONE]
        await made.queue.accept(ARN, b"{}", "r")
        await made.clock.sleep(1_000)
        made.clock.step(-HOUR_MS)
        await made.clock.sleep(2 * HOUR_MS)
        assert len(made.calls) == 2

    bench(main)


# -- files as buckets ------------------------------------------------------------------------------------------------


def deliver(path: Path, arn: str, delivery: Delivery) -> None:
    asyncio.run(BucketFiles(path).resolve(arn).deliver(delivery))


def test_an_object_is_a_file_and_is_written_once(tmp_path: Path) -> None:
    deliver(tmp_path, "arn:aws:s3:::bucket/some/prefix", Delivery("u", b"one", "k", "a/b"))
    deliver(tmp_path, "arn:aws:s3:::bucket/some/prefix/", Delivery("u", b"two", "k", "a/b"))
    deliver(tmp_path, "arn:aws:s3:::bucket", Delivery("v", b"three", "k"))
    files = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"bucket/some/prefix/a/b": b"one", "bucket/v": b"three"}


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "a//b", ".", "a\0b", "x" * 256])
def test_no_object_is_written_outside_of_its_bucket(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidParameterValue):
        deliver(tmp_path / "buckets", "arn:aws:s3:::bucket", Delivery("u", b"", "k", name))
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize("arn", ["arn:aws:s3:::", "arn:aws:s3:::..", "arn:aws:s3:::A", "arn:aws:s3:::b/../c", "x"])
def test_an_arn_of_no_bucket_is_refused(tmp_path: Path, arn: str) -> None:
    with pytest.raises(InvalidParameterValue):
        BucketFiles(tmp_path).resolve(arn)


def test_a_bucket_that_cannot_be_written_is_an_error_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / "bucket").write_text("in the way")
    with pytest.raises(StorageUnavailable):
        deliver(tmp_path, "arn:aws:s3:::bucket", Delivery("u", b"", "k", "a/b"))
