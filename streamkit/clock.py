"""Time is passed in, never asked for: the port, and the real clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    def cancel(self) -> None: ...


class Clock(Protocol):
    """Wall-clock milliseconds, waiting, and calling back later.

    `now_ms` may step backwards, as a real machine's clock does; who needs order makes its own.
    """

    def now_ms(self) -> int: ...

    async def sleep(self, delay_ms: float) -> None: ...

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> Timer: ...


class SystemClock:
    """The machine's clock, and the running event loop's timers."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def sleep(self, delay_ms: float) -> None:
        await asyncio.sleep(delay_ms / 1000)

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(delay_ms / 1000, callback)
