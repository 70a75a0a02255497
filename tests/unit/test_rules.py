"""Rules beyond the service model, and what takes AWS's time: tokens that expire, scalings a day, retention."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.api.kinesis import Kinesis
from streamkit.metrics import Registry
from streamkit.model import sequence
from streamkit.model.errors import (
    ExpiredIterator,
    ExpiredNextToken,
    InvalidArgument,
    LimitExceeded,
    RequestError,
    ThroughputExceeded,
)
from streamkit.model.hashkey import HASH_KEY_MAX
from streamkit.model.limits import HOUR_MS, MIB
from streamkit.model.names import Scope, StreamId
from streamkit.shards.memory import MemoryLogStore
from streamkit.streams import rules
from streamkit.streams.control import ControlStore
from streamkit.streams.service import Streams
from streamkit.streams.state import ShardState, StreamState
from streamkit.testing.clock import START_MS, VirtualClock, run
from streamkit.testing.runner import InlineRunner

SCOPE = Scope("000000000000", "us-east-1")
FIRST = "shardId-000000000000"


def shard(first: int, last: int) -> ShardState:
    return ShardState(0, 1_700_000_000, str(first), str(last), START_MS)


def state(*shards: ShardState, updates_ms: tuple[int, ...] = ()) -> StreamState:
    return StreamState(
        StreamId("0" * 32), *SCOPE, "s", "ACTIVE", START_MS, list(shards), shard_count_updates_ms=list(updates_ms)
    )


class Calls:
    """Kinesis operations with values that need no codec, in virtual time."""

    def __init__(self, kinesis: Kinesis, clock: VirtualClock) -> None:
        self.kinesis = kinesis
        self.clock = clock

    async def __call__(self, operation: str, **members: Any) -> Any:
        return await self.kinesis.actions[operation](SCOPE, members)


def with_kinesis(story: Callable[[Calls], Awaitable[None]]) -> None:
    async def main(clock: VirtualClock, rng: random.Random) -> None:
        store = MemoryLogStore(clock=clock, runner=InlineRunner())
        streams = Streams(ControlStore(None), store, clock=clock, random=rng)
        await streams.start()
        await story(Calls(Kinesis(streams, clock, Registry()), clock))
        await streams.close()

    run(main, seed=1)


# -- pure rules ------------------------------------------------------------------------------------------------------


@given(st.integers(0, HASH_KEY_MAX), st.integers(0, HASH_KEY_MAX), st.integers(0, 2**129))
def test_a_split_is_legal_where_both_halves_have_two_hash_keys(one: int, other: int, key: int) -> None:
    first, last = sorted((one, other))
    whole = shard(first, last)
    if first + 1 < key < last:
        assert rules.require_splittable(whole, str(key), state(whole)) == key
    else:
        with pytest.raises(InvalidArgument, match="is not both greater than one plus"):
            rules.require_splittable(whole, str(key), state(whole))


@given(st.integers(0, 2**64 - 2), st.integers(0, 1_800_000_000))
def test_a_starting_number_names_the_offset_it_was_given_for(offset: int, arrived_s: int) -> None:
    own = shard(0, HASH_KEY_MAX)
    text = sequence.sequence_number(own.created_s, own.index, offset, arrived_s * 1000)
    assert rules.require_sequence_number(text, own, state(own)) == offset


def test_a_shards_own_starting_number_names_the_place_before_its_first_record() -> None:
    own = shard(0, HASH_KEY_MAX)
    text = sequence.starting_sequence_number(own.created_s, own.index)
    assert rules.require_sequence_number(text, own, state(own)) == -1


@given(st.text(max_size=60))
def test_a_text_is_either_a_number_of_the_shard_or_an_invalid_argument(text: str) -> None:
    own = shard(0, HASH_KEY_MAX)
    with pytest.raises(InvalidArgument):
        rules.require_sequence_number(text, own, state(own))


def test_scalings_of_a_rolling_day_are_counted() -> None:
    day_ms, now_ms = rules.DAY_MS, START_MS + rules.DAY_MS
    within = tuple(range(now_ms - day_ms + 1, now_ms - day_ms + 11))
    with pytest.raises(LimitExceeded, match="10 times per rolling 24-hour"):
        rules.require_scalable(state(shard(0, 9), updates_ms=within), 2, 1, 500, now_ms)
    rules.require_scalable(state(shard(0, 9), updates_ms=within), 2, 1, 500, now_ms + 1)


@pytest.mark.parametrize(("target", "is_allowed"), [(1, False), (2, True), (4, True), (8, True), (9, False)])
def test_a_scaling_halves_at_least_and_doubles_at_most(target: int, is_allowed: bool) -> None:
    four = state(*[shard(index, index) for index in range(4)])
    if is_allowed:
        rules.require_scalable(four, target, 4, 500, START_MS)
    else:
        with pytest.raises(LimitExceeded):
            rules.require_scalable(four, target, 4, 500, START_MS)


def test_a_scaling_counts_the_other_streams_of_the_account() -> None:
    one = state(shard(0, 9))
    rules.require_scalable(one, 2, 499, 500, START_MS)
    with pytest.raises(LimitExceeded, match="cannot be greater than 500"):
        rules.require_scalable(one, 2, 500, 500, START_MS)


@pytest.mark.parametrize("value", ["aws:\n", "a;b", "\u00a0", "a,b"])
def test_a_tags_value_has_no_other_characters_whatever_it_starts_with(value: str) -> None:
    with pytest.raises(InvalidArgument, match="Some tags contain invalid characters"):
        rules.with_tags({}, {"k": value}, "s", "1")
    assert rules.with_tags({}, {"k": "aws:x"}, "s", "1") == {"k": "aws:x"}


# -- with time -------------------------------------------------------------------------------------------------------


def test_an_iterator_serves_for_five_minutes_and_is_told_as_expired_after() -> None:
    async def story(call: Calls) -> None:
        await call("CreateStream", StreamName="s", ShardCount=1)
        found = await call("GetShardIterator", StreamName="s", ShardId=FIRST, ShardIteratorType="LATEST")
        call.clock.step(300_000)
        await call("GetRecords", **found)
        call.clock.step(1_000)
        with pytest.raises(ExpiredIterator) as expired:
            await call("GetRecords", **found)
        assert expired.value.message == (
            "Iterator expired. The iterator was created at time Tue Nov 14 22:13:20 UTC 2023 while right now it is Tue "
            "Nov 14 22:18:21 UTC 2023 which is further in the future than the tolerated delay of 300000 milliseconds."
        )

    with_kinesis(story)


def test_a_list_token_serves_for_five_minutes_and_is_told_as_expired_after() -> None:
    async def story(call: Calls) -> None:
        await call("CreateStream", StreamName="s", ShardCount=2)
        token = (await call("ListShards", StreamName="s", MaxResults=1))["NextToken"]
        call.clock.step(300_001)
        with pytest.raises(ExpiredNextToken, match=r"^NextToken expired\. The token was created at time Tue Nov 14"):
            await call("ListShards", NextToken=token)

    with_kinesis(story)


def test_records_leave_exactly_with_the_retention_and_a_closed_shard_after_its_last() -> None:
    async def story(call: Calls) -> None:
        await call("CreateStream", StreamName="s", ShardCount=1)
        for data in (b"0", b"1"):
            await call("PutRecord", StreamName="s", Data=data, PartitionKey="k")
            call.clock.step(HOUR_MS)
        await call("SplitShard", StreamName="s", ShardToSplit=FIRST, NewStartingHashKey="100")

        async def seen() -> int:
            at = {"StreamName": "s", "ShardId": FIRST, "ShardIteratorType": "TRIM_HORIZON"}
            answer = await call("GetRecords", **await call("GetShardIterator", **at))
            return b"".join(answer).count(b"SequenceNumber")

        assert await seen() == 2
        call.clock.step(22 * HOUR_MS)
        assert await seen() == 2
        call.clock.step(1)
        assert await seen() == 1
        call.clock.step(2 * HOUR_MS - 1)
        assert await seen() == 0
        assert len((await call("ListShards", StreamName="s"))["Shards"]) == 3
        call.clock.step(1)
        with pytest.raises(RequestError, match="does not exist"):
            await seen()
        assert len((await call("ListShards", StreamName="s"))["Shards"]) == 2

    with_kinesis(story)


def test_answers_nobody_takes_make_the_next_ones_smaller_and_then_refused() -> None:
    async def story(call: Calls) -> None:
        await call("CreateStream", StreamName="s", ShardCount=1)
        for _ in range(20):
            await call("PutRecord", StreamName="s", Data=b"x" * MIB, PartitionKey="k")
        at = {"StreamName": "s", "ShardId": FIRST, "ShardIteratorType": "TRIM_HORIZON"}
        found = await call("GetShardIterator", **at)
        untaken = []
        while call.kinesis.answers.room():
            untaken.append(await call("GetRecords", **found))
        with pytest.raises(ThroughputExceeded):
            await call("GetRecords", **found)
        sizes = [sum(map(len, answer)) for answer in untaken]
        assert sizes == sorted(sizes, reverse=True)
        assert sum(sizes) < 100 * MIB
        assert sizes[-1] > MIB, "one record is given in any case"
        untaken.clear()
        assert sum(map(len, await call("GetRecords", **found))) == sizes[0]

    with_kinesis(story)
