"""The port between the engine and what happens to records on their way: processors, conversion, partition keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    import pyarrow as pa

    from streamkit.delivery.rows import Failed, Rows


T = TypeVar("T")


class Offload(Protocol):
    """Runs what blocks or computes for long; the engine's does it on a thread."""

    def __call__(self, work: Callable[[], T]) -> Awaitable[T]: ...


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
    """`batch` has the good records, in order, with the schema's columns: a row for each, but for records with several
    JSON documents, which AWS takes; `several` has the row of each such record and how many rows of `batch` it is."""

    batch: pa.RecordBatch
    bad: Sequence[BadRow]
    several: Sequence[tuple[int, int]] = ()


class Converter(Protocol):
    """From JSON to columns. Blocking and confined to a thread at a time."""

    @property
    def schema(self) -> pa.Schema: ...

    def convert(self, data: pa.BinaryArray) -> Converted: ...


class Partition(NamedTuple):
    """Values of all partition keys, and the rows that have them, ascending (int64)."""

    values: Mapping[str, str]
    rows: pa.Int64Array
