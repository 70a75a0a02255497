"""A log group on disk: segments of blocks. What is read back is what was written whole; a torn tail is left out.

A group's directory has `group.json` (a `GroupFile`, replaced as a whole) and segments, `<number>.log`, which only grow;
the oldest is removed when the group is full. Numbers count up and are never given again, so that a segment's number and
a position in it name an event for ever.

Block (little-endian; one stream's events, in the order they came):

    4 checksum      CRC-32 of all that follows
    4 length        of the payload
    4 stream        its number in the group; given once, never again
    4 entries       0: the block says what the stream is called, and its payload is a `Declaration` as JSON
    8 first         smallest timestamp in it, epoch ms
    8 last          largest timestamp in it
    8 ingested      when the last entry came, epoch ms

Entry: 8 timestamp, 8 ingestion time, 4 length with the top bit set where the bytes are one event; where it is clear,
every line is one. A segment holds a declaration of each stream before its first block: it can be read without others.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from streamkit.model.limits import LOG_EVENT_BYTES_MAX

_HEADER: Final = struct.Struct("<IIIIqqq")
_AFTER_CHECKSUM: Final = struct.Struct("<IIIqqq")
_CHECKSUM: Final = struct.Struct("<I")
_ENTRY: Final = struct.Struct("<qqI")
_IS_EVENT: Final = 1 << 31
_SEGMENT_NAME: Final = re.compile(r"([0-9]{10})\.log")
_DIRECTORY_LETTERS_MAX: Final = 80

Entry = tuple[int, int, bytes, bool]
"""Timestamp, ingestion time, bytes, and whether they are one event."""


class GroupFile(msgspec.Struct):
    """What is remembered of a group beside its events."""

    account: str
    region: str
    name: str
    created_at_ms: int
    retention_days: int | None = None
    tags: dict[str, str] = {}
    deleted_streams: list[int] = []  # numbers that segments still hold events of


class Declaration(msgspec.Struct):
    name: str
    created_at_ms: int


class Block(NamedTuple):
    position: int
    stream: int
    entries_count: int
    first_ms: int
    last_ms: int
    ingested_ms: int
    payload: memoryview
    end: int


class Event(NamedTuple):
    timestamp_ms: int
    ingested_ms: int
    message: bytes


def directory_name(account: str, region: str, name: str) -> str:
    """Names of groups may be longer than those of files, and hold slashes: readable letters, and a hash that tells."""
    letters = re.sub(r"[^A-Za-z0-9_-]+", ".", name).strip(".")[:_DIRECTORY_LETTERS_MAX]
    return f"{letters}-{blake2b(f'{account}/{region}/{name}'.encode(), digest_size=8).hexdigest()}"


def encode_block(stream: int, entries: Sequence[Entry]) -> bytes:
    parts: list[bytes] = []
    first_ms = last_ms = entries[0][0]
    for timestamp_ms, ingested_ms, data, is_event in entries:
        parts.append(_ENTRY.pack(timestamp_ms, ingested_ms, len(data) | (_IS_EVENT if is_event else 0)))
        parts.append(data)
        if timestamp_ms < first_ms:
            first_ms = timestamp_ms
        elif timestamp_ms > last_ms:
            last_ms = timestamp_ms
    return _block(stream, len(entries), first_ms, last_ms, entries[-1][1], b"".join(parts))


def encode_declaration(stream: int, declaration: Declaration) -> bytes:
    at_ms = declaration.created_at_ms
    return _block(stream, 0, at_ms, at_ms, at_ms, msgspec.json.encode(declaration))


def _block(stream: int, count: int, first_ms: int, last_ms: int, ingested_ms: int, payload: bytes) -> bytes:
    body = _AFTER_CHECKSUM.pack(len(payload), stream, count, first_ms, last_ms, ingested_ms) + payload
    return _CHECKSUM.pack(zlib.crc32(body)) + body


def events_in(block: Block) -> Iterator[Event]:
    """In order. Lines keep their end; what is longer than an event may be comes in pieces."""
    payload, position = block.payload, 0
    while position < len(payload):
        timestamp_ms, ingested_ms, length = _ENTRY.unpack_from(payload, position)
        position += _ENTRY.size
        is_event, length = bool(length & _IS_EVENT), length & ~_IS_EVENT
        data = bytes(payload[position : position + length])
        position += length
        for message in (data,) if is_event else _lines(data):
            if len(message) <= LOG_EVENT_BYTES_MAX:
                yield Event(timestamp_ms, ingested_ms, message)
                continue
            for start in range(0, len(message), LOG_EVENT_BYTES_MAX):
                yield Event(timestamp_ms, ingested_ms, message[start : start + LOG_EVENT_BYTES_MAX])


def _lines(data: bytes) -> Iterator[bytes]:
    """Only a line feed ends a line: AWS's runtimes write carriage returns inside an event that has several lines."""
    start = 0
    while start < len(data):
        end = data.find(b"\n", start) + 1 or len(data)
        yield data[start:end]
        start = end


