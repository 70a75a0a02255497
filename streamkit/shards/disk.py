"""The log store on disk: a directory of streams, one process at a time.

streams/<stream id>/<number>.seg    frames, appended
streams/<stream id>/<number>.idx    where they lie: a cache, written when a segment is sealed or the log is closed
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from streamkit.clock import Clock, Timer
from streamkit.model.errors import StorageUnavailable
from streamkit.model.limits import COMMIT_THREADS
from streamkit.model.names import StreamId
from streamkit.shards.cache import SegmentCache
from streamkit.shards.files import DiskFiles, Files
from streamkit.shards.log import DiskLog, LogSettings
from streamkit.shards.runners import DiskRunner, Runner

Durability = Literal["fsync", "interval", "none"]
SYNC_INTERVAL_MS: Final = 50


class DiskLogStore:
    """See `streamkit.shards.store.LogStore`.

    `durability` says what an acknowledged append has survived: "fsync" a loss of power; "interval" the process's end
    at once, and a loss of power after at most 50 ms; "none" the process's end.
    """

    def __init__(
        self,
        directory: Path,
        *,
        clock: Clock,
        durability: Durability = "fsync",
        files: Files | None = None,
        runner: Runner | None = None,
        settings: LogSettings | None = None,
    ) -> None:
        self._directory = directory / "streams"
        self._clock = clock
        self._files = files or DiskFiles()
        self._runner = runner or DiskRunner(COMMIT_THREADS, "commit")
        self._settings = settings or LogSettings(sync_rounds=durability == "fsync")
        self._cache = SegmentCache(self._files)
        self._logs: dict[StreamId, DiskLog] = {}
        self._syncs_by_interval = durability == "interval"
        self._timer: Timer | None = None

    async def open(self, stream: StreamId) -> DiskLog:
        log = self._logs.get(stream)
        if log is None:
            try:
                log = self._logs[stream] = DiskLog(
                    stream,
                    self._directory / stream,
                    files=self._files,
                    clock=self._clock,
                    runner=self._runner,
                    cache=self._cache,
                    settings=self._settings,
                )
            except OSError as error:
                raise StorageUnavailable(f"The log of stream {stream} could not be opened: {error}") from error
            if self._syncs_by_interval and self._timer is None:
                self._sync_all()
        return log

    async def delete(self, stream: StreamId) -> None:
        log = self._logs.pop(stream, None)
        if log is not None:
            await log.delete()
        else:
            self._files.remove(self._directory / stream)

    async def retain(self, streams: Sequence[StreamId]) -> None:
        for name in set(self._files.names(self._directory)).difference(streams):
            await self.delete(StreamId(name))

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        closed = await asyncio.gather(*(log.close() for log in self._logs.values()), return_exceptions=True)
        self._logs.clear()
        self._runner.close()
        for error in closed:  # after all of them had their turn
            if error is not None:
                raise error

    def _sync_all(self) -> None:
        for log in self._logs.values():
            log.sync_soon()
        self._timer = self._clock.call_later(SYNC_INTERVAL_MS, self._sync_all)


def open_store(directory: Path, *, clock: Clock, durability: Durability) -> DiskLogStore:
    """For the entry-point group `streamkit.log_stores`."""
    return DiskLogStore(directory, clock=clock, durability=durability)
