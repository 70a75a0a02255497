"""The rules of retries against a model that only counts, and the forms an answer may have."""

from __future__ import annotations

import itertools
import json
import random
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.mappings.batches import Batch, Part
from streamkit.mappings.outcome import (
    Again,
    Discard,
    Done,
    Failed,
    Failure,
    Invoke,
    Lane,
    Outcome,
    Partial,
    Policy,
    Response,
    Wait,
    read_response,
)
from streamkit.mappings.state import LaneProgress, SliceProgress, WindowProgress
from streamkit.model.batch import RecordBatch

START_MS = 1_700_000_000_000
RESPONSE = Response(200, "$LATEST", "Unhandled")
STATE_BYTES_MAX = 60  # instead of a megabyte


@dataclass(frozen=True, slots=True)
class Put:
    offset: int
    arrived_at_ms: int


def batch_of(records: Sequence[Put], cuts: Sequence[int] = ()) -> Batch:
    """The records in parts that end at `cuts`, each a selection of rows where offsets are left out."""
    parts = []
    for start, stop in itertools.pairwise([0, *sorted({*cuts, len(records)} - {0})]):
        chosen = records[start:stop]
        first, count = chosen[0].offset, chosen[-1].offset - chosen[0].offset + 1
        arrivals = [START_MS] * count
        for each in chosen:
            arrivals[each.offset - first] = each.arrived_at_ms
        offsets = memoryview(array("i", range(count + 1)))
        values = memoryview(b"x" * count)
        batch = RecordBatch(
            2, 1_600_000_000, first, 0, count, arrivals[0], offsets, values, offsets, values,
            arrivals_ms=memoryview(array("q", arrivals)),
        )  # fmt: skip
        rows = [each.offset - first for each in chosen]
        parts.append(Part(batch, None if len(rows) == count else rows))
    return Batch(parts)


def batch(*offsets: int, arrived_at_ms: int = START_MS) -> Batch:
    return batch_of([Put(offset, arrived_at_ms) for offset in offsets])


def again(progress: LaneProgress) -> LaneProgress:
    """As it comes back from the disk."""
    return msgspec.json.decode(msgspec.json.encode(progress), type=LaneProgress)


# -- any story -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Fate:
    """What the model counts of a record."""

    attempts: int = 0
    invocations: int = 0
    ended: str = ""
    was_delivered: bool = False


