"""The hot paths of Kinesis: PutRecord, PutRecords and GetRecords, from JSON to record batches and back.

Each put has two ways in. The fast one decodes the plain case straight into structs and declines whatever is unusual;
the other one starts from values that the codec has checked, and owns every error. Both meet in the same put.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec
import pybase64

from streamkit.api.gateway import Body, Respond
from streamkit.api.http import Buffer
from streamkit.model import sequence
from streamkit.model.batch import RecordBatch
from streamkit.model.hashkey import digest_of_explicit
from streamkit.model.limits import (
    ANSWERS_BYTES,
    ANSWERS_BYTES_MAX,
    GET_RECORDS_BYTES_MAX,
    KIB,
    MIB,
    PARTITION_KEY_CHARACTERS_MAX,
    PUT_RECORDS_BYTES_MAX,
    PUT_RECORDS_COUNT_MAX,
)
from streamkit.model.names import shard_id
from streamkit.shards.store import Shard
from streamkit.streams.stream import Put, Stream

# msgspec decodes base64 while it parses: quickest for small records. For large ones pybase64 takes a fifth of the time.
_LARGE_RECORD_BYTES: Final = 4 * KIB
_ANSWER_BYTES_LEAST: Final = 64 * KIB
_ANSWER_RECORD_BYTES: Final = 200  # of a record in an answer beside its data, about
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


# How base64 ends in JSON, by how many bytes are left over and the last byte.
_ENDS: Final = (
    (),
    tuple(pybase64.b64encode(bytes((byte,)))[-3:] + b'"' for byte in range(256)),
    tuple(pybase64.b64encode(bytes((0, byte)))[-2:] + b'"' for byte in range(256)),
)


def fast_put_record(streams: Mapping[str, Stream], body: Buffer, respond: Respond) -> bool:
    """PutRecord in the plain case; False, having done nothing, in any other. May raise what `Stream.put_one` raises."""
    try:
        if len(body) < _LARGE_RECORD_BYTES:
            small = _put_record.decode(body)
            given: _PutRecord | _LargePutRecord = small
            data = small.Data
            if len(data) % 3 and not _has_canonical_end(data, body):
                return False
        else:
            given = large = _large_put_record.decode(body)
            data = _decoded(large.Data)
        key = given.PartitionKey.encode()
    except _NOT_PLAIN:
        return False
    stream = streams.get(given.StreamName)
    if stream is None or not stream.is_ready or len(data) > stream.state.record_bytes_max:
        return False
    if not 0 < len(given.PartitionKey) <= PARTITION_KEY_CHARACTERS_MAX:
        return False
    hash_key = None
    if given.ExplicitHashKey is not None:
        hash_key = _plain_hash_key(given.ExplicitHashKey)
        if hash_key is None:
            return False
    put_record(stream, key, data, hash_key, respond)
    return True


def put_record(stream: Stream, key: bytes, data: bytes, hash_key: bytes | None, respond: Respond) -> None:
    """Responds PutRecord's answer when the record is durable."""
    shard, appended = stream.put_one(key, data, hash_key)

    def finish(error: BaseException | None) -> None:
        if error is not None:
            respond(b"", error)
            return
        number = _first_number(shard, appended.placed(0))
        respond(b'{"SequenceNumber":"%d","ShardId":"%b"}' % (number, shard_id(shard.index).encode()), None)

    appended.then(finish)


def fast_put_records(streams: Mapping[str, Stream], body: Buffer, respond: Respond) -> bool:
    """PutRecords in the plain case; False, having done nothing, in any other.

    In a body below a MiB one thing passes that the checked way refuses: base64 that has bits set which its padding
    cuts off. No encoder writes that, and looking for it would double the time of decoding.
    """
    try:
        if len(body) < MIB:
            small = _put_records.decode(body)
            given: _PutRecords | _LargePutRecords = small
            values = [entry.Data for entry in small.Records]
        else:
            given = large = _large_put_records.decode(body)
            values = [_decoded(entry.Data) for entry in large.Records]
        texts = [entry.PartitionKey for entry in given.Records]
        keys = [text.encode() for text in texts]
    except _NOT_PLAIN:
        return False
    stream = streams.get(given.StreamName)
    if stream is None or not stream.is_ready or not 0 < len(values) <= PUT_RECORDS_COUNT_MAX:
        return False
    lengths = [*map(len, texts)]
    sizes = [*map(len, values)]
    if min(lengths) < 1 or max(lengths) > PARTITION_KEY_CHARACTERS_MAX or max(sizes) > stream.state.record_bytes_max:
        return False
    if sum(sizes) + sum(map(len, keys)) > PUT_RECORDS_BYTES_MAX:
        return False
    hash_keys: list[bytes | None] | None = None
    if any(entry.ExplicitHashKey is not None for entry in given.Records):
        hash_keys = []
        for entry in given.Records:
            digest = None if entry.ExplicitHashKey is None else _plain_hash_key(entry.ExplicitHashKey)
            if digest is None and entry.ExplicitHashKey is not None:
                return False
            hash_keys.append(digest)
    put_records(stream, keys, values, hash_keys, respond)
    return True


