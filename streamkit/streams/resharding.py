"""Which shards close and which open: pure functions over hash key ranges."""

from __future__ import annotations

from collections.abc import Sequence

from streamkit.model.hashkey import HashKeyRange, uniform_ranges
from streamkit.streams.state import Reshard, ShardState


def split(shard: ShardState, new_starting_hash_key: int) -> Reshard:
    """One shard into two; the second starts at the given hash key, which lies inside the shard."""
    keys = shard.hash_keys
    assert keys.first < new_starting_hash_key <= keys.last
    halves = [(keys.first, new_starting_hash_key - 1), (new_starting_hash_key, keys.last)]
    return Reshard([shard.index], [(str(first), str(last)) for first, last in halves])


def merge(lower: ShardState, upper: ShardState) -> Reshard:
    """Two neighbours into one."""
    assert are_adjacent(lower, upper)
    return Reshard([lower.index, upper.index], [(lower.first_hash_key, upper.last_hash_key)])


def are_adjacent(lower: ShardState, upper: ShardState) -> bool:
    return lower.hash_keys.last + 1 == upper.hash_keys.first


def uniform_plan(open_shards: Sequence[ShardState], target_count: int, next_index: int) -> list[Reshard]:
    """The splits and merges that turn the open shards into `target_count` equal ones, in order.

    A shard is first split at every edge of the new ranges that lies inside it, then neighbours of one new range are
    merged. So a shard has one parent or two, as readers of Kinesis expect, and a shard that already is one of the new
    ranges stays open. `next_index` is the number the first new shard gets.
    """
    steps: list[Reshard] = []
    targets = uniform_ranges(target_count)
    edges = [keys.first for keys in targets[1:]]
    pieces: list[tuple[int, HashKeyRange]] = []
    for shard in sorted(open_shards, key=lambda shard: shard.hash_keys):
        index, keys = shard.index, shard.hash_keys
        for edge in edges:
            if keys.first < edge <= keys.last:
                lower, upper = HashKeyRange(keys.first, edge - 1), HashKeyRange(edge, keys.last)
                steps.append(Reshard([index], [_text(lower), _text(upper)]))
                pieces.append((next_index, lower))
                index, keys = next_index + 1, upper
                next_index += 2
        pieces.append((index, keys))
    merged: tuple[int, HashKeyRange] | None = None
    edges_left = set(edges)
    for index, keys in pieces:
        if merged is None or keys.first in edges_left:
            merged = (index, keys)
            continue
        whole = HashKeyRange(merged[1].first, keys.last)
        steps.append(Reshard([merged[0], index], [_text(whole)]))
        merged = (next_index, whole)
        next_index += 1
    return steps


def _text(keys: HashKeyRange) -> tuple[str, str]:
    return str(keys.first), str(keys.last)