@dataclass
class Story:
    """A lane, its records, and a driver that does whatever a shard worker may do, in any order."""

    policy: Policy
    records: list[Put]
    rng: random.Random
    restarts: bool = True
    now_ms: int = START_MS
    lane: Lane = field(init=False)
    offered: int = 0
    fates: dict[int, Fate] = field(init=False)
    state: dict[int, list[int]] = field(default_factory=dict)  # by open window: what was returned last
    final_attempts: dict[int, list[int]] = field(default_factory=dict)  # by window: attempts, invocations
    finals: list[tuple[int, bool]] = field(default_factory=list)
    was_split: bool = False

    def __post_init__(self) -> None:
        self.lane = Lane(self.policy, LaneProgress(0))
        self.fates = {each.offset: Fate() for each in self.records}

    def tell(self) -> None:
        for _ in range(20_000):
            self._check()
            if self.restarts and self.rng.random() < 0.05:
                self._restart()
            self.now_ms += self.rng.choice((0, 0, 1, 50, 1_000))
            if self.rng.random() < 0.3:
                self._feed()
            step = self.lane.next(self.now_ms)
            if isinstance(step, Invoke):
                self._invoke(step)
            elif isinstance(step, Discard):
                self._discard(step.failure)
            elif step.until_ms is not None:
                assert step.until_ms > self.now_ms
                self.now_ms = int(step.until_ms) + self.rng.choice((1, 1, 5_000))
            elif not self._feed() and not self.lane.has_work:
                break
        else:
            raise AssertionError("it does not end")
        assert all(fate.ended for fate in self.fates.values())
        assert not self.state, "a window without its final invocation"
        assert self.lane.progress() == LaneProgress(self.lane.next_offset)

    # -- what a driver does ------------------------------------------------------------------------------------------

    def _feed(self) -> bool:
        """Offers records of one window, or says that there are none; whether there was anything to say."""
        rest = self.records[self.offered :]
        window_ms = self.policy.window_ms
        if rest:
            count = self.rng.randint(1, min(len(rest), 8))
            if window_ms is not None:
                first_ms = self.policy.window_of(rest[0].arrived_at_ms)
                count = min(count, sum(each.arrived_at_ms < first_ms + window_ms for each in rest))
            cuts = [self.rng.randint(1, count) for _ in range(self.rng.randint(0, 2))]
            self.lane.offer(batch_of(rest[:count], cuts))
            self.offered += count
        rest = self.records[self.offered :]
        next_ = rest[0].offset if rest else self.records[-1].offset + 3
        if not self.lane.has_work and self.lane.next_offset < next_ and self.rng.random() < 0.7:
            self.lane.advance(self.rng.randint(self.lane.next_offset + 1, next_))
            return True
        open_ms = self.lane.open_window_ms
        if open_ms is not None and not any(self.policy.window_of(each.arrived_at_ms) == open_ms for each in rest):
            self.lane.end_window()
            return True
        return bool(rest) or self.lane.next_offset < next_

    def _restart(self) -> None:
        progress = again(self.lane.progress())
        self.lane = Lane(self.policy, progress)
        self.offered = sum(each.offset < progress.next_offset for each in self.records)

    def _invoke(self, step: Invoke) -> None:
        batch = step.work.batch
        if self.restarts and self.rng.random() < 0.05:
            return self._restart()
        if batch is None:
            return self._invoke_final(step)
        offsets = batch.offsets()
        unresolved = [offset for offset, fate in self.fates.items() if not fate.ended]
        assert offsets == unresolved[: len(offsets)], "not the first records that are not resolved"
        if step.window is not None:
            arrivals = [batch.arrived_at_ms(index) for index in range(len(batch))]
            assert {self.policy.window_of(each) for each in arrivals} == {step.window.start_ms}, "it spans windows"
            assert json.loads(step.window.state) == {"n": self.state.get(step.window.start_ms, [])} or (
                step.window.state == "{}" and step.window.start_ms not in self.state
            )
        outcome = self._draw(offsets, step.window)
        self._count(offsets, outcome, step.window)
        self.lane.finish(outcome, self.now_ms)
        return None

    def _invoke_final(self, step: Invoke) -> None:
        assert step.window is not None
        window_ms = step.window.start_ms
        seen = self.state[window_ms]
        assert json.loads(step.window.state) == {"n": seen}, "the state was not handed on as it was"
        is_too_large = len(step.window.state) > STATE_BYTES_MAX
        assert step.work.ended_early == is_too_large
        if not is_too_large:
            of_window = [each for each in self.records if self.policy.window_of(each.arrived_at_ms) == window_ms]
            assert all(self.fates[each.offset].ended for each in of_window), "before the window's last record"
        counts = self.final_attempts.setdefault(window_ms, [0, 0])
        outcome = self.rng.choice((Done("{}"), Failed(RESPONSE), Again()))
        if not isinstance(outcome, Again):
            counts[1] += 1
        if isinstance(outcome, Failed):
            counts[0] += 1
        elif isinstance(outcome, Done):
            self._end_final(window_ms)
        self.lane.finish(outcome, self.now_ms)

    def _end_final(self, window_ms: int) -> None:
        self.finals.append((window_ms, bool(self.state.pop(window_ms))))
        self.final_attempts.pop(window_ms, None)

    def _draw(self, offsets: list[int], window: WindowProgress | None) -> Outcome:
        kind = self.rng.choice(("done", "done", "failed", "partial", "again", "final"))
        if kind == "done":
            return Done(self._state(offsets, window))
        if kind == "partial" and self.policy.reports_item_failures:
            index = self.rng.randrange(len(offsets))
            return Partial(index, RESPONSE, self._state(offsets[:index], window))
        if kind == "again":
            return Again()
        return Failed(RESPONSE, is_final=kind == "final" and self.rng.random() < 0.3)

    def _state(self, offsets: list[int], window: WindowProgress | None) -> str | None:
        if window is None:
            return None
        return json.dumps({"n": self.state.get(window.start_ms, []) + offsets})

    def _count(self, offsets: list[int], outcome: Outcome, window: WindowProgress | None) -> None:
        for offset in offsets:
            if not self.fates[offset].was_delivered:
                later = [each for each, fate in self.fates.items() if each > offset and fate.was_delivered]
                assert not later, "first delivered out of order"
            self.fates[offset].was_delivered = True
        if isinstance(outcome, Again):
            return
        resolved = len(offsets) if isinstance(outcome, Done) else outcome.index if isinstance(outcome, Partial) else 0
        if window is not None and resolved:
            self.state[window.start_ms] = self.state.get(window.start_ms, []) + offsets[:resolved]
        for place, offset in enumerate(offsets):
            self.fates[offset].invocations += 1
            if place < resolved:
                self.fates[offset].ended = "processed"
        can_split = len(offsets) > 1 and (self.policy.bisects or (isinstance(outcome, Failed) and outcome.is_final))
        self.was_split |= can_split
        if not can_split and not (isinstance(outcome, Failed) and outcome.is_final):
            for offset in offsets[resolved:]:
                self.fates[offset].attempts += 1

    def _discard(self, failure: Failure) -> None:
        if failure.batch is None:
            [window_ms] = self.final_attempts
            assert self.policy.retries_max is not None
            assert self.final_attempts[window_ms] == [self.policy.retries_max + 1, failure.invocations]
            self._end_final(window_ms)
        else:
            offsets = failure.batch.offsets()
            unresolved = [offset for offset, fate in self.fates.items() if not fate.ended]
            assert offsets == unresolved[: len(offsets)]
            for offset in offsets:
                fate = self.fates[offset]
                assert fate.invocations == failure.invocations
                fate.ended = failure.condition
                if failure.condition == "RecordAgeExceeded":
                    self._require_age(offset, failure)
                else:
                    self._require_attempts(fate, len(offsets))
        self.lane.discarded()

    def _require_age(self, offset: int, failure: Failure) -> None:
        assert failure.response is None
        assert self.policy.record_age_ms_max is not None
        arrived_at_ms = next(each.arrived_at_ms for each in self.records if each.offset == offset)
        assert self.now_ms - arrived_at_ms > self.policy.record_age_ms_max

    def _require_attempts(self, fate: Fate, size: int) -> None:
        if self.policy.retries_max is None or fate.attempts <= self.policy.retries_max:
            assert size == 1, "an event too large is split to the end"
            return
        assert fate.attempts == self.policy.retries_max + 1
        if self.policy.bisects:
            assert size == 1, "bisect ends with one record"

    def _check(self) -> None:
        unresolved = [offset for offset, fate in self.fates.items() if not fate.ended]
        progress = self.lane.progress()
        assert progress.next_offset == self.lane.next_offset
        if unresolved:
            assert self.lane.next_offset <= unresolved[0], "it passed a record that is not resolved"
        slices = [offset for each in progress.slices for offset in (each.first, each.last)]
        assert slices == sorted(slices)
        assert all(offset >= progress.next_offset for offset in slices)
        if self.policy.retries_max is not None:
            assert all(fate.attempts <= self.policy.retries_max + 1 for fate in self.fates.values())


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    return Policy(
        retries_max=draw(st.none() | st.integers(0, 4)),
        record_age_ms_max=draw(st.none() | st.sampled_from([2_000, 60_000])),
        bisects=draw(st.booleans()),
        reports_item_failures=draw(st.booleans()),
        window_ms=draw(st.none() | st.sampled_from([1_000, 10_000])),
    )


