"""What the table destinations share: types by shape, columns as options give them, one thread at a time, files that
are durable when they are there."""

from __future__ import annotations

import asyncio
import io
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from streamkit.catalog.hive_types import parse, to_arrow
from streamkit.delivery.destination import DeliveryFailed, Surroundings
from streamkit.model.errors import InvalidArgument, UsageError
from streamkit.model.limits import LAKE_MERGED_FILES_MAX, TABLE_READ_ROWS_MAX, TABLE_ROW_GROUP_BYTES

P = ParamSpec("P")
T = TypeVar("T")

HIDDEN_SUFFIX: Final = ".part"
_SMALL: Final = 0.75
_COMMA: Final = re.compile(r",(?![^()]*\))")  # not those within parentheses


class Lane:
    """Calls that block, one after the other: one whose caller gave up ends before the next begins."""

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def run(self, call: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: call(*arguments, **options))

    async def close(self) -> None:
        """Waits for the call under way; drops those that wait."""
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)


# -- schemas ----------------------------------------------------------------------------------------------------------


def shape_of(kind: pa.DataType) -> pa.DataType:
    """A type without what readers see through: large offsets, dictionaries, names of list and map members, what may be
    null, metadata. Two columns with one shape hold the same values in the same Parquet types."""
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_dictionary(kind):
        return shape_of(kind.value_type)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(pa.field("element", shape_of(kind.value_type)))
    if pa.types.is_map(kind):
        return pa.map_(shape_of(kind.key_type), shape_of(kind.item_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, shape_of(field.type)) for field in kind])
    return kind


def schema_shape(schema: pa.Schema) -> dict[str, pa.DataType]:
    """By name: the order of columns matters to no table."""
    return {field.name: shape_of(field.type) for field in schema}


def without_large_types(kind: pa.DataType) -> pa.DataType:
    """The same type, with 32-bit offsets; its fields keep their names and metadata, such as Parquet's field ids."""
    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_large_binary(kind):
        return pa.binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_without_large_types(kind.value_field))
    if pa.types.is_map(kind):
        return pa.map_(_without_large_types(kind.key_field), _without_large_types(kind.item_field))
    if pa.types.is_struct(kind):
        return pa.struct([_without_large_types(field) for field in kind])
    return kind


def _without_large_types(field: pa.Field) -> pa.Field:
    return field.with_type(without_large_types(field.type))


def columns_option(columns: Any) -> pa.Schema | None:
    """The option `columns`: an Arrow schema, or names with Hive's types: `[("id", "bigint")]`, `{"id": "bigint"}`,
    `id:bigint,tags:array<string>`."""
    if columns is None or isinstance(columns, pa.Schema):
        return columns
    if isinstance(columns, str):
        try:
            return pa.schema(list(to_arrow(parse(f"struct<{columns}>"))))
        except InvalidArgument as error:
            raise UsageError(f"columns cannot be understood: {error}") from error
    pairs = columns.items() if isinstance(columns, Mapping) else columns
    try:
        named = [(str(name), str(kind)) for name, kind in pairs]
    except (TypeError, ValueError):
        raise UsageError(f"columns are {columns!r}; they are names with Hive's types: [['id', 'bigint']]") from None
    try:
        return pa.schema([pa.field(name, to_arrow(parse(kind))) for name, kind in named])
    except InvalidArgument as error:
        raise UsageError(f"columns cannot be understood: {error}") from error


def names_option(names: Any) -> tuple[str, ...]:
    """An option that has several: in a list, or with commas between, such as `hour(at), bucket(4, id)`."""
    if not names:
        return ()
    found = _COMMA.split(names) if isinstance(names, str) else names
    return tuple(str(each).strip() for each in found)


class Mismatch(Exception):
    """A file's columns do not fit a table's."""


