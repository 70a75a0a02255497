"""A file system in memory that crashes, fills up and fails when it is told to.

It keeps of every file what a process sees and what the disk has. A crash leaves what the disk has, and of what was
not synced any part the file system happened to write: some pages, some of the growth, some of the removals.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

PAGE_BYTES: Final = 4096

Operation = Literal["make_directory", "append", "write", "sync", "truncate", "write_atomically", "remove"]


class _File:
    """A file's bytes, twice."""

    def __init__(self) -> None:
        self.seen = bytearray()
        self.on_disk = bytearray()
        self.dirty: set[int] = set()  # pages that differ, or may

    def write(self, data: bytes) -> None:
        first = len(self.seen) // PAGE_BYTES
        self.seen += data
        self.dirty.update(range(first, -(-len(self.seen) // PAGE_BYTES)))

    def truncate(self, size: int) -> None:
        # The kernel zeroes the rest of the last page, which makes that page dirty.
        del self.seen[size:]
        self.seen += bytes(size - len(self.seen))
        self.dirty = {page for page in self.dirty if page * PAGE_BYTES < size} | {size // PAGE_BYTES}

    def sync(self) -> None:
        self._put_pages(self.on_disk, self.dirty, len(self.seen))
        self.dirty.clear()

    def lose_unsynced(self) -> None:
        """A failed sync: Linux forgets that the pages are dirty, and sooner or later reads the disk's again."""
        self.seen = self.on_disk[: len(self.seen)] + bytes(max(len(self.seen) - len(self.on_disk), 0))
        self.dirty.clear()

    def crash(self, rng: random.Random) -> None:
        written = {page for page in sorted(self.dirty) if rng.random() < 0.5}
        shorter, longer = sorted((len(self.on_disk), len(self.seen)))
        size = rng.choice((shorter, longer, rng.randint(shorter, longer)))
        self._put_pages(self.on_disk, written, size)
        self.seen = bytearray(self.on_disk)
        self.dirty.clear()

    def _put_pages(self, disk: bytearray, pages: set[int], size: int) -> None:
        del disk[size:]
        disk += bytes(size - len(disk))
        for page in pages:
            start, end = page * PAGE_BYTES, min((page + 1) * PAGE_BYTES, size)
            part = self.seen[start:end]
            disk[start : start + len(part)] = part


class _SimulatedAppendFile:
    def __init__(self, files: SimulatedFiles, file: _File) -> None:
        self._files = files
        self._file = file
        self._process = files.crashes_count
        self._is_open = True

    def write(self, buffers: Sequence[bytes]) -> None:
        self._check()
        data = b"".join(buffers)
        if self._files._is_told("write"):
            self._file.write(data[: self._files._any_part(len(data))])
        self._files._fail_if_told("write")
        fits = self._files._take_room(len(data))
        self._file.write(data[:fits])
        if fits < len(data):
            raise _os_error(errno.ENOSPC)

    @property
    def descriptor(self) -> int | None:
        """None: only `sync` syncs it."""
        return None

    def sync(self) -> None:
        self._check()
        try:
            self._files._fail_if_told("sync")
        except OSError:
            self._file.lose_unsynced()
            raise
        self._files._count_sync()
        self._file.sync()

    def reserve(self, size: int) -> None:
        """Nothing: how long a sync takes is not simulated."""
        self._check()

    def truncate(self, size: int) -> None:
        self._check()
        self._files._fail_if_told("truncate")
        self._file.truncate(size)

    def read(self, position: int, length: int) -> bytes:
        self._check()
        return bytes(self._file.seen[position : position + length])

    def close(self) -> None:
        self._is_open = False

    def _check(self) -> None:
        if not self._is_open or self._process != self._files.crashes_count:
            raise _os_error(errno.EBADF)


class SimulatedFiles:
    """See `streamkit.shards.files.Files`. Give it a seed, and the same calls are followed by the same accidents."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = random.Random(seed)
        self._files: dict[Path, _File] = {}
        self._directories: set[Path] = set()
        self._removed: list[tuple[Path, _File]] = []  # in order, not yet known to be on disk
        self._room_bytes: int | None = None
        self._failures: dict[Operation, list[int]] = {}
        self._power_ends_at: Operation | None = None
        self._is_off = False
        self.crashes_count = 0
        self.syncs_count = 0
        self.written_bytes = 0

    # -- accidents ---------------------------------------------------------------------------------------------------

    def crash(self) -> None:
        """The machine loses power and comes back. Files that were open cannot be used any more."""
        self.crashes_count += 1
        self._failures.clear()
        # A journal keeps the order of removals: those after some point did not happen.
        undone = self._removed[self._rng.randint(0, len(self._removed)) :]
        self._removed.clear()
        for path, file in undone:
            if path.parent in self._directories:
                self._files.setdefault(path, file)
        for _, file in sorted(self._files.items()):
            file.crash(self._rng)

    def fill_up(self, room_bytes: int = 0) -> None:
        """The disk is full after this many more bytes: what does not fit is written in part, and refused."""
        self._room_bytes = room_bytes

    def lose_power_at(self, operation: Operation) -> None:
        """The next call of this kind is as far as it gets: the machine crashes, and all calls fail until `heal`."""
        self._power_ends_at = operation

    def heal(self) -> None:
        """Power is on, the disk has room, and whatever was told to fail will not."""
        self._room_bytes = None
        self._failures.clear()
        self._power_ends_at = None
        self._is_off = False

    def fail_next(self, operation: Operation, error: int = errno.EIO) -> None:
        """The next call of this kind fails, once. Calling it again makes one more fail."""
        self._failures.setdefault(operation, []).append(error)

    def put(self, path: Path, data: bytes) -> None:
        """Replaces a file's bytes behind everybody's back: what a failing disk or a careless person does."""
        self._directories.update(path.parents)
        file = self._files[path] = _File()
        file.write(data)
        file.sync()

    # -- Files -------------------------------------------------------------------------------------------------------

    def make_directory(self, path: Path) -> None:
        self._fail_if_told("make_directory")
        self._directories.update((path, *path.parents))

    def names(self, path: Path) -> list[str]:
        return sorted({each.name for each in (*self._files, *self._directories) if each.parent == path != each})

    def size(self, path: Path) -> int:
        return len(self._file(path).seen)

    def append(self, path: Path) -> _SimulatedAppendFile:
        self._fail_if_told("append")
        if path.parent not in self._directories:
            raise _os_error(errno.ENOENT)
        self._removed.clear()  # the directory is synced, and with it all that was done to it
        return _SimulatedAppendFile(self, self._files.setdefault(path, _File()))

    def map(self, path: Path) -> memoryview:
        return memoryview(bytes(self._file(path).seen))

    def write_atomically(self, path: Path, data: bytes) -> None:
        self._fail_if_told("write_atomically")
        if self._take_room(len(data)) < len(data):
            raise _os_error(errno.ENOSPC)
        file = _File()
        file.write(data)
        file.sync()
        self._count_sync()
        self._files[path] = file
        self._removed.clear()

    def remove(self, path: Path) -> None:
        self._fail_if_told("remove")
        for each in [each for each in self._files if path in (each, *each.parents)]:
            self._removed.append((each, self._files.pop(each)))
        self._directories = {each for each in self._directories if path not in (each, *each.parents)}

    # -- how it is done ----------------------------------------------------------------------------------------------

    def _file(self, path: Path) -> _File:
        try:
            return self._files[path]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None

    def _is_told(self, operation: Operation) -> bool:
        return bool(self._failures.get(operation)) or operation == self._power_ends_at

    def _fail_if_told(self, operation: Operation) -> None:
        if operation == self._power_ends_at:
            self._power_ends_at = None
            self.crash()
            self._is_off = True
        if self._is_off:
            raise _os_error(errno.EIO)
        errors = self._failures.get(operation)
        if errors:
            raise _os_error(errors.pop(0))

    def _take_room(self, size_bytes: int) -> int:
        """How many of these bytes still fit."""
        if self._room_bytes is not None:
            size_bytes = min(size_bytes, self._room_bytes)
            self._room_bytes -= size_bytes
        self.written_bytes += size_bytes
        return size_bytes

    def _any_part(self, size_bytes: int) -> int:
        return self._rng.randint(0, size_bytes)

    def _count_sync(self) -> None:
        self.syncs_count += 1


def _os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
