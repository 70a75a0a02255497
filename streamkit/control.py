"""The control plane's file: SQLite, one transaction per change, on disk before the change is answered.

Each part of streamkit keeps its documents in tables of its own (`<data directory>/control.sqlite`); they share the
file, so that a change over two parts can be one transaction.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from streamkit.model.errors import StorageUnavailable, UsageError

SCHEMA_VERSION: Final = 1
"""Of all documents. A change that older documents do not decode into raises it and adds a step to `ControlFile`."""

_META: Final = "create table if not exists meta (key text primary key, value blob not null) without rowid"


class ControlFile:
    """Calls block for well under a millisecond; a failed transaction changed nothing and raises StorageUnavailable."""

    def __init__(self, path: Path | None) -> None:
        """`path` None keeps everything in memory."""
        self.db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
        self.db.execute("pragma journal_mode = wal")
        self.db.execute("pragma synchronous = full")
        self.db.execute(_META)
        self._check_version(path)
        self._waiting: list[Callable[[sqlite3.Connection], None]] = []
        self._saved: asyncio.Future[None] | None = None

    def close(self) -> None:
        self.db.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """What is done inside is on disk when the block ends, or not done at all."""
        try:
            self.db.execute("begin immediate")
            try:
                yield self.db
            except BaseException:
                self.db.execute("rollback")
                raise
            self.db.execute("commit")
        except sqlite3.OperationalError as error:
            if self.db.in_transaction:
                self.db.execute("rollback")
            raise StorageUnavailable(f"The change could not be stored: {error}. Nothing was changed.") from error

    def soon(self, write: Callable[[sqlite3.Connection], None]) -> asyncio.Future[None]:
        """Runs `write` in a transaction that all writes of this turn of the event loop share; done when it is on disk.

        What many readers save at about the same time then costs one sync. If the transaction fails, all that share it
        fail: `write` must not do anything that only its own values could make fail.
        """
        self._waiting.append(write)
        if self._saved is None:
            loop = asyncio.get_running_loop()
            self._saved = loop.create_future()
            loop.call_soon(self._write)
        return self._saved

    async def flush(self) -> None:
        """Returns when every write handed to `soon` is on disk, or has failed."""
        while self._saved is not None:
            await asyncio.wait([self._saved])

    def _write(self) -> None:
        saved, waiting = self._saved, self._waiting
        assert saved is not None
        self._saved, self._waiting = None, []
        try:
            with self.transaction() as db:
                for write in waiting:
                    write(db)
        except Exception as error:  # whatever it is, those who wait must hear of it
            saved.set_exception(error)
            saved.exception()  # heard: some only wait for it at their end
        else:
            saved.set_result(None)

    def _check_version(self, path: Path | None) -> None:
        with self.transaction() as db:
            db.execute("insert or ignore into meta values ('schema_version', ?)", (SCHEMA_VERSION,))
        (version,) = self.db.execute("select value from meta where key = 'schema_version'").fetchone()
        if version != SCHEMA_VERSION:
            raise UsageError(
                f"{path} was written by a streamkit with schema {version}; this one reads schema {SCHEMA_VERSION}. "
                "Use that version, or another data directory."
            )
