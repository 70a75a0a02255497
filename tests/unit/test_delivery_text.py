"""Objects of text, read back by decoders that are not ours: Python's, zstd's in Arrow, and two written here from the
formats' descriptions."""

from __future__ import annotations

import builtins
import gzip
import os
import struct
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, get_args

import cramjam
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streamkit.delivery.plan import TextCompression, TextFormat
from streamkit.delivery.text import EXTENSIONS, TextEncoder
from streamkit.model.limits import MIB

COMPRESSIONS: Final[tuple[TextCompression, ...]] = get_args(TextCompression)


# -- decoders ---------------------------------------------------------------------------------------------------------


def unzipped(data: bytes, path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        (entry,) = archive.infolist()
        return archive.read(entry)


def of_snappy_java(data: bytes, path: Path) -> bytes:
    """A header of 16 bytes; then blocks of at most 32 KiB, each after its length, big-endian."""
    assert data[:16] == b"\x82SNAPPY\x00" + b"\0\0\0\x01" * 2
    position, blocks = 16, []
    while position < len(data):
        (length,) = struct.unpack_from(">i", data, position)
        blocks.append(bytes(cramjam.snappy.decompress_raw(data[position + 4 : position + 4 + length])))
        position += 4 + length
    assert position == len(data)
    assert all(len(block) == 32 * 1024 for block in blocks[:-1])
    return b"".join(blocks)


def of_hadoop(data: bytes, path: Path) -> bytes:
    """Blocks: length uncompressed, then chunks after their lengths until there is as much. A reader's buffers have room
    for 256 KiB, of either."""
    position, blocks = 0, []
    while position < len(data):
        (whole,) = struct.unpack_from(">i", data, position)
        position += 4
        while whole:
            (length,) = struct.unpack_from(">i", data, position)
            chunk = bytes(cramjam.snappy.decompress_raw(data[position + 4 : position + 4 + length]))
            assert max(length, len(chunk)) <= 256 * 1024
            blocks.append(chunk)
            whole -= len(chunk)
            position += 4 + length
    return b"".join(blocks)


def of_zstd(data: bytes, path: Path) -> bytes:
    return bytes(cramjam.zstd.decompress(data)) if data else b""


DECODERS: Final[dict[str, Callable[[bytes, Path], bytes]]] = {
    "UNCOMPRESSED": lambda data, path: data,
    "GZIP": lambda data, path: gzip.decompress(data),
    "ZIP": unzipped,
    "Snappy": of_snappy_java,
    "HADOOP_SNAPPY": of_hadoop,
    "ZSTD": of_zstd,
}


def batch(records: list[bytes], kind: Any = None) -> pa.RecordBatch:
    """With columns around it, as pieces of buffers have them."""
    sizes = pa.array([len(each) for each in records], pa.int64())
    return pa.RecordBatch.from_arrays([sizes, pa.array(records, kind or pa.binary())], ["size", "data"])


def round_trip(compression: TextCompression, pieces: list[pa.RecordBatch], path: Path) -> bytes:
    written = TextEncoder(TextFormat(compression)).write(iter(pieces), path)
    data = path.read_bytes()
    assert written.size_bytes == len(data)
    return DECODERS[compression](data, path)


# -- promises ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", COMPRESSIONS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    records=st.lists(st.binary(max_size=200), max_size=30),
    cuts=st.lists(st.integers(0, 30), max_size=5),
    repeats=st.sampled_from([1, 1, 1, 400]),
)
@example(records=[], cuts=[], repeats=1)
@example(records=[b""], cuts=[0, 0, 1], repeats=1)
def test_records_are_read_back_one_after_the_other(
    compression: TextCompression, records: list[bytes], cuts: list[int], repeats: int, tmp_path: Path
) -> None:
    """With nothing between them, in order, whatever they are and wherever they are cut into pieces."""
    many = records * repeats
    whole = batch(many)
    bounds = sorted({0, len(many), *(min(cut * repeats, len(many)) for cut in cuts)})
    pieces = [whole.slice(start, stop - start) for start, stop in pairwise(bounds)]
    assert round_trip(compression, pieces, tmp_path / "object") == b"".join(many)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_large_objects_of_what_does_not_compress_are_read_back(compression: TextCompression, tmp_path: Path) -> None:
    """Records longer than any block, and blocks that grow when they are compressed."""
    noise = os.urandom(3 * MIB + 77)
    records = [noise[:5], noise[5 : 2 * MIB], b"", noise[2 * MIB :], b"x" * MIB]
    pieces = [batch(records[:1]), batch([]), batch(records[1:3]), batch(records[3:], pa.large_binary())]
    assert round_trip(compression, pieces, tmp_path / "object") == b"".join(records)


