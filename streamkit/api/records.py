"""The hot paths of Kinesis: PutRecord, PutRecords and GetRecords, from JSON to record batches and back.

Each put has two ways in. The fast one decodes the plain case straight into structs and declines whatever is unusual;
the other one starts from values that the codec has checked, and owns every error. Both meet in the same put.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import pybase64

from streamkit.model import sequence
from streamkit.model.batch import RecordBatch
from streamkit.model.hashkey import digest_of_explicit
from streamkit.model.limits import KIB, MIB, PARTITION_KEY_CHARACTERS_MAX, PUT_RECORDS_BYTES_MAX, PUT_RECORDS_COUNT_MAX
from streamkit.model.names import shard_id
from streamkit.shards.store import Shard
from streamkit.streams.stream import Put, Stream

Buffer = bytes | bytearray | memoryview
Body = bytes | Sequence[Buffer]

# msgspec decodes base64 while it parses: quickest for small records. For large ones pybase64 takes a fifth of the time.
_LARGE_RECORD_BYTES: Final = 4 * KIB
_ENCODE_BYTES: Final = MIB // 2  # of data at a time: other connections get their turn in between


class _Plain(msgspec.Struct, forbid_unknown_fields=True):
    """What this path does not know must not be overlooked: the codec decides about it."""


class _PutRecord(_Plain):
    Data: bytes
    PartitionKey: str
    StreamName: str
    ExplicitHashKey: str | None = None


class _LargePutRecord(_Plain):
    Data: str
    PartitionKey: str
    StreamName: str
    ExplicitHashKey: str | None = None


class _Entry(_Plain):
    Data: bytes
    PartitionKey: str
    ExplicitHashKey: str | None = None


class _LargeEntry(_Plain):
    Data: str
    PartitionKey: str
    ExplicitHashKey: str | None = None


class _PutRecords(_Plain):
    Records: list[_Entry]
    StreamName: str


class _LargePutRecords(_Plain):
    Records: list[_LargeEntry]
    StreamName: str


class _Record(msgspec.Struct):
    """A record in GetRecords' answer."""

    ApproximateArrivalTimestamp: float
    Data: memoryview
    PartitionKey: str
    SequenceNumber: str


_put_record = msgspec.json.Decoder(_PutRecord)
_large_put_record = msgspec.json.Decoder(_LargePutRecord)
_put_records = msgspec.json.Decoder(_PutRecords)
_large_put_records = msgspec.json.Decoder(_LargePutRecords)
_encoder = msgspec.json.Encoder()
_NOT_PLAIN: Final = (msgspec.DecodeError, ValueError, UnicodeEncodeError)


def fast_put_record(find: Callable[[str], Stream | None], body: Buffer) -> asyncio.Future[Body] | None:
    """PutRecord in the plain case; None, having done nothing, in any other. May raise what `Stream.put_one` raises."""
    try:
        if len(body) < _LARGE_RECORD_BYTES:
            small = _put_record.decode(body)
            given: _PutRecord | _LargePutRecord = small
            data = small.Data
        else:
            given = large = _large_put_record.decode(body)
            data = pybase64.b64decode(large.Data, validate=True)
        key = given.PartitionKey.encode()
    except _NOT_PLAIN:
        return None
    stream = find(given.StreamName)
    if stream is None or not stream.is_ready or len(data) > stream.state.record_bytes_max:
        return None
    if not 0 < len(given.PartitionKey) <= PARTITION_KEY_CHARACTERS_MAX:
        return None
    hash_key = None
    if given.ExplicitHashKey is not None:
        hash_key = _plain_hash_key(given.ExplicitHashKey)
        if hash_key is None:
            return None
    return put_record(stream, key, data, hash_key)