@st.composite
def record_lists(draw: st.DrawFn) -> list[Put]:
    """Records with gaps, where others went to other lanes or were filtered out; times that do not fall."""
    steps = draw(
        st.lists(st.tuples(st.integers(1, 3), st.sampled_from([0, 0, 1, 400, 3_000])), min_size=1, max_size=30)
    )
    offset, arrived_at_ms, records = -1, START_MS - 5_000, []
    for gap, later_ms in steps:
        offset, arrived_at_ms = offset + gap, arrived_at_ms + later_ms
        records.append(Put(offset, arrived_at_ms))
    return records


@settings(max_examples=400, deadline=None)
@given(policy=policies(), records=record_lists(), rng=st.randoms(use_true_random=False), restarts=st.booleans())
def test_every_record_ends_processed_or_in_one_failure_whatever_happens(
    policy: Policy, records: list[Put], rng: random.Random, restarts: bool
) -> None:
    """In order, with no attempt too many, also when it is made anew from its progress at any moment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streamkit.mappings.outcome.WINDOW_STATE_BYTES_MAX", STATE_BYTES_MAX)
        Story(policy, records, rng, restarts).tell()


# -- one rule at a time ----------------------------------------------------------------------------------------------


def invocations(lane: Lane, outcome: Outcome, now_ms: int = START_MS) -> Iterator[list[int]]:
    """What is invoked until a failure or the end, every time with the same outcome."""
    while not isinstance(step := lane.next(now_ms), Discard):
        if isinstance(step, Wait):
            if step.until_ms is None:
                return
            now_ms = int(step.until_ms) + 1
            continue
        yield [] if step.work.batch is None else step.work.batch.offsets()
        lane.finish(outcome, now_ms)


def test_retries_are_as_many_as_asked_for() -> None:
    """MaximumRetryAttempts 3 makes four invocations, and the failure says so."""
    lane = Lane(Policy(retries_max=3), LaneProgress(0))
    lane.offer(batch(0, 1, 2))
    assert list(invocations(lane, Failed(RESPONSE))) == [[0, 1, 2]] * 4
    step = lane.next(START_MS)
    assert isinstance(step, Discard)
    assert step.failure.batch is not None
    assert step.failure.batch.offsets() == [0, 1, 2]
    assert (step.failure.condition, step.failure.invocations) == ("RetryAttemptsExhausted", 4)
    assert step.failure.response == RESPONSE


def test_back_off_doubles_to_thirty_seconds() -> None:
    """About ten attempts in the first minute, as at AWS."""
    lane = Lane(Policy(), LaneProgress(0))
    lane.offer(batch(0))
    now_ms, waits = START_MS, []
    for _ in range(12):
        lane.finish(Failed(RESPONSE), now_ms)
        step = lane.next(now_ms)
        assert isinstance(step, Wait)
        assert step.until_ms is not None
        waits.append(step.until_ms - now_ms)
        now_ms = int(step.until_ms)
    assert waits == [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000, 30_000]


def test_a_clock_that_is_set_back_does_not_make_a_back_off_longer() -> None:
    lane = Lane(Policy(), LaneProgress(0))
    lane.offer(batch(0))
    lane.next(START_MS)
    lane.finish(Failed(Response(200, "$LATEST", "Unhandled")), START_MS)
    assert isinstance(lane.next(START_MS), Wait)
    assert isinstance(lane.next(START_MS - 3_600_000), Invoke)


def test_throttles_are_no_attempts_and_back_off_as_well() -> None:
    """A function that could not be run is not the record's fault."""
    lane = Lane(Policy(retries_max=0), LaneProgress(0))
    lane.offer(batch(0))
    assert list(itertools.islice(invocations(lane, Again()), 30)) == [[0]] * 30
    assert lane.progress() == LaneProgress(0)


