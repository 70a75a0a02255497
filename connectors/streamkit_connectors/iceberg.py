"""The destination `iceberg`: sealed Parquet files become part of an Iceberg table (pyiceberg).

A commit carries the number of the object it brings, as a property of its snapshot and of the table, in the same
transaction as the rows. Before an object is committed, the table as it is then is asked for that number, and the commit
holds only if the table is still that one. So every object's rows are in the table once, whatever happens between
writing the data file and the answer, also when other writers commit meanwhile, or two processes deliver the same.

The catalog is SQLite in the warehouse directory (`catalog.sqlite`), which other programs open as
`SqlCatalog("streamkit", uri="sqlite:////<warehouse>/catalog.sqlite", warehouse="file:///<warehouse>")`, or a REST
catalog by its URL. AWS's is the Glue catalog, named by its ARN: that means the one here.

A table made here has the property `streamkit.snapshots-max`: when it has more snapshots, the older half expires, as
commits would take longer and longer. Other tables, and those whose property was removed, keep all they have.

Options:
  path, warehouse   the warehouse: a directory, or an s3:// URL
  tables            [{database, table, partition_by?}]; one of them. Or `database` and `table` themselves
  columns           of the table, if it has to be made (see `tables.columns_option`); otherwise the first file's
  partition_by      for making it: columns and transforms, such as `hour(ts)`, `bucket(16, id)`, `region`
  catalog_url       of a REST catalog; `catalog_properties` has more for it, such as `token`
  catalog           file of the SQLite catalog, where it is not in the warehouse
  catalog_arn, unique_keys   are taken and mean nothing: rows are only added (AWS's AppendOnly)
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    CommitStateUnknownException,
    NamespaceAlreadyExistsError,
    NoSuchTableError,
    RESTError,
    TableAlreadyExistsError,
    ValidationException,
)
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
    schema_to_pyarrow,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionField, PartitionFieldValue, PartitionKey, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import FileScanTask, Table, Transaction
from pyiceberg.transforms import TimeTransform, Transform, parse_transform
from pyiceberg.typedef import Record
from sqlalchemy.exc import OperationalError

from streamkit.clock import Clock
from streamkit.delivery.destination import DeliveryFailed, Destination, Refused, Sealed, Surroundings, Takes
from streamkit.delivery.plan import DestinationSpec
from streamkit.model.errors import StreamkitError, UsageError
from streamkit.model.limits import (
    TABLE_COMMIT_BACKOFF_MS_MAX,
    TABLE_COMMIT_BACKOFF_MS_MIN,
    TABLE_COMMIT_TRIES_MAX,
    TABLE_PARTITION_FILES_OPEN_MAX,
    TABLE_READ_ROWS_MAX,
    TABLE_ROW_GROUP_BYTES,
)
from streamkit_connectors.iceberg_io import LakeFileIO, store_properties
from streamkit_connectors.tables import (
    Event,
    Lane,
    Merged,
    Mismatch,
    ParquetParts,
    Passed,
    Settings,
    batches_of,
    columns_option,
    failed,
    first_of,
    fitting,
    in_bins,
    local_path,
    names_option,
    schema_shape,
    without_large_types,
)

CATALOG_NAME: Final = "streamkit"
CATALOG_FILE: Final = "catalog.sqlite"
TABLE_UUID: Final = b"iceberg.table-uuid"  # in a file's metadata: which table its field ids are of
SNAPSHOTS_MAX: Final = "streamkit.snapshots-max"  # a table's property
_FIELD_ID: Final = b"PARQUET:field_id"
RANGES_PROPERTY: Final = "streamkit.ranges"
_PARTITION: Final = re.compile(r"(\w+)\((?:(\d+)\s*,\s*)?([^()]+)\)")
_NAME_MAPPING: Final = "schema.name-mapping.default"
# Of tables made here: manifests of many small commits are merged, metadata files do not pile up.
_TABLE_PROPERTIES: Final = {
    "commit.manifest-merge.enabled": "true",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
    SNAPSHOTS_MAX: "500",
}


def number_property(delivery_id: str) -> str:
    """Of a table and of its snapshots: the number of the last object of a delivery stream that is in."""
    return f"streamkit.{delivery_id}.number"


@dataclass(frozen=True, slots=True)
class IcebergOptions:
    """`warehouse` is a URL, `local` its directory if it is one of this machine."""

    warehouse: str
    local: Path | None
    catalog_path: Path | None
    catalog_url: str | None
    properties: Mapping[str, str]
    database: str
    table: str
    columns: pa.Schema | None = None
    partition_by: Sequence[str] = field(default_factory=tuple)

    @classmethod
    def of(cls, options: Mapping[str, Any], surroundings: Surroundings) -> IcebergOptions:
        """Raises UsageError."""
        tables = options.get("tables") or [{}]
        if len(tables) > 1:
            names = ", ".join(f"{each.get('database')}.{each.get('table')}" for each in tables)
            raise UsageError(f"{len(tables)} tables are given ({names}); a delivery stream fills one")
        given = {**options, **tables[0]}
        database, table = first_of(given, ["database", "namespace"]), given.get("table")
        if not database or not table:
            raise UsageError("an Iceberg destination needs the names of a database and of a table")
        url = str(first_of(given, ["path", "url", "warehouse"]) or "").rstrip("/")
        catalog_url = given.get("catalog_url")
        if not url and not catalog_url:
            raise UsageError("an Iceberg destination needs the path of a warehouse or the URL of a REST catalog")
        local = local_path(url, surroundings) if url else None
        catalog = first_of(given, ["catalog"]) or surroundings.settings.get("iceberg_catalog")
        catalog_path = Path(catalog) if catalog else (local or surroundings.buckets) / CATALOG_FILE
        partitions = names_option(given.get("partition_by"))
        for each in partitions:
            partition_of(each)
        properties = {**_properties(surroundings), **(given.get("catalog_properties") or {})}
        return cls(
            warehouse=f"file://{local}" if local else url,
            local=local,
            catalog_path=None if catalog_url else catalog_path,
            catalog_url=catalog_url,
            properties=properties,
            database=str(database),
            table=str(table),
            columns=columns_option(given.get("columns")),
            partition_by=partitions,
        )


def partition_of(text: str) -> tuple[str, Transform[Any, Any], str]:
    """Column, transform and a name for the partition field, of `hour(ts)`, `bucket(16, id)` or `region`."""
    match = _PARTITION.fullmatch(text.strip())
    if match is None:
        return text.strip(), parse_transform("identity"), text.strip()
    name, width, column = match[1].lower(), match[2], match[3].strip()
    try:
        transform = parse_transform(name if width is None else f"{name}[{width}]")
    except ValueError as error:
        raise UsageError(f"partition_by has {text!r}: {error}") from error
    if "unknown" in repr(transform).lower():
        known = "year, month, day, hour, bucket, truncate and identity"
        raise UsageError(f"partition_by has {text!r}; the transforms are {known}")
    return column, transform, f"{column}_{name}"


# -- files ------------------------------------------------------------------------------------------------------------


def _properties(surroundings: Surroundings) -> dict[str, str]:
    return store_properties({"region": surroundings.region, **surroundings.object_store})


def open_catalog(options: IcebergOptions) -> Catalog:
    """Blocking: makes the SQLite catalog if there is none, or asks the REST catalog for its settings."""
    properties = {**options.properties, "py-io-impl": f"{LakeFileIO.__module__}.{LakeFileIO.__qualname__}"}
    if options.catalog_url is not None:
        from pyiceberg.catalog.rest import RestCatalog

        warehouse = {"warehouse": options.warehouse} if options.warehouse else {}
        return RestCatalog(CATALOG_NAME, uri=options.catalog_url, **warehouse, **properties)
    from pyiceberg.catalog.sql import SqlCatalog

    assert options.catalog_path is not None
    options.catalog_path.parent.mkdir(parents=True, exist_ok=True)
    uri = f"sqlite:///{options.catalog_path.absolute()}"
    return SqlCatalog(CATALOG_NAME, uri=uri, warehouse=options.warehouse, **properties)


def arrow_schema(table: Table) -> pa.Schema:
    """The table's columns, with Iceberg's field ids, and in the metadata the table they are of. All may be null here:
    which records lack a value that must be there is told when they are delivered."""
    fields = [
        each.with_type(without_large_types(each.type)).with_nullable(True) for each in schema_to_pyarrow(table.schema())
    ]
    return pa.schema(fields, metadata={TABLE_UUID: str(table.metadata.table_uuid).encode()})


def data_file(table: Table, metadata: pq.FileMetaData, location: str, size_bytes: int, partition: Record) -> DataFile:
    """What a manifest says of a Parquet file whose columns are the table's."""
    schema = table.schema()
    statistics = data_file_statistics_from_parquet_metadata(
        metadata, compute_statistics_plan(schema, table.properties), parquet_path_to_id_mapping(schema)
    )
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=location,
        file_format=FileFormat.PARQUET,
        partition=partition,
        file_size_in_bytes=size_bytes,
        sort_order_id=None,
        spec_id=table.metadata.default_spec_id,
        equality_ids=None,
        key_metadata=None,
        **statistics.to_serialized_dict(),
    )


