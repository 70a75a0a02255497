"""The throughput of a shard, when limits are enforced: token buckets that hold one second's worth."""

from __future__ import annotations

from streamkit.model.limits import (
    SHARD_READ_BYTES_PER_S,
    SHARD_READ_CALLS_PER_S,
    SHARD_WRITE_BYTES_PER_S,
    SHARD_WRITE_RECORDS_PER_S,
)


class Bucket:
    """Refills evenly, up to one second's worth. May go into debt once: a read's size is known only afterwards."""

    __slots__ = ("_at_ms", "_left", "_per_s")

    def __init__(self, per_s: int, now_ms: int) -> None:
        self._per_s = per_s
        self._left = float(per_s)
        self._at_ms = now_ms

    def has(self, amount: float, now_ms: int) -> bool:
        elapsed_ms = max(now_ms - self._at_ms, 0)
        self._left = min(self._left + elapsed_ms * self._per_s / 1000, self._per_s)
        self._at_ms = now_ms
        return self._left >= amount

    def take(self, amount: float) -> None:
        self._left -= amount


class ShardThrottle:
    """What one shard still allows: 1 MiB and 1,000 records a second in, 2 MiB and 5 calls a second out."""

    __slots__ = ("_read_bytes", "_read_calls", "_write_bytes", "_write_records")

    def __init__(self, now_ms: int) -> None:
        self._write_bytes = Bucket(SHARD_WRITE_BYTES_PER_S, now_ms)
        self._write_records = Bucket(SHARD_WRITE_RECORDS_PER_S, now_ms)
        self._read_bytes = Bucket(SHARD_READ_BYTES_PER_S, now_ms)
        self._read_calls = Bucket(SHARD_READ_CALLS_PER_S, now_ms)

    def admits_write(self, size_bytes: int, now_ms: int) -> bool:
        """Whether one record may be written now; if so, it is counted."""
        # A record may be larger than a second's worth (10 MiB): a full bucket admits it and goes into debt.
        if not (
            self._write_records.has(1, now_ms)
            and self._write_bytes.has(min(size_bytes, SHARD_WRITE_BYTES_PER_S), now_ms)
        ):
            return False
        self._write_records.take(1)
        self._write_bytes.take(size_bytes)
        return True

    def admits_read(self, now_ms: int) -> bool:
        """Whether a GetRecords call may be made now; if so, it is counted."""
        if not (self._read_bytes.has(1, now_ms) and self._read_calls.has(1, now_ms)):
            return False
        self._read_calls.take(1)
        return True

    def read(self, size_bytes: int) -> None:
        self._read_bytes.take(size_bytes)