def test_a_bisect_leaves_the_poison_record_alone() -> None:
    """
    [0 1 2 3 4 5 6 7]  ✗
    [0 1 2 3] ✓  [4 5 6 7] ✗
                 [4 5] ✗  [6 7] ✓
                 [4] ✓ [5] ✗✗
    """
    lane = Lane(Policy(retries_max=1, bisects=True), LaneProgress(0))
    lane.offer(batch(*range(8)))
    seen, now_ms = [], START_MS
    while not isinstance(step := lane.next(now_ms), Discard):
        if isinstance(step, Wait):
            assert step.until_ms is not None
            now_ms = int(step.until_ms)
            continue
        assert step.work.batch is not None
        seen.append(step.work.batch.offsets())
        lane.finish(Failed(RESPONSE) if 5 in seen[-1] else Done(), now_ms)
    assert seen == [[*range(8)], [0, 1, 2, 3], [4, 5, 6, 7], [4, 5], [4], [5], [5]]
    assert (lane.next_offset, step.failure.invocations) == (5, 5)
    lane.discarded()
    assert list(invocations(lane, Done(), now_ms)) == [[6, 7]]


def test_a_bisect_splits_at_the_record_that_was_named() -> None:
    """With partial results what is before it is done and the rest is tried at once; named first, in the middle."""
    lane = Lane(Policy(retries_max=0, bisects=True, reports_item_failures=True), LaneProgress(0))
    lane.offer(batch(*range(6)))
    lane.next(START_MS)
    lane.finish(Partial(2, RESPONSE), START_MS)
    assert lane.next_offset == 2
    assert next(invocations(lane, Partial(0, RESPONSE))) == [2, 3, 4, 5]
    lane.finish(Partial(0, RESPONSE), START_MS)
    assert next(invocations(lane, Done())) == [2, 3]


