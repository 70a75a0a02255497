"""The frame: what is written is read, and nothing else is taken for it."""

from __future__ import annotations

from array import array
from itertools import accumulate
from typing import TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.model.batch import Columns
from streamkit.shards import frame
from streamkit.shards.frame import Damage

keys = st.text(min_size=1, max_size=20).map(str.encode)
records = st.lists(st.tuples(keys, st.binary(max_size=50), st.binary(min_size=16, max_size=16)), min_size=1, max_size=8)
seeds = st.integers(0, 2**64 - 1)


class PlaceFields(TypedDict):
    shard_index: int
    shard_created_s: int
    first_offset: int
    arrived_at_ms: int
    durable_position: int


places: st.SearchStrategy[PlaceFields] = st.builds(
    PlaceFields,
    shard_index=st.integers(0, 2**31 - 1),
    shard_created_s=st.integers(0, 2**32 - 1),
    first_offset=st.integers(0, 2**63),
    arrived_at_ms=st.integers(0, 2**63),
    durable_position=st.integers(0, 2**32 - 1),
)
PLACE: PlaceFields = {
    "shard_index": 3,
    "shard_created_s": 1_600_000_000,
    "first_offset": 42,
    "arrived_at_ms": 1_700_000_000_000,
    "durable_position": 4096,
}


def some_frame(seed: int = 7) -> bytearray:
    keys, values = [b"key", b"other"], [b"data", b""]
    return bytearray(b"".join(frame.encode_rows(seed, **PLACE, keys=keys, values=values)))


def decode(data: bytes | bytearray, seed: int) -> frame.Header:
    view = memoryview(data)
    header = frame.read_header(view, 0)
    frame.check(view, header, seed)
    return header


def offsets_of(values: list[bytes], start: int = 0) -> memoryview:
    return memoryview(array("i", accumulate(map(len, values), initial=start)))


@given(seeds, places, records, st.booleans())
def test_rows_come_back_as_they_were(
    seed: int, place: PlaceFields, rows: list[tuple[bytes, bytes, bytes]], has_hash_keys: bool
) -> None:
    keys, values, hash_keys = map(list, zip(*rows, strict=True))
    data = b"".join(
        frame.encode_rows(seed, **place, keys=keys, values=values, hash_keys=hash_keys if has_hash_keys else None)
    )
    header = decode(data, seed)
    batch = frame.batch_of(memoryview(data), header)
    assert len(data) == header.length == frame.length_of(header)
    assert len(data) % 8 == 0
    assert [bytes(value) for value in batch.values()] == values
    assert [key.encode() for key in batch.partition_keys()] == keys
    assert (None if batch.hash_keys is None else bytes(batch.hash_keys)) == (
        b"".join(hash_keys) if has_hash_keys else None
    )
    assert header.durable_position == place["durable_position"]
    assert (batch.shard_index, batch.shard_created_s) == (place["shard_index"], place["shard_created_s"])
    assert (batch.first_offset, batch.arrived_at_ms) == (place["first_offset"], place["arrived_at_ms"])


@given(seeds, records, st.binary(max_size=9), st.booleans())
def test_columns_that_start_anywhere_make_the_same_frame_as_rows(
    seed: int, rows: list[tuple[bytes, bytes, bytes]], before: bytes, has_hash_keys: bool
) -> None:
    keys, values, hash_keys = map(list, zip(*rows, strict=True))
    columns = Columns(
        len(rows),
        offsets_of(keys, len(before)),
        before + b"".join(keys) + b"behind",
        offsets_of(values, len(before)),
        before + b"".join(values),
        b"".join(hash_keys) if has_hash_keys else None,
    )
    from_columns = frame.encode(seed, **PLACE, columns=columns)
    from_rows = frame.encode_rows(
        seed, **PLACE, keys=keys, values=values, hash_keys=hash_keys if has_hash_keys else None
    )
    assert b"".join(from_columns) == b"".join(from_rows)


@given(seeds, records, st.data())
def test_arrival_times_of_each_record_are_kept(
    seed: int, rows: list[tuple[bytes, bytes, bytes]], data: st.DataObject
) -> None:
    keys, values, _ = map(list, zip(*rows, strict=True))
    arrivals = sorted(data.draw(st.lists(st.integers(0, 2**62), min_size=len(rows), max_size=len(rows))))
    columns = Columns(len(rows), offsets_of(keys), b"".join(keys), offsets_of(values), b"".join(values))
    times = memoryview(array("q", arrivals)).cast("B")
    whole = b"".join(frame.encode(seed, **PLACE, columns=columns, arrivals_ms=times))
    batch = frame.batch_of(memoryview(whole), decode(whole, seed))
    assert batch.arrivals() == arrivals
    assert batch.last_arrived_at_ms == arrivals[-1]
    assert [bytes(value) for value in batch.values()] == values


@given(seeds, st.dictionaries(st.integers(0, 2**31 - 1), st.integers(0, 2**62), max_size=9), st.integers(0, 2**62))
def test_positions_come_back_as_they_were(seed: int, next_offsets: dict[int, int], opened_at_ms: int) -> None:
    whole = b"".join(frame.encode_positions(seed, next_offsets.items(), opened_at_ms))
    header = decode(whole, seed)
    assert header.flags == frame.POSITIONS
    assert header.arrived_at_ms == opened_at_ms
    assert frame.length_of(header) == header.length == len(whole)
    assert frame.positions_of(memoryview(whole), header) == next_offsets


def test_a_frame_cut_at_any_byte_is_refused() -> None:
    whole = some_frame()
    for size in range(len(whole)):
        with pytest.raises(Damage):
            decode(whole[:size], 7)


def test_a_frame_with_any_bit_flipped_is_refused() -> None:
    whole = some_frame()
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Damage):
            decode(flipped, 7)


@given(st.integers(0, 200), st.binary(min_size=1, max_size=64))
def test_a_frame_with_bytes_overwritten_is_refused(at: int, garbage: bytes) -> None:
    whole = some_frame()
    changed = bytearray(whole)
    changed[at : at + len(garbage)] = garbage
    if changed[: len(whole)] != whole:
        with pytest.raises(Damage):
            decode(changed, 7)


@given(seeds, seeds)
def test_a_frame_of_another_place_is_refused(written: int, read: int) -> None:
    if written != read:
        with pytest.raises(Damage):
            decode(some_frame(written), read)


def test_places_and_segments_have_seeds_of_their_own() -> None:
    seeds = {
        frame.seed_of(frame.segment_seed_of(stream, number), position)
        for stream in ("a", "b")
        for number in (1, 2, 11)
        for position in range(0, 1 << 20, 8)
    }
    assert len(seeds) == 2 * 3 * (1 << 17)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_and_nothing_else_happens(data: bytes) -> None:
    with pytest.raises(Damage):
        decode(data, 0)
