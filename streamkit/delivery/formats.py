"""The port: how an object is written. Text comes with the core (`text`); columnar formats through the entry-point
group `streamkit.formats`, by the plan's class: `parquet` for ParquetFormat, `orc` for OrcFormat."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import pyarrow as pa


class Written(NamedTuple):
    size_bytes: int
    extension: str  # of AWS: `.gz`, `.parquet`; empty where there is none


class Encoder(Protocol):
    """Blocking, and called on a thread: one object at a time for an encoder."""

    def write(self, pieces: Iterable[pa.RecordBatch], path: Path) -> Written:
        """Writes one object of these pieces, in order, and syncs it (the file, not its directory). Pieces may come from
        disk: each is let go before the next. A file that is there is replaced. Raises OSError."""
        ...
