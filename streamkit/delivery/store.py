"""What delivery streams remember of themselves, in the control file.

delivery_streams     id, document    one `DeliveryState` each
delivery_progress    id, document    one `Progress` each: how far a delivery stream has come
"""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Final

import msgspec

from streamkit.control import ControlFile
from streamkit.delivery.state import DeliveryState, Progress
from streamkit.model.errors import UsageError

_TABLES: Final = """
create table if not exists delivery_streams (id text primary key, document blob not null) without rowid;
create table if not exists delivery_progress (id text primary key, document blob not null) without rowid;
"""
_SAVE: Final = "insert or replace into delivery_streams values (?, ?)"
# A worker may still be saving when its delivery stream is deleted: what comes after that must not stay behind for ever.
_SAVE_PROGRESS: Final = """
insert or replace into delivery_progress select ?1, ?2 where exists (select 1 from delivery_streams where id = ?1)
"""

_states: Final = msgspec.json.Decoder(DeliveryState)
_progress: Final = msgspec.json.Decoder(Progress)


class DeliveryStore:
    """Blocking calls of well under a millisecond; a failed one changed nothing and raises StorageUnavailable."""

    def __init__(self, control: ControlFile) -> None:
        self._control = control
        control.db.executescript(_TABLES)

    def streams(self) -> list[DeliveryState]:
        """All of them, channels too, oldest first. UsageError where a document is damaged."""
        states = []
        for id_, document in self._control.db.execute("select id, document from delivery_streams"):
            try:
                states.append(_states.decode(document))
            except msgspec.DecodeError as error:
                raise UsageError(
                    f"the document of delivery stream {id_!r} in the control file cannot be read ({error}); "
                    f"`streamkit verify` says what else is damaged"
                ) from error
        return sorted(states, key=lambda state: (state.created_at_ms, state.id))

    def save(self, state: DeliveryState) -> None:
        """On disk when this returns."""
        with self._control.transaction() as db:
            db.execute(_SAVE, (state.id, msgspec.json.encode(state)))

    def delete(self, delivery_id: str) -> None:
        """The delivery stream and its progress, in one transaction."""
        with self._control.transaction() as db:
            db.execute("delete from delivery_streams where id = ?", (delivery_id,))
            db.execute("delete from delivery_progress where id = ?", (delivery_id,))

    # -- progress ----------------------------------------------------------------------------------------------------

    def progress(self, delivery_id: str) -> Progress:
        """As far as it is on disk; an empty one where there is none."""
        row = self._control.db.execute("select document from delivery_progress where id = ?", (delivery_id,)).fetchone()
        return Progress() if row is None else _progress.decode(row[0])

    def save_progress(self, delivery_id: str, progress: Progress) -> None:
        """On disk when this returns, in place of what was there. The progress of a delivery stream that is not stored,
        or not any more, is not kept."""
        with self._control.transaction() as db:
            db.execute(_SAVE_PROGRESS, (delivery_id, msgspec.json.encode(progress)))

    def save_progress_soon(self, delivery_id: str, progress: Progress) -> asyncio.Future[None]:
        """The same, done when it is on disk, in a transaction that other writes of the moment share. Later calls win
        over earlier ones. Cancelling the future cancels nothing: others wait for the same transaction."""
        document = msgspec.json.encode(progress)

        def write(db: sqlite3.Connection) -> None:
            db.execute(_SAVE_PROGRESS, (delivery_id, document))

        return asyncio.shield(self._control.soon(write))
