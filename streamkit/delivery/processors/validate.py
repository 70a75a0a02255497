"""Whether records of a channel are what it says they are: JSON, or text. They stay as they are.

AWS sends those that are not to the dead-letter queue ("How Amazon S3 delivery works", Kinesis developer guide); with
which codes and texts is not known.
"""

from __future__ import annotations

from typing import Final

import msgspec
import pyarrow as pa

from streamkit.delivery import plan
from streamkit.delivery.processor import Offload, Processed
from streamkit.delivery.rows import Failed, Rows

OUTPUT_TYPE: Final = "validation-failed"
_CODE: Final = "Channel.InvalidRecord"

_json: Final = msgspec.json.Decoder(msgspec.Raw)  # looks through a document and makes nothing of it


class Validate:
    """A `processor.Step`."""

    def __init__(self, validation: plan.Validation, *, offload: Offload) -> None:
        self._kind = validation.kind
        self._offload = offload

    async def process(self, rows: Rows) -> Processed:
        if self._kind == "BYTE_ARRAY" or not len(rows):
            return Processed(rows)
        faults = await self._offload(lambda: self._faults(rows.data))
        if not faults:
            return Processed(rows)
        bad = rows.take(pa.array(list(faults), pa.int64()))
        failed = Failed(bad, OUTPUT_TYPE, [(_CODE, text) for text in faults.values()])
        good = pa.array([row not in faults for row in range(len(rows))])
        return Processed(rows.filter(good), [failed])

    def _faults(self, data: pa.BinaryArray) -> dict[int, str]:
        """By row, ascending."""
        faults = _texts_not_utf8(data)
        if self._kind == "JSON":
            faults |= _no_documents(data)
        return dict(sorted(faults.items()))


def _texts_not_utf8(data: pa.BinaryArray) -> dict[int, str]:
    try:
        data.cast(pa.string())
    except pa.ArrowInvalid:  # somewhere in them
        faults = {}
        for row, value in enumerate(data.to_pylist()):
            try:
                value.decode()
            except UnicodeDecodeError as error:
                faults[row] = f"The record is not UTF-8: {error.reason} at byte {error.start}"
        return faults
    return {}


def _no_documents(data: pa.BinaryArray) -> dict[int, str]:
    """A loop of 0.2 us a record: no kernel of Arrow's knows JSON."""
    values = memoryview(data.buffers()[2] or b"")
    bounds = memoryview(data.buffers()[1]).cast("i")[data.offset : data.offset + len(data) + 1]
    look_through = _json.decode
    faults: dict[int, str] = {}
    start = bounds[0]
    for row in range(len(data)):
        end = bounds[row + 1]
        try:
            look_through(values[start:end])
        except (msgspec.DecodeError, RecursionError) as error:
            faults[row] = f"The record is not JSON: {error}"
        start = end
    return faults
