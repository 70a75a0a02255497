"""Small files become large ones: what `streamkit lake compact` does.

A Delta table is compacted by `deltalake`, an Iceberg table by one commit that replaces its small files
(`delta.compact`, `iceberg.compact`). In directories and buckets without a table, files of one folder, delivery stream
and extension are merged, in the order of the times in their names:

    inputs ──▶ merged locally, rows counted ──▶ journal ──▶ output put whole ──▶ inputs deleted ──▶ journal deleted

The journal (`_streamkit/compact-<id>.json`) names inputs and output. What a crash leaves is put right by the next run,
from the journal alone: where the output is there, the inputs are deleted, otherwise nothing has happened. So no row is
ever missing; between the output's appearance and the last input's end a reader may see rows twice.

Parquet and ORC files are merged by columns: they are unified by name, and files whose types disagree are merged
apart. Text and GZIP and ZSTD files are put one behind the other, which is valid for all three, with a line feed between
where one does not end in one. Snappy and ZIP files cannot be merged so, and stay.

Only files with Firehose's names are touched, `<stream>-<version>-<time>-<uuid><extension>`, unless all are asked for;
never files in folders of error output, backups or tables, or hidden ones, nor such as are younger than asked. Manifests
go on naming the files that are gone. A file that its delivery stream may still deliver again, because it was stopped in
the middle and has not run since, cannot be told here, and would be there twice: run deliveries before compaction.
"""

from __future__ import annotations

import asyncio
import fcntl
import gzip
import os
import re
import shutil
import socket
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

import cramjam
import msgspec
import pyarrow as pa
import pyarrow.orc as orc
import pyarrow.parquet as pq

from streamkit.clock import Clock
from streamkit.delivery.destination import DeliveryFailed, Surroundings
from streamkit.model.errors import StreamkitError, UsageError
from streamkit.model.limits import (
    LAKE_LEASE_MS,
    LAKE_LISTED_MAX,
    TABLE_READ_ROWS_MAX,
    TABLE_ROW_GROUP_BYTES,
)
from streamkit_connectors.files import Entry, FilesPlace, ObjectPlace
from streamkit_connectors.s3 import open_place
from streamkit_connectors.tables import (
    Event,
    Merged,
    Mismatch,
    ParquetParts,
    Passed,
    PutRight,
    Settings,
    fitting,
    in_bins,
    shape_of,
)

HIDDEN: Final = "_streamkit/"
JOURNALS: Final = f"{HIDDEN}compact-"
LEASE: Final = f"{HIDDEN}lease.json"
_SCRATCH: Final = "streamkit-compact-"
_NAMES: Final = uuid.UUID("6f1c1f2e-3c0b-5d0e-9b52-3f4c2f0f7a11")
_FIREHOSE_NAME: Final = re.compile(
    r"(?P<stem>.+-\d+)-(?P<at>\d{4}(?:-\d\d){5})-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?P<extension>\.[^/]+)?"
)
_SPECIAL_FOLDER: Final = re.compile(r"errors?|error-output|.+-failed|activePartitionExceeded|backups?", re.IGNORECASE)
_TABLE_MARKS: Final = {"_delta_log/": (".json", ".parquet"), "metadata/": (".metadata.json",)}
_BLOCK_BYTES: Final = 1 << 20


# -- what is merged with what -----------------------------------------------------------------------------------------


class _Group(NamedTuple):
    folder: str
    stem: str  # `<stream>`; empty where names do not matter
    extension: str


def candidates(listing: Iterable[Entry], settings: Settings) -> dict[_Group, list[Entry]]:
    """The files that may be merged, by what they may be merged with, in the order of their rows in the output."""
    listed = list(listing)
    tables = table_roots(each.key for each in listed)
    groups: dict[_Group, list[tuple[str, Entry]]] = {}
    for each in listed:
        folder, _, name = each.key.rpartition("/")
        parts = PurePosixPath(folder).parts
        match = _FIREHOSE_NAME.fullmatch(name)
        if name.startswith((".", "_")) or any(part.startswith((".", "_")) for part in parts):
            continue
        if each.modified_at_ms >= settings.before_ms or not settings.is_small(each.size_bytes):
            continue
        if any(each.key.startswith(root) for root in tables):
            continue
        if not settings.takes_all and (match is None or any(map(_SPECIAL_FOLDER.fullmatch, parts))):
            continue
        if match is None:
            group, order = _Group(folder, "", PurePosixPath(name).suffix), name
        else:
            stem = match["stem"].rpartition("-")[0]
            group, order = _Group(folder, stem, match["extension"] or ""), f"{match['at']} {name}"
        groups.setdefault(group, []).append((order, each))
    return {group: [each for _, each in sorted(found)] for group, found in sorted(groups.items())}


