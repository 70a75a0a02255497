"""What queries write to: files, streams, the standard output, nothing. (`sinks_calls`: delivery streams, functions.)

A sink gets what it shall write as payloads that are durable already (see `application`), under the number of the
checkpoint they belong to; after a crash it gets the last ones again. What it has of them is left out: a file is named
after its checkpoint, a stream is read from where it ended before they were put.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import pyarrow as pa

from streamkit_sql.errors import NotSupported
from streamkit_sql.tables.definition import TableDefinition
from streamkit_sql.tables.encode import encoder_of, parquet_bytes
from streamkit_sql.tables.files import FileParts
from streamkit_sql.tables.places import path_of

if TYPE_CHECKING:
    from streamkit.kit.backend import Backend

PUT_RECORDS_MAX: Final = 10_000
READ_RECORDS_MAX: Final = 10_000
READ_BYTES_MAX: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class Payload:
    """`key` is a record's partition key, or a file's partition folder."""

    key: str
    data: bytes


class Sink(Protocol):
    """`target` tells it what it has of payloads already; it is JSON."""

    def payloads(self, rows: pa.Table) -> list[Payload]:
        """Rows as they are to be written; `$w` is the last column where the query updates."""
        ...

    async def target(self) -> Any:
        """Where it stands, before payloads are written to it."""
        ...

    async def write(self, checkpoint: int, payloads: Sequence[Payload], target: Any, *, again: bool) -> None:
        """Durable when it returns. `again`: a run before may have written some of them."""
        ...


def open_sink(table: TableDefinition, backend: Backend | None) -> Sink:
    """By the table's connector; NotSupported for one that only reads."""
    connector = table.connector
    if connector == "filesystem":
        return FileSink(table)
    if connector == "print":
        return PrintSink(table)
    if connector == "blackhole":
        return BlackholeSink()
    if connector == "kinesis" and backend is not None:
        return StreamSink(table, backend)
    if connector in ("firehose", "lambda") and backend is not None:
        from streamkit_sql.tables.sinks_calls import DeliverySink, FunctionSink

        return DeliverySink(table, backend) if connector == "firehose" else FunctionSink(table, backend)
    raise NotSupported(f"table {table.name!r} cannot be written: it is a {connector!r}.", table.place)


class FileSink:
    """One file a checkpoint and partition."""

    def __init__(self, table: TableDefinition) -> None:
        self._table = table
        self._encoder = None if table.format == "parquet" else encoder_of(_unpartitioned(table))
        suffix = {"json": ".json", "csv": ".csv", "parquet": ".parquet"}.get(table.format or "", "")
        self._parts = FileParts(path_of(table), suffix)

    def payloads(self, rows: pa.Table) -> list[Payload]:
        found = []
        for folder, part in self._partitions(rows):
            if self._encoder is None:
                columns = [each for each in self._table.written if each.name not in self._table.partitioned_by]
                found.append(Payload(folder, parquet_bytes(part, columns)))
            else:
                lines = self._encoder.encode(part).to_pylist()
                found.append(Payload(folder, b"".join(line + b"\n" for line in lines)))
        return found

    def _partitions(self, rows: pa.Table) -> list[tuple[str, pa.Table]]:
        keys = self._table.partitioned_by
        if not keys:
            return [("", rows)]
        names = [each.name for each in self._table.written]
        rows = rows.rename_columns(names)
        kept = [name for name in names if name not in keys]
        rows_of: dict[str, list[int]] = {}
        for index, values in enumerate(zip(*(rows[key].to_pylist() for key in keys), strict=True)):
            folder = "/".join(f"{key}={_folder(value)}" for key, value in zip(keys, values, strict=True))
            rows_of.setdefault(folder, []).append(index)
        return [(folder, rows.take(indexes).select(kept)) for folder, indexes in rows_of.items()]

    async def target(self) -> Any:
        return None

    async def write(self, checkpoint: int, payloads: Sequence[Payload], target: Any, *, again: bool) -> None:
        whole: dict[str, list[bytes]] = {}
        for each in payloads:
            whole.setdefault(each.key, []).append(each.data)
        for folder, parts in whole.items():
            if self._encoder is None:  # each a file of its own
                for index, part in enumerate(parts):
                    self._parts.write(checkpoint * 1_000 + index, part, folder)
            else:
                self._parts.write(checkpoint, b"".join(parts), folder)


def _unpartitioned(table: TableDefinition) -> TableDefinition:
    """Partition columns are in the folders' names, not in the files."""
    from dataclasses import replace

    if not table.partitioned_by:
        return table
    columns = tuple(each for each in table.columns if each.name not in table.partitioned_by)
    return replace(table, columns=columns, partitioned_by=())