class Kept(msgspec.Struct):
    """What a segment holds of a stream."""

    first_ms: int | None = None
    last_ms: int | None = None
    ingested_ms: int | None = None
    stored_bytes: int = 0

    def add(self, first_ms: int, last_ms: int, ingested_ms: int, size: int) -> None:
        self.first_ms = first_ms if self.first_ms is None else min(self.first_ms, first_ms)
        self.last_ms = last_ms if self.last_ms is None else max(self.last_ms, last_ms)
        self.ingested_ms = ingested_ms if self.ingested_ms is None else max(self.ingested_ms, ingested_ms)
        self.stored_bytes += size


class Segment:
    """One file, and what is known of it: `kept` by stream number, `size` the end of its last whole block."""

    def __init__(self, directory: Path, number: int) -> None:
        self.number = number
        self.path = directory / f"{number:010d}.log"
        self.size = 0
        self.kept: dict[int, Kept] = {}
        self.declarations: dict[int, Declaration] = {}
        self._file: int | None = None

    @property
    def has_events(self) -> bool:
        return any(kept.first_ms is not None for kept in self.kept.values())

    @property
    def span_ms(self) -> tuple[int, int]:
        """The smallest and the largest timestamp in it; it must have events."""
        spans = [(kept.first_ms, kept.last_ms) for kept in self.kept.values()]
        return (
            min(first_ms for first_ms, _ in spans if first_ms is not None),
            max(last_ms for _, last_ms in spans if last_ms is not None),
        )

    @property
    def ingested_ms(self) -> int | None:
        return max((kept.ingested_ms for kept in self.kept.values() if kept.ingested_ms is not None), default=None)

    def load(self) -> None:
        """Learns what the file has; raises OSError."""
        self.kept, self.declarations = {}, {}
        for block in self.blocks(0, self.path.stat().st_size):
            if block.entries_count:
                size = len(block.payload) - block.entries_count * _ENTRY.size
                kept = self.kept.setdefault(block.stream, Kept())
                kept.add(block.first_ms, block.last_ms, block.ingested_ms, size)
            else:
                self.declarations[block.stream] = msgspec.json.decode(block.payload, type=Declaration)
                self.kept.setdefault(block.stream, Kept())
            self.size = block.end

    def append(self, data: bytes) -> None:
        """Raises OSError; then nothing was added. Another process's view is as if all came at once, or nothing."""
        if self._file is None:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            os.ftruncate(self._file, self.size)  # the tail that a crash tore
        written = 0
        view = memoryview(data)
        while written < len(data):
            written += os.pwrite(self._file, view[written:], self.size + written)
        self.size += len(data)

    def add(self, stream: int, entries: Sequence[Entry]) -> None:
        """Appends a block of a stream that is declared here. Raises OSError."""
        data = encode_block(stream, entries)
        self.append(data)
        timestamps = [entry[0] for entry in entries]
        size = sum(len(entry[2]) for entry in entries)
        self.kept[stream].add(min(timestamps), max(timestamps), entries[-1][1], size)

    def declare(self, stream: int, declaration: Declaration) -> None:
        """Raises OSError."""
        self.append(encode_declaration(stream, declaration))
        self.declarations[stream] = declaration
        self.kept.setdefault(stream, Kept())

    def blocks(self, start: int = 0, size: int | None = None) -> Iterator[Block]:
        """From a block's position on. Ends before the first that is not whole. Raises OSError."""
        end = self.size if size is None else size
        with self.path.open("rb") as file:
            file.seek(start)
            data = memoryview(file.read(end - start))
        position = 0
        while position + _HEADER.size <= len(data):
            checksum, length, stream, count, first_ms, last_ms, ingested_ms = _HEADER.unpack_from(data, position)
            after = position + _HEADER.size + length
            if after > len(data) or zlib.crc32(data[position + _CHECKSUM.size : after]) != checksum:
                return
            payload = data[position + _HEADER.size : after]
            yield Block(start + position, stream, count, first_ms, last_ms, ingested_ms, payload, start + after)
            position = after

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def remove(self) -> None:
        self.close()
        self.path.unlink(missing_ok=True)


def segments_in(directory: Path) -> list[Segment]:
    """In order of their numbers; not loaded."""
    found = (match for name in os.listdir(directory) if (match := _SEGMENT_NAME.fullmatch(name)))
    return [Segment(directory, number) for number in sorted(int(match[1]) for match in found)]


def write_group(directory: Path, group: GroupFile) -> None:
    """Replaces the file as a whole; not synced. Raises OSError."""
    part = directory / "group.json.part"
    part.write_bytes(msgspec.json.encode(group))
    part.replace(directory / "group.json")


def read_group(directory: Path) -> GroupFile | None:
    """None where there is no such file, or it is not whole: a crash came between a directory and its file."""
    try:
        return msgspec.json.decode((directory / "group.json").read_bytes(), type=GroupFile)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None
