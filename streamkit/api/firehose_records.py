"""The hot paths of Firehose: PutRecord and PutRecordBatch, from JSON to the stream that holds direct puts.

Each put has two ways in. The fast one decodes the plain case straight into structs and declines whatever is unusual;
the other one starts from values that the codec has checked, and owns every error. Both meet in the same put. What is
acknowledged is on disk.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha512
from typing import Final

import msgspec
import pybase64

from streamkit.api.gateway import Body, Respond
from streamkit.api.http import Buffer
from streamkit.api.records import response
from streamkit.delivery import rules
from streamkit.delivery.registry import DeliveryRegistry
from streamkit.delivery.state import DeliveryState
from streamkit.metrics import Registry
from streamkit.model.errors import (
    ResourceNotFound,
    ServiceUnavailable,
    StorageUnavailable,
    StreamkitError,
    ThroughputExceeded,
)
from streamkit.model.limits import (
    FIREHOSE_BATCH_BYTES_MAX,
    FIREHOSE_BATCH_RECORDS_MAX,
    FIREHOSE_RECORD_BYTES_MAX,
    KIB,
    RECORD_ID_BEGINNINGS_MAX,
)
from streamkit.model.names import Scope
from streamkit.streams.service import Streams
from streamkit.streams.stream import Put, Stream

# msgspec decodes base64 while it parses: quickest for small records. For large ones pybase64 takes a fifth of the time.
_LARGE_BODY_BYTES: Final = 256 * KIB
_KEY: Final = b"0"  # the stream has one shard, and nobody reads the key
_PLACE: Final = struct.Struct(">QQQ")  # offset, arrival, row: 24 bytes, which base64 makes 32 characters
_PLACE_CHARACTERS: Final = 32
_BEGINNING_BYTES: Final = 144  # AWS's ids have 168 bytes


class _Plain(msgspec.Struct, forbid_unknown_fields=True):
    """What this path does not know must not be overlooked: the codec decides about it."""


class _Record(_Plain):
    Data: bytes


class _LargeRecord(_Plain):
    Data: str


class _PutRecord(_Plain):
    DeliveryStreamName: str
    Record: _Record


class _PutRecordBatch(_Plain):
    DeliveryStreamName: str
    Records: list[_Record]


class _LargePutRecord(_Plain):
    DeliveryStreamName: str
    Record: _LargeRecord


class _LargePutRecordBatch(_Plain):
    DeliveryStreamName: str
    Records: list[_LargeRecord]


_put_record: Final = msgspec.json.Decoder(_PutRecord)
_large_put_record: Final = msgspec.json.Decoder(_LargePutRecord)
_put_record_batch: Final = msgspec.json.Decoder(_PutRecordBatch)
_large_put_record_batch: Final = msgspec.json.Decoder(_LargePutRecordBatch)
_encoder: Final = msgspec.json.Encoder()
_NOT_PLAIN: Final = (msgspec.DecodeError, ValueError, UnicodeEncodeError)


class Puts:
    """Direct puts of all delivery streams."""

    def __init__(self, registry: DeliveryRegistry, streams: Streams, metrics: Registry) -> None:
        self._registry = registry
        self._streams = streams
        self._requests = metrics.counter(
            "streamkit_delivery_put_requests_total",
            "PutRecord and PutRecordBatch (IncomingPutRequests).",
            ("delivery_stream",),
        )
        self._throttled = metrics.counter(
            "streamkit_delivery_throttled_records_total", "Records not taken (ThrottledRecords).", ("delivery_stream",)
        )

    # -- the fast way ------------------------------------------------------------------------------------------------

    def fast_put_record(self, scope: Scope, body: Buffer, respond: Respond) -> bool:
        """PutRecord in the plain case; False, having done nothing, in any other.

        Like PutRecords of Kinesis, it passes base64 that has bits set which its padding cuts off.
        """
        try:
            if len(body) < _LARGE_BODY_BYTES:
                small = _put_record.decode(body)
                name, data = small.DeliveryStreamName, small.Record.Data
            else:
                large = _large_put_record.decode(body)
                name, data = large.DeliveryStreamName, pybase64.b64decode(large.Record.Data, validate=True)
        except _NOT_PLAIN:
            return False
        ready = self._ready(scope, name)
        if ready is None or len(data) > FIREHOSE_RECORD_BYTES_MAX:
            return False
        self._put_one(*ready, data, respond)
        return True

    def fast_put_record_batch(self, scope: Scope, body: Buffer, respond: Respond) -> bool:
        """PutRecordBatch in the plain case; False, having done nothing, in any other."""
        try:
            if len(body) < _LARGE_BODY_BYTES:
                small = _put_record_batch.decode(body)
                name, values = small.DeliveryStreamName, [record.Data for record in small.Records]
            else:
                large = _large_put_record_batch.decode(body)
                name = large.DeliveryStreamName
                values = [pybase64.b64decode(record.Data, validate=True) for record in large.Records]
        except _NOT_PLAIN:
            return False
        ready = self._ready(scope, name)
        if ready is None or not 0 < len(values) <= FIREHOSE_BATCH_RECORDS_MAX:
            return False
        sizes = [*map(len, values)]
        if max(sizes) > FIREHOSE_RECORD_BYTES_MAX or sum(sizes) > FIREHOSE_BATCH_BYTES_MAX:
            return False
        self._put(*ready, values, respond)
        return True

    def _ready(self, scope: Scope, name: str) -> tuple[DeliveryState, Stream] | None:
        state = self._registry.get(scope, name)
        if state is None or state.status != "ACTIVE" or state.source is not None:
            return None
        stream = self._streams.named(rules.private_scope(scope)).get(name)
        return (state, stream) if stream is not None and stream.is_ready else None

    # -- the checked way ---------------------------------------------------------------------------------------------

    async def put_record(self, scope: Scope, name: str, data: bytes) -> Body:
        """PutRecord's answer, when the record is durable. Raises ServiceUnavailable where it was not taken."""
        state, stream = await self._find(scope, name)
        return await response(lambda respond: self._put_one(state, stream, data, respond))

    async def put_record_batch(self, scope: Scope, name: str, values: list[bytes]) -> Body:
        """PutRecordBatch's answer, when every record that was taken is durable; it names the others."""
        rules.require_batch_size(sum(map(len, values)))
        state, stream = await self._find(scope, name)
        return await response(lambda respond: self._put(state, stream, values, respond))

    async def _find(self, scope: Scope, name: str) -> tuple[DeliveryState, Stream]:
        state = self._registry.find(scope, name)
        if state.source is not None:
            raise rules.no_direct_puts()
        if state.status != "ACTIVE":
            raise rules.not_active(state)
        try:
            stream = self._streams.find(rules.private_scope(scope), name)
            await stream.ready()
        except ResourceNotFound:
            raise rules.not_active(state) from None
        return state, stream

    # -- both --------------------------------------------------------------------------------------------------------

    def _put_one(self, state: DeliveryState, stream: Stream, data: bytes, respond: Respond) -> None:
        self._requests.add(1, state.name)
        try:
            _, appended = stream.put_one(_KEY, data)
        except (ThroughputExceeded, StorageUnavailable) as error:
            self._throttled.add(1, state.name)
            respond(b"", _unavailable(error))
            return

        def finish(error: BaseException | None) -> None:
            if error is not None:
                respond(b"", _unavailable(error))
                return
            (record_id,) = _record_ids(stream, *appended.placed(0), 1)
            respond(b'{"RecordId":"%b","Encrypted":%b}' % (record_id.encode(), _encrypted(state)), None)

        appended.then(finish)

    def _put(self, state: DeliveryState, stream: Stream, values: list[bytes], respond: Respond) -> None:
        self._requests.add(1, state.name)
        try:
            put = stream.put([_KEY] * len(values), values)
        except (ThroughputExceeded, StorageUnavailable) as error:
            self._throttled.add(len(values), state.name)
            respond(_none_taken(state, len(values), error), None)
            return
        if put.refused:
            self._throttled.add(len(put.refused), state.name)

        def finish(error: BaseException | None) -> None:
            if error is None:
                respond(self._answer(state, stream, put), None)
            elif isinstance(error, StreamkitError):
                respond(_none_taken(state, len(values), error), None)
            else:
                respond(b"", error)

        if put.appended is None:
            finish(None)
        else:
            put.appended.then(finish)

    def _answer(self, state: DeliveryState, stream: Stream, put: Put) -> bytes:
        entries: list[str] = []
        if put.appended is not None:
            ids = _record_ids(stream, *put.appended.placed(0), len(put.places))
            entries = [f'{{"RecordId":"{record_id}"}}' for record_id in ids]
        for row in sorted(put.refused):
            entries.insert(row, _refusal(rules.slow_down()))
        return _batch_answer(state, len(put.refused), entries)


