"""From a record's key to its shard."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from streamkit.model.batch import Columns
from streamkit.model.hashkey import digest_of, md5
from streamkit.shards.store import Rows, Shard, Table
from streamkit.streams.state import ShardState

if TYPE_CHECKING:
    import pyarrow as pa

_SAMPLE_ROWS: Final = 1024
_UNDECIDED: Final = 0xFFFF  # more than there can be shards in a stream


class Router:
    """The open shards of a stream, by hash key. With one shard nothing is hashed."""

    __slots__ = ("_by_first_byte", "_starts", "shards")

    def __init__(self, open_shards: Sequence[ShardState]) -> None:
        ordered = sorted(open_shards, key=lambda shard: shard.hash_keys)
        self.shards = [Shard(shard.index, shard.created_s) for shard in ordered]
        self._starts = [shard.hash_keys.first.to_bytes(16, "big") for shard in ordered]
        self._by_first_byte = _slots_by_first_byte(self._starts)

    def slot_of(self, key: bytes, hash_key: bytes | None) -> int:
        """The index into `shards` for a record. Hash keys are compared as bytes, see `streamkit.model.hashkey`."""
        if len(self.shards) == 1:
            return 0
        return bisect_right(self._starts, hash_key or digest_of(key)) - 1

    def route(
        self, keys: list[bytes], values: list[bytes], hash_keys: Sequence[bytes | None] | None
    ) -> tuple[list[Rows], list[tuple[int, int]]]:
        """Records as rows per shard, and for each record which rows and which place in them it got."""
        if len(self.shards) == 1:
            rows = Rows(self.shards[0], keys, values, None if hash_keys is None else _complete(keys, hash_keys))
            return [rows], [(0, place) for place in range(len(keys))]
        starts = self._starts
        if hash_keys is None:
            slots = [bisect_right(starts, digest_of(key)) - 1 for key in keys]
        else:
            complete = _complete(keys, hash_keys)
            slots = [bisect_right(starts, each) - 1 for each in complete]
        groups: dict[int, Rows] = {}
        numbers: dict[int, int] = {}
        places: list[tuple[int, int]] = []
        for slot, key, value in zip(slots, keys, values, strict=True):
            rows_ = groups.get(slot)
            if rows_ is None:
                rows_ = groups[slot] = Rows(self.shards[slot], [], [], None if hash_keys is None else [])
                numbers[slot] = len(numbers)
            places.append((numbers[slot], len(rows_.keys)))
            rows_.keys.append(key)
            rows_.values.append(value)
        if hash_keys is not None:
            for slot, each in zip(slots, complete, strict=True):
                kept = groups[slot].hash_keys
                assert kept is not None
                kept.append(each)
        return list(groups.values()), places

    def route_table(self, keys: pa.Array, data: pa.Array) -> list[Table]:
        """Binary columns (without nulls) as one table a shard, in the order of their rows."""
        if len(self.shards) == 1:
            return [Table(self.shards[0], columns_of(keys, data))]
        import pyarrow as pa
        import pyarrow.compute as pc

        slots = self._slots(keys)
        tables = []
        for slot, shard in enumerate(self.shards):
            rows = pc.indices_nonzero(pc.equal(slots, pa.scalar(slot, pa.uint16())))
            if len(rows):
                tables.append(Table(shard, columns_of(keys.take(rows), data.take(rows))))
        return tables

    def _slots(self, keys: pa.Array) -> pa.Array:
        """The slot of each key. Few distinct keys are hashed once each; a sample tells whether they are few."""
        sample = keys[:_SAMPLE_ROWS]
        if len(keys) > _SAMPLE_ROWS and len(sample.unique()) * 4 < _SAMPLE_ROWS:
            encoded = keys.dictionary_encode()
            return self._slots_of(encoded.dictionary.to_pylist()).take(encoded.indices)
        return self._slots_of(keys.to_pylist())

    def _slots_of(self, keys: list[bytes]) -> pa.Array:
        import pyarrow as pa

        by_first_byte, starts = self._by_first_byte, self._starts
        if _UNDECIDED not in by_first_byte:  # a power of two of equal shards: one pass, half the cost
            slots = array("H", [by_first_byte[md5(key).digest()[0]] for key in keys])
        else:
            slots = array("H", [bisect_right(starts, md5(key).digest()) - 1 for key in keys])
        return pa.Array.from_buffers(pa.uint16(), len(slots), [None, pa.py_buffer(slots)])


def _slots_by_first_byte(starts: Sequence[bytes]) -> list[int]:
    """For each first byte of a hash key the slot it leads to, where the rest of the hash key does not matter."""
    firsts = [bisect_right(starts, bytes([byte]) + bytes(15)) - 1 for byte in range(256)]
    lasts = [bisect_right(starts, bytes([byte]) + b"\xff" * 15) - 1 for byte in range(256)]
    return [first if first == last else _UNDECIDED for first, last in zip(firsts, lasts, strict=True)]


def columns_of(keys: pa.Array, data: pa.Array) -> Columns:
    """Two binary Arrow arrays as columns: their buffers as they are."""
    return Columns(len(keys), *_buffers(keys), *_buffers(data))


def _buffers(column: pa.Array) -> tuple[memoryview, memoryview]:
    _, offsets, values = column.buffers()
    window = memoryview(offsets).cast("i")[column.offset : column.offset + len(column) + 1]
    return window, memoryview(values if values is not None else b"")


def _complete(keys: list[bytes], hash_keys: Sequence[bytes | None]) -> list[bytes]:
    return [each or digest_of(key) for each, key in zip(hash_keys, keys, strict=True)]
