"""A data directory: the lock, the control store and the log, opened and closed together.

lock             held by the one process that has the directory open
control.sqlite   see `streamkit.control`
streams/         see `streamkit.shards.disk`
"""

from __future__ import annotations

import fcntl
import os
import random
from pathlib import Path
from typing import IO

from streamkit import plugins
from streamkit.clock import Clock, SystemClock
from streamkit.control import ControlFile
from streamkit.model.errors import DataDirectoryInUse, UsageError
from streamkit.shards.disk import Durability
from streamkit.shards.store import LogStore
from streamkit.streams.control import ControlStore
from streamkit.streams.service import Streams, StreamSettings


class DataDirectory:
    """Opened by `start`; then `streams` are there. One process at a time: another gets DataDirectoryInUse."""

    def __init__(
        self,
        path: Path,
        *,
        durability: Durability = "fsync",
        log_store: str = "disk",
        settings: StreamSettings | None = None,
        clock: Clock | None = None,
        random_source: random.Random | None = None,
    ) -> None:
        self.path = path
        self.durability = durability
        self._log_store = log_store
        self._settings = settings or StreamSettings()
        self._clock = clock or SystemClock()
        self._random = random_source or random.SystemRandom()
        self._lock: IO[str] | None = None
        self._control: ControlFile | None = None
        self._streams: Streams | None = None

    @property
    def control(self) -> ControlFile:
        assert self._control is not None, "the directory was not started"
        return self._control

    @property
    def streams(self) -> Streams:
        assert self._streams is not None, "the directory was not started"
        return self._streams

    async def start(self) -> None:
        self._lock = _locked(self.path)
        try:
            open_store = plugins.load("streamkit.log_stores", self._log_store)
            store: LogStore = open_store(self.path, clock=self._clock, durability=self.durability)
            self._control = ControlFile(self.path / "control.sqlite")
            control = ControlStore(self._control)
            self._streams = Streams(control, store, clock=self._clock, random=self._random, settings=self._settings)
            await self._streams.start()
        except BaseException:
            self._lock.close()
            raise

    async def close(self) -> None:
        await self.streams.close()
        assert self._lock is not None
        self._lock.close()


def _locked(path: Path) -> IO[str]:
    try:
        path.mkdir(parents=True, exist_ok=True)
        file = (path / "lock").open("a+")
    except OSError as error:
        raise UsageError(f"{path} cannot be used as a data directory: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip()
        file.close()
        raise DataDirectoryInUse(str(path), f"process {holder}" if holder else "another process") from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file
