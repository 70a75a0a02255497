"""When a batch is complete: by count, by the size of its event, by the batching window, at a tumbling window's border.

No I/O; time is passed in. Whichever comes first ends a batch (AWS Lambda developer guide, "Batching behavior").
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass

from streamkit.mappings.batches import Batch, Part


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """`envelope_bytes`: what the event adds to each record's key and data."""

    records_max: int
    event_bytes_max: int
    window_ms: int = 0
    tumbling_ms: int | None = None
    envelope_bytes: int = 0


class Batcher:
    """Records of one lane, in order, on their way into batches."""

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._parts: deque[Part] = deque()
        self._since_ms: float = 0  # when the oldest one came here
        self.records_count = 0
        self.data_bytes = 0
        self._key_bytes = 0
        self.is_ended = False  # nothing more will come: what is here need not wait

    @property
    def first_offset(self) -> int | None:
        return self._parts[0].offset(0) if self._parts else None

    def add(self, part: Part, now_ms: float) -> None:
        if not self._parts:
            self._since_ms = now_ms
        self._parts.append(part)
        self.records_count += part.size
        self._count_bytes(part, 1)

    def due_ms(self) -> float | None:
        """When the batching window ends; None while nothing waits."""
        return self._since_ms + self._limits.window_ms if self._parts else None

    def take(self, now_ms: float) -> Batch | None:
        """The next batch, if it is complete."""
        self._since_ms = min(self._since_ms, now_ms)  # the clock may be set back
        waits = not self.is_ended and now_ms < self._since_ms + self._limits.window_ms
        if not self._parts or (waits and not self._may_be_full()):
            return None
        parts, is_full = self._next_batch()
        if waits and not is_full:
            return None
        self._remove(parts)
        self._since_ms = now_ms
        return Batch(parts)

    def _may_be_full(self) -> bool:
        """Looks at sums alone: asked for each record that comes, while thousands may wait."""
        limits, count = self._limits, self.records_count
        if count >= limits.records_max:
            return True
        if _in_event(self.data_bytes, self._key_bytes, count, limits.envelope_bytes) > limits.event_bytes_max:
            return True
        if limits.tumbling_ms is None:
            return False
        first, last = self._parts[0], self._parts[-1]
        return first.arrived_at_ms(0) // limits.tumbling_ms != last.arrived_at_ms(last.size - 1) // limits.tumbling_ms

    def _next_batch(self) -> tuple[list[Part], bool]:
        """As many records as fit, and whether there is a reason not to wait for more."""
        taken: list[Part] = []
        records_left, bytes_left = self._limits.records_max, self._limits.event_bytes_max
        border_ms: int | None = None
        if self._limits.tumbling_ms is not None:
            first_ms = self._parts[0].arrived_at_ms(0)
            border_ms = first_ms - first_ms % self._limits.tumbling_ms + self._limits.tumbling_ms
        for part in self._parts:
            count = min(part.size, records_left)
            if border_ms is not None:
                count = min(count, part.count_before(border_ms))
            fits, size_bytes = self._fitting(part, count, bytes_left)
            if not fits and not taken:  # larger than an event may be: it is for the invocation to say so
                return [part.slice(0, 1)], True
            if fits:
                taken.append(part if fits == part.size else part.slice(0, fits))
            if fits < part.size:
                return taken, True
            records_left -= fits
            bytes_left -= size_bytes
            if not records_left:
                return taken, True
        return taken, False

    def _fitting(self, part: Part, count: int, bytes_max: int) -> tuple[int, int]:
        """How many of the first `count` records fit, and the bytes they make in the event."""
        size = _event_bytes(part, count, self._limits.envelope_bytes)
        if size <= bytes_max:
            return count, size

        def size_to(rows: int) -> int:
            return _event_bytes(part, rows, self._limits.envelope_bytes)

        count = bisect_right(range(count + 1), bytes_max, key=size_to) - 1
        return count, size_to(count)

    def _remove(self, parts: list[Part]) -> None:
        for part in parts:
            first = self._parts.popleft()
            if part.size < first.size:
                self._parts.appendleft(first.slice(part.size, first.size))
            self.records_count -= part.size
            self._count_bytes(part, -1)

    def _count_bytes(self, part: Part, sign: int) -> None:
        data_bytes, key_bytes = _bytes_of(part, part.size)
        self.data_bytes += sign * data_bytes
        self._key_bytes += sign * key_bytes


def _event_bytes(part: Part, count: int, envelope_bytes: int) -> int:
    return _in_event(*_bytes_of(part, count), count, envelope_bytes)


def _in_event(data_bytes: int, key_bytes: int, count: int, envelope_bytes: int) -> int:
    """Bytes that records take in an event; keys that need escapes are counted at twice their length."""
    return data_bytes * 4 // 3 + 4 * count + 2 * key_bytes + envelope_bytes * count


def _bytes_of(part: Part, count: int) -> tuple[int, int]:
    """Of the data and of the keys of the first `count` records."""
    batch, rows = part
    data, keys, start = batch.data_offsets, batch.key_offsets, batch.start
    if rows is None:
        return data[start + count] - data[start], keys[start + count] - keys[start]
    data_bytes = key_bytes = 0
    for row in rows[:count]:
        data_bytes += data[start + row + 1] - data[start + row]
        key_bytes += keys[start + row + 1] - keys[start + row]
    return data_bytes, key_bytes
