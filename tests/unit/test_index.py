"""The index: a cache that is whole, or is not believed."""

from __future__ import annotations

from bisect import bisect_left

from hypothesis import given
from hypothesis import strategies as st

from streamkit.shards.index import FrameTable, ShardFrames

SEED = 99
frames = st.lists(
    st.tuples(st.integers(0, 5), st.integers(1, 1000), st.integers(0, 1000), st.integers(8, 1 << 16)),
    min_size=1,
    max_size=30,
)


def table_of(added: list[tuple[int, int, int, int]]) -> FrameTable:
    """Frames one behind the other, of (shard, records, milliseconds later, length)."""
    table = FrameTable()
    next_offsets: dict[int, int] = {}
    position, at_ms = 64, 1_700_000_000_000
    for checksum, (shard, count, later_ms, length) in enumerate(added):
        first = next_offsets.get(shard, 10 * shard)
        at_ms += later_ms
        table.add(shard, first, count, at_ms, position, length, checksum)
        next_offsets[shard] = first + count
        position += length
    return table


def content(table: FrameTable) -> object:
    shards = {
        shard: ([frames.at(index) for index in range(len(frames))], list(frames.arrivals_ms), frames.next_offset)
        for shard, frames in table.shards.items()
    }
    last = {shard: frames.last_arrived_at_ms for shard, frames in table.shards.items()}
    return shards, last, table.covered_bytes, table.last_checksum


@given(frames)
def test_a_table_comes_back_as_it_was(added: list[tuple[int, int, int, int]]) -> None:
    table = table_of(added)
    decoded = FrameTable.decode(table.encode(SEED), SEED)
    assert decoded is not None
    assert content(decoded) == content(table)


def test_an_index_cut_or_lengthened_is_not_believed() -> None:
    whole = table_of([(0, 3, 1, 80), (1, 2, 1, 96)]).encode(SEED)
    for size in range(len(whole)):
        assert FrameTable.decode(whole[:size], SEED) is None
    assert FrameTable.decode(whole + b"\0", SEED) is None


def test_an_index_with_any_bit_flipped_is_not_believed() -> None:
    whole = table_of([(0, 3, 1, 80), (1, 2, 1, 96), (0, 1, 1, 72)]).encode(SEED)
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        assert FrameTable.decode(bytes(flipped), SEED) is None


def test_another_segments_index_is_not_believed() -> None:
    assert FrameTable.decode(table_of([(0, 3, 1, 80)]).encode(SEED), SEED + 1) is None


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_not_believed(data: bytes) -> None:
    assert FrameTable.decode(data, SEED) is None


@given(frames, st.integers(0, 5), st.integers(0, 40_000), st.integers(0, 40_000))
def test_frames_are_found_by_offset_and_by_time(
    added: list[tuple[int, int, int, int]], shard: int, offset: int, later_ms: int
) -> None:
    found = table_of(added).shards.get(shard, ShardFrames())
    starts = [found.at(index).first_offset for index in range(len(found))]
    holding = [index for index, start in enumerate(starts) if start <= offset]
    assert found.with_offset(offset) == (holding[-1] if holding else 0)
    at_ms = 1_700_000_000_000 + later_ms
    assert found.from_time(at_ms) == bisect_left(list(found.arrivals_ms), at_ms)
