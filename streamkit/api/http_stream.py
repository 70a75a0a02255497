"""Bodies of answers that come piece by piece: one task that asks for the next piece when the last one was taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Protocol


class Sink(Protocol):
    """Who sends the pieces."""

    def send_piece(self, piece: bytes) -> bool:
        """Sends a piece that is not empty. False if the next has to wait for `BodyStream.resume`, or for its end."""
        ...

    def body_ended(self, error: BaseException | None) -> None:
        """Called once, when no piece comes any more: all have been sent, or an error or a cancel broke it off."""
        ...


class BodyStream:
    """Hands pieces from an asynchronous iterator to a sink.

    However it ends, the iterator is closed before, if it has `aclose`. A cancel reaches an iterator where it waits.
    """

    __slots__ = ("_cancelled", "_pieces", "_room", "_sink", "task")

    def __init__(self, pieces: AsyncIterator[bytes], sink: Sink) -> None:
        self._pieces = pieces
        self._sink = sink
        self._room: asyncio.Future[None] | None = None
        self._cancelled = False
        self.task = asyncio.get_running_loop().create_task(self._run())
        self.task.add_done_callback(self._done)

    def resume(self) -> None:
        """The sink takes more."""
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    def cancel(self) -> None:
        """Nobody wants the rest."""
        self._cancelled = True
        self.task.cancel()

    async def _run(self) -> None:
        try:
            async for piece in self._pieces:
                if self._cancelled:  # by a cancel that the iterator kept to itself
                    break
                if piece and not self._sink.send_piece(piece):
                    self._room = asyncio.get_running_loop().create_future()
                    await self._room
                else:
                    await asyncio.sleep(0)  # an iterator that never waits must not keep the loop from all others
        finally:
            await close_pieces(self._pieces)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._sink.body_ended(asyncio.CancelledError() if task.cancelled() else task.exception())


async def close_pieces(pieces: AsyncIterator[Any]) -> None:
    """Closes an iterator, begun or not, if it can be closed."""
    close = getattr(pieces, "aclose", None)
    if close is not None:
        await close()
