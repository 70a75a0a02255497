"""Sequence numbers: 56 digits that sort as records follow one another."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamkit.model import sequence
from streamkit.model.sequence import Position

seconds = st.integers(0, 2**36 - 1)
created = st.integers(1_000_000_000, 2**36 - 1)
shards = st.integers(0, 2**32 - 1)
offsets = st.integers(-1, 2**64 - 2)


@given(created, shards, offsets, seconds, st.integers(0, 999))
def test_a_number_has_56_digits_and_says_where_its_record_stands(
    created_s: int, shard: int, offset: int, arrival_s: int, fraction_ms: int
) -> None:
    number = sequence.sequence_number(created_s, shard, offset, arrival_s * 1000 + fraction_ms)
    assert len(number) == 56
    assert sequence.parse(number) == Position(created_s, shard, offset, arrival_s)


@given(created, shards, st.lists(offsets, min_size=2, max_size=2, unique=True), seconds, seconds)
def test_numbers_of_a_shard_sort_by_offset_whatever_the_clock_says(
    created_s: int, shard: int, pair: list[int], one_s: int, other_s: int
) -> None:
    earlier, later = sorted(pair)
    assert sequence.sequence_number(created_s, shard, earlier, one_s * 1000) < sequence.sequence_number(
        created_s, shard, later, other_s * 1000
    )


@given(created, created, shards, shards, offsets, offsets, seconds, seconds)
def test_a_child_shards_numbers_come_after_all_of_its_parents(
    one_s: int,
    other_s: int,
    parent: int,
    child: int,
    offset: int,
    other_offset: int,
    arrival_s: int,
    other_arrival: int,
) -> None:
    parent_s, child_s = sorted((one_s, other_s))
    if parent_s < child_s:
        last = sequence.sequence_number(parent_s, parent, offset, arrival_s * 1000)
        first = sequence.sequence_number(child_s, child, other_offset, other_arrival * 1000)
        assert last < first
        assert last < sequence.starting_sequence_number(child_s, child)


@given(created, shards, st.integers(0, 2**64 - 2), seconds)
def test_the_starting_number_lies_before_every_record(created_s: int, shard: int, offset: int, arrival_s: int) -> None:
    start = sequence.starting_sequence_number(created_s, shard)
    assert start < sequence.sequence_number(created_s, shard, offset, arrival_s * 1000)
    position = sequence.parse(start)
    assert position is not None
    assert position.offset == -1


@given(created, shards, st.integers(0, 2**63), seconds)
def test_neighbours_of_the_same_second_are_one_step_apart(
    created_s: int, shard: int, offset: int, arrival_s: int
) -> None:
    numbers = [sequence.number_of(created_s, shard, offset + each, arrival_s * 1000 + each) for each in range(3)]
    assert numbers[1] - numbers[0] == numbers[2] - numbers[1] == sequence.OFFSET_STEP


@given(st.one_of(st.text(), st.text("0123456789", min_size=50, max_size=60), st.integers(10**55, 10**56 - 1).map(str)))
def test_arbitrary_text_is_no_number_or_one_that_is_written_the_same(text: str) -> None:
    position = sequence.parse(text)
    if position is not None:
        created_s, shard, offset, arrival_s = position
        assert sequence.sequence_number(created_s, shard, offset, arrival_s * 1000) == text


def test_numbers_of_other_layouts_are_not_ours() -> None:
    number = sequence.sequence_number(1_600_000_000, 5, 10, 1_700_000_000_000)
    value = int(number)
    assert sequence.parse(number[:-1]) is None
    assert sequence.parse(number + "0") is None
    assert sequence.parse(str(value + 1)) is None  # the version digit
    assert sequence.parse(str(value ^ 1 << 144)) is None  # the nibble contradicts the shard
    assert sequence.parse(str(value ^ 1 << 72)) is None  # the byte that is zero
    assert sequence.parse("٠" * 56) is None  # decimal digits, but not ASCII's


def test_a_number_is_laid_out_as_aws_lays_it_out() -> None:
    number = int(sequence.sequence_number(0x123456789, 0xABCDEF, 0x41, 0x65432100 * 1000))
    assert f"{number:047x}" == "2" + "123456789" + "f" + f"{0x42:016x}" + "00" + "065432100" + "00abcdef" + "2"
