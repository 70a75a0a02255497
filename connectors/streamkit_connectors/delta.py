"""The destination `delta`: rows of sealed Parquet files become part of a Delta table (the `deltalake` package).

Each object is one commit, with an application transaction (Delta's `txn` action): the delivery stream's id and the
object's number. Delta itself takes a repeated number without a word; so the table's last number is read first, and the
rows are written by the very table object it was read from. Whoever else commits the same application's transaction in
between makes that commit fail, so an object's rows are in once, also when two processes deliver it. Other writers'
appends are no conflict. Rows are written again, by deltalake, into files that fit the table: what a process leaves
that dies before its commit is not in the table, and goes with the table's next `vacuum`.

Options:
  path or url       the table's directory, or an s3:// URL
  partition_by      columns, for a table that has to be made
  columns           of the table, if it has to be made (see `tables.columns_option`); otherwise the first file's
  storage_options   more for the object store, in deltalake's words
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, SchemaMismatchError, TableNotFoundError

from streamkit.clock import Clock
from streamkit.delivery.destination import DeliveryFailed, Destination, Refused, Sealed, Surroundings, Takes
from streamkit.delivery.plan import DestinationSpec
from streamkit.model.errors import UsageError
from streamkit.model.limits import (
    TABLE_COMMIT_BACKOFF_MS_MAX,
    TABLE_COMMIT_BACKOFF_MS_MIN,
    TABLE_COMMIT_TRIES_MAX,
)
from streamkit_connectors.tables import (
    Event,
    Lane,
    Merged,
    Mismatch,
    Settings,
    batches_of,
    columns_option,
    failed,
    first_of,
    fitting,
    local_path,
    make_directory,
    names_option,
    sync_directory,
    without_large_types,
)

LOCK_FILE: Final = "_streamkit.lock"  # readers and `vacuum` pass over names that begin with an underscore


@dataclass(frozen=True, slots=True)
class DeltaOptions:
    """`local` is the table's directory if it is one of this machine."""

    url: str
    local: Path | None
    storage: Mapping[str, str]
    columns: pa.Schema | None = None
    partition_by: Sequence[str] = field(default_factory=tuple)

    @classmethod
    def of(cls, options: Mapping[str, Any], surroundings: Surroundings) -> DeltaOptions:
        """Raises UsageError."""
        url = first_of(options, ["path", "url"])
        if not url:
            raise UsageError("a Delta destination needs the path of a table")
        store = surroundings.object_store
        local = local_path(str(url), surroundings)
        return cls(
            url=str(local or url),
            local=local,
            storage={} if local else {**_storage(store, surroundings.region), **(options.get("storage_options") or {})},
            columns=columns_option(options.get("columns")),
            partition_by=names_option(options.get("partition_by")),
        )


def _storage(store: Mapping[str, str], region: str) -> dict[str, str]:
    names = {
        "endpoint": "AWS_ENDPOINT_URL",
        "access_key_id": "AWS_ACCESS_KEY_ID",
        "secret_access_key": "AWS_SECRET_ACCESS_KEY",
        "session_token": "AWS_SESSION_TOKEN",
    }
    storage = {name: store[ours] for ours, name in names.items() if store.get(ours)}
    storage["AWS_REGION"] = store.get("region", region)
    storage |= {"max_retries": "2", "retry_timeout": "30s"}  # who delivers tries again, and says so
    endpoint = store.get("endpoint", "")
    if endpoint.startswith("http://"):
        storage["AWS_ALLOW_HTTP"] = "true"
    if endpoint and not store.get("access_key_id") and "amazonaws.com" not in endpoint:
        storage["AWS_SKIP_SIGNATURE"] = "true"
    return storage


class _Conflict(Exception):
    """Somebody else committed first: look again."""