def test_each_compression_has_the_extension_of_aws() -> None:
    """Both Snappy formats have the same one."""
    assert EXTENSIONS == {
        "UNCOMPRESSED": "",
        "GZIP": ".gz",
        "ZIP": ".zip",
        "Snappy": ".snappy",
        "HADOOP_SNAPPY": ".snappy",
        "ZSTD": ".zst",
    }
    assert set(EXTENSIONS) == set(COMPRESSIONS)


def test_a_file_that_is_there_is_replaced(tmp_path: Path) -> None:
    """What a crash left of a longer object is gone."""
    path = tmp_path / "object"
    path.write_bytes(b"x" * 10_000)
    assert round_trip("UNCOMPRESSED", [batch([b"new"])], path) == b"new"


@pytest.mark.parametrize("compression", ["GZIP", "ZIP"])
def test_an_object_has_no_time_in_it(compression: TextCompression, tmp_path: Path) -> None:
    """The same records under the same name are the same bytes."""
    path = tmp_path / "object"
    copies = []
    for _ in range(2):
        round_trip(compression, [batch([b"a" * 1000, b"b"])], path)
        copies.append(path.read_bytes())
    assert copies[0] == copies[1]


def test_the_entry_of_a_zip_is_named_by_a_uuid(tmp_path: Path) -> None:
    """One of its own for each object; deflated, and readable from a stream, without the directory at its end."""
    names = set()
    for number in ("1", "2"):
        path = tmp_path / number
        round_trip("ZIP", [batch([b"a" * 1000])], path)
        with zipfile.ZipFile(path) as archive:
            (entry,) = archive.infolist()
        assert entry.compress_type == zipfile.ZIP_DEFLATED
        assert struct.unpack_from("<III", path.read_bytes(), 14) == (entry.CRC, entry.compress_size, entry.file_size)
        names.add(entry.filename)
    assert len(names) == 2
    assert all(len(name) == 36 and name.count("-") == 4 for name in names)


def test_a_zip_that_its_format_has_no_room_for_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not written with lengths that are wrong."""
    monkeypatch.setattr("streamkit.delivery.text.ZIP_ENTRY_BYTES_MAX", 1000)
    with pytest.raises(OSError, match="smaller than 4 GiB"):
        round_trip("ZIP", [batch([b"a" * 1001])], tmp_path / "object")


@pytest.mark.parametrize("compression", ["GZIP", "ZIP"])
def test_zlib_serves_where_isal_is_not_installed(
    compression: TextCompression, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the speed differs."""
    real = builtins.__import__

    def without_isal(name: str, *rest: Any, **how: Any) -> Any:
        if name.partition(".")[0] == "isal":
            raise ImportError(name)
        return real(name, *rest, **how)

    monkeypatch.setattr(builtins, "__import__", without_isal)
    assert round_trip(compression, [batch([b"abc" * 1000, b"d"])], tmp_path / "object") == b"abc" * 1000 + b"d"


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_an_object_is_synced_before_it_is_told(
    compression: TextCompression, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all of its bytes in it: the control file names it next."""
    synced = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_size)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    written = TextEncoder(TextFormat(compression)).write([batch([b"abc" * 1000])], tmp_path / "object")
    assert synced == [written.size_bytes]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_pieces_are_let_go_one_by_one(compression: TextCompression, tmp_path: Path) -> None:
    """They come from disk; an object of any size costs the memory of one."""
    before = pa.total_allocated_bytes()
    held = []

    def pieces() -> Any:
        for _ in range(8):
            held.append(pa.total_allocated_bytes() - before)
            yield batch([b"a" * MIB])

    TextEncoder(TextFormat(compression)).write(pieces(), tmp_path / "object")
    assert max(held) < 3 * MIB