def transaction_once(table: Table) -> Transaction:
    """One that holds against the table exactly as it was loaded, or fails. The table is not good for reading after it,
    until it is refreshed.

    pyiceberg would repeat it on top of what another writer did, without asking us; what another process of ours did
    would then be in twice. And it copies all of the table's metadata some 15 times in a commit. So the transaction is
    given metadata that say otherwise: only the changes go to the catalog, which makes them to metadata of its own."""
    metadata = table.metadata
    heads = {reference.snapshot_id for reference in metadata.refs.values()}
    less: dict[str, Any] = {
        "properties": {**table.properties, "commit.retry.num-retries": "0"},
        "snapshots": [each for each in metadata.snapshots if each.snapshot_id in heads],
        "snapshot_log": [],
        "metadata_log": [],
    }
    table.metadata = metadata.model_copy(update=less)
    return table.transaction()


def expire_snapshots(table: Table) -> None:
    """What every commit costs grows with the snapshots a table has. Where the table says how many there may be, as
    those made here do, the older half goes when there are more. Rows do not: they are in the newer ones, too."""
    given = table.properties.get(SNAPSHOTS_MAX, "")
    snapshots_max = int(given) if given.isdecimal() else 0
    snapshots = sorted(table.snapshots(), key=lambda each: each.timestamp_ms)
    if not 1 < snapshots_max < len(snapshots):
        return
    heads = {reference.snapshot_id for reference in table.metadata.refs.values()}
    old = [each.snapshot_id for each in snapshots[: -(snapshots_max // 2)] if each.snapshot_id not in heads]
    if old:
        table.maintenance.expire_snapshots().by_ids(old).commit()


def put_file(io: FileIO, path: Path, location: str) -> int:
    """Puts a local file where it is to be, unless it is there already. Returns its size. Raises DeliveryFailed where
    another file is in its place."""
    size_bytes = path.stat().st_size
    try:
        with path.open("rb") as source, io.new_output(location).create() as target:
            shutil.copyfileobj(source, target, 1 << 20)
    except FileExistsError:
        if (there := len(io.new_input(location))) != size_bytes:
            message = f"{location} is there with {there:,} bytes, and is to have {size_bytes:,}"
            raise DeliveryFailed("Iceberg.FileExists", message, is_final=True) from None
    return size_bytes


# -- partitions -------------------------------------------------------------------------------------------------------


def split(path: Path, table: Table, part_path: Callable[[int], Path]) -> list[tuple[Path, PartitionKey | None]]:
    """The rows of a Parquet file as files of the table's columns, each within one partition. The same file, schema and
    partitions give the same files in the same order. A partition may have more than one: only so many are written at a
    time. Raises Mismatch."""
    schema, spec = arrow_schema(table), table.spec()
    codec = str(table.properties.get("write.parquet.compression-codec", "zstd"))
    made: list[tuple[Path, PartitionKey | None]] = []
    writers: dict[tuple[Any, ...], ParquetParts] = {}

    def finish() -> None:
        for writer in writers.values():
            writer.close()
        writers.clear()

    try:
        for batch in batches_of(path):
            for key, rows in partitioned(fitting(_as_named_now(batch, table), schema), spec, table.schema()):
                name = () if key is None else tuple(each.value for each in key.field_values)
                if name not in writers:
                    if len(writers) == TABLE_PARTITION_FILES_OPEN_MAX:
                        finish()
                    made.append((part_path(len(made)), key))
                    compression = "none" if codec == "uncompressed" else codec
                    writers[name] = ParquetParts(made[-1][0], schema, compression=compression)
                writers[name].write(rows)
            if sum(each.held_bytes for each in writers.values()) >= TABLE_ROW_GROUP_BYTES:
                for each in writers.values():  # of all: they hold parts of the same batches
                    each.flush()
    finally:
        finish()
    return made


def _as_named_now(batch: pa.RecordBatch, table: Table) -> pa.RecordBatch:
    """A file that was written for this table has its field ids: columns that were renamed since are found by them, and
    columns that were dropped go."""
    if (batch.schema.metadata or {}).get(TABLE_UUID) != str(table.metadata.table_uuid).encode():
        return batch
    return _by_ids(batch, table, {})


def _by_ids(batch: pa.RecordBatch, table: Table, mapped: Mapping[str, int]) -> pa.RecordBatch:
    """`mapped`: ids of columns that have none in the file, by name. Others keep their names."""
    names: list[str | None] = []
    for each in batch.schema:
        field_id = int((each.metadata or {}).get(_FIELD_ID, 0)) or mapped.get(each.name)
        names.append(table.schema().find_column_name(field_id) if field_id else each.name)
    kept = [place for place, name in enumerate(names) if name is not None]
    return batch.select(kept).rename_columns([name for name in names if name is not None])


def partitioned(
    batch: pa.RecordBatch, spec: PartitionSpec, schema: Schema
) -> Iterator[tuple[PartitionKey | None, pa.RecordBatch]]:
    """The rows of a batch by partition; within one they stay in order."""
    if spec.is_unpartitioned():
        yield None, batch
        return
    codes: pa.Array = pa.repeat(pa.scalar(0, pa.int64()), batch.num_rows)
    values: list[list[Any]] = []
    for each in spec.fields:
        field_codes, field_values = _transformed(batch, each, schema)
        codes = pc.add(pc.multiply(codes, len(field_values)), field_codes)
        values.append(field_values)
    order = pc.sort_indices(codes)  # which is stable
    runs = pc.run_end_encode(codes.take(order), run_end_type=pa.int32())
    ordered, start = batch.take(order), 0
    for code, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
        found, rest = [], code
        for field_values in reversed(values):
            rest, place = divmod(rest, len(field_values))
            found.append(field_values[place])
        pairs = zip(spec.fields, reversed(found), strict=True)
        key = PartitionKey([PartitionFieldValue(each, value) for each, value in pairs], spec, schema)
        yield key, ordered.slice(start, end - start)
        start = end


def _transformed(batch: pa.RecordBatch, partition: PartitionField, schema: Schema) -> tuple[pa.Array, list[Any]]:
    """For each row the place of its partition value, and the values. The transform itself is Python's: it is asked once
    for each distinct value, and times are rounded down first, so that there are few."""
    name = schema.find_column_name(partition.source_id)
    kind = schema.find_field(partition.source_id).field_type
    assert name is not None
    column = pc.struct_field(batch.to_struct_array(), name.split(".") if name not in batch.schema.names else [name])
    transform = partition.transform
    if isinstance(transform, TimeTransform):
        column = pc.floor_temporal(column, unit=transform.granularity.name.lower())
    if pa.types.is_timestamp(column.type) or pa.types.is_time64(column.type):
        column = column.cast(pa.int64())
    elif pa.types.is_date32(column.type):
        column = column.cast(pa.int32())
    encoded = column.dictionary_encode(null_encoding="encode")
    to_value = transform.transform(kind)
    by_value: dict[Any, int] = {}
    places = [by_value.setdefault(to_value(each), len(by_value)) for each in encoded.dictionary.to_pylist()]
    return pa.array(places, pa.int64()).take(encoded.indices), list(by_value)


# -- the destination --------------------------------------------------------------------------------------------------


class _Conflict(Exception):
    """Somebody else committed, or the answer was lost: look again."""


class IcebergDestination:
    """See `streamkit.delivery.destination.Destination`."""

    takes: Takes = "tables"
    is_ordered = True
    failed_output_type = "iceberg-failed"  # the reference has no name for it
    metric = "Iceberg"

    def __init__(self, options: IcebergOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._lane = Lane("iceberg")
        self._catalog: Catalog | None = None

    async def schema(self) -> pa.Schema | None:
        """Of the table as it is now; of the option `columns` where there is no table yet; None where there is
        neither."""
        return await self._lane.run(self._schema)

    async def deliver(self, sealed: Sealed, *, may_be_there: bool) -> Sequence[Refused]:
        """Refused are records without a value in a column that must have one. Exactly once, `may_be_there` or not."""
        backoff_ms = TABLE_COMMIT_BACKOFF_MS_MIN
        for _ in range(TABLE_COMMIT_TRIES_MAX):
            try:
                return await self._lane.run(self._deliver, sealed)
            except _Conflict as conflict:
                last = conflict
            await self._clock.sleep(backoff_ms)
            backoff_ms = min(2 * backoff_ms, TABLE_COMMIT_BACKOFF_MS_MAX)
        raise failed("Iceberg.CommitConflict", f"{TABLE_COMMIT_TRIES_MAX} tries to commit met others' commits", last)

    async def close(self) -> None:
        await self._lane.close()
        if self._catalog is not None:
            self._catalog.close()

    # -- on the lane ---------------------------------------------------------------------------------------------------

    @property
    def _identifier(self) -> tuple[str, ...]:
        return (*self._options.database.split("."), self._options.table)

    def _schema(self) -> pa.Schema | None:
        try:
            return arrow_schema(self._opened().load_table(self._identifier))
        except NoSuchTableError:
            return self._options.columns
        except Exception as error:
            raise self._told(error) from error

    def _deliver(self, sealed: Sealed) -> Sequence[Refused]:
        try:
            metadata = pq.read_metadata(sealed.path)
            table = self._table(metadata.schema.to_arrow_schema())
            refused = _lacking(sealed.path, metadata, table.schema())
            if _last_number(table, sealed.delivery_id) >= sealed.number or len(refused) == metadata.num_rows:
                return refused
            try:
                expire_snapshots(table)
                self._commit(table, self._files(table, sealed, metadata, refused), sealed)
            finally:
                for part in sealed.path.parent.glob(_part_of(sealed, "*").name):
                    part.unlink()
            return refused
        except Exception as error:
            raise self._told(error) from error

    def _opened(self) -> Catalog:
        if self._catalog is None:
            self._catalog = open_catalog(self._options)
        return self._catalog

    def _table(self, file_schema: pa.Schema) -> Table:
        """As it is now; made, if there is none, of the option `columns` or else a file's."""
        catalog, name = self._opened(), self._identifier
        try:
            return catalog.load_table(name)
        except NoSuchTableError:
            pass
        schema = (self._options.columns or file_schema).remove_metadata()
        schema = pa.schema([pa.field(each.name, without_large_types(each.type), each.nullable) for each in schema])
        try:
            catalog.create_namespace_if_not_exists(name[:-1])
            made = catalog.create_table_transaction(name, _without_ids(schema), properties=_TABLE_PROPERTIES)
            with made as transaction, transaction.update_spec() as spec:
                for column, transform, field_name in map(partition_of, self._options.partition_by):
                    spec.add_field(column, transform, field_name)
        except (TableAlreadyExistsError, NamespaceAlreadyExistsError, CommitFailedException):
            pass  # somebody else made it meanwhile
        return catalog.load_table(name)

    def _files(
        self, table: Table, sealed: Sealed, metadata: pq.FileMetaData, refused: Sequence[Refused]
    ) -> list[DataFile]:
        """Puts the object's rows where the table's files are, under names made of its id. As it is where it fits as it
        is, else as files that fit: of one partition each, with the table's types, without refused records."""
        locations = table.location_provider()
        file_schema = metadata.schema.to_arrow_schema()
        if not refused and table.spec().is_unpartitioned() and _fits(file_schema, table):
            location = locations.new_data_location(f"00000-{sealed.number:010d}-{sealed.id}.parquet")
            return [data_file(table, metadata, location, put_file(table.io, sealed.path, location), Record())]
        path = sealed.path
        if refused:
            path = _part_of(sealed, "kept")
            _leave_out(sealed.path, {each.row for each in refused}, path)

        def part_path(place: int) -> Path:
            return _part_of(sealed, f"{place:05d}")

        files = []
        for place, (part, key) in enumerate(split(path, table, part_path)):
            # Another version of the writing library may give other bytes for the same rows, and so another name.
            name = f"{place:05d}-{sealed.number:010d}-{sealed.id}-{part.stat().st_size:x}.parquet"
            location = locations.new_data_location(name, key)
            size_bytes = put_file(table.io, part, location)
            partition = Record() if key is None else key.partition
            files.append(data_file(table, pq.read_metadata(part), location, size_bytes, partition))
            part.unlink()
        return files

    def _commit(self, table: Table, files: Sequence[DataFile], sealed: Sealed) -> None:
        """One commit against the table exactly as it was when its number was read."""
        number = {number_property(sealed.delivery_id): str(sealed.number)}
        ranges = json.dumps([list(each) for each in sealed.ranges], separators=(",", ":"))
        properties = {_NAME_MAPPING: table.schema().name_mapping.model_dump_json()}
        merges = table.properties.get("commit.manifest-merge.enabled", "false").lower() == "true"
        transaction = transaction_once(table)
        # Snapshots expire; the table's property stays.
        transaction.set_properties({**number, **({} if _NAME_MAPPING in table.properties else properties)})
        update = transaction.update_snapshot(snapshot_properties={**number, RANGES_PROPERTY: ranges})
        with update.merge_append() if merges else update.fast_append() as producer:
            for each in files:
                producer.append_data_file(each)
        transaction.commit_transaction()

    def _told(self, error: Exception) -> Exception:
        """What the engine is told of an error, or what makes us look again."""
        what = f"table {self._options.database}.{self._options.table}"
        if isinstance(error, DeliveryFailed | _Conflict):
            return error
        if isinstance(error, CommitFailedException | CommitStateUnknownException | ValidationException):
            return _Conflict(str(error))
        if isinstance(error, OperationalError) and "locked" in str(error):
            return _Conflict(str(error))
        if isinstance(error, Mismatch):
            return failed("Iceberg.SchemaMismatch", what, error, is_final=True)
        if isinstance(error, NoSuchTableError):
            return failed("Iceberg.NoSuchTable", what, error)
        if isinstance(error, RESTError):
            return failed("Iceberg.CatalogError", what, error)
        return failed("Iceberg.DeliveryError", what, error)


def _without_ids(schema: pa.Schema) -> pa.Schema:
    """A schema that came from another table has field ids; this table gives its own."""
    return pa.schema([pa.field(each.name, _bare(each.type), each.nullable) for each in schema])


def _bare(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_list(kind):
        return pa.list_(pa.field("element", _bare(kind.value_type), kind.value_field.nullable))
    if pa.types.is_map(kind):
        return pa.map_(_bare(kind.key_type), pa.field("value", _bare(kind.item_type), kind.item_field.nullable))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(each.name, _bare(each.type), each.nullable) for each in kind])
    return kind


def _part_of(sealed: Sealed, what: str) -> Path:
    """A file beside the staged one. It is this process's alone; what one leaves that dies, goes when the engine opens
    its stage, with all that has no number for a name."""
    return sealed.path.with_name(f"{sealed.path.name}.{os.getpid()}.{what}.part")


def _last_number(table: Table, delivery_id: str) -> int:
    """The number of the last object that is in; -1 where none is."""
    name = number_property(delivery_id)
    if name in table.properties:
        return int(table.properties[name])
    # Somebody removed the property: the snapshots tell, back to the last of ours.
    by_id = {each.snapshot_id: each for each in table.snapshots()}
    snapshot = table.current_snapshot()
    while snapshot is not None:
        if snapshot.summary is not None and (number := snapshot.summary.additional_properties.get(name)) is not None:
            return int(number)
        parent = snapshot.parent_snapshot_id
        snapshot = None if parent is None else by_id.get(parent)
    return -1


def _fits(file_schema: pa.Schema, table: Table) -> bool:
    """Whether readers find the table's columns in the file as it is: by field ids if they are this table's, or by the
    names it has none of its own, through the table's name mapping."""
    shape, wanted = schema_shape(file_schema), schema_shape(arrow_schema(table))
    if any(name not in wanted or wanted[name] != kind for name, kind in shape.items()):
        return False
    ids = _field_ids(file_schema)
    if not any(ids.values()):
        # A mapping that does not know every column as it is now would make readers see nulls.
        mapping = table.name_mapping()
        return mapping is None or mapping == table.schema().name_mapping
    is_ours = (file_schema.metadata or {}).get(TABLE_UUID) == str(table.metadata.table_uuid).encode()
    wanted_ids = _field_ids(arrow_schema(table))
    return is_ours and all(wanted_ids.get(path) == each for path, each in ids.items())


def _field_ids(schema: pa.Schema) -> dict[str, int]:
    """By the path of the field."""
    found: dict[str, int] = {}

    def visit(path: str, each: pa.Field) -> None:
        found[path] = int((each.metadata or {}).get(_FIELD_ID, 0))
        kind = each.type
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            visit(f"{path}.element", kind.value_field)
        elif pa.types.is_map(kind):
            visit(f"{path}.key", kind.key_field)
            visit(f"{path}.value", kind.item_field)
        elif pa.types.is_struct(kind):
            for member in kind:
                visit(f"{path}.{member.name}", member)

    for each in schema:
        visit(each.name, each)
    return found


def _lacking(path: Path, metadata: pq.FileMetaData, schema: Schema) -> Sequence[Refused]:
    """The records without a value in a column of the table that must have one: AWS's MissingColumnWithinRecord."""
    required = [each.name for each in schema.fields if each.required]
    if not required:
        return ()
    there = set(metadata.schema.to_arrow_schema().names)
    refused: dict[int, Refused] = {}
    for name in required:
        if name not in there:
            rows: Sequence[int] = range(metadata.num_rows)
        else:
            rows = pc.indices_nonzero(pc.is_null(pq.read_table(path, columns=[name]).column(name))).to_pylist()
        for row in rows:
            message = f"the table's column {name} must have a value, and the record has none"
            refused.setdefault(row, Refused(row, "Iceberg.MissingColumnWithinRecord", message))
    return [refused[row] for row in sorted(refused)]


def _leave_out(path: Path, rows: set[int], target: Path) -> None:
    """A copy of a Parquet file without these rows."""
    start = 0
    kept = ParquetParts(target, pq.read_schema(path), compression="none")
    try:
        for batch in batches_of(path):
            keeps = [start + place not in rows for place in range(batch.num_rows)]
            kept.write(batch.filter(pa.array(keeps, pa.bool_())))
            start += batch.num_rows
    finally:
        kept.close()


def open_destination(spec: DestinationSpec, surroundings: Surroundings) -> Destination:
    """See `streamkit.delivery.destination.OpenDestination`."""
    return IcebergDestination(IcebergOptions.of(spec.options, surroundings), surroundings.clock)


# -- compaction -------------------------------------------------------------------------------------------------------


def compact(location: str, settings: Settings, surroundings: Surroundings) -> list[Event]:
    """Merges the small data files of a warehouse's tables, or of one table: of each partition's on their own, in one
    commit for a table. The files they were stay for the snapshots they are in, until those expire. Blocking. A process
    that dies leaves the table as it was; what it wrote is taken up by the next. Raises UsageError."""
    local = local_path(location, surroundings)
    catalog_at = settings.catalog
    if catalog_at is None and local is not None:
        found = next((each for each in (local, *local.parents) if (each / CATALOG_FILE).exists()), None)
        catalog_at = None if found is None else str(found / CATALOG_FILE)
    if catalog_at is None:
        raise UsageError(f"{location} has no {CATALOG_FILE}; name the catalog of its tables")
    is_rest = catalog_at.startswith(("http://", "https://"))
    options = IcebergOptions(
        warehouse="" if is_rest else f"file://{local}" if local else location,
        local=local,
        catalog_path=None if is_rest else Path(catalog_at),
        catalog_url=catalog_at if is_rest else None,
        properties=_properties(surroundings),
        database="",
        table="",
    )
    catalog = open_catalog(options)
    try:
        names = [name for space in catalog.list_namespaces() for name in catalog.list_tables(space)]
        wanted = [catalog.load_table(name) for name in names if settings.table in (None, ".".join(name))]
        below = f"file://{local}" if local else location.rstrip("/")
        wanted = [table for table in wanted if f"{table.location()}/".startswith(f"{below.rstrip('/')}/")]
        if not wanted:
            raise UsageError(f"the catalog {catalog_at} has no table {settings.table or ''} in {location}")
        from streamkit_connectors.lake import scratch  # which finds this module

        with scratch(Path(tempfile.gettempdir())) as directory:
            return [event for table in wanted for event in _compact_table(table, settings, directory)]
    finally:
        catalog.close()


def _compact_table(table: Table, settings: Settings, directory: Path) -> Iterator[Event]:
    name = ".".join(table.name())
    groups: dict[Record, list[FileScanTask]] = {}
    deleted_from = foreign = 0
    for task in table.scan().plan_files():
        deleted_from += bool(task.delete_files)
        foreign += task.file.spec_id != table.metadata.default_spec_id
        if task.delete_files or task.file.spec_id != table.metadata.default_spec_id:
            continue
        if settings.is_small(task.file.file_size_in_bytes):
            groups.setdefault(task.file.partition, []).append(task)
    if deleted_from:
        yield Passed(name, f"{deleted_from} files with deleted rows: pyiceberg cannot write them again safely")
    if foreign:
        yield Passed(name, f"{foreign} files that are partitioned in another way than the table is now")
    merges = [
        chosen
        for tasks in groups.values()
        for chosen in in_bins(
            sorted(tasks, key=lambda task: task.file.file_path), settings, lambda task: task.file.file_size_in_bytes
        )
    ]
    before = [task.file for chosen in merges for task in chosen]
    rows, before_bytes = sum(each.record_count for each in before), sum(each.file_size_in_bytes for each in before)
    if merges and settings.is_dry:
        yield Merged(name, len(before), before_bytes, len(merges), before_bytes, rows)
    elif merges:
        try:
            after = [_merged_file(table, chosen, directory) for chosen in merges]
        except Mismatch as error:
            yield Passed(name, f"its files cannot be written again: {error}")
            return
        if (there := sum(each.record_count for each in after)) != rows:
            raise StreamkitError(f"{name}: {len(before)} files have {rows:,} rows, and merged {there:,}")
        _replace(table, before, after)
        after_bytes = sum(each.file_size_in_bytes for each in after)
        yield Merged(name, len(before), before_bytes, len(after), after_bytes, rows)


def _merged_file(table: Table, tasks: Sequence[FileScanTask], directory: Path) -> DataFile:
    """One data file, in its place and not yet in the table, with the rows of several of one partition, in order. Raises
    Mismatch."""
    identity = uuid.uuid5(uuid.NAMESPACE_URL, "\n".join(task.file.file_path for task in tasks))
    path = directory / f"{identity}.parquet"
    codec = str(table.properties.get("write.parquet.compression-codec", "zstd"))
    writer = ParquetParts(path, arrow_schema(table), compression="none" if codec == "uncompressed" else codec)
    try:
        for task in tasks:
            for batch in _batches_in(table, task.file.file_path):
                writer.write(batch)
    finally:
        writer.close()
    partition = tasks[0].file.partition
    folder = tasks[0].file.file_path.rpartition("/")[0]
    location = f"{folder}/00000-compacted-{identity}-{path.stat().st_size:x}.parquet"
    size_bytes = put_file(table.io, path, location)
    made = data_file(table, pq.read_metadata(path), location, size_bytes, partition)
    path.unlink()
    return made


def _batches_in(table: Table, location: str) -> Iterator[pa.RecordBatch]:
    """The rows of one of the table's data files, with its columns as they are now. Read by pyarrow alone: pyiceberg
    0.12 makes empty lists of lists of structs that are null. Raises Mismatch."""
    schema, mapping = arrow_schema(table), table.name_mapping()
    shape = schema_shape(schema)
    mapped = (
        {}
        if mapping is None
        else {name: each.field_id for each in mapping.root for name in each.names if each.field_id is not None}
    )
    with table.io.new_input(location).open() as stream, pq.ParquetFile(stream) as file:
        for batch in file.iter_batches(TABLE_READ_ROWS_MAX):
            found = _by_ids(batch, table, mapped)
            for name, kind in schema_shape(found.schema).items():
                # Members of structs are found by their ids, too, which casting would not do.
                if pa.types.is_nested(kind) and kind != shape.get(name):
                    raise Mismatch(f"column {name} of {location} is {kind}, and {shape.get(name)} in the table")
            yield fitting(found, schema)


def _replace(table: Table, before: Sequence[DataFile], after: Sequence[DataFile]) -> None:
    """One commit. Where others commit meanwhile it is tried again, as long as all that it replaces is still there."""
    for _ in range(TABLE_COMMIT_TRIES_MAX):
        live = {task.file.file_path for task in table.scan().plan_files() if not task.delete_files}
        if any(each.file_path not in live for each in before):
            break
        transaction = transaction_once(table)
        try:
            with transaction.update_snapshot(
                snapshot_properties={"streamkit.compaction": "true"}
            ).overwrite() as update:
                for each in before:
                    update.delete_data_file(each)
                for each in after:
                    update.append_data_file(each)
            transaction.commit_transaction()
            return
        except (CommitFailedException, ValidationException):
            table.refresh()
    raise StreamkitError(f"{'.'.join(table.name())} was changed by others meanwhile; nothing was replaced: try again")
