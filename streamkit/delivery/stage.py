"""A delivery stream's directory: objects that are sealed and not delivered, and rows of buffers that are not sealed.

staged/<number>      a sealed object, exactly as it will be delivered; immutable
spool/<number>       rows of many buffers in one file, so that they cost one sync; see `Stage.write_spool`

Every file is synced before the control file names it. What the control file does not name was left by a crash, and is
removed at the start.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import struct
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa

from streamkit.delivery.state import SpoolPiece

_DESTROY_TRIES: Final = 10
_INDEX: Final = struct.Struct("<QQ")  # position and length of an entry; last in the file: of the index, and its entries


class Stage:
    """Blocking calls, for a thread, unless said otherwise. Raises OSError."""

    def __init__(self, directory: Path) -> None:
        self._staged = directory / "staged"
        self._spool = directory / "spool"
        self._directory = directory

    def open(self, staged: Collection[int], spools: Collection[int]) -> None:
        """Makes the directories, durably, and removes what nobody names."""
        if not (self._staged.is_dir() and self._spool.is_dir()):
            self._staged.mkdir(parents=True, exist_ok=True)
            self._spool.mkdir(exist_ok=True)
            for made in (self._directory, self._directory.parent, self._directory.parent.parent):
                _sync(made)
        for folder, named in ((self._staged, staged), (self._spool, spools)):
            for path in folder.iterdir():
                if not path.name.isdigit() or int(path.name) not in named:
                    path.unlink()

    def staged(self, number: int) -> Path:
        return self._staged / str(number)

    def remove_staged(self, number: int) -> None:
        self.staged(number).unlink(missing_ok=True)

    def remove_spools(self, numbers: Collection[int]) -> None:
        for number in numbers:
            (self._spool / str(number)).unlink(missing_ok=True)

    def sync(self) -> None:
        """Makes the names of new files durable."""
        for folder in (self._staged, self._spool):
            _sync(folder)

    def write_spool(self, number: int, groups: Iterable[Sequence[pa.RecordBatch]]) -> None:
        """One file for the rows of many buffers: each group, batches of one schema, becomes one IPC stream of one
        batch; the file ends with an index of where they are. Synced."""
        bounds: list[tuple[int, int]] = []
        with (self._spool / str(number)).open("wb") as file:
            for group in groups:
                start = file.tell()
                table = pa.Table.from_batches(group).combine_chunks()
                with pa.ipc.new_stream(file, table.schema, options=_OPTIONS) as writer:
                    writer.write_table(table)
                bounds.append((start, file.tell() - start))
            index = file.tell()
            file.writelines(_INDEX.pack(*each) for each in bounds)
            file.write(_INDEX.pack(index, len(bounds)))
            file.flush()
            os.fsync(file.fileno())

    def read_spool(self, piece: SpoolPiece) -> Iterator[pa.RecordBatch]:
        """The rows of a piece, in order."""
        with (self._spool / str(piece.spool)).open("rb") as file:
            file.seek(-_INDEX.size, os.SEEK_END)
            index, count = _INDEX.unpack(file.read(_INDEX.size))
            assert piece.index < count
            file.seek(index + piece.index * _INDEX.size)
            start, length = _INDEX.unpack(file.read(_INDEX.size))
            file.seek(start)
            with pa.ipc.open_stream(pa.py_buffer(file.read(length))) as reader:
                yield from reader

    def destroy(self) -> None:
        """Removes all of it, also what a thread that was cut off is still writing: its paths lead nowhere once the
        directory has another name. A crash leaves that one, which no delivery stream has: the next start removes it."""
        gone = self._directory.with_name(f"{self._directory.name}.gone")
        with contextlib.suppress(FileNotFoundError):
            self._directory.rename(gone)
        for _ in range(_DESTROY_TRIES):
            with contextlib.suppress(FileNotFoundError):
                try:
                    shutil.rmtree(gone)
                except OSError as error:
                    if error.errno != errno.ENOTEMPTY:  # a file that was being opened under the name before
                        raise
                    continue
            return


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# Not compressed: a spool is read once, and soon; LZ4 would cost more than writing half as much saves.
_OPTIONS: Final = pa.ipc.IpcWriteOptions(use_threads=False)
