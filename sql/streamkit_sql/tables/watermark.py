"""Watermarks of a query's splits: pure functions of rows in their order, so that a replay decides the same.

A split's watermark is the highest value its rows' watermark expressions had; the query's is the lowest of its active
splits, and never goes back. A split without a row yet holds it at NO_WATERMARK_MS. Time passes only by arrivals (and by
`pass_time`, which says what the next arrival would have said): a split is idle once `idle_timeout_ms` have gone since
its last row. When all are idle, the one that was active last counts alone.

    arrivals   0    1    2 ......... 12 (idle after 10)
    split a    5    7                 .
    split b              3            .   b: 3, a: idle since 11
    watermark  -    -    3            3   and a row of b with 9 at 12 would make it 9
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

import numpy as np

from streamkit_sql.runtime.operator import NO_WATERMARK_MS
from streamkit_sql.tables.source import Int64s

_NEVER: Final = 2**62
"""When a split becomes idle that cannot; also what the lowest watermark of no split is."""


class Marks(Protocol):
    """What a scan tells its rows' times, and asks their watermarks of."""

    def take(self, split: str, times_ms: Int64s, arrivals_ms: Int64s) -> Int64s:
        """As `Watermarks.take`."""
        ...


class Watermarks:
    """Of all tables that one query reads: splits are named over all of them.

    However rows are cut into calls, each row gets the same watermark.
    """

    def __init__(self) -> None:
        self._splits: dict[str, tuple[int, int, int | None]] = {}  # watermark, last seen, idle timeout
        self._now_ms = NO_WATERMARK_MS
        self._watermark_ms = NO_WATERMARK_MS

    @property
    def watermark_ms(self) -> int:
        """After all rows and all time that passed."""
        return self._watermark_ms

    @property
    def now_ms(self) -> int:
        return self._now_ms

    def split_watermarks(self) -> Mapping[str, int]:
        """What each split holds; who asks why a window does not close looks here."""
        return {name: watermark for name, (watermark, _, _) in self._splits.items()}

    def standing(self) -> list[tuple[str, int, bool]]:
        """Of each split what it holds, and whether it is idle now."""
        return [
            (name, mark, timeout is not None and seen + timeout < self._now_ms)
            for name, (mark, seen, timeout) in self._splits.items()
        ]

    def add(self, split: str, idle_timeout_ms: int | None, at_ms: int) -> None:
        """A split that is to be waited for from now on; nothing for one that is known."""
        self._now_ms = max(self._now_ms, at_ms)
        if split not in self._splits:
            self._splits[split] = (NO_WATERMARK_MS, self._now_ms, idle_timeout_ms)

    def remove(self, split: str) -> None:
        """It has ended: nothing is expected of it any more."""
        self._splits.pop(split, None)
        self._advance(self._lowest(self._now_ms))

    def pass_time(self, now_ms: int) -> int:
        """The watermark when it is that late and no row has come; never later than the next row's arrival."""
        self._now_ms = max(self._now_ms, now_ms)
        self._advance(self._lowest(self._now_ms))
        return self._watermark_ms

    def take(self, split: str, times_ms: Int64s, arrivals_ms: Int64s) -> Int64s:
        """The watermark before each of some rows of one split, which may be any, in their order.

        `times_ms` are the values of the watermark's expression, NO_WATERMARK_MS where it is NULL.
        """
        count = len(times_ms)
        if not count:
            return np.empty(0, np.int64)
        own, _, timeout_ms = self._splits[split]
        now = np.maximum(np.maximum.accumulate(arrivals_ms), self._now_ms)
        self._advance(self._lowest(int(now[0])))
        highest = np.maximum(np.maximum.accumulate(times_ms), own)

        idle_at, lowest = self._others(split)
        # After a row its own split is active; of the others those that are not idle yet.
        after = np.minimum(highest, lowest[np.searchsorted(idle_at, now, side="right")])
        # Before the next row time has passed, and made some idle, perhaps its own split.
        own_idle = now[:-1] + timeout_ms if timeout_ms is not None else np.full(count - 1, _NEVER)
        since = np.minimum(now[1:] + 1, np.maximum(own_idle, idle_at[-1] if len(idle_at) else NO_WATERMARK_MS))
        before = lowest[np.searchsorted(idle_at, since, side="left")]
        before = np.where(own_idle >= since, np.minimum(before, highest[:-1]), before)

        steps = np.empty(count + 1, np.int64)
        steps[0] = self._watermark_ms
        steps[1:] = after
        np.maximum(steps[1:-1], before, out=steps[1:-1])
        np.maximum.accumulate(steps, out=steps)
        self._splits[split] = (int(highest[-1]), int(now[-1]), timeout_ms)
        self._now_ms = int(now[-1])
        self._watermark_ms = int(steps[-1])
        return steps[:-1]

    def _advance(self, to_ms: int) -> None:
        self._watermark_ms = max(self._watermark_ms, to_ms)

    def _others(self, split: str) -> tuple[Int64s, Int64s]:
        """When each other split becomes idle, rising, and the lowest watermark of those from each on."""
        found = sorted(
            (_NEVER if timeout is None else seen + timeout, watermark)
            for name, (watermark, seen, timeout) in self._splits.items()
            if name != split
        )
        idle_at = np.array([each for each, _ in found], np.int64)
        watermarks = np.array([each for _, each in found] + [_NEVER], np.int64)
        return idle_at, np.minimum.accumulate(watermarks[::-1])[::-1]

    def _lowest(self, now_ms: int) -> int:
        """Of the splits that are active by then, or of those that were last."""
        if not self._splits:
            return NO_WATERMARK_MS
        idle = [(_NEVER if timeout is None else seen + timeout, mark) for mark, seen, timeout in self._splits.values()]
        since = min(now_ms + 1, max(at for at, _ in idle))
        return min(mark for at, mark in idle if at >= since)

    # -- state -------------------------------------------------------------------------------------------------------

    def state(self) -> list[tuple[str, int, int]]:
        """To be kept with the positions: splits with their watermarks and when they were last seen. The name "" has the
        query's watermark and its time."""
        splits = [(name, watermark, seen) for name, (watermark, seen, _) in self._splits.items()]
        return [("", self._watermark_ms, self._now_ms), *splits]

    def restore(self, state: list[tuple[str, int, int]], idle_timeouts_ms: Mapping[str, int | None]) -> None:
        for name, watermark, seen in state:
            if name:
                self._splits[name] = (watermark, seen, idle_timeouts_ms.get(name))
            else:
                self._watermark_ms, self._now_ms = watermark, seen
