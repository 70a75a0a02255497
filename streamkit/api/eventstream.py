"""Event streams: AWS's answers that go on, as messages of `application/vnd.amazon.eventstream`.

A message is, in network byte order:

    total length    4 bytes, of the whole message
    headers length  4 bytes
    prelude CRC     4 bytes, CRC-32 of the eight before
    headers         each: length of its name (1 byte), name, type (1 byte; 7 is a string), length (2 bytes), value
    payload
    message CRC     4 bytes, CRC-32 of everything before

What it is stands in its headers. An event names its type; an exception is an error of the model and an error is any
other, and either is the last message of its stream.
"""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

from streamkit.api.codec import Encode, Shapes, WireFormat
from streamkit.api.errors import error_members
from streamkit.api.http_stream import close_pieces
from streamkit.log import ERROR_CODE
from streamkit.model.errors import StreamkitError

_log = logging.getLogger(__name__)

CONTENT_TYPE: Final = b"application/vnd.amazon.eventstream"

_PRELUDE: Final = struct.Struct(">II")
_CRC: Final = struct.Struct(">I")
_STRING_LENGTH: Final = struct.Struct(">BH")
_STRING: Final = 7
_FRAMING_BYTES: Final = 16  # prelude and both checksums

Event = Mapping[str, Any]  # one key, the event's name in the model, and its members
Events = AsyncIterator[Event]


def message(headers: Mapping[str, str], payload: bytes = b"") -> bytes:
    """One message with string headers."""
    header_bytes = b"".join([_header(name.encode(), value.encode()) for name, value in headers.items()])
    prelude = _PRELUDE.pack(_FRAMING_BYTES + len(header_bytes) + len(payload), len(header_bytes))
    crc = zlib.crc32(prelude)
    start = b"%b%b%b" % (prelude, _CRC.pack(crc), header_bytes)
    return b"%b%b%b" % (start, payload, _CRC.pack(zlib.crc32(payload, zlib.crc32(start))))


def _header(name: bytes, value: bytes) -> bytes:
    return b"%c%b%b%b" % (len(name), name, _STRING_LENGTH.pack(_STRING, len(value)), value)


class EventStream:
    """Encodes the events of one event stream of a model; their bodies are in the service's wire format."""

    def __init__(self, shapes: Shapes, stream: str, wire: WireFormat, content_type: str) -> None:
        """`stream` is the name of the stream's shape, `content_type` that of the events' bodies."""
        self._encoders = {
            name: _event_encoder(name, member.shape, shapes, wire, content_type)
            for name, member in shapes[stream].members.items()
        }
        self._exceptions = {
            shapes[member.shape].code(member.shape): (name, shapes[member.shape])
            for name, member in shapes[stream].members.items()
            if shapes[member.shape].exception
        }
        self._content_type = content_type

    def encode(self, event: Event) -> bytes:
        """One event, or one of the stream's exceptions, to its message."""
        ((name, values),) = event.items()
        assert name in self._encoders, f"the event stream has no {name}"
        return self._encoders[name](values)

    def initial_response(self, body: bytes) -> bytes:
        """The first message where the protocol has no other place for the answer's further members."""
        return message(
            {
                ":event-type": "initial-response",
                ":content-type": self._content_type,
                ":message-type": "event",
            },
            body,
        )

    def encode_all(self, events: Events, first: bytes = b"") -> AsyncIterator[bytes]:
        """The messages of a stream, each made when it is asked for, after `first`.

        An error that `events` raises becomes the last message; of an error of our own it says nothing more. Closing the
        messages (`aclose`) closes `events`.
        """
        return _Messages(self, events, first)

    def failure(self, error: Exception) -> bytes:
        """The last message of a stream that broke off."""
        if not isinstance(error, StreamkitError):
            _log.error("an event stream failed", exc_info=error)
            return message(_error_headers(StreamkitError.code, "An internal error occurred."))
        _log.info("an event stream ends: %s", error, extra={ERROR_CODE: error.code})
        if error.code not in self._exceptions:
            return message(_error_headers(error.code, error.message))
        name, shape = self._exceptions[error.code]
        return self.encode({name: error_members(error.message, error.status, error.fields, shape)})


def _event_encoder(
    name: str, shape_name: str, shapes: Shapes, wire: WireFormat, content_type: str
) -> Callable[[Mapping[str, Any]], bytes]:
    shape = shapes[shape_name]
    if shape.exception:
        kind, headers = "exception", {":exception-type": name}
    else:
        kind, headers = "event", {":event-type": name}
    payload = next((each for each, member in shape.members.items() if member.eventpayload), None)
    if payload is None:
        encode: Encode = wire.encoder(shape_name)
    else:
        held = shapes[shape.members[payload].shape]
        assert held.type == "blob", "the payload of an event is a blob in every model served here"
        content_type = "application/octet-stream"

        def encode(values: Mapping[str, Any]) -> bytes:
            blob: bytes = values.get(payload) or b""
            return blob

    headers |= {":content-type": content_type, ":message-type": kind}
    return lambda values: message(headers, encode(values))


def _error_headers(code: str, text: str) -> dict[str, str]:
    return {":error-code": code, ":error-message": text[:1024], ":message-type": "error"}


class _Messages:
    """No generator, because one that was never begun would not close what it reads."""

    def __init__(self, stream: EventStream, events: Events, first: bytes) -> None:
        self._stream = stream
        self._events = events
        self._first = first
        self._broken = False

    def __aiter__(self) -> _Messages:
        return self

    async def __anext__(self) -> bytes:
        if self._first:
            first, self._first = self._first, b""
            return first
        if self._broken:
            raise StopAsyncIteration
        try:
            return self._stream.encode(await anext(self._events))
        except StopAsyncIteration:
            raise
        except Exception as error:
            self._broken = True
            return self._stream.failure(error)

    async def aclose(self) -> None:
        await close_pieces(self._events)
