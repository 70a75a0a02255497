"""Virtual time: an event loop that never waits.

Whenever nothing is ready, time jumps to the next timer (trio's autojump clock is the model), so that 24 hours of a
program that mostly waits take a second. Where there is no timer either, nothing can ever happen again: that is
reported as a deadlock. Only pure asyncio code can run in it; threads, sockets and child processes must be replaced by
their ports' simulated twins.

    async def main(clock: VirtualClock, rng: random.Random) -> None:
        await clock.sleep(HOUR_MS)

    run(main, seed=7)
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from streamkit.clock import Timer

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

T = TypeVar("T")

START_MS: Final = 1_700_000_000_000


class Deadlock(Exception):
    """Every task waits, and no timer is set: nothing can wake any of them."""


class _JumpingSelector(selectors.BaseSelector):
    """Where a real selector would wait, time passes at once."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._keys: dict[FileDescriptorLike, selectors.SelectorKey] = {}

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock("every task waits and no timer is set; who was to wake them?")
        self.now_s += max(timeout, 0.0)
        return []

    # The loop registers the pipe that wakes it from other threads; it is never looked at.
    def register(self, fileobj: FileDescriptorLike, events: int, data: Any = None) -> selectors.SelectorKey:
        key = self._keys[fileobj] = selectors.SelectorKey(fileobj, 0, events, data)
        return key

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        return self._keys


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time, which starts at zero seconds."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s


class VirtualClock:
    """See `streamkit.clock.Clock`: the wall clock of a `VirtualLoop`."""

    def __init__(self, loop: VirtualLoop, start_ms: int = START_MS) -> None:
        self._loop = loop
        self._start_ms = start_ms

    def now_ms(self) -> int:
        return self._start_ms + round(self._loop.time() * 1000)

    async def sleep(self, delay_ms: float) -> None:
        await asyncio.sleep(delay_ms / 1000)

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> Timer:
        return self._loop.call_later(delay_ms / 1000, callback)

    def step(self, by_ms: int) -> None:
        """Sets the wall clock forward or back, as an administrator or a time server does. Timers do not notice."""
        self._start_ms += by_ms


class ManualClock:
    """See `streamkit.clock.Clock`: a wall clock that stands still until it is set, beside the real loop's timers.

    For tests that run on a real event loop, with threads and sockets, and still need to know the time.
    """

    def __init__(self, start_ms: int = START_MS) -> None:
        self._now_ms = start_ms

    def now_ms(self) -> int:
        return self._now_ms

    async def sleep(self, delay_ms: float) -> None:
        await asyncio.sleep(delay_ms / 1000)

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(delay_ms / 1000, callback)

    def step(self, by_ms: int) -> None:
        """Sets the clock forward or back."""
        self._now_ms += by_ms


def run(
    main: Callable[[VirtualClock, random.Random], Coroutine[Any, Any, T]], *, seed: int, start_ms: int = START_MS
) -> T:
    """Runs a program in virtual time and returns what it returns. The same seed gives the same run.

    Raises `Deadlock` when the program can never go on. Tasks left over are cancelled.
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        return runner.run(main(VirtualClock(loop, start_ms), random.Random(seed)))