def table_roots(keys: Iterable[str]) -> set[str]:
    """The folders, with a slash at the end, that are tables of Delta or Iceberg: their files are not ours to move."""
    roots = set()
    for key in keys:
        for mark, suffixes in _TABLE_MARKS.items():
            root, found, rest = key.rpartition(mark)
            if found and (not root or root.endswith("/")) and rest.endswith(suffixes):
                roots.add(root)
    return roots


def output_key(inputs: Sequence[str]) -> str:
    """A name made of the inputs' names, of the same kind: the first one's stream, version and time."""
    folder, _, name = inputs[0].rpartition("/")
    identity = uuid.uuid5(_NAMES, "\n".join(inputs))
    match = _FIREHOSE_NAME.fullmatch(name)
    if match is None:
        name = f"compacted-{identity}{PurePosixPath(name).suffix}"
    else:
        name = f"{match['stem']}-{match['at']}-{identity}{match['extension'] or ''}"
    return f"{folder}/{name}" if folder else name


# -- merging files of this machine ------------------------------------------------------------------------------------

Kind = str  # parquet, orc, gzip, zstd, text
_MAGIC: Final = {b"PAR1": "parquet", b"ORC": "orc", b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_FOREIGN: Final = {b"PK\x03\x04": "ZIP", b"\x82SNAPPY\x00": "Snappy", b"\xff\x06\x00\x00sNaPpY": "Snappy"}
_SEPARATOR: Final = {"text": b"\n", "gzip": gzip.compress(b"\n", mtime=0), "zstd": bytes(cramjam.zstd.compress(b"\n"))}


class CannotMerge(Exception):
    """Why these files stay as they are."""


def kind_of(path: Path) -> Kind:
    """By its first bytes: extensions are what somebody chose. Raises CannotMerge."""
    with path.open("rb") as file:
        head = file.read(16)
    for magic, name in _FOREIGN.items():
        if head.startswith(magic):
            raise CannotMerge(f"{name} files cannot be put one behind the other")
    if path.suffix == ".snappy" or path.suffix == ".hsnappy":
        raise CannotMerge("Snappy files cannot be put one behind the other")
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "text")


def families(paths: Sequence[Path]) -> Iterator[list[int]]:
    """Which of these files may become one: of one kind, with columns whose types agree. As places, ascending."""
    found: list[tuple[Kind, dict[str, pa.DataType], list[int]]] = []
    for place, path in enumerate(paths):
        kind = kind_of(path)
        shape = {field.name: shape_of(field.type) for field in _schema_of(path, kind)}
        for known_kind, known, places in found:
            if known_kind == kind and all(known.get(name, each) == each for name, each in shape.items()):
                known.update(shape)
                places.append(place)
                break
        else:
            found.append((kind, shape, [place]))
    for _, _, places in found:
        yield places


def merge(paths: Sequence[Path], output: Path) -> int:
    """Writes one file with the rows of all, in order, and returns how many it has: rows, or lines of text. They were
    counted in the inputs and again in the output. Raises CannotMerge."""
    kinds = {kind_of(path) for path in paths}
    assert len(kinds) == 1, "files of one family"
    (kind,) = kinds
    if kind in _COLUMNAR:
        _COLUMNAR[kind](paths, output, unified([_schema_of(path, kind) for path in paths]))
        rows = sum(count_rows(path, kind) for path in paths)
    else:
        rows = _merge_text(paths, output, kind)
    there = count_rows(output, kind)
    if there != rows:
        raise CannotMerge(f"they have {rows:,} rows, and merged {there:,}")
    with output.open("rb+") as file:
        os.fsync(file.fileno())
    return rows