def test_records_too_old_are_discarded_one_by_one_and_the_rest_is_delivered() -> None:
    """Age is looked at in front of the batch; the answer, if there was one, is not told."""
    lane = Lane(Policy(record_age_ms_max=60_000), LaneProgress(0))
    lane.offer(batch_of([Put(0, START_MS), Put(1, START_MS), Put(2, START_MS + 10)]))
    step = lane.next(START_MS + 60_001)
    assert isinstance(step, Discard)
    assert step.failure.batch is not None
    assert (step.failure.batch.offsets(), step.failure.condition) == ([0, 1], "RecordAgeExceeded")
    assert (step.failure.invocations, step.failure.response) == (0, None)
    lane.discarded()
    assert lane.next_offset == 2
    assert next(invocations(lane, Done(), START_MS + 60_001)) == [2]


def test_records_that_left_the_retention_are_given_up_only_once_they_failed() -> None:
    """What was read is delivered; what is retried ends when it could not be read any more."""
    lane = Lane(Policy(), LaneProgress(0))
    lane.offer(batch(0))
    assert isinstance(lane.next(START_MS, START_MS + 1), Invoke)
    lane.finish(Failed(RESPONSE), START_MS)
    step = lane.next(START_MS, START_MS + 1)
    assert isinstance(step, Discard)
    assert step.failure.condition == "RecordAgeExceeded"


def test_an_event_too_large_is_split_without_bisect_and_a_record_too_large_is_given_up() -> None:
    """Trying again cannot help."""
    lane = Lane(Policy(), LaneProgress(0))
    lane.offer(batch(0, 1))
    assert list(invocations(lane, Failed(RESPONSE, is_final=True))) == [[0, 1], [0]]
    step = lane.next(START_MS)
    assert isinstance(step, Discard)
    assert step.failure.condition == "RetryAttemptsExhausted"


