"""How far a delivery stream has come, as one document that its worker and its deliveries change together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from streamkit.delivery.state import BufferState, DeliveryState, Progress, SealedState
from streamkit.delivery.store import DeliveryStore


class Ledger:
    """What is in memory is never behind the disk; each change says when it is there."""

    def __init__(self, store: DeliveryStore, delivery_id: str) -> None:
        self._store = store
        self._id = delivery_id
        self.progress = store.progress(delivery_id)
        self._next_number = self.progress.next_number
        self._next_spool = self.progress.next_spool
        self._saving: asyncio.Future[None] | None = None

    def take_number(self) -> int:
        """For an object that is about to be written. Numbers that a crash leaves unused are given again."""
        self._next_number += 1
        return self._next_number - 1

    def take_spool(self) -> int:
        self._next_spool += 1
        return self._next_spool - 1

    @property
    def spools(self) -> set[int]:
        """The spool files that buffers need."""
        return {piece.spool for buffer in self.progress.buffers for piece in buffer.pieces}

    def came_to(
        self,
        incarnation: str,
        positions: Mapping[int, int],
        ended: Iterable[int],
        buffers: Sequence[BufferState],
        made_under: DeliveryState | None,
        sealed: Sequence[SealedState],
    ) -> asyncio.Future[None]:
        """Everything before `positions` is in `buffers`, or in objects sealed now or before. Can be said again, as
        where the disk refused it."""
        numbers = {each.number for each in sealed}
        before = [each for each in self.progress.sealed if each.number not in numbers]
        return self._save(
            msgspec.structs.replace(
                self.progress,
                incarnation=incarnation,
                positions=dict(positions),
                ended=sorted(ended),
                buffers=list(buffers),
                made_under=made_under,
                sealed=[*before, *sealed],
            )
        )

    def delivered(self, number: int, instead: Sequence[SealedState] = ()) -> asyncio.Future[None]:
        """An object is where it belongs; or others take its place, as those of the error output do."""
        kept = [each for each in self.progress.sealed if each.number != number]
        return self._save(msgspec.structs.replace(self.progress, sealed=[*kept, *instead]))

    def again(self) -> asyncio.Future[None]:
        """Tries to save what a disk refused."""
        return self._save(self.progress)

    async def settled(self) -> None:
        """Returns when what was to be saved is on disk, or was refused: a ledger that is opened then is not behind."""
        if self._saving is not None:
            await asyncio.wait([self._saving])

    def _save(self, progress: Progress) -> asyncio.Future[None]:
        self.progress = msgspec.structs.replace(progress, next_number=self._next_number, next_spool=self._next_spool)
        self._saving = self._store.save_progress_soon(self._id, self.progress)
        return self._saving
