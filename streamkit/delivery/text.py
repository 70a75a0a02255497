"""Objects of text: records one after the other, with nothing between them, compressed as a whole.

| compression | extension | what it is |
|---|---|---|
| GZIP | .gz | one gzip member, without a name or a time in it |
| ZIP | .zip | an archive with one deflated entry, which a UUID names |
| Snappy | .snappy | snappy-java's stream: a header, then blocks of 32 KiB; not the framing of Snappy's own documents |
| HADOOP_SNAPPY | .snappy | Hadoop's blocks, each with its length before and after compression |
| ZSTD | .zst | one frame; for channels of the Kinesis API, Firehose has none |

As AWS delivers them (its documents name `.hsnappy`, the service does not).
"""

from __future__ import annotations

import errno
import io
import os
import struct
import uuid
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import pyarrow as pa

from streamkit.delivery.formats import Written
from streamkit.delivery.plan import TextCompression, TextFormat
from streamkit.model.limits import (
    HADOOP_SNAPPY_BLOCK_BYTES,
    SNAPPY_BLOCK_BYTES,
    TEXT_SLICE_BYTES_MAX,
    ZIP_ENTRY_BYTES_MAX,
)

EXTENSIONS: Final[dict[TextCompression, str]] = {
    "UNCOMPRESSED": "",
    "GZIP": ".gz",
    "ZIP": ".zip",
    "Snappy": ".snappy",
    "HADOOP_SNAPPY": ".snappy",
    "ZSTD": ".zst",
}

# ISA-L's level 3 takes twice the time for 2 % of the size, level 2 gains nothing. Where ISA-L is missing, zlib's 1
# takes six times as long.
_LEVEL: Final = 1
_GZIP_WINDOW: Final = 31  # zlib's way to ask for gzip around what is deflated
_DEFLATE_WINDOW: Final = -15  # and for nothing around it


class TextEncoder:
    """Pieces are record batches whose column `data` (binary, no nulls) has the records; other columns are passed over.
    See `formats.Encoder`."""

    def __init__(self, format: TextFormat) -> None:
        self._compression = format.compression

    def write(self, pieces: Iterable[pa.RecordBatch], path: Path) -> Written:
        """See `formats.Encoder.write`. A ZIP of 4 GiB or more is refused (EFBIG)."""
        with path.open("wb") as file:
            sink = _SINKS[self._compression](file, path)
            for piece in pieces:
                data = _bytes_of(piece.column("data"))
                for start in range(0, len(data), TEXT_SLICE_BYTES_MAX):
                    sink.write(data[start : start + TEXT_SLICE_BYTES_MAX])
            sink.finish()
            file.flush()
            os.fsync(file.fileno())
            return Written(file.tell(), EXTENSIONS[self._compression])


def _bytes_of(column: Any) -> memoryview:
    """The values of a binary column, which lie next to one another, without copying them."""
    assert column.null_count == 0
    if not len(column):
        return memoryview(b"")
    _, offsets, values = column.buffers()
    bounds = memoryview(offsets).cast("q" if pa.types.is_large_binary(column.type) else "i")
    start, stop = bounds[column.offset], bounds[column.offset + len(column)]
    return memoryview(values)[start:stop] if stop > start else memoryview(b"")


class _Sink(Protocol):
    def write(self, data: memoryview) -> None: ...

    def finish(self) -> None:
        """Writes what is still held back. The file stays open, and is at its end."""
        ...


class _Plain:
    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file

    def write(self, data: memoryview) -> None:
        self._file.write(data)

    def finish(self) -> None:
        pass


class _Gzip:
    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._compressor = _deflate().compressobj(_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)

    def write(self, data: memoryview) -> None:
        self._file.write(self._compressor.compress(data))

    def finish(self) -> None:
        self._file.write(self._compressor.flush())