def _record_ids(stream: Stream, offset: int, arrived_at_ms: int, count: int) -> list[str]:
    """Of records that went there one after the other. Unique; what AWS's hold is not known, but they look so."""
    beginning = _beginning(stream.state.id)
    places = b"".join(_PLACE.pack(offset + row, arrived_at_ms, row) for row in range(count))
    text = pybase64.b64encode_as_string(places)
    return [beginning + text[at : at + _PLACE_CHARACTERS] for at in range(0, len(text), _PLACE_CHARACTERS)]


@lru_cache(maxsize=RECORD_ID_BEGINNINGS_MAX)
def _beginning(stream_id: str) -> str:
    noise = b"".join(sha512(b"%d %b" % (round, stream_id.encode())).digest() for round in range(3))
    return pybase64.b64encode_as_string(noise[:_BEGINNING_BYTES])


def _encrypted(state: DeliveryState) -> bytes:
    return b"true" if state.encryption.status == "ENABLED" else b"false"


def _batch_answer(state: DeliveryState, failed: int, entries: Sequence[str]) -> bytes:
    encrypted = _encrypted(state).decode()
    return (f'{{"FailedPutCount":{failed},"Encrypted":{encrypted},"RequestResponses":[{",".join(entries)}]}}').encode()


def _none_taken(state: DeliveryState, count: int, error: StreamkitError) -> bytes:
    """AWS answers a batch with a 200 also where nothing of it was taken."""
    return _batch_answer(state, count, [_refusal(_unavailable(error))] * count)


def _refusal(error: BaseException) -> str:
    assert isinstance(error, ServiceUnavailable)
    return _encoder.encode({"ErrorCode": error.code, "ErrorMessage": error.message}).decode()


def _unavailable(error: BaseException) -> BaseException:
    """Firehose has one word for being asked too much and for what the disk refuses."""
    if isinstance(error, ThroughputExceeded):
        return rules.slow_down()
    return ServiceUnavailable(error.message) if isinstance(error, StreamkitError) else error
