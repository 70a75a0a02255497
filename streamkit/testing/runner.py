"""Commits without threads: a runner whose jobs run on the event loop, one after the other, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from streamkit.shards.runners import Done, Job


class InlineRunner:
    """See `streamkit.shards.runners.Runner`.

    With a random generator, a job starts up to `delay_ms_max` after it was given, and is reported done up to as long
    after it ran: what else happens meanwhile interleaves with commits as it does with threads, and a seed repeats it.
    """

    def __init__(self, rng: random.Random | None = None, delay_ms_max: int = 20) -> None:
        self._rng = rng
        self._delay_ms_max = delay_ms_max
        self._is_closed = False

    def run(self, job: Job, done: Done) -> None:
        self._later(lambda: self._work(job, done))

    def close(self) -> None:
        """Jobs not yet run will not be: to a store that was given this runner, its process has ended."""
        self._is_closed = True

    def _work(self, job: Job, done: Done) -> None:
        outcome: BaseException | None = None
        try:
            job.write()
            job.sync()
        except Exception as error:
            outcome = error
        self._later(lambda: done(outcome))

    def _later(self, callback: Callable[[], None]) -> None:
        def unless_closed() -> None:
            if not self._is_closed:
                callback()

        delay_ms = self._rng.randint(0, self._delay_ms_max) if self._rng is not None else 0
        asyncio.get_running_loop().call_later(delay_ms / 1000, unless_closed)
