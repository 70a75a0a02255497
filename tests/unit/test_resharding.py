"""Which shards close and which open, for any shards there may be."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.model.hashkey import HASH_KEY_MAX, HashKeyRange, uniform_ranges
from streamkit.streams import resharding
from streamkit.streams.state import Reshard, ShardState


def shard(index: int, first: int, last: int) -> ShardState:
    return ShardState(index, 1_700_000_000, str(first), str(last), 1_700_000_000_000)


def shards_between(edges: list[int]) -> list[ShardState]:
    """Shards that cover all hash keys, with these first keys beside 0."""
    firsts = [0, *sorted(edges)]
    lasts = [*(first - 1 for first in firsts[1:]), HASH_KEY_MAX]
    return [shard(index, first, last) for index, (first, last) in enumerate(zip(firsts, lasts, strict=True))]


@st.composite
def open_shards(draw: st.DrawFn) -> list[ShardState]:
    """Any partition of the hash keys: at odd places, and at the edges that equal ranges have."""
    anywhere = st.integers(1, HASH_KEY_MAX)
    uniform = st.integers(2, 40).flatmap(lambda count: st.sampled_from([keys.first for keys in uniform_ranges(count)]))
    edges = draw(st.sets(anywhere | uniform.filter(bool), max_size=12))
    return shards_between(sorted(edges))


def taken(shards: list[ShardState], plan: list[Reshard]) -> dict[int, HashKeyRange]:
    """The open shards after each step was taken as the service takes it; every step is checked."""
    ranges = {each.index: each.hash_keys for each in shards}
    following = itertools.count(max(ranges) + 1)
    for step in plan:
        assert len(step.parents) in (1, 2)
        assert len(step.parents) + len(step.children) == 3, "a split has two children, a merge one"
        parents = [ranges.pop(index) for index in step.parents]  # KeyError: a parent that is not open
        children = [HashKeyRange(int(first), int(last)) for first, last in step.children]
        assert (parents[0].first, parents[-1].last) == (children[0].first, children[-1].last)
        for pieces in (parents, children):
            assert all(lower.last + 1 == upper.first for lower, upper in itertools.pairwise(pieces))
        for child in children:
            assert child.first <= child.last
            ranges[next(following)] = child
    return ranges


@given(open_shards(), st.integers(1, 40))
def test_a_plan_turns_any_open_shards_into_exactly_equal_ones(shards: list[ShardState], target: int) -> None:
    after = taken(shards, resharding.uniform_plan(shards, target, len(shards)))
    assert sorted(after.values()) == uniform_ranges(target)


@given(open_shards(), st.integers(1, 40))
def test_a_shard_that_already_has_its_range_stays_open(shards: list[ShardState], target: int) -> None:
    plan = resharding.uniform_plan(shards, target, len(shards))
    closed = {index for step in plan for index in step.parents}
    for each in shards:
        assert (each.index in closed) == (each.hash_keys not in uniform_ranges(target))


@given(open_shards().flatmap(lambda shards: st.tuples(st.just(shards), st.permutations(shards))), st.integers(1, 40))
def test_the_plan_does_not_depend_on_the_order_of_the_shards(
    shards: tuple[list[ShardState], list[ShardState]], target: int
) -> None:
    ordered, shuffled = shards
    assert resharding.uniform_plan(shuffled, target, 100) == resharding.uniform_plan(ordered, target, 100)


@given(st.integers(1, 64))
def test_equal_shards_need_no_step_to_stay_as_many(count: int) -> None:
    shards = [shard(index, *keys) for index, keys in enumerate(uniform_ranges(count))]
    assert resharding.uniform_plan(shards, count, count) == []


def test_doubling_splits_each_shard_once() -> None:
    shards = [shard(index, *keys) for index, keys in enumerate(uniform_ranges(4))]
    plan = resharding.uniform_plan(shards, 8, 4)
    assert [step.parents for step in plan] == [[0], [1], [2], [3]]


@given(st.integers(1, HASH_KEY_MAX))
def test_a_split_and_its_merge_cover_what_the_shard_covered(key: int) -> None:
    whole = shard(0, 0, HASH_KEY_MAX)
    (low_first, low_last), (high_first, high_last) = resharding.split(whole, key).children
    lower, upper = shard(1, int(low_first), int(low_last)), shard(2, int(high_first), int(high_last))
    assert upper.hash_keys.first == key
    assert resharding.are_adjacent(lower, upper)
    assert not resharding.are_adjacent(upper, lower)
    assert resharding.merge(lower, upper).children == [(whole.first_hash_key, whole.last_hash_key)]


@pytest.mark.parametrize("key", [0, HASH_KEY_MAX + 1])
def test_a_split_outside_the_shard_is_our_own_mistake(key: int) -> None:
    with pytest.raises(AssertionError):
        resharding.split(shard(0, 0, HASH_KEY_MAX), key)
