"""What a server and its worker say to each other, byte by byte, over one stream socket.

All numbers are little-endian. The server sends requests, one at a time:

    byte  field of a request
     0    u8   kind: 1 EVENT, 2 BATCH
     1    u8   1 where chunks of a streamed response are wanted as they come
     2    u16  number of the request, counted from 1, modulo 2^16
     4    u32  bytes of the meta object
     8    u32  bytes of the payload
    12    the meta object (JSON), the payload

An EVENT's payload is the event, as JSON. A BATCH's payload are the columns of a record batch, see `columns_of`.

    byte  field of an answer
     0    u8   kind: 1 READY, 2 INIT_FAILED, 3 ANSWERED, 4 FAILED, 5 CHUNK
     1    u8   bytes of the error's name
     2    u16  number of the request it answers; 0 for READY and INIT_FAILED
     4    u32  the largest resident set of the worker until now, KiB
     8    u32  bytes of the payload
    12    the error's name (ASCII), the payload

READY's payload tells what was imported (JSON), a failure's is AWS's error object, a CHUNK's is a piece of the response,
which ANSWERED ends. The server believes none of it: a handler can write to the socket, too. What does not fit this
description, or is longer than `PAYLOAD_BYTES_MAX`, ends the environment.

Worker and server import this module; it must not import what a worker has no use for.
"""

from __future__ import annotations

import struct
from array import array
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from streamkit.model.limits import RESPONSE_BYTES_MAX

if TYPE_CHECKING:
    from streamkit.model.batch import RecordBatch

Buffer = bytes | bytearray | memoryview

REQUEST: Final = struct.Struct("<BBHII")
ANSWER: Final = struct.Struct("<BBHII")
HEADER_BYTES: Final = 12

EVENT: Final = 1
BATCH: Final = 2

READY: Final = 1
INIT_FAILED: Final = 2
ANSWERED: Final = 3
FAILED: Final = 4
CHUNK: Final = 5

NUMBERS: Final = 1 << 16
PAYLOAD_BYTES_MAX: Final = RESPONSE_BYTES_MAX
ERROR_NAME_BYTES_MAX: Final = 255

_ALIGNMENT: Final = 8
_PADDING: Final = tuple(bytes(size) for size in range(_ALIGNMENT))


class Malformed(Exception):
    """These bytes are no answer to the request. The message says why."""


class AnswerHeader(NamedTuple):
    kind: int
    name_bytes: int
    number: int
    max_resident_kib: int
    payload_bytes: int

    @property
    def frame_bytes(self) -> int:
        return HEADER_BYTES + self.name_bytes + self.payload_bytes


def request_header(kind: int, *, number: int, is_streamed: bool, meta_bytes: int, payload_bytes: int) -> bytes:
    return REQUEST.pack(kind, is_streamed, number % NUMBERS, meta_bytes, payload_bytes)


def answer_header(kind: int, *, number: int, max_resident_kib: int, error_name: bytes, payload_bytes: int) -> bytes:
    assert payload_bytes <= PAYLOAD_BYTES_MAX
    name = error_name[:ERROR_NAME_BYTES_MAX]
    return ANSWER.pack(kind, len(name), number % NUMBERS, min(max_resident_kib, 2**32 - 1), payload_bytes) + name


def read_answer_header(buffer: Buffer, number: int) -> AnswerHeader:
    """The header that opens the buffer, of an answer to request `number`. Raises `Malformed`."""
    header = AnswerHeader(*ANSWER.unpack_from(buffer))
    wanted = (ANSWERED, FAILED, CHUNK) if number else (READY, INIT_FAILED)
    if header.kind not in wanted:
        raise Malformed(f"an answer of kind {header.kind} was not asked for")
    if header.number != number % NUMBERS:
        raise Malformed(f"answers request {header.number} instead of {number % NUMBERS}")
    if header.payload_bytes > PAYLOAD_BYTES_MAX:
        raise Malformed(f"an answer cannot have {header.payload_bytes} bytes")
    return header


# -- record batches --------------------------------------------------------------------------------------------------


def columns_of(batch: RecordBatch) -> tuple[dict[str, Any], list[Buffer]]:
    """A batch as numbers for the meta object, and its columns; each column is filled up to a multiple of 8 bytes.

    Columns are views of the batch's own memory, cut to its window; offsets keep counting from where they did.
    """
    start, stop = batch.start, batch.stop
    key_offsets = batch.key_offsets[start : stop + 1]
    data_offsets = batch.data_offsets[start : stop + 1]
    columns: dict[str, Buffer] = {
        "key_offsets": key_offsets.cast("B"),
        "keys": memoryview(batch.keys)[key_offsets[0] : key_offsets[-1]],
        "data_offsets": data_offsets.cast("B"),
        "data": memoryview(batch.data)[data_offsets[0] : data_offsets[-1]],
    }
    if batch.hash_keys is not None:
        columns["hash_keys"] = batch.hash_keys[16 * start : 16 * stop]
    if batch.arrivals_ms is not None:
        columns["arrivals_ms"] = batch.arrivals_ms[start:stop].cast("B")
    if batch.offsets is not None:
        columns["offsets"] = batch.offsets[start:stop].cast("B")
    pieces: list[Buffer] = []
    for column in columns.values():
        pieces.append(column)
        pieces.append(_PADDING[-len(column) % _ALIGNMENT])
    meta = {
        "place": (batch.shard_index, batch.shard_created_s, batch.first_offset, stop - start, batch.arrived_at_ms),
        "columns": {name: len(column) for name, column in columns.items()},
    }
    return meta, pieces


def batch_of(batch_type: type[RecordBatch], meta: dict[str, Any], payload: memoryview) -> RecordBatch:
    """The batch that `columns_of` took apart, over the payload's memory."""
    columns: dict[str, memoryview] = {}
    at = 0
    for name, size in meta["columns"].items():
        columns[name] = payload[at : at + size]
        at += size + -size % _ALIGNMENT
    shard_index, shard_created_s, first_offset, count, arrived_at_ms = meta["place"]
    arrivals_ms = columns.get("arrivals_ms")
    offsets = columns.get("offsets")
    return batch_type(
        shard_index,
        shard_created_s,
        first_offset,
        0,
        count,
        arrived_at_ms,
        _from_zero(columns["key_offsets"].cast("i")),
        columns["keys"],
        _from_zero(columns["data_offsets"].cast("i")),
        columns["data"],
        columns.get("hash_keys"),
        arrivals_ms.cast("q") if arrivals_ms is not None else None,
        offsets.cast("q") if offsets is not None else None,
    )


def _from_zero(offsets: memoryview) -> memoryview:
    if not offsets[0]:
        return offsets
    lengths = (after - before for before, after in pairwise(offsets))
    return memoryview(array("i", accumulate(lengths, initial=0)))