def put_record(stream: Stream, key: bytes, data: bytes, hash_key: bytes | None) -> asyncio.Future[Body]:
    """The answer of PutRecord, when the record is durable."""
    shard, appended = stream.put_one(key, data, hash_key)
    answer: asyncio.Future[Body] = asyncio.get_running_loop().create_future()

    def finish(error: BaseException | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
            return
        offset, arrived_at_ms = appended.placed(0)
        number = sequence.number_of(shard.created_s, shard.index, offset, arrived_at_ms)
        answer.set_result(b'{"SequenceNumber":"%d","ShardId":"%b"}' % (number, shard_id(shard.index).encode()))

    appended.then(finish)
    return answer


def fast_put_records(find: Callable[[str], Stream | None], body: Buffer) -> asyncio.Future[Body] | None:
    """PutRecords in the plain case; None, having done nothing, in any other."""
    try:
        if len(body) < MIB:
            small = _put_records.decode(body)
            given: _PutRecords | _LargePutRecords = small
            values = [entry.Data for entry in small.Records]
        else:
            given = large = _large_put_records.decode(body)
            decode = pybase64.b64decode
            values = [decode(entry.Data, validate=True) for entry in large.Records]
        texts = [entry.PartitionKey for entry in given.Records]
        keys = [text.encode() for text in texts]
    except _NOT_PLAIN:
        return None
    stream = find(given.StreamName)
    if stream is None or not stream.is_ready or not 0 < len(values) <= PUT_RECORDS_COUNT_MAX:
        return None
    lengths = [*map(len, texts)]
    sizes = [*map(len, values)]
    if min(lengths) < 1 or max(lengths) > PARTITION_KEY_CHARACTERS_MAX or max(sizes) > stream.state.record_bytes_max:
        return None
    if sum(sizes) + sum(map(len, keys)) > PUT_RECORDS_BYTES_MAX:
        return None
    hash_keys: list[bytes | None] | None = None
    if any(entry.ExplicitHashKey is not None for entry in given.Records):
        hash_keys = []
        for entry in given.Records:
            digest = None if entry.ExplicitHashKey is None else _plain_hash_key(entry.ExplicitHashKey)
            if digest is None and entry.ExplicitHashKey is not None:
                return None
            hash_keys.append(digest)
    return put_records(stream, keys, values, hash_keys)


def put_records(
    stream: Stream, keys: list[bytes], values: list[bytes], hash_keys: list[bytes | None] | None
) -> asyncio.Future[Body]:
    """The answer of PutRecords, when every record that was taken is durable."""
    put = stream.put(keys, values, hash_keys)
    answer: asyncio.Future[Body] = asyncio.get_running_loop().create_future()

    def finish(error: BaseException | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(_put_records_answer(stream, put))

    if put.appended is None:
        finish(None)
    else:
        put.appended.then(finish)
    return answer


def _put_records_answer(stream: Stream, put: Put) -> bytes:
    entries = []
    if put.appended is not None:
        numbers = [_first_number(shard, put.appended.placed(group)) for group, shard in enumerate(put.shards)]
        endings = [f'","ShardId":"{shard_id(shard.index)}"}}' for shard in put.shards]
        step = sequence.OFFSET_STEP
        entries = [
            f'{{"SequenceNumber":"{numbers[group] + place * step}{endings[group]}' for group, place in put.places
        ]
    for row, shard_index in sorted(put.refused.items()):
        refusal = {
            "ErrorCode": "ProvisionedThroughputExceededException",
            "ErrorMessage": stream.rate_exceeded(shard_index),
        }
        entries.insert(row, _encoder.encode(refusal).decode())
    return f'{{"FailedRecordCount":{len(put.refused)},"Records":[{",".join(entries)}]}}'.encode()


def _first_number(shard: Shard, placed: tuple[int, int]) -> int:
    return sequence.number_of(shard.created_s, shard.index, *placed)


def _plain_hash_key(text: str) -> bytes | None:
    if not (text.isascii() and text.isdecimal()) or (text[0] == "0" and text != "0"):
        return None
    return digest_of_explicit(text)


async def encode_records(batches: Sequence[RecordBatch]) -> list[Buffer]:
    """The inside of GetRecords' list, in pieces of about half a MiB. Lets other work run between them."""
    pieces: list[Buffer] = []
    for whole in batches:
        rest = whole
        while len(rest):
            part, _ = rest.cut_to(len(rest), _ENCODE_BYTES, at_least=1)
            rest = rest.slice(len(part), len(rest))
            if pieces:
                pieces.append(b",")
                await asyncio.sleep(0)
            pieces.append(_encode(part))
    return pieces


def _encode(batch: RecordBatch) -> memoryview:
    seconds = [arrived / 1000 for arrived in batch.arrivals()]
    rows = zip(seconds, batch.values(), batch.partition_keys(), batch.sequence_numbers(), strict=True)
    return memoryview(_encoder.encode([_Record(*row) for row in rows]))[1:-1]
