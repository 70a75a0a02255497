"""What mappings remember of themselves, in the control file.

mappings           id, document                one `MappingState` each
mapping_progress   mapping, shard, document    one `ShardProgress` each
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from streamkit.control import ControlFile
from streamkit.mappings.state import MappingState, ShardProgress

_TABLES: Final = """
create table if not exists mappings (id text primary key, document blob not null) without rowid;
create table if not exists mapping_progress (
    mapping text not null, shard integer not null, document blob not null,
    primary key (mapping, shard)
) without rowid;
"""
_SAVE: Final = "insert or replace into mappings values (?, ?)"
# A worker may still be saving when its mapping is deleted: what comes after that must not stay behind for ever.
_SAVE_PROGRESS: Final = """
insert or replace into mapping_progress select ?1, ?2, ?3 where exists (select 1 from mappings where id = ?1)
"""


class MappingStore:
    """Blocking calls of well under a millisecond; a failed one changed nothing and raises StorageUnavailable."""

    def __init__(self, control: ControlFile) -> None:
        self._control = control
        control.db.executescript(_TABLES)

    def mappings(self) -> list[MappingState]:
        """All of them, oldest first."""
        rows = self._control.db.execute("select document from mappings")
        states = [msgspec.json.decode(document, type=MappingState) for (document,) in rows]
        return sorted(states, key=lambda state: (state.created_at_ms, state.id))

    def save(self, state: MappingState) -> None:
        """On disk when this returns."""
        with self._control.transaction() as db:
            db.execute(_SAVE, (state.id, msgspec.json.encode(state)))

    def save_soon(self, states: Callable[[], Iterable[MappingState]]) -> asyncio.Future[None]:
        """Asks for the states when the transaction is written, so that none saved meanwhile is written over."""

        def write(db: sqlite3.Connection) -> None:
            db.executemany(_SAVE, [(state.id, msgspec.json.encode(state)) for state in states()])

        return self._control.soon(write)

    def delete(self, mapping_id: str) -> None:
        """The mapping and its progress, in one transaction."""
        with self._control.transaction() as db:
            db.execute("delete from mappings where id = ?", (mapping_id,))
            db.execute("delete from mapping_progress where mapping = ?", (mapping_id,))

    # -- progress ----------------------------------------------------------------------------------------------------

    def load_progress(self, mapping_id: str) -> dict[int, ShardProgress]:
        """By shard index, as far as it is on disk."""
        rows = self._control.db.execute("select document from mapping_progress where mapping = ?", (mapping_id,))
        progress = [msgspec.json.decode(document, type=ShardProgress) for (document,) in rows]
        return {each.shard_index: each for each in progress}

    def save_progress_soon(self, mapping_id: str, progress: Sequence[ShardProgress]) -> asyncio.Future[None]:
        """Done when all of it is on disk, in a transaction that other writes of the moment share.

        What is saved is what was given, whatever is done to it afterwards; later calls win over earlier ones. The
        progress of a mapping that is not stored, or not any more, is not kept.
        """
        rows = [(mapping_id, each.shard_index, msgspec.json.encode(each)) for each in progress]

        def write(db: sqlite3.Connection) -> None:
            db.executemany(_SAVE_PROGRESS, rows)

        return self._control.soon(write)

    def delete_progress(self, mapping_id: str) -> None:
        """As if nothing had been read. What was handed to `save_progress_soon` and is not on disk yet comes after."""
        with self._control.transaction() as db:
            db.execute("delete from mapping_progress where mapping = ?", (mapping_id,))
