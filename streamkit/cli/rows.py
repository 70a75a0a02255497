"""JSON-lines and CSV files as columns of partition keys and data, a few megabytes at a time.

Each line is checked before any record of its block is put, and what is wrong with it is told by its number.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import orjson

from streamkit.cli.common import LineTooLong, Source, whole_lines
from streamkit.model.limits import MIB, PARTITION_KEY_CHARACTERS_MAX, RECORD_BYTES_MAX

BLOCK_BYTES: Final = 4 * MIB
_BLOCK_ROWS: Final = 20_000  # of a CSV file
_GZIP_MAGIC: Final = b"\x1f\x8b"

Key = str | int | float


class Broken(NamedTuple):
    """A line that is no record."""

    line: int
    why: str


class Rows(NamedTuple):
    """The records of a block; `broken`: its lines that are none, and how many records stand before each."""

    keys: list[str]
    values: list[bytes]
    broken: list[tuple[Broken, int]]


class _Row(Protocol):
    key: Key


def json_rows(source: Source, key: str | None) -> Iterator[Rows]:
    """Without a `key`, the first field of the first record is the partition key. Lines are taken as they are."""
    decoder: msgspec.json.Decoder[_Row] | None = None
    line = 1
    try:
        for block in whole_lines(source, BLOCK_BYTES, RECORD_BYTES_MAX):
            if decoder is None:
                block = block.removeprefix(b"\xef\xbb\xbf")
                key = key or _first_field(block)
                decoder = _decoder(key)
            yield _json_block(block, line, key or "", decoder)
            line += block.count(b"\n")
    except LineTooLong as error:
        yield Rows([], [], [(Broken(line, str(error)), 0)])


def csv_rows(source: Source, key: str | None) -> Iterator[Rows]:
    """Each row becomes a JSON object of strings, named by the header. Without a `key`, it is the first column."""
    csv.field_size_limit(RECORD_BYTES_MAX)
    # What is not UTF-8 becomes surrogates here, which JSON refuses: so the row is found and told.
    text = io.TextIOWrapper(_Buffered(source), encoding="utf-8-sig", errors="surrogateescape", newline="")
    reader = csv.reader(text, strict=True)
    head = _header(reader)
    if isinstance(head, Broken):
        yield Rows([], [], [(head, 0)])
        return
    key = key or head[0]
    if key not in head:
        yield Rows([], [], [(Broken(1, f"there is no column {key!r} for the partition key; {_listed(head)}"), 0)])
        return
    at = head.index(key)
    while True:
        rows = Rows([], [], [])
        is_over = _csv_block(reader, head, at, rows)
        yield rows
        if is_over:
            return


def unzipped(source: Source) -> Source:
    """The source itself, or what it holds if it begins as a gzip file does."""
    start = source.read(2) or b""
    if len(start) == 1:
        start += source.read(1) or b""
    whole = _Joined(start, source)
    return gzip.GzipFile(fileobj=_Buffered(whole), mode="rb") if start == _GZIP_MAGIC else whole


# -- JSON ------------------------------------------------------------------------------------------------------------


def _first_field(block: bytes) -> str | None:
    for line in block.split(b"\n"):
        if line.strip():
            try:
                return next(iter(orjson.loads(line)), None)
            except (orjson.JSONDecodeError, TypeError):
                return None
    return None


def _decoder(key: str | None) -> msgspec.json.Decoder[_Row]:
    """Reads one field and checks the syntax of all the others without making objects of them."""
    row: Any = msgspec.defstruct("Row", [("key", Key)], rename={"key": key or ""}, gc=False)
    return msgspec.json.Decoder(row)


def _json_block(block: bytes, first_line: int, key: str, decoder: msgspec.json.Decoder[_Row]) -> Rows:
    values = [value for line in block.split(b"\n") if (value := line.strip())]
    try:
        block.decode()
        keys = [row.key if type(row.key) is str else str(row.key) for row in map(decoder.decode, values)]
    except (UnicodeDecodeError, msgspec.DecodeError):
        return _json_lines(block, first_line, key, decoder)
    if _has_bad_key(keys):
        return _json_lines(block, first_line, key, decoder)
    return Rows(keys, values, [])


def _json_lines(block: bytes, first_line: int, key: str, decoder: msgspec.json.Decoder[_Row]) -> Rows:
    """The same one by one, to tell broken lines from the others."""
    rows = Rows([], [], [])
    for number, line in enumerate(block.split(b"\n"), first_line):
        value = line.strip()
        if not value:
            continue
        try:
            value.decode()
            text = str(decoder.decode(value).key)
        except UnicodeDecodeError as error:
            rows.broken.append((Broken(number, f"byte {error.start + 1} of the line is not UTF-8"), len(rows.keys)))
        except msgspec.DecodeError as error:
            rows.broken.append((Broken(number, _why_not(value, key, error)), len(rows.keys)))
        else:
            _add(rows, number, key, text, value)
    return rows


def _why_not(value: bytes, key: str, error: msgspec.DecodeError) -> str:
    try:
        fields = orjson.loads(value)
    except orjson.JSONDecodeError as fault:
        return f"it is no JSON: {fault.msg} at column {fault.colno}"
    if not isinstance(fields, dict):
        return f"it is no JSON object: {value[:40].decode(errors='replace')}"
    if key not in fields:
        return f"it has no field {key!r} for the partition key; {_listed(list(fields))}"
    return f"field {key!r}, the partition key, is neither text nor a number: {error}"


def _add(rows: Rows, line: int, key: str, text: str, value: bytes) -> None:
    if not _has_bad_key([text]):
        rows.keys.append(text)
        rows.values.append(value)
        return
    why = f"{key!r} has {len(text)} characters; a partition key has 1 to {PARTITION_KEY_CHARACTERS_MAX}"
    rows.broken.append((Broken(line, why), len(rows.keys)))


def _has_bad_key(keys: Sequence[str]) -> bool:
    lengths = set(map(len, keys))
    return bool(lengths) and not 1 <= min(lengths) <= max(lengths) <= PARTITION_KEY_CHARACTERS_MAX


def _listed(names: Sequence[str]) -> str:
    return "it has " + ", ".join(map(repr, names[:20])) if names else "it has none"


# -- CSV -------------------------------------------------------------------------------------------------------------


class _Reader(Protocol):
    """What `csv.reader` returns."""

    line_num: int

    def __next__(self) -> list[str]: ...


def _header(reader: _Reader) -> list[str] | Broken:
    try:
        head = next(reader)
    except StopIteration:
        return Broken(1, "the file is empty; a CSV file begins with the names of its columns")
    except csv.Error as error:
        return Broken(1, str(error))
    repeated = {name for name in head if head.count(name) > 1}
    if not head or repeated:
        return Broken(1, f"the columns need names, each its own: {_listed(sorted(repeated) or head)}")
    try:
        orjson.dumps(head)
    except TypeError:
        return Broken(1, "the names of the columns are not UTF-8")
    return head


def _csv_block(reader: _Reader, head: list[str], at: int, rows: Rows) -> bool:
    """Reads up to 20,000 rows or 4 MiB; true at the end of the file."""
    held = 0
    while len(rows.keys) + len(rows.broken) < _BLOCK_ROWS and held < BLOCK_BYTES:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return True
        except csv.Error as error:
            rows.broken.append((Broken(line, str(error)), len(rows.keys)))
            continue
        if not row:
            continue
        if len(row) != len(head):
            why = f"it has {len(row)} fields, the header {len(head)}"
            rows.broken.append((Broken(line, why), len(rows.keys)))
            continue
        try:
            value = orjson.dumps(dict(zip(head, row, strict=True)))
        except TypeError:
            rows.broken.append((Broken(line, "it is not UTF-8"), len(rows.keys)))
            continue
        held += len(value)
        _add(rows, line, head[at], row[at], value)
    return False


# -- sources ---------------------------------------------------------------------------------------------------------


class _Joined:
    """What was read ahead, then the rest."""

    def __init__(self, start: bytes, rest: Source) -> None:
        self._start = start
        self._rest = rest

    def read(self, size: int, /) -> bytes | None:
        if self._start:
            start, self._start = self._start[:size], self._start[size:]
            return start
        return self._rest.read(size)


class _Buffered(io.BufferedReader):
    """For what wants a file of the standard library's."""

    def __init__(self, source: Source) -> None:
        super().__init__(_Raw(source), BLOCK_BYTES // 16)


class _Raw(io.RawIOBase):
    def __init__(self, source: Source) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = self._source.read(len(buffer)) or b""
        buffer[: len(data)] = data
        return len(data)
