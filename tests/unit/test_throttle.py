"""What a shard lets through, second by second."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamkit.model.limits import MIB
from streamkit.streams.throttle import Bucket, ShardThrottle

NOW_MS = 1_700_000_000_000


def test_a_shard_takes_a_thousand_records_at_once_and_one_more_each_millisecond() -> None:
    throttle = ShardThrottle(NOW_MS)
    assert all(throttle.admits_write(1, NOW_MS) for _ in range(1_000))
    assert not throttle.admits_write(1, NOW_MS)
    assert throttle.admits_write(1, NOW_MS + 1)
    assert not throttle.admits_write(1, NOW_MS + 1)


def test_a_shard_takes_a_mebibyte_a_second() -> None:
    throttle = ShardThrottle(NOW_MS)
    assert throttle.admits_write(MIB // 2, NOW_MS)
    assert throttle.admits_write(MIB // 2, NOW_MS)
    assert not throttle.admits_write(MIB // 2, NOW_MS)
    assert not throttle.admits_write(MIB // 2, NOW_MS + 499)
    assert throttle.admits_write(MIB // 2, NOW_MS + 500)


def test_a_record_larger_than_a_seconds_worth_is_taken_and_paid_for_afterwards() -> None:
    throttle = ShardThrottle(NOW_MS)
    assert throttle.admits_write(10 * MIB, NOW_MS)
    assert not throttle.admits_write(1, NOW_MS + 8_999)
    assert throttle.admits_write(1, NOW_MS + 9_001)


def test_a_refused_write_costs_nothing() -> None:
    throttle = ShardThrottle(NOW_MS)
    assert throttle.admits_write(MIB - 10, NOW_MS)
    for _ in range(2_000):
        assert not throttle.admits_write(11, NOW_MS)
    assert throttle.admits_write(10, NOW_MS)


def test_a_shard_is_read_five_times_a_second() -> None:
    throttle = ShardThrottle(NOW_MS)
    assert [throttle.admits_read(NOW_MS) for _ in range(6)] == [True] * 5 + [False]
    assert not throttle.admits_read(NOW_MS + 199)
    assert throttle.admits_read(NOW_MS + 200)


def test_a_large_read_is_paid_for_by_the_next_ones() -> None:
    throttle = ShardThrottle(NOW_MS)
    assert throttle.admits_read(NOW_MS)
    throttle.read(10 * MIB)
    assert not throttle.admits_read(NOW_MS + 3_999)
    assert throttle.admits_read(NOW_MS + 4_001)


@given(
    st.integers(1, 5_000),
    st.lists(st.tuples(st.integers(-50, 400), st.integers(1, 300)), min_size=1, max_size=60),
)
def test_no_more_passes_a_bucket_than_it_held_and_was_refilled_with(per_s: int, asked: list[tuple[int, int]]) -> None:
    bucket, now_ms, passed, refilled = Bucket(per_s, NOW_MS), NOW_MS, 0, 0.0
    for step_ms, amount in asked:
        now_ms += step_ms  # also backwards: a clock may step
        refilled += max(step_ms, 0) * per_s / 1000
        if bucket.has(amount, now_ms):
            bucket.take(amount)
            passed += amount
        assert passed <= per_s + refilled + 1e-6