def fitting(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch with the columns of a schema, by name: nulls where it has none. Raises Mismatch."""
    if unknown := [name for name in batch.schema.names if schema.get_field_index(name) < 0]:
        raise Mismatch(f"the table has no column {', '.join(sorted(unknown))}")
    columns = []
    for field in schema:
        at = batch.schema.get_field_index(field.name)
        if at < 0:
            columns.append(pa.nulls(batch.num_rows, field.type))
            continue
        column = batch.column(at)
        try:
            columns.append(column if column.type.equals(field.type) else column.cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise Mismatch(f"column {field.name} is {column.type}, and {field.type} in the table: {error}") from error
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def batches_of(path: Path) -> Iterator[pa.RecordBatch]:
    """The rows of a Parquet file, in order, a few at a time."""
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(TABLE_READ_ROWS_MAX)


class ParquetParts:
    """A Parquet file written a row group at a time. What is held back is told, so that who writes many files at once
    can let go of it."""

    def __init__(self, path: Path, schema: pa.Schema, *, compression: str, level: int | None = None) -> None:
        self.path = path
        self.rows_count = 0
        self.held_bytes = 0
        self._held: list[pa.RecordBatch] = []
        self._schema = schema
        self._writer = pq.ParquetWriter(path, schema, compression=compression, compression_level=level)

    def write(self, batch: pa.RecordBatch) -> None:
        self._held.append(batch)
        self.held_bytes += batch.nbytes
        self.rows_count += batch.num_rows
        if self.held_bytes >= TABLE_ROW_GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Ends the row group."""
        if self._held:
            table = pa.Table.from_batches(self._held, self._schema)
            self._writer.write_table(table, row_group_size=max(table.num_rows, 1))
        self._held, self.held_bytes = [], 0

    def close(self) -> None:
        self.flush()
        self._writer.close()


def first_of(options: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The first of these options that is given."""
    return next((options[name] for name in names if options.get(name) not in (None, "", (), [])), None)


# -- compaction -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Settings:
    """`target_bytes` of a merged file, as its inputs are. `before_ms`: files changed later stay; a table's are told
    apart by its commits, and need no such time. `takes_all`: whatever they are called. `is_dry`: says what it would
    do. `table` and `catalog` are Iceberg's: `namespace.table`, and a catalog's file or URL if it is not in the
    warehouse."""

    target_bytes: int
    before_ms: int
    files_min: int = 2
    takes_all: bool = False
    is_dry: bool = False
    table: str | None = None
    catalog: str | None = None

    def is_small(self, size_bytes: int) -> bool:
        """Others are not worth writing again."""
        return size_bytes < _SMALL * self.target_bytes


class Merged(NamedTuple):
    """Files that became one, or in a table as few as their library makes of them. `rows` -1: not counted."""

    place: str
    inputs: int
    input_bytes: int
    outputs: int
    output_bytes: int
    rows: int


class Passed(NamedTuple):
    """What was left alone, and why."""

    place: str
    why: str


class PutRight(NamedTuple):
    """What a run that did not end left behind."""

    place: str
    how: str  # `finished`, or `undone`


Event = Merged | Passed | PutRight


def in_bins(files: Iterable[T], settings: Settings, size_of: Callable[[T], int]) -> Iterator[list[T]]:
    """Neighbours, as many as fit the target, where they are enough."""
    held: list[T] = []
    size_bytes = 0
    for each in files:
        if held and (size_bytes + size_of(each) > settings.target_bytes or len(held) == LAKE_MERGED_FILES_MAX):
            if len(held) >= settings.files_min:
                yield held
            held, size_bytes = [], 0
        held.append(each)
        size_bytes += size_of(each)
    if held and len(held) >= settings.files_min:
        yield held


# -- buckets ----------------------------------------------------------------------------------------------------------


def local_path(url: str, surroundings: Surroundings) -> Path | None:
    """Where a directory or a bucket's folder is on this machine; None for what an object store keeps. Without an
    object store (the destination `s3` says when that is), buckets are folders."""
    if url.startswith("file://"):
        return Path(url.removeprefix("file://"))
    if url.startswith(("s3://", "s3a://")):
        store = surroundings.object_store
        is_folder = not store.get("endpoint") and not store.get("access_key_id")
        return surroundings.buckets / url.split("://", 1)[1] if is_folder else None
    if "://" in url:
        raise UsageError(f"{url!r} is neither a directory nor an s3:// URL")
    return Path(url).absolute()


# -- files ------------------------------------------------------------------------------------------------------------


def make_directory(path: Path) -> None:
    """With its parents, all of them synced."""
    if path.is_dir():
        return
    make_directory(path.parent)
    path.mkdir(exist_ok=True)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class WholeFile(io.FileIO):
    """A file that is there under its name only when all of it is, synced. `replaces` False: FileExistsError on closing
    where another one is there meanwhile. Leaving a `with` by an error leaves nothing behind."""

    def __init__(self, path: Path, *, replaces: bool) -> None:
        make_directory(path.parent)
        self._path = path
        self._replaces = replaces
        # Nobody else writes under this name; after a crash it stays, hidden from readers.
        self._hidden = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}{HIDDEN_SUFFIX}")
        super().__init__(self._hidden, "w")

    def write(self, data: Any, /) -> int:
        """All of it: a plain file may take less."""
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            done += super().write(view[done:]) or 0
        return done

    def close(self) -> None:
        if self.closed:
            return
        os.fsync(self.fileno())
        super().close()
        try:
            if self._replaces:
                os.replace(self._hidden, self._path)
            else:
                os.link(self._hidden, self._path)
                os.unlink(self._hidden)
        except FileExistsError:
            os.unlink(self._hidden)
            raise
        sync_directory(self._path.parent)

    def __del__(self) -> None:
        if not self.closed:  # it was abandoned: what is there is not whole
            super().close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            super().close()
            os.unlink(self._hidden)


def failed(code: str, what: str, error: Exception, *, is_final: bool = False) -> DeliveryFailed:
    text = str(error).strip() or type(error).__name__
    return DeliveryFailed(code, f"{what}: {text}", is_final=is_final)
