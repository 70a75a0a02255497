"""What stands in the error output: a line of JSON for each record.

Members and their order differ by what failed, and are AWS's where that is known:

- `processing-failed`, `decompression-failed`: as captured on AWS; the developer guide ("Handle failure in data
  transformation") has other names and another order.
- `format-conversion-failed`: developer guide ("Handling errors for data format conversion"), with `lastErrorCode` and
  `lastErrorMessage` as captured and as an older edition has them, where today's has `ErrorCode`.
- destinations: developer guide ("Handle data delivery failures"), from its examples for HTTP endpoints, Splunk and
  OpenSearch; the ids there are sequence numbers with the number of the record in its aggregate.
- all else (`iceberg-failed`, `metadata-extraction-failed`, `activePartitionExceeded`): the members that the others have
  in common, in the guide's order; AWS's are not known.

Times are epoch milliseconds, `rawData` is base64 of the record as it came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any, Final

import orjson
import pyarrow as pa
import pybase64

from streamkit.delivery.plan import CatalogTable
from streamkit.delivery.processors.columns import binary
from streamkit.delivery.rows import Failed, Rows
from streamkit.model import sequence

_Column = Iterable[bytes]

_OTHERS: Final = "..."  # where `Failed.members` stand
_COMMON: Final = ("attemptsMade", "arrivalTimestamp", "errorCode", "errorMessage", "attemptEndingTimestamp")
_PROCESSING: Final = (
    "rawData",
    "errorCode",
    "errorMessage",
    "attemptsMade",
    "arrivalTimestamp",
    "attemptEndingTimestamp",
    _OTHERS,
)
_OPENSEARCH: Final = (*_COMMON, _OTHERS, "rawData")
_LAYOUTS: Final[Mapping[str, tuple[str, ...]]] = {
    "processing-failed": _PROCESSING,
    "decompression-failed": _PROCESSING,
    "format-conversion-failed": (
        "attemptsMade",
        "arrivalTimestamp",
        "lastErrorCode",
        "lastErrorMessage",
        "attemptEndingTimestamp",
        "rawData",
        "sequenceNumber",
        "subSequenceNumber",
        _OTHERS,
    ),
    "http-endpoint-failed": (*_COMMON, "rawData", "subsequenceNumber", "dataId", _OTHERS),
    "splunk-failed": (*_COMMON, "rawData", "EventId", _OTHERS),
    "elasticsearch-failed": _OPENSEARCH,
    "AmazonOpenSearchService_failed": _OPENSEARCH,
    "AmazonOpenSearchService-failed": _OPENSEARCH,
    "AmazonOpenSearchServerless_failed": _OPENSEARCH,
    "AmazonOpenSearchServerless-failed": _OPENSEARCH,
}
_ELSE: Final = (*_COMMON, "rawData", _OTHERS)


def documents(failed: Failed, *, at_ms: int) -> pa.BinaryArray:
    """A line for each record, with its line feed, in their order. `at_ms`: when no more was tried.

    A member of `failed.members` that is a sequence with as many values as there are rows (a list or an Arrow array) has
    one for each; a CatalogTable becomes the object that AWS describes one with."""
    rows = failed.rows
    count = len(rows)
    if not count:
        return pa.array([], pa.binary())
    assert len(failed.errors) == count
    columns = _columns(failed, at_ms)
    pieces: list[_Column] = []
    opening = b"{"
    for name in _LAYOUTS.get(failed.output_type, _ELSE):
        for member in failed.members if name == _OTHERS else (name,):
            column = _member(failed.members[member], count) if name == _OTHERS else columns[name]()
            pieces += [repeat(opening + orjson.dumps(member) + b":"), column]
            opening = b","
    return binary(list(map(b"".join, zip(*pieces, repeat(b"}\n", count), strict=False))))


def _columns(failed: Failed, at_ms: int) -> Mapping[str, Callable[[], _Column]]:
    rows = failed.rows

    def codes() -> _Column:
        return _texts([code for code, _ in failed.errors])

    def messages() -> _Column:
        return _texts([message for _, message in failed.errors])

    def ids() -> _Column:
        return [b'"%d.%d"' % each for each in zip(_numbers(rows), rows.sub.to_pylist(), strict=True)]

    def subs() -> _Column:
        return [b"%d" % sub for sub in rows.sub.to_pylist()]

    return {
        "attemptsMade": lambda: repeat(b"%d" % failed.attempts),
        "arrivalTimestamp": lambda: [b"%d" % arrived for arrived in rows.arrived_ms.to_pylist()],
        "attemptEndingTimestamp": lambda: repeat(b"%d" % at_ms),
        "errorCode": codes,
        "lastErrorCode": codes,
        "errorMessage": messages,
        "lastErrorMessage": messages,
        "rawData": lambda: [b'"%b"' % text for text in map(pybase64.b64encode, _raw(rows).to_pylist())],
        "sequenceNumber": lambda: [b'"%d"' % number for number in _numbers(rows)],
        "subSequenceNumber": subs,
        "subsequenceNumber": subs,
        "dataId": ids,
        "EventId": ids,
    }


def _raw(rows: Rows) -> pa.BinaryArray:
    return rows.data if rows.raw is None else rows.raw


def _numbers(rows: Rows) -> list[int]:
    records = zip(rows.shard.to_pylist(), rows.offset.to_pylist(), rows.arrived_ms.to_pylist(), strict=True)
    return [
        sequence.number_of(rows.created_s[shard], shard, offset, arrived_ms) for shard, offset, arrived_ms in records
    ]


def _texts(texts: Sequence[str]) -> _Column:
    """As JSON; most are the same."""
    encoded = {text: _json(text) for text in set(texts)}
    return list(map(encoded.__getitem__, texts))


def _member(value: Any, count: int) -> _Column:
    if isinstance(value, pa.Array):
        value = value.to_pylist()
    if isinstance(value, list) and len(value) == count:
        return [_json(each) for each in value]
    return repeat(_json(value))


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value, default=_described, option=orjson.OPT_PASSTHROUGH_DATACLASS)
    except TypeError:  # a lone surrogate
        return orjson.dumps(str(value).encode(errors="replace").decode())


def _described(value: Any) -> Any:
    if not isinstance(value, CatalogTable):
        raise TypeError
    return {
        "catalogId": value.catalog_id,
        "databaseName": value.database,
        "tableName": value.table,
        "region": value.region,
        "versionId": value.version or "LATEST",
        "catalogArn": f"arn:aws:glue:{value.region}:{value.catalog_id}:catalog",
    }