def test_what_is_retried_is_put_together_again_after_a_restart() -> None:
    """Whatever the sizes it is offered in, and also where some of it has left the stream."""
    progress = LaneProgress(3, [SliceProgress(3, 5, 2, 4), SliceProgress(7, 9, 0, 1)])
    lane = Lane(Policy(retries_max=2), again(progress))
    for offset in (3, 4):
        lane.offer(batch(offset))
        assert not lane.has_work
    lane.offer(batch(5, 7, 8))
    assert lane.progress() == progress
    assert next(invocations(lane, Failed(RESPONSE))) == [3, 4, 5]
    lane.finish(Failed(RESPONSE), START_MS)
    step = lane.next(START_MS)
    assert isinstance(step, Discard)
    assert step.failure.invocations == 5
    lane.discarded()
    assert lane.next_offset == 7
    lane.advance(20)  # 9 is gone
    step = lane.next(START_MS)
    assert isinstance(step, Invoke)
    assert step.work.batch is not None
    assert step.work.batch.offsets() == [7, 8]
    assert lane.progress() == LaneProgress(7, [SliceProgress(7, 8, 0, 1)])


def test_a_restart_after_the_last_attempt_gives_no_other() -> None:
    """The attempts that are on disk count, also where nobody came to give the records up."""
    lane = Lane(Policy(retries_max=1), LaneProgress(0))
    lane.offer(batch(0, 1))
    assert len(list(invocations(lane, Failed(RESPONSE)))) == 2
    lane = Lane(Policy(retries_max=1), again(lane.progress()))
    lane.offer(batch(0))
    lane.offer(batch(1, 2))
    step = lane.next(START_MS)
    assert isinstance(step, Discard)
    assert (step.failure.condition, step.failure.invocations) == ("RetryAttemptsExhausted", 2)
    lane.discarded()
    assert list(invocations(lane, Done())) == [[2]]


def test_a_window_ends_after_all_of_its_records_with_the_state_that_was_returned() -> None:
    """
    window   |0        1000|1000
    records   0 1 2         3
    """
    lane = Lane(Policy(window_ms=1_000), LaneProgress(0))
    lane.offer(batch_of([Put(0, START_MS), Put(1, START_MS + 1)]))
    step = lane.next(START_MS)
    assert isinstance(step, Invoke)
    assert step.window == WindowProgress(START_MS)
    lane.finish(Done('{"a":1}'), START_MS)
    lane.offer(batch_of([Put(2, START_MS + 999)]))
    step = lane.next(START_MS)
    assert isinstance(step, Invoke)
    assert step.window == WindowProgress(START_MS, '{"a":1}')
    lane.finish(Done('{"a":2}'), START_MS)
    lane.offer(batch_of([Put(3, START_MS + 1_000)]))
    step = lane.next(START_MS)
    assert isinstance(step, Invoke)
    assert (step.work.batch, step.window) == (None, WindowProgress(START_MS, '{"a":2}'))
    lane.finish(Done('{"a":2}'), START_MS)
    step = lane.next(START_MS)
    assert isinstance(step, Invoke)
    assert step.window == WindowProgress(START_MS + 1_000)


def test_a_window_in_which_nothing_was_processed_has_no_final_invocation() -> None:
    """There is no state to end."""
    lane = Lane(Policy(retries_max=0, window_ms=1_000), LaneProgress(0))
    lane.offer(batch(0))
    assert len(list(invocations(lane, Failed(RESPONSE)))) == 1
    lane.discarded()
    lane.end_window()
    assert lane.next(START_MS) == Wait(None)
    assert not lane.has_work


@pytest.mark.parametrize(("letter", "count"), [("x", 2**20 - 7), ("é", 2**19 - 4), ("€", 349_523)])
def test_a_state_of_more_than_a_megabyte_ends_the_window_early(letter: str, count: int) -> None:
    """A megabyte of bytes, not of characters."""
    for more, ends in ((0, False), (4, True)):
        text = '{"":"' + letter * count + "x" * more + '"}'
        lane = Lane(Policy(window_ms=1_000), LaneProgress(0))
        lane.offer(batch(0))
        lane.next(START_MS)
        lane.finish(Done(text), START_MS)
        step = lane.next(START_MS)
        assert isinstance(step, Invoke) == ends
        if isinstance(step, Invoke):
            assert step.work.ended_early
            assert again(lane.progress()).window == WindowProgress(START_MS, text, True, True)


# -- answers ---------------------------------------------------------------------------------------------------------

