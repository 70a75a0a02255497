"""Shard iterators and list tokens: stateless, so that they survive a restart and any server of the data can serve them.

A token is its fields and a keyed BLAKE2b over them, in base64: 1 byte kind, 16 stream id, 4 shard, 8 offset, 8 issue
time in milliseconds, 16 authentication. Whoever lacks the data directory's secret cannot make one.
"""

from __future__ import annotations

import hmac
import struct
from binascii import Error as Base64Error
from hashlib import blake2b
from typing import Final, NamedTuple

import pybase64

from streamkit.model.names import StreamId

_FIELDS: Final = struct.Struct(">B16sIQQ")
_AUTHENTICATION_BYTES: Final = 16
_ITERATOR: Final = 1
_NEXT_TOKEN: Final = 2


class Position(NamedTuple):
    """Where a reader of a shard stands, or (for a list token) what it lists and how far it came."""

    stream: StreamId
    shard_index: int
    offset: int
    issued_at_ms: int


class Tokens:
    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def iterator(self, position: Position) -> str:
        return self._encode(_ITERATOR, position)

    def next_token(self, position: Position) -> str:
        return self._encode(_NEXT_TOKEN, position)

    def read_iterator(self, token: str) -> Position | None:
        """None for what this data directory did not issue."""
        return self._decode(_ITERATOR, token)

    def read_next_token(self, token: str) -> Position | None:
        return self._decode(_NEXT_TOKEN, token)

    def _encode(self, kind: int, position: Position) -> str:
        stream, shard_index, offset, issued_at_ms = position
        fields = _FIELDS.pack(kind, bytes.fromhex(stream), shard_index, offset, issued_at_ms)
        return pybase64.b64encode_as_string(fields + self._authentication(fields))

    def _decode(self, kind: int, token: str) -> Position | None:
        try:
            raw = pybase64.b64decode(token, validate=True)
        except (Base64Error, ValueError):
            return None
        fields, authentication = raw[: _FIELDS.size], raw[_FIELDS.size :]
        if len(fields) < _FIELDS.size or not hmac.compare_digest(authentication, self._authentication(fields)):
            return None
        found, stream, shard_index, offset, issued_at_ms = _FIELDS.unpack(fields)
        return Position(StreamId(stream.hex()), shard_index, offset, issued_at_ms) if found == kind else None

    def _authentication(self, fields: bytes) -> bytes:
        return blake2b(fields, key=self._secret, digest_size=_AUTHENTICATION_BYTES).digest()
