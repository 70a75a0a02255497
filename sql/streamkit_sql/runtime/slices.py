"""Slices and the windows made of them, in numbers and in DuckDB's text; all times are epoch milliseconds.

A slice is named by its end. Numbers and texts are two forms of one rule: windows start at `offset + k * step`, also
before 1970 (DuckDB's `//` and `%` truncate towards zero, Flink's `getWindowStartWithOffset` floors).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamkit_sql.plan.nodes import WindowSpec


def floor_ms(time_ms: int, unit_ms: int, offset_ms: int) -> int:
    return time_ms - (time_ms - offset_ms) % unit_ms


def floor_sql(time: str, unit_ms: int, offset_ms: int) -> str:
    """`time` is evaluated once."""
    offset_ms %= unit_ms
    apart = f"({time} - {offset_ms})" if offset_ms else time
    return f"({time} - ({apart} % {unit_ms} + {unit_ms}) % {unit_ms})"


@dataclass(frozen=True, slots=True)
class Slices:
    """`first` and `last` are the ends of a slice's first and last window. In HOP with a step greater than the size
    there are slices between windows: their first comes after their last."""

    spec: WindowSpec
    slice_ms: int
    step_ms: int
    is_attached: bool = False
    """Rows have their windows already; the time that is asked for is the window's end."""

    @classmethod
    def of(cls, spec: WindowSpec) -> Slices:
        assert spec.kind != "SESSION"
        assert spec.size_ms > 0
        if spec.kind == "TUMBLE":
            return cls(spec, spec.size_ms, spec.size_ms)
        assert spec.step_ms > 0
        assert spec.kind == "HOP" or spec.size_ms % spec.step_ms == 0
        return cls(spec, math.gcd(spec.size_ms, spec.step_ms), spec.step_ms)

    @classmethod
    def attached(cls, spec: WindowSpec) -> Slices:
        return cls(spec, 1, 1, is_attached=True)

    @property
    def is_single(self) -> bool:
        """A slice is a window."""
        return self.is_attached or self.spec.kind == "TUMBLE"

    @property
    def has_gaps(self) -> bool:
        return not self.is_attached and self.spec.kind == "HOP" and self.spec.step_ms > self.spec.size_ms

    def slice_of(self, time_ms: int) -> int:
        if self.is_attached:
            return time_ms
        return floor_ms(time_ms, self.slice_ms, self.spec.offset_ms) + self.slice_ms

    def slice_sql(self, time: str) -> str:
        if self.is_attached:
            return time
        return f"({floor_sql(time, self.slice_ms, self.spec.offset_ms)} + {self.slice_ms})"

    def first_of(self, slice_ms: int) -> int:
        if self.is_single or self.spec.kind == "CUMULATE":
            return slice_ms
        return self.next_end(slice_ms - 1)

    def first_sql(self, slice_: str) -> str:
        if self.is_single or self.spec.kind == "CUMULATE":
            return slice_
        if self.slice_ms == self.step_ms:
            return slice_  # every slice's end is a window's
        return self.next_end_sql(f"({slice_} - 1)")

    def last_of(self, slice_ms: int) -> int:
        if self.is_single:
            return slice_ms
        unit_ms = self.step_ms if self.spec.kind == "HOP" else self.spec.size_ms
        return floor_ms(slice_ms - self.slice_ms, unit_ms, self.spec.offset_ms) + self.spec.size_ms

    def last_sql(self, slice_: str) -> str:
        if self.is_single:
            return slice_
        if self.spec.kind == "HOP" and self.slice_ms == self.step_ms:
            return f"({slice_} + {self.spec.size_ms - self.slice_ms})"
        unit_ms = self.step_ms if self.spec.kind == "HOP" else self.spec.size_ms
        return f"({floor_sql(f'({slice_} - {self.slice_ms})', unit_ms, self.spec.offset_ms)} + {self.spec.size_ms})"

    def next_end(self, time_ms: int) -> int:
        """The first end of a window after `time_ms`."""
        return floor_ms(time_ms, self.step_ms, self._end_offset_ms) + self.step_ms

    def next_end_sql(self, time: str) -> str:
        return f"({floor_sql(time, self.step_ms, self._end_offset_ms)} + {self.step_ms})"

    @property
    def _end_offset_ms(self) -> int:
        return 0 if self.is_attached else self.spec.offset_ms + self.spec.size_ms

    def start_sql(self, end: str) -> str:
        """Of the window that ends at `end`."""
        if self.spec.kind == "CUMULATE":
            return floor_sql(f"({end} - 1)", self.spec.size_ms, self.spec.offset_ms)
        return f"({end} - {self.spec.size_ms})"