class DeltaDestination:
    """See `streamkit.delivery.destination.Destination`."""

    takes: Takes = "tables"
    is_ordered = True
    failed_output_type = "delta-failed"  # ours: AWS has no such destination
    metric = "Delta"

    def __init__(self, options: DeltaOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._lane = Lane("delta")

    async def schema(self) -> pa.Schema | None:
        """Of the table as it is now; of the option `columns` where there is no table yet; None where there is
        neither."""
        return await self._lane.run(self._schema)

    async def deliver(self, sealed: Sealed, *, may_be_there: bool) -> Sequence[Refused]:
        """Refuses none. Exactly once, `may_be_there` or not."""
        backoff_ms = TABLE_COMMIT_BACKOFF_MS_MIN
        for _ in range(TABLE_COMMIT_TRIES_MAX):
            try:
                await self._lane.run(self._deliver, sealed)
                return ()
            except _Conflict as conflict:
                last = conflict
            await self._clock.sleep(backoff_ms)
            backoff_ms = min(2 * backoff_ms, TABLE_COMMIT_BACKOFF_MS_MAX)
        raise failed("Delta.CommitConflict", f"{TABLE_COMMIT_TRIES_MAX} tries to commit met others' commits", last)

    async def close(self) -> None:
        await self._lane.close()

    # -- on the lane ---------------------------------------------------------------------------------------------------

    def _schema(self) -> pa.Schema | None:
        try:
            return table_schema(DeltaTable(self._options.url, storage_options=dict(self._options.storage)))
        except TableNotFoundError:
            return self._options.columns
        except Exception as error:
            raise self._told(error) from error

    def _deliver(self, sealed: Sealed) -> None:
        mismatches: list[Mismatch] = []
        try:
            with self._locked():
                table = self._table(pq.read_schema(sealed.path))
                done = table.transaction_version(sealed.delivery_id)
                if done is None or done < sealed.number:
                    self._write(table, sealed, mismatches)
        except Exception as error:
            # What is raised while deltalake reads is only text in its own error.
            told = self._told(mismatches[0] if mismatches else error)
            raise told from error

    def _write(self, table: DeltaTable, sealed: Sealed, mismatches: list[Mismatch]) -> None:
        schema = table_schema(table)

        def batches() -> Iterator[pa.RecordBatch]:
            try:
                for batch in batches_of(sealed.path):
                    yield fitting(batch, schema)
            except Mismatch as error:
                mismatches.append(error)
                raise

        write_deltalake(
            table,
            pa.RecordBatchReader.from_batches(schema, batches()),
            mode="append",
            commit_properties=CommitProperties(
                custom_metadata={"streamkit.ranges": [list(each) for each in sealed.ranges]},
                app_transactions=[Transaction(sealed.delivery_id, sealed.number)],
            ),
        )
        if self._options.local is not None:
            _sync_version(self._options.local, table.version())

    def _table(self, file_schema: pa.Schema) -> DeltaTable:
        """As it is now; made, if there is none, of the option `columns` or else a file's."""
        options = self._options
        storage = dict(options.storage)
        try:
            return DeltaTable(options.url, storage_options=storage)
        except TableNotFoundError:
            pass
        schema = options.columns or file_schema
        fields = [pa.field(each.name, _deltas(without_large_types(each.type)), each.nullable) for each in schema]
        partitions = list(options.partition_by)
        try:
            return DeltaTable.create(
                options.url, pa.schema(fields), mode="error", partition_by=partitions, storage_options=storage
            )
        except DeltaError:  # it is there: somebody else made it meanwhile
            return DeltaTable(options.url, storage_options=storage)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Spares two processes of this machine the work of writing what one of them cannot commit."""
        if self._options.local is None:
            yield
            return
        make_directory(self._options.local)
        descriptor = os.open(self._options.local / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _told(self, error: Exception) -> Exception:
        """What the engine is told of an error, or what makes us look again."""
        what = f"table {self._options.url}"
        if isinstance(error, DeliveryFailed | _Conflict):
            return error
        if isinstance(error, CommitFailedError):
            return _Conflict(str(error))
        if isinstance(error, Mismatch | SchemaMismatchError):
            return failed("Delta.SchemaMismatch", what, error, is_final=True)
        return failed("Delta.DeliveryError", what, error)


def _sync_version(directory: Path, version: int) -> None:
    """deltalake does not sync what it writes. A machine that loses power within this commit may leave a log that names
    files which are not whole; after it, nothing is lost."""
    log = directory / "_delta_log" / f"{version:020d}.json"
    files = [log]
    for line in log.read_bytes().splitlines():
        action = msgspec.json.decode(line)
        if "add" in action:
            files.append(directory / unquote(action["add"]["path"]))
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    for folder in {path.parent for path in files}:
        sync_directory(folder)


def table_schema(table: DeltaTable) -> pa.Schema:
    """As Arrow has it, with 32-bit offsets."""
    schema = pa.schema(table.schema().to_arrow())
    return pa.schema([pa.field(each.name, without_large_types(each.type), each.nullable) for each in schema])


def _deltas(kind: pa.DataType) -> pa.DataType:
    """The type Delta has for it: times are microseconds there."""
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    if pa.types.is_dictionary(kind):
        return _deltas(kind.value_type)
    if pa.types.is_list(kind):
        return pa.list_(pa.field("element", _deltas(kind.value_type), kind.value_field.nullable))
    if pa.types.is_map(kind):
        return pa.map_(_deltas(kind.key_type), pa.field("value", _deltas(kind.item_type), kind.item_field.nullable))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(each.name, _deltas(each.type), each.nullable) for each in kind])
    return kind


def open_destination(spec: DestinationSpec, surroundings: Surroundings) -> Destination:
    """See `streamkit.delivery.destination.OpenDestination`."""
    return DeltaDestination(DeltaOptions.of(spec.options, surroundings), surroundings.clock)


def compact(location: str, settings: Settings, surroundings: Surroundings) -> list[Event]:
    """Merges a table's small files, in one commit of deltalake's own: appends may go on meanwhile. The files they were
    stay for the versions they are in, until the table's next `vacuum`. Blocking."""
    options = DeltaOptions.of({"path": location}, surroundings)
    table = DeltaTable(options.url, storage_options=dict(options.storage))
    sizes = pa.table(table.get_add_actions(flatten=True)).column("size_bytes").to_pylist()
    small = [size for size in sizes if settings.is_small(size)]
    if len(small) < settings.files_min:
        return []
    if settings.is_dry:
        outputs = max(1, sum(small) // settings.target_bytes)
        return [Merged(options.url, len(small), sum(small), outputs, sum(small), -1)]
    rows = table.count()
    found = _compacted(table, settings.target_bytes)
    removed, added = (_totals(found[key]) for key in ("filesRemoved", "filesAdded"))
    if not removed[0]:
        return []
    return [Merged(options.url, *removed, *added, rows)]


def _compacted(table: DeltaTable, target_bytes: int) -> dict[str, Any]:
    return table.optimize.compact(target_size=target_bytes)


def _totals(part: Any) -> tuple[int, int]:
    """Files and bytes, of a part of the metrics, which is JSON in JSON."""
    values = msgspec.json.decode(part) if isinstance(part, str) else part
    return int(values["totalFiles"]), int(values["totalSize"])
