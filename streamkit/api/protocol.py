"""streamkit's own protocol: record batches over HTTP, for the library and the command line.

Bodies are frames (`streamkit.shards.frame`, checksummed with seed 0), so that records cross the wire as they lie in the
log: no base64, and no object per record on either side. It stands beside AWS's API on the same port.

    POST /_streamkit/put?stream=S     a frame ▶ PutAnswer; with &by=columns routed as a table, and only counted
    POST /_streamkit/read             ReadRequest ▶ a 64-byte length, a ReadHead padded to 64 bytes, and frames
    POST /_streamkit/seek             SeekRequest ▶ an offset
    POST /_streamkit/checkpoints      CheckpointsRequest ▶ the checkpoints as they are on disk
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from streamkit.model.batch import Columns, RecordBatch
from streamkit.model.errors import SerializationError, ValidationError
from streamkit.model.limits import GET_RECORDS_BYTES_MAX, GET_RECORDS_COUNT_MAX, PARTITION_KEY_CHARACTERS_MAX
from streamkit.shards import frame
from streamkit.shards.frame import Buffer, Damage

if TYPE_CHECKING:
    import pyarrow as pa

PUT_PATH: Final = "/_streamkit/put"
READ_PATH: Final = "/_streamkit/read"
SEEK_PATH: Final = "/_streamkit/seek"
CHECKPOINTS_PATH: Final = "/_streamkit/checkpoints"
ROWS_MAX: Final = 4_096
"""Records in one put that is answered with every record's place."""

_ALIGNMENT: Final = 64


class PutAnswer(msgspec.Struct):
    """`groups`: shard, its creation second, first offset, arrival time. `places`: a record's group and place in it.
    `refused`: the rows that were over their shard's limit."""

    count: int
    groups: list[tuple[int, int, int, int]] = []
    places: list[tuple[int, int]] = []
    refused: list[int] = []


class ReadRequest(msgspec.Struct):
    stream: str
    offsets: dict[int, int]
    records_max: int = GET_RECORDS_COUNT_MAX
    bytes_max: int = GET_RECORDS_BYTES_MAX
    wait_ms: int = 0


class ReadHead(msgspec.Struct):
    ended: list[int]
    behind_ms: int


class SeekRequest(msgspec.Struct):
    """`at_ms` None means the tip."""

    stream: str
    shard: int
    at_ms: int | None = None


class CheckpointsRequest(msgspec.Struct):
    stream: str
    consumer: str
    save: dict[int, str] | None = None


# -- puts ------------------------------------------------------------------------------------------------------------


def encode_rows(keys: Sequence[bytes], values: Sequence[bytes], hash_keys: Sequence[bytes] | None) -> list[bytes]:
    return [
        *frame.encode_rows(
            0,
            shard_index=0,
            shard_created_s=0,
            first_offset=0,
            arrived_at_ms=0,
            durable_position=0,
            keys=keys,
            values=values,
            hash_keys=hash_keys,
        )
    ]


def encode_columns(columns: Columns) -> list[bytes]:
    return [
        *frame.encode(
            0,
            shard_index=0,
            shard_created_s=0,
            first_offset=0,
            arrived_at_ms=0,
            durable_position=0,
            columns=columns,
        )
    ]


def decode_put(body: Buffer) -> RecordBatch:
    """The records of a put, every one of them well formed. Raises SerializationError or ValidationError."""
    batches = list(_frames(memoryview(body)))
    if len(batches) != 1 or not len(batches[0]):
        raise SerializationError(f"The body holds {len(batches)} frames; a put is one frame with at least one record.")
    batch = batches[0]
    for offsets, values, what in ((batch.key_offsets, batch.keys, "keys"), (batch.data_offsets, batch.data, "data")):
        bounds = offsets.tolist()
        if bounds[0] != 0 or bounds[-1] != len(values) or bounds != sorted(bounds):
            raise SerializationError(f"The offsets of the {what} do not fit the bytes.")
    try:
        lengths = {*map(len, batch.partition_keys())}
    except UnicodeDecodeError:
        raise SerializationError("A partition key is not UTF-8.") from None
    if min(lengths) < 1 or max(lengths) > PARTITION_KEY_CHARACTERS_MAX:
        raise ValidationError(f"A partition key has 1 to {PARTITION_KEY_CHARACTERS_MAX} characters; one here does not.")
    return batch


def key_and_data(batch: RecordBatch) -> tuple[pa.Array, pa.Array]:
    """The columns of a whole batch as binary Arrow arrays over the same memory."""
    import pyarrow as pa

    def binary(offsets: memoryview, values: memoryview) -> pa.Array:
        return pa.Array.from_buffers(pa.binary(), len(batch), [None, pa.py_buffer(offsets), pa.py_buffer(values)])

    return binary(batch.key_offsets, batch.keys), binary(batch.data_offsets, batch.data)


# -- reads -----------------------------------------------------------------------------------------------------------


def encode_read(head: ReadHead, batches: Iterable[RecordBatch]) -> list[Buffer]:
    text = msgspec.json.encode(head)
    text += b" " * (-len(text) % _ALIGNMENT)
    body: list[Buffer] = [len(text).to_bytes(_ALIGNMENT, "little"), text]
    for batch in batches:
        body += _encode_batch(batch)
    return body


def decode_read(body: Buffer) -> tuple[ReadHead, list[RecordBatch]]:
    """Batches over the answer's own bytes."""
    view = memoryview(body)
    length = int.from_bytes(view[:_ALIGNMENT], "little")
    head = msgspec.json.decode(view[_ALIGNMENT : _ALIGNMENT + length], type=ReadHead)
    return head, list(_frames(view[_ALIGNMENT + length :]))


def _encode_batch(batch: RecordBatch) -> tuple[bytes, bytes]:
    columns = Columns(
        len(batch),
        batch.key_offsets[batch.start : batch.stop + 1],
        batch.keys,
        batch.data_offsets[batch.start : batch.stop + 1],
        batch.data,
        None if batch.hash_keys is None else batch.hash_keys[16 * batch.start : 16 * batch.stop],
    )
    return frame.encode(
        0,
        shard_index=batch.shard_index,
        shard_created_s=batch.shard_created_s,
        first_offset=batch.first_offset,
        arrived_at_ms=batch.last_arrived_at_ms,
        durable_position=0,
        columns=columns,
        arrivals_ms=None if batch.arrivals_ms is None else array("q", batch.arrivals()).tobytes(),
    )


def _frames(view: memoryview) -> Iterable[RecordBatch]:
    position = 0
    while position < len(view):
        try:
            header = frame.read_header(view, position)
            frame.check(view[position:], header, 0)
            columns_bytes = 8 * (header.records_count + 1) + header.key_bytes + header.data_bytes
            if frame.HEADER_BYTES + columns_bytes > header.length:
                raise Damage("the columns are longer than the frame")
        except Damage as damage:
            raise SerializationError(f"The frame at byte {position} is not valid: {damage}.") from None
        yield frame.batch_of(view[position : position + header.length], header)
        position += header.length
