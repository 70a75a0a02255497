"""The port between the engine and what happens to records on their way: processors, conversion, partition keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from streamkit.delivery.rows import Failed, Rows

if TYPE_CHECKING:
    import pyarrow as pa


class Processed(NamedTuple):
    """What became of a chunk. A row that is in neither was dropped on purpose."""

    rows: Rows
    failed: Sequence[Failed] = ()


class Step(Protocol):
    """One processor at work. Steps of a delivery stream run one after the other on a chunk, and may run on several
    chunks at the same time."""

    async def process(self, rows: Rows) -> Processed: ...


class BadRow(NamedTuple):
    """A record that is not what the schema says: its row, and AWS's code and text for it."""

    row: int
    code: str  # DataFormatConversion.ParseError, DataFormatConversion.MalformedData
    message: str


class Converted(NamedTuple):
    """`batch` has the good records, in order, with the schema's columns."""

    batch: pa.RecordBatch
    bad: Sequence[BadRow]


class Converter(Protocol):
    """From JSON to columns. Blocking and confined to a thread at a time."""

    @property
    def schema(self) -> pa.Schema: ...

    def convert(self, data: pa.BinaryArray) -> Converted: ...


class Partition(NamedTuple):
    """Values of all partition keys, and the rows that have them, ascending (int64)."""

    values: Mapping[str, str]
    rows: pa.Int64Array
