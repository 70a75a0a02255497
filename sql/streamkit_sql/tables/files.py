"""The `filesystem` connector: a file or a directory of files as rows, and rows as files of a directory.

A directory's files are read in the order of their names, as one split, so that a replay gives the same rows in the same
order. They are read from this machine or from S3 (`places`), and written to this machine. Positions are
`name:offset`, where an offset counts bytes of a text file, or rows of Parquet.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from streamkit_sql.errors import SqlError, UnknownName
from streamkit_sql.tables.definition import TableDefinition
from streamkit_sql.tables.options import is_true, unescaped
from streamkit_sql.tables.places import File, place_of
from streamkit_sql.tables.source import SourceBatch

if TYPE_CHECKING:
    from collections.abc import Callable

SPLIT: Final = "files"
LINE_BYTES_MAX: Final = 64 << 20
"""Ours: a longer line is read as no line, so that a file without line ends does not fill the memory."""
PART: Final = "part"


class FilesSource:
    """All rows of a path, then its end; with `source.monitor-interval`, files that come later too."""

    def __init__(self, table: TableDefinition, arrived_ms: Callable[[], int]) -> None:
        """`arrived_ms` is asked at each read; a file's rows have no arrival of their own."""
        self.is_bounded = table.is_bounded
        self._place = place_of(table)
        self._format = table.format
        self._arrived_ms = arrived_ms
        pattern = table.options.get("source.path.regex-pattern")
        self._pattern = re.compile(pattern) if pattern else None
        options = table.format_options
        quoted = self._format == "csv" and not is_true(options.get("disable-quote-character", "false"))
        self._quote = unescaped(options.get("quote-character", '"')).encode() if quoted else b""
        self._known: list[File] | None = None
        if self.is_bounded and not self._place.is_there():
            raise UnknownName(f"there is no file {table.options['path']!r}.", table.place)

    def files(self) -> list[File]:
        """What there is now, in the order of names; equal where nothing has changed."""
        return [each for each in self._place.files() if not self._pattern or self._pattern.fullmatch(each.path)]

    def _files(self) -> list[File]:
        """What is read: a bounded table's files are those of the first look."""
        if self._known is None or not self.is_bounded:
            self._known = self.files()
        return self._known

    async def splits(self) -> Sequence[str]:
        return [SPLIT]

    async def read(self, split: str, position: str | None, rows_max: int, bytes_max: int) -> SourceBatch | None:
        return await asyncio.to_thread(self.read_now, position, rows_max, bytes_max)

    def read_now(self, position: str | None, rows_max: int, bytes_max: int) -> SourceBatch | None:
        """`read`, where waiting for the disk does no harm."""
        name, _, offset = (position or ":0").rpartition(":")
        start = int(offset)
        for each in self._files():
            if each.name < name:
                continue
            at = start if each.name == name else 0
            read = self._parquet if self._format == "parquet" else self._lines
            rows, after = read(each, at, rows_max, bytes_max)
            if rows is not None and len(rows):
                return SourceBatch(SPLIT, rows, self._arrived_ms(), f"{each.name}:{after}", _metadata(each))
        return None

    def _lines(self, path: File, at: int, rows_max: int, bytes_max: int) -> tuple[pa.BinaryArray | None, int]:
        with self._place.open(path) as file:
            wanted = max(bytes_max, 1)
            while True:
                file.seek(at)
                data = file.read(wanted)
                is_end = len(data) < wanted
                if not data:
                    return None, at
                stops = self._line_ends(data)
                if is_end and self.is_bounded and (not len(stops) or stops[-1] != len(data) - 1):
                    stops = np.append(stops, len(data))  # the last line need not end
                if len(stops) or (is_end and not self.is_bounded):
                    break
                wanted *= 4
                if wanted > 4 * LINE_BYTES_MAX:
                    raise SqlError(f"{path.name} has a line longer than {LINE_BYTES_MAX >> 20} MiB at byte {at}.")
        stops = stops[:rows_max]
        if not len(stops):
            return None, at
        return _cut(data, stops), at + min(int(stops[-1]) + 1, len(data))

    def _line_ends(self, data: bytes) -> Any:
        buffer = np.frombuffer(data, np.uint8)
        ends = np.flatnonzero(buffer == 10)
        if self._quote and self._quote in data:
            # A line end inside quotes is a part of a value: the quotes before it are odd in number.
            quotes = np.flatnonzero(buffer == self._quote[0])
            ends = ends[np.searchsorted(quotes, ends) % 2 == 0]
        return ends

    def _parquet(self, path: File, at: int, rows_max: int, bytes_max: int) -> tuple[pa.Table | None, int]:
        import pyarrow.parquet as pq

        with self._place.open(path) as opened, pq.ParquetFile(opened) as file:
            passed = 0
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                if at < passed + count:
                    table = file.read_row_group(group).slice(at - passed, rows_max)
                    return table, at + table.num_rows
                passed += count
        return None, at


def _cut(data: bytes, stops: Any) -> pa.BinaryArray:
    """Lines without their ends; the buffers are those that were read."""
    buffer = np.frombuffer(data, np.uint8)
    starts = np.concatenate([[0], stops[:-1] + 1])
    before = np.maximum(stops - 1, 0)
    returns = (stops > starts) & (buffer[before] == 13)
    if returns.any():
        pairs = zip(starts.tolist(), (stops - returns).tolist(), strict=True)
        return pa.array([data[start:stop] for start, stop in pairs], pa.binary())
    # Offsets of neighbouring lines would take in the line ends: drop these bytes once for all.
    keep = np.ones(int(stops[-1]), np.bool_)
    keep[stops[:-1]] = False
    packed = buffer[: len(keep)][keep]
    offsets = np.concatenate([[0], np.cumsum(stops - starts)]).astype(np.int32)
    return pa.Array.from_buffers(pa.binary(), len(stops), [None, pa.py_buffer(offsets), pa.py_buffer(packed)])


def _metadata(file: File) -> dict[str, Any]:
    return {
        "file.path": file.path,
        "file.name": file.path.rpartition("/")[2],
        "file.size": file.size_bytes,
        "file.modification-time": pa.scalar(file.modified_ns // 1_000_000 * 1000, pa.timestamp("us")),
    }


# -- writing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FileParts:
    """Writes rows as files of a directory, each once.

    A file is named after the checkpoint whose rows it has, and appears whole or not at all; a checkpoint that is
    written again after a crash finds its file there and leaves it. So rows are neither lost nor doubled, if the same
    checkpoint has the same rows.
    """

    folder: Path
    suffix: str = ""

    def write(self, checkpoint: int, payloads: pa.BinaryArray | bytes, partition: str = "") -> Path | None:
        """Lines, or the bytes of a whole file. None where it was there already. Durable when it returns."""
        folder = self.folder / partition if partition else self.folder
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{PART}-{checkpoint:012}{self.suffix}"
        if path.exists():
            return None
        hidden = folder / f".{path.name}"
        with hidden.open("wb") as file:
            file.write(payloads if isinstance(payloads, bytes) else _joined(payloads))
            file.flush()
            os.fsync(file.fileno())
        hidden.replace(path)
        _sync(folder)
        return path

    def written(self) -> Iterator[Path]:
        """Whole files, in the order of their checkpoints."""
        yield from sorted(self.folder.rglob(f"{PART}-*{self.suffix}"), key=lambda path: path.name)


def _joined(payloads: pa.BinaryArray) -> bytes:
    return b"".join(line + b"\n" for line in payloads.to_pylist())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
