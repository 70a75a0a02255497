"""Decompression and CloudWatchLogProcessing: what CloudWatch Logs subscriptions send.

Each record is gzip of a JSON document. It goes on as that document, or, with message extraction, as the messages of its
log events, a line feed after each. A control message has none and becomes an empty record. A record that is no gzip of
JSON, or for extraction no document of CloudWatch Logs, goes to the error output as it came, under
`decompression-failed` with the code `Decompression failed.`; so do records that fail in later steps, as they came, with
those steps' codes. (Firehose developer guide, "Troubleshoot decompression in Firehose"; line feeds, empty records and
the code are as third parties captured them. The message is not known.)
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Final

import msgspec
import pyarrow as pa

from streamkit.delivery.plan import Decompression
from streamkit.delivery.processor import Offload, Processed
from streamkit.delivery.processors.columns import binary
from streamkit.delivery.rows import Failed, Rows
from streamkit.model.limits import DECOMPRESSED_CHUNK_BYTES_MAX, DECOMPRESSED_RECORD_BYTES_MAX

OUTPUT_TYPE: Final = "decompression-failed"
CODE: Final = "Decompression failed."

_GZIP: Final = 16 + zlib.MAX_WBITS
_is_json: Final = msgspec.json.Decoder(msgspec.Raw).decode


class _Event(msgspec.Struct, gc=False):
    message: str


class _Subscription(msgspec.Struct):
    messageType: str
    logEvents: list[_Event]


_subscription: Final = msgspec.json.Decoder(_Subscription).decode


class _Bad(Exception):
    """The text is for the error document."""


class Decompress:
    """A `processor.Step`."""

    def __init__(self, plan: Decompression, *, offload: Offload) -> None:
        self._extracts = plan.extracts_messages
        self._offload = offload

    async def process(self, rows: Rows) -> Processed:
        return await self._offload(lambda: self._decompress(rows))

    def _decompress(self, rows: Rows) -> Processed:
        good: list[int] = []
        data: list[bytes] = []
        bad: list[int] = []
        errors: list[tuple[str, str]] = []
        room = DECOMPRESSED_CHUNK_BYTES_MAX
        for place, compressed in enumerate(rows.data.to_pylist()):
            try:
                value = self._record(compressed, room)
            except _Bad as error:
                bad.append(place)
                errors.append((CODE, str(error)))
            else:
                good.append(place)
                data.append(value)
                room -= len(value)
        came = replace(rows, raw=rows.data)
        failed = [Failed(rows.take(pa.array(bad, pa.int64())), OUTPUT_TYPE, errors)] if bad else []
        kept = came.take(pa.array(good, pa.int64())) if bad else came
        return Processed(kept.with_data(binary(data)), failed)

    def _record(self, compressed: bytes, room: int) -> bytes:
        document = gunzip(compressed, min(room, DECOMPRESSED_RECORD_BYTES_MAX))
        try:
            if not self._extracts:
                _is_json(document)
                return document
            subscription = _subscription(document)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _Bad(f"The data is not what CloudWatch Logs sends: {error}") from None
        if subscription.messageType != "DATA_MESSAGE":
            return b""
        return "".join([event.message + "\n" for event in subscription.logEvents]).encode()


def gunzip(compressed: bytes, bytes_max: int) -> bytes:
    """The content of one or several gzip members. Never holds much more than `bytes_max`. Raises `_Bad`."""
    pieces: list[bytes] = []
    room, rest = bytes_max, compressed
    try:
        while True:
            member = zlib.decompressobj(_GZIP)
            piece = member.decompress(rest, room + 1)
            pieces.append(piece)
            room -= len(piece)
            if room < 0:
                raise _Bad(f"The data has more than {bytes_max} bytes when it is decompressed")
            if not member.eof:
                raise _Bad("The data is not a whole GZIP stream")
            rest = member.unused_data
            if not rest:
                return b"".join(pieces) if len(pieces) > 1 else piece
    except zlib.error as error:
        raise _Bad(f"The data is not in GZIP format: {error}") from None
