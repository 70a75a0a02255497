"""Aggregated records of the Kinesis Producer Library (its `aggregation-format.md`).

0            4              n           n + 16
┌────────────┬──────────────┬───────────┐
│ F3 89 9A C2│ protobuf     │ MD5 of it │
└────────────┴──────────────┴───────────┘

AggregatedRecord: partition_key_table = 1 (strings), explicit_hash_key_table = 2 (strings), records = 3
Record: partition_key_index = 1, explicit_hash_key_index = 2, data = 3, tags = 4
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final, NamedTuple

MAGIC: Final = b"\xf3\x89\x9a\xc2"
_DIGEST_BYTES: Final = 16
_VARINT: Final = 0
_FIXED64: Final = 1
_BYTES: Final = 2
_FIXED32: Final = 5


class UserRecord(NamedTuple):
    partition_key: bytes  # UTF-8
    data: bytes


class _Broken(Exception):
    pass


def split(data: bytes) -> list[UserRecord] | None:
    """The records in an aggregate, in order. None for what is no aggregate, or not a whole one: that is a record like
    any other."""
    if len(data) < len(MAGIC) + _DIGEST_BYTES or not data.startswith(MAGIC):
        return None
    message = memoryview(data)[len(MAGIC) : -_DIGEST_BYTES]
    if hashlib.md5(message, usedforsecurity=False).digest() != data[-_DIGEST_BYTES:]:
        return None
    try:
        return _records(message)
    except _Broken:
        return None


def _records(message: memoryview) -> list[UserRecord]:
    keys: list[bytes] = []
    hash_keys = 0
    found: list[tuple[int, int | None, bytes]] = []
    for number, value in _fields(message):
        if number in (1, 2, 3) and isinstance(value, int):
            raise _Broken
        if number == 1:
            assert not isinstance(value, int)
            keys.append(bytes(value))
        elif number == 2:
            hash_keys += 1
        elif number == 3:
            assert not isinstance(value, int)
            found.append(_record(value))
    for key, hash_key, _ in found:
        if key >= len(keys) or (hash_key is not None and hash_key >= hash_keys):
            raise _Broken
    return [UserRecord(keys[key], data) for key, _, data in found]


def _record(message: memoryview) -> tuple[int, int | None, bytes]:
    key: int | None = None
    hash_key: int | None = None
    data: bytes | None = None
    for number, value in _fields(message):
        if number == 1 and isinstance(value, int):
            key = value
        elif number == 2 and isinstance(value, int):
            hash_key = value
        elif number == 3 and not isinstance(value, int):
            data = bytes(value)
        elif number in (1, 2, 3):
            raise _Broken
    if key is None or data is None:
        raise _Broken
    return key, hash_key, data


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    place, end = 0, len(message)
    while place < end:
        tag, place = _varint(message, place)
        kind = tag & 7
        if kind == _BYTES:
            size, place = _varint(message, place)
            if size > end - place:
                raise _Broken
            yield tag >> 3, message[place : place + size]
            place += size
        elif kind == _VARINT:
            value, place = _varint(message, place)
            yield tag >> 3, value
        elif kind in (_FIXED64, _FIXED32):
            place += 8 if kind == _FIXED64 else 4
            if place > end:
                raise _Broken
        else:
            raise _Broken


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(message) and shift < 64:
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    raise _Broken
