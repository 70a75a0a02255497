"""The control plane's memory: SQLite, one transaction per change, on disk before it is answered.

data directory/control.sqlite
    meta         key, value           the schema's version; the secret that iterators are signed with
    streams      id, document         one `StreamState` each
    checkpoints  consumer, stream id, shard, sequence number, saved at
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from streamkit.model.errors import StorageUnavailable, UsageError
from streamkit.model.names import StreamId
from streamkit.streams.state import SCHEMA_VERSION, StreamState

_TABLES = """
create table if not exists meta (key text primary key, value blob not null) without rowid;
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

    def __init__(self, path: Path | None) -> None:
        """`path` None keeps everything in memory."""
        self._db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = full")
        self._db.executescript(_TABLES)
        self._check_version(path)

    def close(self) -> None:
        self._db.close()

    def secret(self, default: bytes) -> bytes:
        """The secret of this data directory; the given one is kept if there is none yet."""
        with self._transaction():
            self._db.execute("insert or ignore into meta values ('secret', ?)", (default,))
        (secret,) = self._db.execute("select value from meta where key = 'secret'").fetchone()
        return bytes(secret)

    def streams(self) -> list[StreamState]:
        rows = self._db.execute("select document from streams")
        return [msgspec.json.decode(document, type=StreamState) for (document,) in rows]

    def save_stream(self, state: StreamState) -> None:
        with self._transaction():
            self._db.execute("insert or replace into streams values (?, ?)", (state.id, msgspec.json.encode(state)))

    def delete_stream(self, stream: StreamId) -> None:
        with self._transaction():
            self._db.execute("delete from streams where id = ?", (stream,))
            self._db.execute("delete from checkpoints where stream = ?", (stream,))

    def save_checkpoints(self, checkpoints: Iterable[Checkpoint]) -> None:
        """All of them, or none."""
        with self._transaction():
            self._db.executemany("insert or replace into checkpoints values (?, ?, ?, ?, ?)", checkpoints)

    def checkpoints(self, consumer: str, stream: StreamId) -> dict[int, str]:
        """Shard index to sequence number."""
        rows = self._db.execute(
            "select shard, sequence_number from checkpoints where consumer = ? and stream = ?", (consumer, stream)
        )
        return dict(rows.fetchall())

    def all_checkpoints(self) -> list[Checkpoint]:
        return [Checkpoint(*row) for row in self._db.execute("select * from checkpoints")]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("begin immediate")
            try:
                yield
            except BaseException:
                self._db.execute("rollback")
                raise
            self._db.execute("commit")
        except sqlite3.OperationalError as error:
            if self._db.in_transaction:
                self._db.execute("rollback")
            raise StorageUnavailable(f"The change could not be stored: {error}. Nothing was changed.") from error

    def _check_version(self, path: Path | None) -> None:
        with self._transaction():
            self._db.execute("insert or ignore into meta values ('schema_version', ?)", (SCHEMA_VERSION,))
        (version,) = self._db.execute("select value from meta where key = 'schema_version'").fetchone()
        if version != SCHEMA_VERSION:
            raise UsageError(
                f"{path} was written by a streamkit with schema {version}; this one reads schema {SCHEMA_VERSION}. "
                "Use that version, or another data directory."
            )
