"""What streams remember of themselves, in the control file.

streams      id, document         one `StreamState` each
checkpoints  consumer, stream id, shard, sequence number, saved at
meta         secret               what iterators are signed with
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from streamkit.control import ControlFile
from streamkit.model.names import StreamId
from streamkit.streams.state import StreamState

_TABLES = """
create table if not exists streams (id text primary key, document blob not null) without rowid;
create table if not exists checkpoints (
    consumer text not null, stream text not null, shard integer not null,
    sequence_number text not null, saved_at_ms integer not null,
    primary key (consumer, stream, shard)
) without rowid;
"""


class Checkpoint(NamedTuple):
    """The last record of a shard that a consumer has done."""

    consumer: str
    stream: StreamId
    shard_index: int
    sequence_number: str
    saved_at_ms: int


class ControlStore:
    """Blocking calls of well under a millisecond; a failed one changed nothing and raises StorageUnavailable."""

    def __init__(self, file: ControlFile | Path | None) -> None:
        """Over an open file, or a file of its own: None keeps everything in memory."""
        self.file = file if isinstance(file, ControlFile) else ControlFile(file)
        self._db = self.file.db
        self._db.executescript(_TABLES)

    def close(self) -> None:
        self.file.close()

    def secret(self, default: bytes) -> bytes:
        """The secret of this data directory; the given one is kept if there is none yet."""
        with self.file.transaction():
            self._db.execute("insert or ignore into meta values ('secret', ?)", (default,))
        (secret,) = self._db.execute("select value from meta where key = 'secret'").fetchone()
        return bytes(secret)

    def streams(self) -> list[StreamState]:
        rows = self._db.execute("select document from streams")
        return [msgspec.json.decode(document, type=StreamState) for (document,) in rows]

    def save_stream(self, state: StreamState) -> None:
        with self.file.transaction():
            self._db.execute("insert or replace into streams values (?, ?)", (state.id, msgspec.json.encode(state)))

    def delete_stream(self, stream: StreamId) -> None:
        with self.file.transaction():
            self._db.execute("delete from streams where id = ?", (stream,))
            self._db.execute("delete from checkpoints where stream = ?", (stream,))

    def save_checkpoints(self, checkpoints: Iterable[Checkpoint]) -> None:
        """All of them, or none."""
        with self.file.transaction():
            self._db.executemany("insert or replace into checkpoints values (?, ?, ?, ?, ?)", checkpoints)

    def checkpoints(self, consumer: str, stream: StreamId) -> dict[int, str]:
        """Shard index to sequence number."""
        rows = self._db.execute(
            "select shard, sequence_number from checkpoints where consumer = ? and stream = ?", (consumer, stream)
        )
        return dict(rows.fetchall())

    def all_checkpoints(self) -> list[Checkpoint]:
        return [Checkpoint(*row) for row in self._db.execute("select * from checkpoints")]