BATCH = batch(3, 4, 7)
NUMBERS = [BATCH.sequence_number(index) for index in range(3)]
REPORTS = Policy(reports_item_failures=True)


def named(*identifiers: Any) -> str:
    return json.dumps({"batchItemFailures": [{"itemIdentifier": each} for each in identifiers]})


@pytest.mark.parametrize(
    ("payload", "outcome"),
    [
        ("", Done()),
        ("null", Done()),
        ("{}", Done()),
        ('""', Done()),
        ('{"batchItemFailures":[]}', Done()),
        ('{ "batchItemFailures" : [ ] }', Done()),
        ('{"batchItemFailures":null}', Done()),
        ('{"somethingElse":[1]}', Done()),
        (named(NUMBERS[0]), Partial(0, RESPONSE)),
        (named(NUMBERS[1]), Partial(1, RESPONSE)),
        (named(NUMBERS[2]), Partial(2, RESPONSE)),
        (named(NUMBERS[2], NUMBERS[1], NUMBERS[1]), Partial(1, RESPONSE)),
        (named(""), Failed(RESPONSE)),
        (named(None), Failed(RESPONSE)),
        (named(17), Failed(RESPONSE)),
        (named(NUMBERS[2], ""), Failed(RESPONSE)),
        (named("not in the batch"), Failed(RESPONSE)),
        (named(batch(5).sequence_number(0)), Failed(RESPONSE)),
        (named(batch(8).sequence_number(0)), Failed(RESPONSE)),
        ('{"batchItemFailures":[{"badKey":"1"}]}', Failed(RESPONSE)),
        ('{"batchItemFailures":[null]}', Failed(RESPONSE)),
        ('{"batchItemFailures":"x"}', Failed(RESPONSE)),
        ('{"batchItemFailures":', Failed(RESPONSE)),
    ],
)
def test_an_answer_with_batch_item_failures_means_what_aws_says(payload: str, outcome: Outcome) -> None:
    """The lowest number named is where it goes on; a name that is none fails the whole batch."""
    assert read_response(payload.encode(), BATCH, REPORTS, RESPONSE) == outcome


@pytest.mark.parametrize("payload", [named(NUMBERS[0]), named(""), "[1]", '"x"', "no JSON", "1"])
def test_without_the_setting_every_answer_is_a_success(payload: str) -> None:
    """ReportBatchItemFailures has to be asked for."""
    assert read_response(payload.encode(), BATCH, Policy(), RESPONSE) == Done()


@pytest.mark.parametrize("payload", ["", "null", "{}", '{"state":null}', '{"state":1}', '{"state":"x"}', "[]", "{"])
def test_in_a_window_an_answer_without_a_state_fails(payload: str) -> None:
    """AWS: the invocation counts as failed."""
    assert read_response(payload.encode(), BATCH, Policy(window_ms=1), RESPONSE) == Failed(RESPONSE)


def test_in_a_window_an_answer_has_the_state_and_may_name_failures() -> None:
    """A final invocation has no records that could be named."""
    policy = Policy(window_ms=1, reports_item_failures=True)
    answer = b'{"state":{"a":1},"batchItemFailures":[{"itemIdentifier":"%b"}]}' % NUMBERS[1].encode()
    assert read_response(answer, BATCH, policy, RESPONSE) == Partial(1, RESPONSE, '{"a":1}')
    assert read_response(answer, None, policy, RESPONSE) == Done('{"a":1}')
    assert read_response(answer, BATCH, Policy(window_ms=1), RESPONSE) == Done('{"a":1}')


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(state=st.dictionaries(st.text(max_size=5), json_values, max_size=4))
def test_a_state_is_handed_on_as_it_is(state: dict[str, Any]) -> None:
    """Also numbers larger than a machine word."""
    outcome = read_response(json.dumps({"state": state}).encode(), BATCH, Policy(window_ms=1), RESPONSE)
    assert isinstance(outcome, Done)
    assert outcome.state is not None
    assert json.loads(outcome.state) == state
