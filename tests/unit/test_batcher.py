"""Batches end by count, by size, by time and at the borders of tumbling windows; nothing is lost or changes places."""

from __future__ import annotations

import itertools
import random
from array import array
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.mappings.batcher import Batcher, BatchLimits
from streamkit.mappings.batches import Batch, Part
from streamkit.model.batch import RecordBatch

MANY_BYTES = 1 << 30


def part_of(
    first: int, sizes: Sequence[int], *, arrivals: Sequence[int] | None = None, rows: Sequence[int] | None = None
) -> Part:
    """A log batch with keys of two bytes and data of these sizes, in a window that does not begin at the first row."""
    count = len(sizes)
    keys = memoryview(array("i", range(0, 2 * count + 3, 2)))
    data = memoryview(array("i", [0, *itertools.accumulate(sizes, initial=7)]))
    times = None if arrivals is None else memoryview(array("q", [0, *arrivals]))
    batch = RecordBatch(
        0, 1_600_000_000, first, 1, count + 1, 0 if times is None else times[1],
        keys, memoryview(b"k" * (2 * count + 2)), data, memoryview(bytes(7 + sum(sizes))), arrivals_ms=times,
    )  # fmt: skip
    return Part(batch, rows)


def event_bytes(batch: Batch, envelope_bytes: int) -> int:
    """The bytes of a batch as its limit counts them: data in base64, with padding, and an envelope each."""
    values = [len(part.batch.values()[row]) for part in batch.parts for row in part.rows or range(part.size)]
    return sum(-(-size // 3) * 4 + envelope_bytes for size in values)


def window_of(at_ms: int, tumbling_ms: int) -> int:
    return at_ms // tumbling_ms


# -- laws ------------------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(
    rng=st.randoms(use_true_random=False),
    records_max=st.integers(1, 12),
    event_bytes_max=st.sampled_from([300, 1_000, MANY_BYTES]),
    window_ms=st.sampled_from([0, 100, 1_000]),
    tumbling_ms=st.sampled_from([None, 50, 1_000]),
)
def test_batches_keep_every_record_in_order_within_every_limit_and_end_no_later_than_their_window(
    rng: random.Random, records_max: int, event_bytes_max: int, window_ms: int, tumbling_ms: int | None
) -> None:
    """However the records come, and whenever they are taken."""
    limits = BatchLimits(records_max, event_bytes_max, window_ms, tumbling_ms, envelope_bytes=20)
    batcher = Batcher(limits)
    given_: list[int] = []
    taken: list[int] = []
    arrivals: dict[int, int] = {}
    waits_since: int | None = None
    offset, now_ms, arrived_at_ms = 0, 1_000, 900
    for _ in range(40):
        now_ms += rng.choice((0, 1, 60, 400))
        if rng.random() < 0.6:
            count = rng.randint(1, 9)
            sizes = [rng.choice((0, 1, 2, 3, 50, 200, 400)) for _ in range(count)]
            times = sorted(rng.randint(arrived_at_ms, now_ms) for _ in range(count))
            arrived_at_ms = times[-1]
            rows = None if rng.random() < 0.5 else sorted(rng.sample(range(count), rng.randint(1, count)))
            part = part_of(offset, sizes, arrivals=times, rows=rows)
            given_ += list(part.offsets())
            arrivals.update(zip(range(offset, offset + count), times, strict=True))
            offset += count
            if waits_since is None:
                waits_since = now_ms
            batcher.add(part, now_ms)
        while (batch := batcher.take(now_ms)) is not None:
            rest = given_[len(taken) + len(batch) :]
            taken += batch.offsets()
            assert len(batch) <= records_max
            assert event_bytes(batch, 20) <= event_bytes_max or len(batch) == 1
            if tumbling_ms is not None:
                assert len({window_of(arrivals[each], tumbling_ms) for each in batch.offsets()}) == 1
            waits_since = now_ms if rest else None
        if batcher.first_offset is not None:
            assert waits_since is not None
            assert now_ms < waits_since + window_ms, "it waits longer than the batching window"
        assert batcher.records_count == len(given_) - len(taken)
        assert batcher.first_offset == (given_[len(taken)] if len(given_) > len(taken) else None)
    batcher.is_ended = True
    while (batch := batcher.take(now_ms)) is not None:
        taken += batch.offsets()
    assert taken == given_
    assert (batcher.records_count, batcher.data_bytes) == (0, 0)


# -- cases -----------------------------------------------------------------------------------------------------------


def offsets(batch: Batch | None) -> list[int] | None:
    return None if batch is None else batch.offsets()


def test_without_a_window_a_batch_is_what_is_there() -> None:
    """
    put   0 1 2 3 4      5
    take          [0 1 2] [3 4 5]
    """
    batcher = Batcher(BatchLimits(3, MANY_BYTES))
    batcher.add(part_of(0, [1] * 5), 0)
    assert offsets(batcher.take(0)) == [0, 1, 2]
    batcher.add(part_of(5, [1]), 0)
    assert offsets(batcher.take(0)) == [3, 4, 5]
    assert batcher.take(0) is None
    assert batcher.due_ms() is None


def test_a_window_waits_for_more_from_its_first_record_on() -> None:
    """
    ms    0   400  999  1000        1500  2499  2500
    put   0   1                     2
    take            no   [0 1]             no   [2]
    """
    batcher = Batcher(BatchLimits(10, MANY_BYTES, window_ms=1_000))
    batcher.add(part_of(0, [1]), 0)
    batcher.add(part_of(1, [1]), 400)
    assert batcher.due_ms() == 1_000
    assert batcher.take(999) is None
    assert offsets(batcher.take(1_000)) == [0, 1]
    batcher.add(part_of(2, [1]), 1_500)
    assert batcher.take(2_499) is None
    assert offsets(batcher.take(2_500)) == [2]


def test_a_full_batch_does_not_wait_and_what_is_left_waits_anew() -> None:
    """
    ms    0         10                1009  1010
    put   0 1       2 3
    take            [0 1 2]            no   [3]
    """
    batcher = Batcher(BatchLimits(3, MANY_BYTES, window_ms=1_000))
    batcher.add(part_of(0, [1, 1]), 0)
    assert batcher.take(0) is None
    batcher.add(part_of(2, [1, 1]), 10)
    assert offsets(batcher.take(10)) == [0, 1, 2]
    assert batcher.take(1_009) is None
    assert offsets(batcher.take(1_010)) == [3]


def test_the_size_of_the_event_ends_a_batch() -> None:
    """A hundred bytes are 136 in base64; two keys of two bytes are counted twice, for they may need escapes."""
    batcher = Batcher(BatchLimits(10, 2 * (400 // 3 + 4 + 4 + 20), window_ms=1_000, envelope_bytes=20))
    batcher.add(part_of(0, [100, 100, 100]), 0)
    assert offsets(batcher.take(0)) == [0, 1]
    assert batcher.take(0) is None


def test_a_record_larger_than_an_event_goes_alone() -> None:
    """It is for the invocation to say that it is too large."""
    batcher = Batcher(BatchLimits(10, 300))
    batcher.add(part_of(0, [10, 1_000, 10]), 0)
    batcher.add(part_of(3, [1_000]), 0)
    batcher.add(part_of(4, [10, 10]), 0)
    assert [offsets(batcher.take(0)) for _ in range(6)] == [[0], [1], [2], [3], [4, 5], None]


@pytest.mark.parametrize("is_one_part", [True, False])
def test_a_batch_does_not_span_tumbling_windows(is_one_part: bool) -> None:
    """
    window   |0          1000|1000       2000|2000
    record    0      1(999)   2(1000)  3      4
    take      [0 1]           [2 3]           waits
    """
    batcher = Batcher(BatchLimits(10, MANY_BYTES, window_ms=5_000, tumbling_ms=1_000))
    arrivals = [0, 999, 1_000, 1_999, 2_000]
    if is_one_part:
        batcher.add(part_of(0, [1] * 5, arrivals=arrivals), 2_000)
    else:
        for offset, arrived_at_ms in enumerate(arrivals):
            batcher.add(part_of(offset, [1], arrivals=[arrived_at_ms]), 2_000)
    assert offsets(batcher.take(2_000)) == [0, 1]
    assert offsets(batcher.take(2_000)) == [2, 3]
    assert batcher.take(6_999) is None
    assert offsets(batcher.take(7_000)) == [4]


def test_at_the_end_of_a_shard_nothing_waits() -> None:
    """No record will come that could fill the batch."""
    batcher = Batcher(BatchLimits(10, MANY_BYTES, window_ms=5_000))
    batcher.add(part_of(0, [1]), 0)
    assert batcher.take(0) is None
    batcher.is_ended = True
    assert offsets(batcher.take(0)) == [0]


def test_a_clock_that_is_set_back_does_not_make_a_window_longer() -> None:
    """10:00:00  record    09:00:00  clock set back    09:00:01  batch"""
    batcher = Batcher(BatchLimits(records_max=10, event_bytes_max=MANY_BYTES, window_ms=1_000))
    batcher.add(part_of(0, [1]), 3_600_000)
    assert batcher.take(0) is None
    assert batcher.due_ms() == 1_000
    assert batcher.take(1_000) is not None
