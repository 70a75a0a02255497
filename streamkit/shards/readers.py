"""Who waits for records, and who watches: shared by every log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable


class Readers:
    """Wakes those who wait for a shard to reach an offset. Nobody polls."""

    def __init__(self) -> None:
        self._waiting: dict[int, list[tuple[int, asyncio.Future[None]]]] = {}
        self._watching: list[Callable[[int], None]] = []
        self._gone: BaseException | None = None

    def check(self) -> None:
        """Raises what `fail` was given: a log that is gone must not look like one that is empty."""
        if self._gone is not None:
            raise self._gone

    async def wait(self, shard_index: int, offset: int) -> None:
        self.check()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (offset, future)
        waiting = self._waiting.setdefault(shard_index, [])
        waiting.append(entry)
        try:
            await future
        finally:
            if entry in waiting:  # cancelled
                waiting.remove(entry)

    def watch(self, callback: Callable[[int], None]) -> Callable[[], None]:
        self._watching.append(callback)
        return lambda: self._watching.remove(callback)

    def woken(self, shard_index: int, next_offset: int) -> None:
        """The shard now holds everything before `next_offset`."""
        waiting = self._waiting.get(shard_index)
        if waiting:
            for entry in [entry for entry in waiting if entry[0] < next_offset]:
                waiting.remove(entry)
                if not entry[1].done():
                    entry[1].set_result(None)
        for callback in tuple(self._watching):
            callback(shard_index)

    def fail(self, error: BaseException) -> None:
        """The log is gone: nobody waits any longer."""
        self._gone = error
        for _, future in _flat(self._waiting.values()):
            if not future.done():
                future.set_exception(error)
        self._waiting.clear()


def _flat(
    lists: Iterable[list[tuple[int, asyncio.Future[None]]]],
) -> Iterable[tuple[int, asyncio.Future[None]]]:
    return [entry for entries in lists for entry in entries]
