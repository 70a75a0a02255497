"""The order in which rows of several splits are taken in: by arrival, then by split, then by their place in it.

It is the same for every run over the same records, however they are read and however they are cut into ticks, because a
row is only given when nothing that comes before it can still be read.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np

from streamkit_sql.runtime.operator import END_MS, NO_WATERMARK_MS
from streamkit_sql.tables.source import SourceBatch


def cut(batch: SourceBatch, start: int, stop: int) -> SourceBatch:
    """Rows `start` to `stop` of a batch, its position unchanged."""
    if start == 0 and stop == len(batch):
        return batch
    arrived = batch.arrived_ms if isinstance(batch.arrived_ms, int) else batch.arrived_ms[start:stop]
    metadata = {
        key: value[start:stop] if hasattr(value, "__len__") and not isinstance(value, str | bytes) else value
        for key, value in batch.metadata.items()
    }
    return replace(batch, rows=batch.rows.slice(start, stop - start), arrived_ms=arrived, metadata=metadata)


@dataclass(slots=True)
class Queue:
    """What was read of one split and not given yet. `position` and `given` say where a restart reads on: behind
    `position`, leaving out `given` rows."""

    position: str | None = None
    given: int = 0
    read_to_ms: int = NO_WATERMARK_MS  # while it is empty: everything that arrived up to here was given
    batches: deque[SourceBatch] = field(default_factory=deque)
    first: int = 0  # of the first batch, rows given
    rows: int = 0

    def add(self, batch: SourceBatch) -> None:
        self.batches.append(batch)
        self.rows += len(batch)

    def skip(self, count: int) -> None:
        """Leaves out rows that a run before has taken in."""
        self._drop(count)

    def last_arrival_ms(self) -> int:
        last = self.batches[-1]
        return last.arrived_ms if isinstance(last.arrived_ms, int) else int(last.arrived_ms[-1])

    def arrivals_ms(self) -> np.ndarray:
        parts = [each.arrivals_ms() for each in self.batches]
        return np.concatenate(parts)[self.first :] if parts else np.empty(0, np.int64)

    def give(self, count: int) -> list[SourceBatch]:
        """The next rows."""
        found: list[SourceBatch] = []
        start = self.first
        wanted = count
        for batch in self.batches:
            if not wanted:
                break
            stop = min(len(batch), start + wanted)
            if stop > start:
                found.append(cut(batch, start, stop))
            wanted -= stop - start
            start = 0
        self._drop(count)
        return found

    def _drop(self, count: int) -> None:
        self.rows -= count
        self.first += count
        self.given += count
        while self.batches and self.first >= len(self.batches[0]):
            done = self.batches.popleft()
            self.first -= len(done)
            self.position = done.position
            self.given = self.first


@dataclass(frozen=True, slots=True)
class Taken:
    """Rows in order: each batch with the index of its queue. All that arrived up to `arrived_ms` has been given."""

    batches: list[tuple[int, SourceBatch]]
    arrived_ms: int


def take(queues: list[Queue], rows_max: int) -> Taken:
    """The next rows of all queues, as many as can be given, at most `rows_max`."""
    limit = min(
        ((queue.last_arrival_ms(), index) if queue.rows else (queue.read_to_ms, len(queues)))
        for index, queue in enumerate(queues)
    )
    waiting = [index for index, queue in enumerate(queues) if queue.rows]
    counts: dict[int, np.ndarray] = {}
    for index in waiting:
        arrivals = queues[index].arrivals_ms()
        if queues[index].read_to_ms < END_MS or limit[0] < END_MS:
            stop_ms = limit[0] if index <= limit[1] else limit[0] - 1
            arrivals = arrivals[: int(np.searchsorted(arrivals, stop_ms, "right"))]
        if len(arrivals):
            counts[index] = arrivals
    total = sum(map(len, counts.values()))
    if not total:
        return Taken([], limit[0] if limit[1] == len(queues) else limit[0] - 1)
    if len(counts) == 1:
        ((index, arrivals),) = counts.items()
        count = min(total, rows_max)
        return Taken(
            [(index, each) for each in queues[index].give(count)], _arrived(limit, len(queues), arrivals, count)
        )
    return _merge(queues, counts, limit, min(total, rows_max))


def _merge(queues: list[Queue], counts: dict[int, np.ndarray], limit: tuple[int, int], count: int) -> Taken:
    arrivals = np.concatenate(list(counts.values()))
    owners = np.concatenate([np.full(len(each), index, np.int64) for index, each in counts.items()])
    order = np.lexsort((owners, arrivals))[:count]  # stable: within a split as they are
    chosen = owners[order]
    edges = np.flatnonzero(np.diff(chosen)) + 1
    batches: list[tuple[int, SourceBatch]] = []
    for start, stop in zip([0, *edges.tolist()], [*edges.tolist(), count], strict=True):
        index = int(chosen[start])
        batches += [(index, each) for each in queues[index].give(stop - start)]
    return Taken(batches, _arrived(limit, len(queues), arrivals[np.lexsort((owners, arrivals))], count))


def _arrived(limit: tuple[int, int], queues: int, arrivals: np.ndarray, count: int) -> int:
    """Where the last arrival may still have rows that were not given, the time before it."""
    if count < len(arrivals) or limit[1] < queues:
        return int(arrivals[count - 1]) - 1
    return limit[0]
