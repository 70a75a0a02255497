"""What a function gets: a batch as Lambda's JSON event, built by columns.

One bytes join makes a whole event; the constant text between the columns is made once per shard. The data's bytes go
in as they were put, in base64. (AWS Lambda developer guide, "Using Lambda to process records from Kinesis Data
Streams", has the event.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import orjson
import pybase64

from streamkit.mappings.batches import Batch, Part
from streamkit.model.names import shard_id
from streamkit.model.times import iso_s

_NEEDS_ESCAPE: Final = bytes([*range(0x20), ord('"'), ord("\\")])
_PIECES: Final = 8  # of a record: four columns, each with the text before it

_TO_NUMBER: Final = b',"sequenceNumber":"'
_TO_DATA: Final = b'","data":"'
_TO_TIME: Final = b'","approximateArrivalTimestamp":'
_VARYING_BYTES: Final = 2 + 2 * 56 + 15  # the key's quotes, the sequence number twice, seconds with three decimals


@dataclass(frozen=True, slots=True)
class WindowContext:
    """What an invocation in a tumbling window is told besides its records. `state` is JSON text."""

    start_ms: int
    end_ms: int
    state: str
    is_final: bool
    ended_early: bool


class EventBuilder:
    """Events of one shard for one mapping."""

    def __init__(self, *, shard_index: int, source_arn: str, role_arn: str, region: str) -> None:
        self._shard = shard_id(shard_index)
        self._source_arn = source_arn
        tail = orjson.dumps(
            {
                "eventName": "aws:kinesis:record",
                "invokeIdentityArn": role_arn,
                "awsRegion": region,
                "eventSourceARN": source_arn,
            }
        )
        self._open = b'{"kinesis":{"kinesisSchemaVersion":"1.0","partitionKey":'
        self._to_id = b'},"eventSource":"aws:kinesis","eventVersion":"1.0","eventID":"' + self._shard.encode() + b":"
        self._close = b'",' + tail[1:] + b","
        texts = (self._open, _TO_NUMBER, _TO_DATA, _TO_TIME, self._to_id, self._close)
        self.envelope_bytes = sum(map(len, texts)) + _VARYING_BYTES
        """Of each record at most, beside its key and data."""

    def build(self, batch: Batch, window: WindowContext | None = None) -> list[bytes]:
        """The event in pieces, to be sent one after the other."""
        pieces = [b'{"Records":[']
        pieces += [self._part(part) for part in batch.parts]
        if batch.parts:
            pieces[-1] = pieces[-1][:-1]  # the last comma
        pieces.append(b"]}" if window is None else b"]," + self._window(window) + b"}")
        return pieces

    def _part(self, part: Part) -> bytes:
        batch, rows = part
        keys = _keys(batch.keys_bytes(), rows)
        values = batch.values()
        numbers = [number.encode() for number in batch.sequence_numbers()]
        if rows is not None:
            values = [values[row] for row in rows]
            numbers = [numbers[row] for row in rows]
        count = part.size
        pieces = [b""] * (count * _PIECES)
        if batch.arrivals_ms is None:
            to_id = _TO_TIME + _seconds(batch.arrived_at_ms) + self._to_id
            pieces[5::_PIECES] = [to_id] * count
        else:
            arrivals = batch.arrivals()
            chosen = arrivals if rows is None else [arrivals[row] for row in rows]
            pieces[5::_PIECES] = [_TO_TIME + _seconds(arrived) + self._to_id for arrived in chosen]
        pieces[0::_PIECES] = keys
        pieces[1::_PIECES] = [_TO_NUMBER] * count
        pieces[2::_PIECES] = numbers
        pieces[3::_PIECES] = [_TO_DATA] * count
        pieces[4::_PIECES] = list(map(pybase64.b64encode, values))
        pieces[6::_PIECES] = numbers
        pieces[7::_PIECES] = [self._close + self._open] * count
        pieces[-1] = self._close
        return self._open + b"".join(pieces)

    def _window(self, window: WindowContext) -> bytes:
        document = orjson.dumps(
            {
                "window": {"start": iso_s(window.start_ms), "end": iso_s(window.end_ms)},
                "state": orjson.Fragment(window.state),
                "shardId": self._shard,
                "eventSourceARN": self._source_arn,
                "isFinalInvokeForWindow": window.is_final,
                "isWindowTerminatedEarly": window.ended_early,
            }
        )
        return document[1:-1]


def _keys(keys: list[bytes], rows: Sequence[int] | None) -> list[bytes]:
    """Partition keys as JSON strings, quotes included."""
    chosen = keys if rows is None else [keys[row] for row in rows]
    if len(together := b"".join(chosen)) == len(together.translate(None, _NEEDS_ESCAPE)):
        return [b'"%b"' % key for key in chosen]
    return [orjson.dumps(key.decode()) for key in chosen]


def _seconds(epoch_ms: int) -> bytes:
    """Epoch seconds with the milliseconds as a fraction, as AWS has them."""
    return b"%d.%03d" % divmod(epoch_ms, 1000)