class _Zip:
    """The header of the entry is written again when its sizes are known, so that readers of streams need nothing of
    the directory at the end."""

    _ENTRY: Final = struct.Struct("<4s5H3I2H")
    _DIRECTORY: Final = struct.Struct("<4s6H3I5H2I")
    _END: Final = struct.Struct("<4s4H2IH")
    _VERSION: Final = 20  # of what a reader has to know: deflate
    _DEFLATED: Final = 8
    _DATE: Final = 0x21  # 1 January 1980, the first there is

    def __init__(self, file: BinaryIO, path: Path) -> None:
        deflate = _deflate()
        self._file = file
        self._name = str(uuid.uuid5(uuid.NAMESPACE_URL, str(path))).encode()
        self._checksum: Callable[[memoryview, int], int] = deflate.crc32
        self._compressor = deflate.compressobj(_LEVEL, zlib.DEFLATED, _DEFLATE_WINDOW)
        self._crc = 0
        self._bytes = 0
        self._write_entry(0)

    def write(self, data: memoryview) -> None:
        self._crc = self._checksum(data, self._crc)
        self._bytes += len(data)
        self._file.write(self._compressor.compress(data))
        if max(self._bytes, self._file.tell()) > ZIP_ENTRY_BYTES_MAX:
            raise OSError(errno.EFBIG, "an entry of a ZIP archive is smaller than 4 GiB; let buffers be smaller")

    def finish(self) -> None:
        self._file.write(self._compressor.flush())
        end = self._file.tell()
        compressed = end - self._ENTRY.size - len(self._name)
        self._file.seek(0)
        self._write_entry(compressed)
        self._file.seek(end)
        head = self._DIRECTORY.pack(
            *(b"PK\x01\x02", self._VERSION, self._VERSION, 0, self._DEFLATED, 0, self._DATE),
            *(self._crc, compressed, self._bytes, len(self._name), 0, 0, 0, 0, 0, 0),
        )
        self._file.write(head + self._name)
        self._file.write(self._END.pack(b"PK\x05\x06", 0, 0, 1, 1, len(head) + len(self._name), end, 0))

    def _write_entry(self, compressed: int) -> None:
        head = self._ENTRY.pack(
            *(b"PK\x03\x04", self._VERSION, 0, self._DEFLATED, 0, self._DATE),
            *(self._crc, compressed, self._bytes, len(self._name), 0),
        )
        self._file.write(head + self._name)


class _Blocks:
    """Cuts what it is given into blocks of one size, whatever the pieces are; the last one is shorter."""

    def __init__(self, file: BinaryIO, block_bytes: int) -> None:
        self._file = file
        self._block_bytes = block_bytes
        self._held = bytearray()
        self._codec = pa.Codec("snappy")

    def write(self, data: memoryview) -> None:
        start = 0
        if self._held:
            start = min(self._block_bytes - len(self._held), len(data))
            self._held += data[:start]
            if len(self._held) < self._block_bytes:
                return
            self._flush()
        stop = start + (len(data) - start) // self._block_bytes * self._block_bytes
        for position in range(start, stop, self._block_bytes):
            self._write_block(data[position : position + self._block_bytes])
        self._held += data[stop:]

    def finish(self) -> None:
        if self._held:
            self._flush()

    def _flush(self) -> None:
        self._write_block(memoryview(bytes(self._held)))
        self._held.clear()

    def _compressed(self, block: memoryview) -> bytes:
        compressed: bytes = self._codec.compress(block, asbytes=True)
        return compressed

    def _write_block(self, block: memoryview) -> None:
        raise NotImplementedError


class _SnappyJava(_Blocks):
    """Magic number, its version and the oldest version that can read it; then blocks, each after its length. Numbers
    are big-endian."""

    _HEADER: Final = b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1)
    _LENGTH: Final = struct.Struct(">i")

    def __init__(self, file: BinaryIO, path: Path) -> None:
        super().__init__(file, SNAPPY_BLOCK_BYTES)
        file.write(self._HEADER)

    def _write_block(self, block: memoryview) -> None:
        compressed = self._compressed(block)
        self._file.write(self._LENGTH.pack(len(compressed)))
        self._file.write(compressed)


class _HadoopSnappy(_Blocks):
    """Blocks, each after its length uncompressed and compressed (big-endian), and in one chunk."""

    _LENGTHS: Final = struct.Struct(">ii")

    def __init__(self, file: BinaryIO, path: Path) -> None:
        super().__init__(file, HADOOP_SNAPPY_BLOCK_BYTES)

    def _write_block(self, block: memoryview) -> None:
        compressed = self._compressed(block)
        self._file.write(self._LENGTHS.pack(len(block), len(compressed)))
        self._file.write(compressed)


class _Zstd:
    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._stream = pa.CompressedOutputStream(pa.PythonFile(_KeptOpen(file), mode="w"), "zstd")

    def write(self, data: memoryview) -> None:
        self._stream.write(data)

    def finish(self) -> None:
        self._stream.close()


class _KeptOpen(io.RawIOBase):
    """Closing the compressed stream closes this, and not the file, which has to be synced."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._file.write(data)


def _deflate() -> Any:
    """ISA-L, or zlib where it is not installed: they have the same functions."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib
    return isal_zlib


_SINKS: Final[dict[TextCompression, Callable[[BinaryIO, Path], _Sink]]] = {
    "UNCOMPRESSED": _Plain,
    "GZIP": _Gzip,
    "ZIP": _Zip,
    "Snappy": _SnappyJava,
    "HADOOP_SNAPPY": _HadoopSnappy,
    "ZSTD": _Zstd,
}