_DEFAULT_PARTITION: Final = "__DEFAULT_PARTITION__"  # Flink's, of NULL and empty text


def _folder(value: Any) -> str:
    if value is None or value == "":
        return _DEFAULT_PARTITION
    text = str(value)
    return "".join(f"%{ord(char):02X}" if char in "\"#%'*/:=?\\\x7f{[]^" or char < " " else char for char in text)


class StreamSink:
    """One record a row. PARTITIONED BY names the columns of the partition key (Flink: joined by `|`); without it the
    key is made of the row, so that a row put again has the same."""

    def __init__(self, table: TableDefinition, backend: Backend) -> None:
        from streamkit_sql.queries import stream_of

        self._table = table
        self._backend = backend
        self._stream = stream_of(table.options)
        self._encoder = encoder_of(table)
        self._delimiter = table.options.get("sink.partitioner-field-delimiter", "|")

    def payloads(self, rows: pa.Table) -> list[Payload]:
        data = self._encoder.encode(rows).to_pylist()
        if not self._table.partitioned_by:
            return [Payload(hashlib.blake2b(each, digest_size=8).hexdigest(), each) for each in data]
        names = [each.name for each in self._table.written]
        columns = [rows.column(names.index(key)).to_pylist() for key in self._table.partitioned_by]
        keys = [self._delimiter.join(map(str, values)) or " " for values in zip(*columns, strict=True)]
        return [Payload(key, each) for key, each in zip(keys, data, strict=True)]

    async def target(self) -> dict[str, int]:
        """The end of each open shard."""
        info = await self._backend.describe(self._stream)
        return {
            str(shard.index): await self._backend.seek(self._stream, shard.index, None) for shard in info.open_shards
        }

    async def write(self, checkpoint: int, payloads: Sequence[Payload], target: Any, *, again: bool) -> None:
        left = list(payloads)
        if again:
            left = await self._without_written(left, target)
        for start in range(0, len(left), PUT_RECORDS_MAX):
            part = left[start : start + PUT_RECORDS_MAX]
            keys, values = [each.key.encode() for each in part], [each.data for each in part]
            placed = await self._backend.put(self._stream, keys, values, None)
            while refused := [index for index, place in enumerate(placed) if place is None]:
                keys, values = [keys[index] for index in refused], [values[index] for index in refused]
                placed = await self._backend.put(self._stream, keys, values, None)

    async def _without_written(self, payloads: list[Payload], target: Mapping[str, int]) -> list[Payload]:
        """What is not in the stream behind where it ended before; shards that came since are read from their start."""
        info = await self._backend.describe(self._stream)
        written: Counter[tuple[str, bytes]] = Counter()
        for shard in info.shards:
            offset = target.get(str(shard.index), 0)
            while True:
                found = await self._backend.read(
                    self._stream,
                    {shard.index: offset},
                    records_max=READ_RECORDS_MAX,
                    bytes_max=READ_BYTES_MAX,
                    wait_ms=0,
                )
                if not any(map(len, found.batches)):
                    break
                for batch in found.batches:
                    offset = batch.next_offset
                    written.update((record.partition_key, record.data) for record in batch.records())
        left = []
        for each in payloads:
            if written[each.key, each.data]:
                written[each.key, each.data] -= 1
            else:
                left.append(each)
        return left


class PrintSink:
    """Flink's `print`: a line a row on the standard output, with its kind of change. Not exactly once."""

    def __init__(self, table: TableDefinition) -> None:
        prefix = table.options.get("print-identifier", "")
        self._lead = f"{prefix}> " if prefix else ""

    def payloads(self, rows: pa.Table) -> list[Payload]:
        weights = rows["$w"].to_pylist() if "$w" in rows.column_names else [1] * rows.num_rows
        plain = rows.drop_columns(["$w"]) if "$w" in rows.column_names else rows
        lines = []
        for row, weight in zip(plain.to_pylist(), weights, strict=True):
            cells = ", ".join("NULL" if value is None else str(value) for value in row.values())
            lines.append(f"{self._lead}{'+I' if weight > 0 else '-D'}[{cells}]")
        return [Payload("", json.dumps(line).encode()) for line in lines]

    async def target(self) -> Any:
        return None

    async def write(self, checkpoint: int, payloads: Sequence[Payload], target: Any, *, again: bool) -> None:
        for each in payloads:
            sys.stdout.write(json.loads(each.data) + "\n")
        sys.stdout.flush()


class BlackholeSink:
    """Flink's `blackhole`."""

    def payloads(self, rows: pa.Table) -> list[Payload]:
        return []

    async def target(self) -> Any:
        return None

    async def write(self, checkpoint: int, payloads: Sequence[Payload], target: Any, *, again: bool) -> None: ...
