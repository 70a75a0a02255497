"""What functions and layers are remembered as, in the control file.

functions   id, document                       one `FunctionState` each
layers      account, region, name, document    one `LayerState` each
"""

from __future__ import annotations

from typing import Final

import msgspec

from streamkit.control import ControlFile
from streamkit.functions.state import FunctionState, LayerState

_TABLES: Final = """
create table if not exists functions (id text primary key, document blob not null) without rowid;
create table if not exists layers (
    account text not null, region text not null, name text not null, document blob not null,
    primary key (account, region, name)
) without rowid;
"""


class FunctionStore:
    """Blocking calls of well under a millisecond; what was saved or deleted is on disk when the call returns. A failed
    one changed nothing and raises StorageUnavailable."""

    def __init__(self, control: ControlFile) -> None:
        self._control = control
        control.db.executescript(_TABLES)

    def functions(self) -> list[FunctionState]:
        rows = self._control.db.execute("select document from functions")
        return [msgspec.json.decode(document, type=FunctionState) for (document,) in rows]

    def save_function(self, state: FunctionState) -> None:
        with self._control.transaction() as db:
            db.execute("insert or replace into functions values (?, ?)", (state.id, msgspec.json.encode(state)))

    def delete_function(self, function_id: str) -> None:
        with self._control.transaction() as db:
            db.execute("delete from functions where id = ?", (function_id,))

    def layers(self) -> list[LayerState]:
        rows = self._control.db.execute("select document from layers")
        return [msgspec.json.decode(document, type=LayerState) for (document,) in rows]

    def save_layer(self, state: LayerState) -> None:
        row = (state.account, state.region, state.name, msgspec.json.encode(state))
        with self._control.transaction() as db:
            db.execute("insert or replace into layers values (?, ?, ?, ?)", row)

    def delete_all(self) -> None:
        """Of functions and layers, in one transaction; for a reset."""
        with self._control.transaction() as db:
            db.execute("delete from functions")
            db.execute("delete from layers")