def put_records(
    stream: Stream, keys: list[bytes], values: list[bytes], hash_keys: list[bytes | None] | None, respond: Respond
) -> None:
    """Responds PutRecords' answer when every record that was taken is durable."""
    put = stream.put(keys, values, hash_keys)

    def finish(error: BaseException | None) -> None:
        respond(b"" if error else _put_records_answer(stream, put), error)

    if put.appended is None:
        finish(None)
    else:
        put.appended.then(finish)


async def response(start: Callable[[Respond], None]) -> Body:
    """What `start` responds, for those who can wait."""
    answer: asyncio.Future[Body] = asyncio.get_running_loop().create_future()

    def respond(body: Body, error: BaseException | None) -> None:
        if answer.done():  # cancelled
            return
        if error is None:
            answer.set_result(body)
        else:
            answer.set_exception(error)

    start(respond)
    return await answer


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


def _decoded(text: str) -> bytes:
    """Base64 to bytes; raises ValueError where it is not exactly what an encoder writes."""
    data: bytes = pybase64.b64decode(text, validate=True)
    if text.endswith("=") and text[-4:] != _end_of(data):
        raise ValueError("bits are set that the padding cuts off")
    return data


def _has_canonical_end(data: bytes, body: Buffer) -> bool:
    """Whether base64 of data that needs padding ends as an encoder ends it, somewhere in the body."""
    return _ENDS[len(data) % 3][data[-1]] in body


def _end_of(data: bytes) -> str:
    """The last four characters of the base64 of data that needs padding."""
    return pybase64.b64encode_as_string(data[-(len(data) % 3) :])


def _plain_hash_key(text: str) -> bytes | None:
    if not (text.isascii() and text.isdecimal()) or (text[0] == "0" and text != "0"):
        return None
    return digest_of_explicit(text)


class Answers:
    """How much memory GetRecords' answers hold, until their readers have taken them.

    Readers that take nothing must not cost all the memory there is: what they hold makes further answers smaller, which
    every client of Kinesis must expect anyway.
    """

    def __init__(self, bytes_: int = ANSWERS_BYTES, bytes_max: int = ANSWERS_BYTES_MAX) -> None:
        self._bytes = bytes_
        self._bytes_max = bytes_max
        self.held_bytes = 0

    def room(self) -> int:
        """How many bytes of records the next answer may have (it may have one record in any case); 0 for none."""
        if self.held_bytes >= self._bytes_max:
            return 0
        return min(max((self._bytes - self.held_bytes) // 4, _ANSWER_BYTES_LEAST), GET_RECORDS_BYTES_MAX)


class Held:
    """A part of `Answers`, given back when nothing refers to it any more."""

    __slots__ = ("_answers", "_size_bytes")

    def __init__(self, answers: Answers, batches: Sequence[RecordBatch]) -> None:
        self._size_bytes = sum(batch.data_bytes * 4 // 3 + len(batch) * _ANSWER_RECORD_BYTES for batch in batches)
        self._answers = answers
        answers.held_bytes += self._size_bytes

    def __del__(self) -> None:
        self._answers.held_bytes -= self._size_bytes


class _Piece(bytes):
    """Of an answer. The connection drops it when it is sent, and with it what it holds."""

    held: Held


async def encode_records(batches: Sequence[RecordBatch], held: Held) -> list[Buffer]:
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
            pieces.append(_encode(part, held))
    return pieces


def _encode(batch: RecordBatch, held: Held) -> _Piece:
    seconds = [arrived / 1000 for arrived in batch.arrivals()]
    rows = zip(seconds, batch.values(), batch.partition_keys(), batch.sequence_numbers(), strict=True)
    piece = _Piece(memoryview(_encoder.encode([_Record(*row) for row in rows]))[1:-1])
    piece.held = held
    return piece