def unified(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """All columns by name, in the order in which they come; of each the first type. What one file lacks may be null."""
    fields: dict[str, pa.Field] = {}
    for schema in schemas:
        for field in schema:
            known = fields.setdefault(field.name, field)
            if field.nullable and not known.nullable:
                fields[field.name] = known.with_nullable(True)
    for name, field in fields.items():
        if any(schema.get_field_index(name) < 0 for schema in schemas):
            fields[name] = field.with_nullable(True)
    same = all(schema.metadata == schemas[0].metadata for schema in schemas)
    return pa.schema(list(fields.values()), metadata=schemas[0].metadata if same else None)


def count_rows(path: Path, kind: Kind) -> int:
    """Rows; of text its lines, the last one also where it has no line feed."""
    if kind == "parquet":
        return int(pq.read_metadata(path).num_rows)
    if kind == "orc":
        return int(orc.ORCFile(path).nrows)
    lines, is_ended = _lines(path, kind)
    return lines + (not is_ended)


def _lines(path: Path, kind: Kind) -> tuple[int, bool]:
    """Line feeds, and whether there is nothing after the last."""
    count, last = 0, b""
    with pa.input_stream(str(path), compression=None if kind == "text" else kind) as stream:
        while block := stream.read(_BLOCK_BYTES):
            count += block.count(b"\n")
            last = block[-1:]
    return count, last in (b"", b"\n")


def _schema_of(path: Path, kind: Kind) -> pa.Schema:
    if kind == "parquet":
        return pq.read_schema(path)
    if kind == "orc":
        return orc.ORCFile(path).schema
    return pa.schema([])


def _merge_parquet(paths: Sequence[Path], output: Path, schema: pa.Schema) -> None:
    """With the first file's compression."""
    first = pq.read_metadata(paths[0])
    codec = first.row_group(0).column(0).compression if first.num_row_groups and first.num_columns else "SNAPPY"
    merged = ParquetParts(output, schema, compression="none" if codec == "UNCOMPRESSED" else codec.lower())
    try:
        for path in paths:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(TABLE_READ_ROWS_MAX):
                    merged.write(fitting(batch, schema))
    finally:
        merged.close()


def _merge_orc(paths: Sequence[Path], output: Path, schema: pa.Schema) -> None:
    """With the first file's compression; a stripe of each file is in memory at a time."""
    codec = orc.ORCFile(paths[0]).compression.lower()
    with orc.ORCWriter(output, compression=codec, stripe_size=TABLE_ROW_GROUP_BYTES) as writer:
        for path in paths:
            file = orc.ORCFile(path)
            for stripe in range(file.nstripes):
                writer.write(pa.Table.from_batches([fitting(file.read_stripe(stripe), schema)]))


_COLUMNAR: Final = {"parquet": _merge_parquet, "orc": _merge_orc}


def _merge_text(paths: Sequence[Path], output: Path, kind: Kind) -> int:
    """How many lines the inputs have."""
    count = 0
    with output.open("wb") as target:
        for place, path in enumerate(paths):
            lines, is_ended = _lines(path, kind)
            count += lines + (not is_ended)
            with path.open("rb") as source:
                shutil.copyfileobj(source, target, _BLOCK_BYTES)
            if not is_ended and place < len(paths) - 1:
                target.write(_SEPARATOR[kind])
    return count


# -- files without a table --------------------------------------------------------------------------------------------


class Journal(msgspec.Struct, frozen=True):
    """Written when the output is ready and not yet there; gone when the inputs are."""

    inputs: list[str]
    output: str
    size_bytes: int
    rows: int
    version: int = 1


class Lease(msgspec.Struct, frozen=True):
    """Who compacts a bucket, and until when unless it is renewed."""

    holder: str
    until_ms: int


class Compaction:
    """Of the files of one place, which nobody else compacts meanwhile."""

    def __init__(self, place: ObjectPlace, settings: Settings, clock: Clock, directory: Path) -> None:
        self._place = place
        self._settings = settings
        self._clock = clock
        self._directory = directory  # for files of our own
        self._holder = f"{socket.gethostname()}-{os.getpid()}-{clock.now_ms()}"

    async def run(self) -> AsyncIterator[Event]:
        """What is done, as it is done. Raises UsageError where another process compacts the place."""
        listing = await self._place.list()
        if len(listing) > LAKE_LISTED_MAX:
            raise UsageError(f"there are {len(listing):,} files, and {LAKE_LISTED_MAX:,} is the most; take a folder")
        for each in listing:
            if each.key.startswith(JOURNALS) and each.key.endswith(".json"):
                yield await self._put_right(each.key)
                listing = await self._place.list()
        for group, files in candidates(listing, self._settings).items():
            for chosen in in_bins(files, self._settings, lambda each: each.size_bytes):
                async for event in self._merge_bin(group, chosen):
                    yield event

    # -- one at a time -------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """A directory is locked as files are; a bucket by an object that says until when."""
        if isinstance(self._place, FilesPlace):
            with _locked_directory(self._place.root):
                yield
            return
        await self._take_lease()
        try:
            yield
        finally:
            with suppress(DeliveryFailed):  # it ends by itself, then
                if await self._is_held():
                    await self._place.delete(LEASE)

    async def _take_lease(self) -> None:
        held = await self._get(LEASE)
        if held is not None:
            lease = msgspec.json.decode(held, type=Lease)
            if lease.until_ms > self._clock.now_ms():
                raise UsageError(f"{lease.holder} compacts here, and may until {lease.until_ms} (epoch milliseconds)")
            await self._place.delete(LEASE)
        lease = Lease(self._holder, self._clock.now_ms() + LAKE_LEASE_MS)
        try:
            await self._put(LEASE, msgspec.json.encode(lease), create=True)
        except DeliveryFailed as error:
            raise UsageError(f"somebody else began to compact here just now: {error}") from error

    async def _is_held(self) -> bool:
        held = await self._get(LEASE)
        return held is not None and msgspec.json.decode(held, type=Lease).holder == self._holder

    async def _renew_lease(self) -> None:
        """Raises StreamkitError where it was lost: nothing may be put or deleted then."""
        if isinstance(self._place, FilesPlace):
            return
        if not await self._is_held():
            raise StreamkitError("another process took over: this one was too slow, and stops")
        lease = Lease(self._holder, self._clock.now_ms() + LAKE_LEASE_MS)
        await self._put(LEASE, msgspec.json.encode(lease), create=False)

    # -- crash-safe ----------------------------------------------------------------------------------------------------

    async def _put_right(self, journal_key: str) -> Event:
        """Ends what a journal tells of, forwards or back."""
        content = await self._get(journal_key)
        try:
            journal = msgspec.json.decode(content or b"", type=Journal)
        except msgspec.DecodeError as error:
            raise UsageError(f"{journal_key} is no journal of ours ({error}); look into it and remove it") from error
        size_bytes = await self._size_of(journal.output)
        if size_bytes is None:  # nothing was deleted: that comes after the output
            await self._place.delete(journal_key)
            return PutRight(journal.output, "undone")
        if size_bytes != journal.size_bytes:
            raise StreamkitError(
                f"{journal.output} has {size_bytes:,} bytes, and {journal_key} says {journal.size_bytes:,}: "
                "it is not what was merged; look into both before going on"
            )
        await self._swap(journal, journal_key)
        return PutRight(journal.output, "finished")

    async def _replace(self, inputs: Sequence[Entry], merged: Path, rows: int) -> Event:
        keys = [each.key for each in inputs]
        journal = Journal(keys, output_key(keys), _size_bytes(merged), rows)
        journal_key = f"{JOURNALS}{uuid.uuid5(_NAMES, journal.output)}.json"
        await self._renew_lease()
        if await self._size_of(journal.output) is not None:
            return Passed(journal.output, "it is there already, and so are files that it was merged from")
        await self._put(journal_key, msgspec.json.encode(journal), create=True)
        await self._place.put_from_file(journal.output, merged)
        if (there := await self._size_of(journal.output)) != journal.size_bytes:
            raise StreamkitError(f"{journal.output} has {there} bytes after {journal.size_bytes:,} were written")
        await self._swap(journal, journal_key)
        input_bytes = sum(each.size_bytes for each in inputs)
        return Merged(journal.output, len(keys), input_bytes, 1, journal.size_bytes, rows)

    async def _swap(self, journal: Journal, journal_key: str) -> None:
        for key in journal.inputs:
            await self._place.delete(key)
        await self._place.delete(journal_key)

    async def _merge_bin(self, group: _Group, chosen: Sequence[Entry]) -> AsyncIterator[Event]:
        paths: list[Path] = []
        merged = self._directory / "merged"
        try:
            for number, each in enumerate(chosen):
                paths.append(await self._file_of(each.key, number))
            for family in await asyncio.to_thread(lambda: list(families(paths))):
                inputs = [chosen[each] for each in family]
                if len(family) < self._settings.files_min:
                    yield Passed(inputs[0].key, "too few files have columns of the same types")
                    continue
                rows = await asyncio.to_thread(merge, [paths[each] for each in family], merged)
                yield await self._replace(inputs, merged, rows)
                merged.unlink()
        except (CannotMerge, Mismatch, pa.ArrowException) as error:
            yield Passed(group.folder or ".", f"{group.stem}*{group.extension}: {error}")
        finally:
            for path in self._directory.iterdir():
                path.unlink()

    # -- small things --------------------------------------------------------------------------------------------------

    async def _file_of(self, key: str, number: int) -> Path:
        if isinstance(self._place, FilesPlace):
            return self._place.root / key
        path = self._directory / f"{number:05d}{PurePosixPath(key).suffix}"
        await self._place.get_to_file(key, path)
        return path

    async def _size_of(self, key: str) -> int | None:
        return next((each.size_bytes for each in await self._place.list(key) if each.key == key), None)

    async def _get(self, key: str) -> bytes | None:
        if await self._size_of(key) is None:
            return None
        path = self._directory / "read"
        await self._place.get_to_file(key, path)
        return path.read_bytes()

    async def _put(self, key: str, content: bytes, *, create: bool) -> None:
        path = self._directory / "written"
        path.unlink(missing_ok=True)  # it may have become an object
        path.write_bytes(content)
        await self._place.put_from_file(key, path, create=create)


@contextmanager
def _locked_directory(root: Path) -> Iterator[None]:
    folder = root / HIDDEN
    folder.mkdir(exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another process compacts {root}") from None
        yield
    finally:
        os.close(descriptor)


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """A directory for files that are being merged, gone at the end. Those of runs that were killed go first: each is
    locked as long as its process lives."""
    parent.mkdir(exist_ok=True)
    for left in parent.glob(f"{_SCRATCH}*"):
        if (held := _hold(left)) is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(held)
    held = None
    while held is None:  # another run may take it for one that was left, before it is locked
        path = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=parent))
        held = _hold(path)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(held)


