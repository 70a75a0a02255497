"""From keys to shards: the same answer by every way there is."""

from __future__ import annotations

import hashlib
import itertools

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from streamkit.model.hashkey import HASH_KEY_MAX
from streamkit.streams.routing import Router
from streamkit.streams.state import ShardState

KEYS = st.binary(min_size=1, max_size=12)
HASH_KEYS = st.none() | st.integers(0, HASH_KEY_MAX).map(lambda number: number.to_bytes(16, "big"))


def shards_between(edges: list[int]) -> list[ShardState]:
    firsts = [0, *sorted(edges)]
    lasts = [*(first - 1 for first in firsts[1:]), HASH_KEY_MAX]
    # Numbered downwards: a shard's number says nothing of its place.
    return [
        ShardState(len(firsts) - place, 1_700_000_000 + place, str(first), str(last), 0)
        for place, (first, last) in enumerate(zip(firsts, lasts, strict=True))
    ]


SHARDS = st.sets(st.integers(1, HASH_KEY_MAX), max_size=6).map(lambda edges: shards_between(sorted(edges)))


def home_of(shards: list[ShardState], key: bytes, hash_key: bytes | None) -> int:
    """As the API reference has it: the shard whose range holds the MD5 of the key, or the explicit hash key."""
    number = int.from_bytes(hash_key or hashlib.md5(key).digest(), "big")
    (home,) = [shard.index for shard in shards if int(shard.first_hash_key) <= number <= int(shard.last_hash_key)]
    return home


@given(SHARDS, st.lists(st.tuples(KEYS, st.binary(max_size=8), HASH_KEYS), min_size=1, max_size=30))
def test_each_record_goes_to_the_shard_that_holds_its_hash_key_and_keeps_its_place(
    shards: list[ShardState], records: list[tuple[bytes, bytes, bytes | None]]
) -> None:
    router = Router(shards)
    keys = [key for key, _, _ in records]
    values = [value for _, value, _ in records]
    hash_keys = [hash_key for _, _, hash_key in records]
    groups, places = router.route(keys, values, hash_keys)
    assert sum(len(group.keys) for group in groups) == len(records)
    for (key, value, hash_key), (group, place) in zip(records, places, strict=True):
        rows = groups[group]
        assert (rows.keys[place], rows.values[place]) == (key, value)
        assert rows.shard.index == home_of(shards, key, hash_key)
        assert rows.shard.index == router.shards[router.slot_of(key, hash_key)].index
        assert rows.hash_keys is not None
        assert rows.hash_keys[place] == (hash_key or hashlib.md5(key).digest())


@given(SHARDS, st.lists(KEYS, min_size=1, max_size=40))
def test_records_of_one_shard_keep_their_order(shards: list[ShardState], keys: list[bytes]) -> None:
    values = [str(row).encode() for row in range(len(keys))]
    groups, _ = Router(shards).route(keys, values, None)
    assert len({group.shard.index for group in groups}) == len(groups), "a shard is one group"
    for group in groups:
        rows = [int(value) for value in group.values]
        assert rows == sorted(rows)
        assert group.hash_keys is None


@given(SHARDS, st.lists(KEYS, min_size=1, max_size=5), st.integers(1, 600))
def test_columns_are_routed_as_rows_are(shards: list[ShardState], some: list[bytes], repeats: int) -> None:
    keys = some * repeats  # enough of them are hashed through a dictionary
    values = [str(row).encode() for row in range(len(keys))]
    groups, _ = Router(shards).route(keys, values, None)
    tables = Router(shards).route_table(pa.array(keys, pa.binary()), pa.array(values, pa.binary()))
    by_rows = {group.shard: (group.keys, group.values) for group in groups}
    by_columns = {}
    for table in tables:
        columns = table.columns
        key_bounds, data_bounds = columns.key_offsets.tolist(), columns.data_offsets.tolist()
        by_columns[table.shard] = (
            [bytes(columns.keys[a:b]) for a, b in itertools.pairwise(key_bounds)],
            [bytes(columns.data[a:b]) for a, b in itertools.pairwise(data_bounds)],
        )
    assert by_columns == by_rows


def test_the_edges_of_a_range_belong_to_its_shard() -> None:
    edge = 1 << 127
    router = Router(shards_between([edge]))
    slots = [router.slot_of(b"k", number.to_bytes(16, "big")) for number in (0, edge - 1, edge, HASH_KEY_MAX)]
    assert slots == [0, 0, 1, 1]
