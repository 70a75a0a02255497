"""The port to the file system: the few calls the log makes, so that tests can fail, tear and lose them.

Every call raises OSError as the machine does. `DiskFiles` is the real one; `streamkit.testing.files` has one in memory
that crashes on demand.
"""

from __future__ import annotations

import mmap
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

_BUFFERS_PER_WRITE = 1024  # IOV_MAX on Linux


class AppendFile(Protocol):
    """A file that grows at its end. One writer; not safe for two threads at once."""

    def write(self, buffers: Sequence[bytes]) -> None:
        """Appends all buffers. After an error any part of them may have been written: truncate before going on."""
        ...

    def sync(self) -> None:
        """Returns when the bytes and the size are on disk. After an error nothing unsynced can be relied on."""
        ...

    @property
    def descriptor(self) -> int | None:
        """What the kernel can be given to sync in place of `sync`, if it is a file of the machine's."""
        ...

    def truncate(self, size: int) -> None:
        """Cuts the file, and what was reserved; the next write goes there."""
        ...

    def reserve(self, size: int) -> None:
        """Writes zeros behind the end, so that the file is this long, durably; the end stays where it is.

        A sync of bytes that replace others has no metadata to write: it takes two thirds of the time. A file that is
        opened again ends where the zeros end, so whoever reserved truncates.
        """
        ...

    def read(self, position: int, length: int) -> bytes:
        """Bytes written before; fewer than asked for only at the end of the file. May run beside a write."""
        ...

    def close(self) -> None: ...


class Files(Protocol):
    def make_directory(self, path: Path) -> None:
        """Makes it and its parents, durably. It may exist."""
        ...

    def names(self, path: Path) -> list[str]:
        """Sorted; empty where there is no such directory."""
        ...

    def size(self, path: Path) -> int: ...

    def append(self, path: Path) -> AppendFile:
        """Opens for appending; creates it, durably named, where it is missing."""
        ...

    def map(self, path: Path) -> memoryview:
        """The file's bytes as they are now, read-only; loaded as they are touched. Outlives the file's removal."""
        ...

    def write_atomically(self, path: Path, data: bytes) -> None:
        """The file is afterwards either as before or wholly the new bytes, also after a crash."""
        ...

    def remove(self, path: Path) -> None:
        """A file or a directory with all it holds. It may be missing."""
        ...


class _DiskAppendFile:
    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._end = os.fstat(self._fd).st_size

    def write(self, buffers: Sequence[bytes]) -> None:
        end = self._end
        for start in range(0, len(buffers), _BUFFERS_PER_WRITE):
            part = buffers[start : start + _BUFFERS_PER_WRITE]
            written = os.pwritev(self._fd, part, end)
            size = sum(map(len, part))
            while written < size:  # a short write: a signal, or the disk is filling up and the next one will say so
                written += os.pwrite(self._fd, b"".join(part)[written:], end + written)
            end += size
        self._end = end

    def reserve(self, size: int) -> None:
        missing = size - self._end
        if missing > 0:
            os.pwrite(self._fd, bytes(missing), self._end)
            os.fdatasync(self._fd)

    def sync(self) -> None:
        os.fdatasync(self._fd)

    @property
    def descriptor(self) -> int | None:
        return self._fd

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)
        self._end = size

    def read(self, position: int, length: int) -> bytes:
        return os.pread(self._fd, length, position)

    def close(self) -> None:
        os.close(self._fd)


class DiskFiles:
    """The machine's file system."""

    def make_directory(self, path: Path) -> None:
        if not path.parent.is_dir():
            self.make_directory(path.parent)
        path.mkdir(exist_ok=True)
        # Also where it was there: whoever made it may have failed, or died, before its name was on disk.
        _sync_directory(path.parent)

    def names(self, path: Path) -> list[str]:
        try:
            return sorted(os.listdir(path))
        except FileNotFoundError:
            return []

    def size(self, path: Path) -> int:
        return path.stat().st_size

    def append(self, path: Path) -> AppendFile:
        file = _DiskAppendFile(path)
        try:
            # Also where it was there: whoever made it may have failed, or died, before its name was on disk.
            _sync_directory(path.parent)
        except OSError:
            file.close()
            raise
        return file

    def map(self, path: Path) -> memoryview:
        with path.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                return memoryview(b"")  # an empty file cannot be mapped
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def write_atomically(self, path: Path, data: bytes) -> None:
        part = path.with_name(path.name + ".part")
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fdatasync(file.fileno())
        part.replace(path)
        _sync_directory(path.parent)

    def remove(self, path: Path) -> None:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