def _hold(path: Path) -> int | None:
    """A descriptor that locks the directory; None where another process does, or where it is gone or not ours."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.exists():
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def rehearsed(listing: Iterable[Entry], settings: Settings) -> Iterator[Event]:
    """What would be merged, by names and sizes alone; rows are not counted (-1)."""
    for files in candidates(listing, settings).values():
        for chosen in in_bins(files, settings, lambda each: each.size_bytes):
            key, size_bytes = output_key([each.key for each in chosen]), sum(each.size_bytes for each in chosen)
            yield Merged(key, len(chosen), size_bytes, 1, size_bytes, -1)


# -- the whole --------------------------------------------------------------------------------------------------------


async def compact(location: str, settings: Settings, surroundings: Surroundings) -> AsyncIterator[Event]:
    """Compacts what is in a directory or below an s3:// URL: a Delta table, an Iceberg warehouse or table, or files.
    Raises UsageError for a directory that is not there, StreamkitError where a place fails."""
    place = open_place(location, surroundings)
    local = place.root if isinstance(place, FilesPlace) else None
    if local is not None and not local.is_dir():
        raise UsageError(f"{local} is no directory")
    try:
        kind = "iceberg" if settings.catalog else await _table_kind(place, local)
        if kind is None and (above := await _table_above(location, local, surroundings)):
            raise UsageError(f"{location} is inside the table {above}; compact that")
        if kind == "delta":
            from streamkit_connectors import delta

            for event in await asyncio.to_thread(delta.compact, location, settings, surroundings):
                yield event
        elif kind == "iceberg":
            from streamkit_connectors import iceberg

            for event in await asyncio.to_thread(iceberg.compact, location, settings, surroundings):
                yield event
        elif settings.is_dry:
            for event in rehearsed(await place.list(), settings):
                yield event
        else:
            # Beside the files, where they can become objects by a rename; of a bucket they are copies on this machine.
            parent = Path(tempfile.gettempdir()) if local is None else local / HIDDEN
            with scratch(parent) as directory:
                compaction = Compaction(place, settings, surroundings.clock, directory)
                async with compaction.locked():
                    async for event in compaction.run():
                        yield event
    finally:
        await place.close()


async def _table_kind(place: ObjectPlace, local: Path | None) -> str | None:
    if await place.list("_delta_log/"):
        return "delta"
    return "iceberg" if local is not None and is_iceberg(local) else None


async def _table_above(location: str, local: Path | None, surroundings: Surroundings) -> str | None:
    """The table in whose folder the location is."""
    if local is not None:
        for folder in local.parents:
            if (folder / "_delta_log").is_dir() or any_metadata(folder):
                return str(folder)
        return None
    bucket, _, path = location.split("://", 1)[1].rstrip("/").partition("/")
    while path:
        path = path.rpartition("/")[0]
        above = open_place(f"s3://{bucket}/{path}", surroundings)
        if "" in table_roots([each.key for mark in _TABLE_MARKS for each in await above.list(mark)]):
            return f"s3://{bucket}/{path}"
    return None


def is_iceberg(path: Path) -> bool:
    """A warehouse with its catalog, or a table."""
    return (path / "catalog.sqlite").exists() or any_metadata(path)


def any_metadata(path: Path) -> bool:
    return any(path.glob("metadata/*.metadata.json"))


def _size_bytes(path: Path) -> int:
    return path.stat().st_size
