"""Our table destinations keep the port's promises; and what readers find in their tables."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, Final
from warnings import catch_warnings, simplefilter

import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, Field, write_deltalake
from deltalake.exceptions import TableNotFoundError
from deltalake.schema import PrimitiveType
from polars.exceptions import PerformanceWarning
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table
from pyiceberg.types import StringType

from streamkit.clock import Clock
from streamkit.delivery.destination import DeliveryFailed, Destination, Range, Refused, Sealed, Surroundings
from streamkit.delivery.plan import DestinationSpec
from streamkit.model.errors import UsageError
from streamkit.testing.clock import ManualClock
from streamkit.testing.destination_contract import (
    DELIVERY_ID,
    OTHER_DELIVERY_ID,
    DestinationContract,
    Document,
    Harness,
    sealed_of,
)
from streamkit_connectors import delta, iceberg
from tests.wire.iceberg_catalog import RestCatalogServer, rest_catalog
from tests.wire.object_store import FaultProxy, ObjectStore, fault_proxy, object_store

COLUMNS: Final = pa.schema([("id", pa.int64()), ("text", pa.string())])
_BUCKETS: Final = count(1)


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with object_store() as started:
        yield started


@pytest.fixture
def proxy(store: ObjectStore) -> Iterator[FaultProxy]:
    with fault_proxy(store) as started:
        yield started


# -- where tables are -------------------------------------------------------------------------------------------------


class Place:
    """A directory. `url` is what destinations are given; `surroundings` are theirs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.url = str(directory)
        self.warehouse = f"file://{directory}"
        self.catalog_file = directory / "catalog.sqlite"
        self.properties: dict[str, str] = {}
        self.storage: dict[str, str] = {}

    def surroundings(self, clock: Clock) -> Surroundings:
        return Surroundings(clock, self.catalog_file.parent)

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        """A disk that is not mounted."""
        aside = self.directory.with_suffix(".aside")
        was_there = self.directory.exists()
        if was_there:
            self.directory.rename(aside)
        self.directory.write_text("not a directory")
        try:
            yield
        finally:
            self.directory.unlink()
            if was_there:
                aside.rename(self.directory)


class BucketPlace(Place):
    """A bucket of moto's, behind a proxy that fails on demand."""

    def __init__(self, directory: Path, store: ObjectStore, proxy: FaultProxy) -> None:
        super().__init__(directory)
        self._settings = store.settings_at(proxy.endpoint)
        self._proxy = proxy
        bucket = f"tables-{next(_BUCKETS)}"
        store.make_bucket(bucket)
        self._bucket = bucket
        self.below("lake")
        self.properties = {
            "s3.endpoint": store.endpoint,
            "s3.access-key-id": store.settings["access_key_id"],
            "s3.secret-access-key": store.settings["secret_access_key"],
            "s3.region": store.settings["region"],
        }
        self.storage = {
            "AWS_ENDPOINT_URL": store.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": store.settings["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": store.settings["secret_access_key"],
            "AWS_REGION": store.settings["region"],
        }

    def below(self, folder: str) -> None:
        """Another place in the bucket."""
        self.url = self.warehouse = f"s3://{self._bucket}/{folder}"
        self.catalog_file = self.directory.parent / folder / "catalog.sqlite"

    def surroundings(self, clock: Clock) -> Surroundings:
        return replace(super().surroundings(clock), object_store=self._settings)

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        self._proxy.otherwise = "fail"
        try:
            yield
        finally:
            self._proxy.otherwise = "pass"


class TableHarness(Harness):
    large_bytes = 4 * 1024 * 1024

    def __init__(self, place: Place, **options: Any) -> None:
        self.place = place
        self.options = options

    def outage(self) -> Any:
        return self.place.outage()

    def rows(self) -> pa.Table:
        raise NotImplementedError

    async def read_back(self) -> Sequence[Document]:
        rows = await asyncio.to_thread(self.rows)
        return [Document(row["id"], row["text"]) for row in rows.to_pylist()]


class IcebergHarness(TableHarness):
    def open(self, clock: Clock) -> Destination:
        options = {"path": self.place.url, "database": "lake", "table": "documents", **self.options}
        return iceberg.open_destination(DestinationSpec("iceberg", options), self.place.surroundings(clock))

    @contextmanager
    def catalog(self) -> Iterator[SqlCatalog]:
        """As another program opens it."""
        place = self.place
        place.catalog_file.parent.mkdir(exist_ok=True)
        uri = f"sqlite:///{place.catalog_file}"
        catalog = SqlCatalog("streamkit", uri=uri, warehouse=place.warehouse, **place.properties)
        try:
            yield catalog
        finally:
            catalog.close()

    @contextmanager
    def table(self) -> Iterator[Table]:
        with self.catalog() as catalog:
            yield catalog.load_table("lake.documents")

    def rows(self) -> pa.Table:
        try:
            with self.table() as table:
                return table.scan().to_arrow()
        except NoSuchTableError:
            return COLUMNS.empty_table()


class DeltaHarness(TableHarness):
    def open(self, clock: Clock) -> Destination:
        options = {"path": self.place.url, **self.options}
        return delta.open_destination(DestinationSpec("delta", options), self.place.surroundings(clock))

    def table(self) -> DeltaTable:
        return DeltaTable(self.place.url, storage_options=self.place.storage)

    def rows(self) -> pa.Table:
        try:
            return pa.table(self.table().to_pyarrow_table())
        except TableNotFoundError:
            return COLUMNS.empty_table()


class TestIceberg(DestinationContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> Harness:
        return IcebergHarness(Place(tmp_path / "lake"))


class TestIcebergWithPartitions(DestinationContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> Harness:
        return IcebergHarness(
            Place(tmp_path / "lake"), partition_by="bucket(4, id)", columns={"id": "bigint", "text": "string"}
        )


class TestDelta(DestinationContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> Harness:
        return DeltaHarness(Place(tmp_path / "lake"))


# -- what readers find ------------------------------------------------------------------------------------------------


class Desk:
    """Delivers to one destination after the other, with numbers that grow."""

    def __init__(self, harness: TableHarness, directory: Path) -> None:
        self.harness = harness
        self._directory = directory
        self._number = 0

    def seal(self, table: pa.Table, *, delivery_id: str = DELIVERY_ID) -> Sealed:
        self._number += 1
        path = self._directory / f"{self._number}"
        pq.write_table(table, path)
        return sealed_of(path, table.num_rows, delivery_id=delivery_id, number=self._number)

    def deliver(self, *sealed: Sealed) -> list[Refused]:
        """By a destination that is opened for it."""

        async def main() -> list[Refused]:
            destination = self.harness.open(ManualClock())
            try:
                return [row for each in sealed for row in await destination.deliver(each, may_be_there=False)]
            finally:
                await destination.close()

        return asyncio.run(main())

    def schema(self) -> pa.Schema:
        async def main() -> pa.Schema | None:
            destination = self.harness.open(ManualClock())
            try:
                return await destination.schema()
            finally:
                await destination.close()

        found = asyncio.run(main())
        assert found is not None
        return found

    def ids(self) -> list[int]:
        return sorted(self.harness.rows().column("id").to_pylist())


def rows(*ids: int) -> pa.Table:
    return pa.table({"id": ids, "text": [f"text {each}" for each in ids]}, schema=COLUMNS)


@pytest.fixture
def iceberg_desk(tmp_path: Path) -> Desk:
    return Desk(IcebergHarness(Place(tmp_path / "lake")), tmp_path)


@pytest.fixture
def delta_desk(tmp_path: Path) -> Desk:
    return Desk(DeltaHarness(Place(tmp_path / "lake")), tmp_path)


@pytest.fixture(params=["iceberg", "delta"])
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Desk:
    harness = {"iceberg": IcebergHarness, "delta": DeltaHarness}[request.param]
    return Desk(harness(Place(tmp_path / "lake")), tmp_path)


def test_values_of_every_type_are_read_as_they_were(desk: Desk) -> None:
    """By the format's own library and by polars, from the first file and from one with the table's own schema."""
    at = datetime(2026, 11, 23, 19, 30, 0, 123000)  # noqa: DTZ001 Iceberg and Delta have times without a zone
    kinds = [pa.int64(), pa.int32(), pa.float64(), pa.bool_(), pa.timestamp("us"), pa.date32(), pa.decimal128(9, 2)]
    nested = [pa.list_(pa.struct([("x", pa.string()), ("y", pa.int64())])), pa.map_(pa.string(), pa.int64())]
    columns: dict[str, list[Any]] = {
        "id": [1, 2],
        "small": [-1, None],
        "float": [0.5, None],
        "bool": [True, None],
        "at": [at, None],
        "day": [at.date(), None],
        "price": [None, None],
        "list": [[{"x": "a", "y": 1}, {"x": None, "y": None}], None],
        "map": [[("k", 1)], None],
        "binary": [b"\0\xff", None],
    }
    schema = pa.schema(list(zip(columns, [*kinds, *nested, pa.binary()], strict=True)))
    first = pa.table(columns, schema=schema)
    desk.deliver(desk.seal(first))
    second = first.cast(desk.schema())
    desk.deliver(desk.seal(second))
    if isinstance(desk.harness, IcebergHarness):
        with desk.harness.table() as table, catch_warnings():
            simplefilter("ignore", PerformanceWarning)  # there is a faster plug-in
            seen = polars.scan_iceberg(table).collect()
        with desk.harness.table() as table:
            paths = [task.file.file_path.removeprefix("file://") for task in table.scan().plan_files()]
        # pyiceberg 0.12 reads a list of structs that is null as an empty one; its other columns are right.
        whole = pa.concat_tables([pq.read_table(path).cast(schema) for path in sorted(paths)])
        assert whole.to_pylist() == first.to_pylist() * 2
        read = desk.harness.rows().drop_columns("list")
        assert read.to_pylist() == first.drop_columns("list").to_pylist() * 2
    else:
        seen = polars.read_delta(desk.harness.place.url)
        assert desk.harness.rows().select(schema.names).to_pylist() == first.to_pylist() * 2
    assert sorted(seen["id"].to_list()) == [1, 1, 2, 2]
    assert sorted(map(str, seen["at"].to_list())) == sorted(map(str, [at, at, None, None]))


def test_rows_written_by_others_meanwhile_are_no_obstacle(desk: Desk) -> None:
    """Neither is that the last commit, where the number is looked for, is somebody else's."""
    first, second = desk.seal(rows(1)), desk.seal(rows(2))
    desk.deliver(first)
    if isinstance(desk.harness, IcebergHarness):
        with desk.harness.table() as table:
            table.append(rows(100))
    else:
        write_deltalake(desk.harness.place.url, rows(100), mode="append")
    desk.deliver(first, second)
    desk.deliver(second)
    assert desk.ids() == [1, 2, 100]


def test_a_column_that_a_table_got_meanwhile_is_in_its_schema_and_null_in_what_came_before(desk: Desk) -> None:
    before, late = desk.seal(rows(1)), desk.seal(rows(2))
    desk.deliver(before)
    if isinstance(desk.harness, IcebergHarness):
        with desk.harness.table() as table, table.update_schema() as update:
            update.add_column("more", StringType())
    else:
        assert isinstance(desk.harness, DeltaHarness)
        desk.harness.table().alter.add_columns(Field("more", PrimitiveType("string")))
    assert desk.schema().names == ["id", "text", "more"]
    after = rows(3).append_column("more", pa.array(["there"])).cast(desk.schema())
    desk.deliver(late, desk.seal(after))
    assert sorted(map(tuple, (row.values() for row in desk.harness.rows().to_pylist()))) == [
        (1, "text 1", None),
        (2, "text 2", None),
        (3, "text 3", "there"),
    ]


def test_columns_that_a_table_does_not_have_are_an_error_that_stays(desk: Desk) -> None:
    desk.deliver(desk.seal(rows(1)))
    for other in (rows(2).append_column("more", pa.array([1])), rows(2).set_column(0, "id", pa.array(["two"]))):
        with pytest.raises(DeliveryFailed, match="column") as caught:
            desk.deliver(desk.seal(other))
        assert caught.value.is_final
    assert desk.ids() == [1]


def test_commits_carry_where_their_records_came_from(desk: Desk) -> None:
    sealed = replace(desk.seal(rows(1)), ranges=(Range(0, 5, 9), Range(3, 0, 2)))
    desk.deliver(sealed)
    if isinstance(desk.harness, IcebergHarness):
        with desk.harness.table() as table:
            snapshot = table.current_snapshot()
            assert snapshot is not None
            assert snapshot.summary is not None
            assert json.loads(snapshot.summary["streamkit.ranges"] or "") == [[0, 5, 9], [3, 0, 2]]
            assert snapshot.summary[f"streamkit.{DELIVERY_ID}.number"] == "1"
    else:
        assert isinstance(desk.harness, DeltaHarness)
        found = desk.harness.table()
        assert found.history(1)[0]["streamkit.ranges"] == [[0, 5, 9], [3, 0, 2]]
        assert found.transaction_version(DELIVERY_ID) == 1


def test_iceberg_finds_its_number_in_the_snapshots_if_somebody_took_the_property_away(iceberg_desk: Desk) -> None:
    sealed = iceberg_desk.seal(rows(1))
    iceberg_desk.deliver(sealed, iceberg_desk.seal(rows(2), delivery_id=OTHER_DELIVERY_ID))
    harness = iceberg_desk.harness
    assert isinstance(harness, IcebergHarness)
    with harness.table() as table:
        table.append(rows(3))
        table.transaction().remove_properties(f"streamkit.{DELIVERY_ID}.number").commit_transaction()
    iceberg_desk.deliver(sealed)
    assert iceberg_desk.ids() == [1, 2, 3]


def test_iceberg_finds_its_number_after_snapshots_expired(iceberg_desk: Desk) -> None:
    sealed = iceberg_desk.seal(rows(1))
    iceberg_desk.deliver(sealed)
    harness = iceberg_desk.harness
    assert isinstance(harness, IcebergHarness)
    with harness.table() as table:
        table.append(rows(2))
        first = table.snapshots()[0].snapshot_id
        table.maintenance.expire_snapshots().by_id(first).commit()
    iceberg_desk.deliver(sealed)
    assert iceberg_desk.ids() == [1, 2]


def test_an_iceberg_table_that_says_so_keeps_few_snapshots_and_all_rows(iceberg_desk: Desk) -> None:
    """Tables made here say so; a tag's snapshot stays, and others' tables keep all."""
    harness = iceberg_desk.harness
    assert isinstance(harness, IcebergHarness)
    first = iceberg_desk.seal(rows(0))
    iceberg_desk.deliver(first)
    with harness.table() as table:
        assert table.properties["streamkit.snapshots-max"] == "500"
        tagged = table.snapshots()[0].snapshot_id
        table.manage_snapshots().create_tag(tagged, "first").commit()
        table.transaction().set_properties({"streamkit.snapshots-max": "6"}).commit_transaction()
    for number in range(1, 20):
        iceberg_desk.deliver(iceberg_desk.seal(rows(number)))
        with harness.table() as table:
            assert len(table.snapshots()) <= 7
            assert tagged in [each.snapshot_id for each in table.snapshots()]
    with harness.table() as table:
        table.transaction().remove_properties("streamkit.snapshots-max").commit_transaction()
        count = len(table.snapshots())
    for number in range(20, 30):
        iceberg_desk.deliver(iceberg_desk.seal(rows(number)))
    iceberg_desk.deliver(first)
    with harness.table() as table:
        assert len(table.snapshots()) == count + 10
    assert iceberg_desk.ids() == list(range(30))


def test_an_iceberg_column_that_was_renamed_or_dropped_is_found_by_its_id(iceberg_desk: Desk) -> None:
    """In files that were sealed before."""
    iceberg_desk.deliver(iceberg_desk.seal(rows(1).append_column("gone", pa.array([1]))))
    schema = iceberg_desk.schema()
    sealed = iceberg_desk.seal(rows(2).append_column("gone", pa.array([2])).cast(schema))
    harness = iceberg_desk.harness
    assert isinstance(harness, IcebergHarness)
    with harness.table() as table, table.update_schema() as update:
        update.rename_column("text", "words")
        update.delete_column("gone")
    iceberg_desk.deliver(sealed)
    assert sorted(map(tuple, (row.values() for row in harness.rows().to_pylist()))) == [(1, "text 1"), (2, "text 2")]
    assert harness.rows().column_names == ["id", "words"]


def test_field_ids_of_another_iceberg_table_of_the_name_mean_nothing(iceberg_desk: Desk) -> None:
    """It was dropped and made again, with its columns in another order, between sealing and delivery."""
    harness = iceberg_desk.harness
    assert isinstance(harness, IcebergHarness)
    with harness.catalog() as catalog:
        catalog.create_namespace("lake")
        catalog.create_table("lake.documents", pa.schema([("other", pa.int64()), *COLUMNS]))
    schema = iceberg_desk.schema()
    table = rows(1).append_column("other", pa.array([7])).select(schema.names).cast(schema)
    sealed = iceberg_desk.seal(table)
    with harness.catalog() as catalog:
        catalog.drop_table("lake.documents")
        catalog.create_table("lake.documents", pa.schema([*COLUMNS, ("other", pa.int64())]))
    iceberg_desk.deliver(sealed)
    assert harness.rows().to_pylist() == [{"id": 1, "text": "text 1", "other": 7}]


def test_iceberg_refuses_records_without_a_value_that_must_be_there(iceberg_desk: Desk) -> None:
    """As AWS does, and the same ones again when it is asked again; the others are delivered."""
    harness = iceberg_desk.harness
    assert isinstance(harness, IcebergHarness)
    columns = pa.schema([pa.field("id", pa.int64(), nullable=False), ("text", pa.string())])
    with harness.catalog() as catalog:
        catalog.create_namespace("lake")
        catalog.create_table("lake.documents", columns)
    sealed = iceberg_desk.seal(pa.table({"id": [1, None, 3, None], "text": ["a", "b", "c", "d"]}, schema=COLUMNS))
    for _ in range(2):
        refused = iceberg_desk.deliver(sealed)
        assert [(each.row, each.code) for each in refused] == [
            (row, "Iceberg.MissingColumnWithinRecord") for row in (1, 3)
        ]
    assert iceberg_desk.ids() == [1, 3]


TIMES: Final = pa.schema([("id", pa.int64()), ("at", pa.timestamp("us")), ("country", pa.string())])


def times(count: int) -> pa.Table:
    start = datetime(1969, 12, 31, 22, 30)  # noqa: DTZ001 around the epoch, where rounding towards zero would show
    at = [None if each % 10 == 9 else start + timedelta(minutes=each) for each in range(count)]
    return pa.table({"id": range(count), "at": at, "country": ["DE", None, "US"] * (count // 3)}, schema=TIMES)


@pytest.mark.parametrize(
    ("partition_by", "partitions"),
    [
        ("hour(at)", 7),
        (["day(at)", "country"], 9),
        ("bucket(3, id), truncate(1, country)", 9),
        ("identity(country)", 3),
        ("month(at)", 3),
    ],
)
def test_iceberg_files_hold_rows_of_one_partition_each_and_all_of_them(
    tmp_path: Path, partition_by: str | list[str], partitions: int
) -> None:
    desk = Desk(IcebergHarness(Place(tmp_path / "lake"), partition_by=partition_by), tmp_path)
    desk.deliver(desk.seal(times(300)))
    assert desk.ids() == list(range(300))
    harness = desk.harness
    assert isinstance(harness, IcebergHarness)
    with harness.table() as table:
        assert table.inspect.partitions().num_rows == partitions
        hour = "at >= '1969-12-31T23:00:00' and at < '1970-01-01T00:00:00'"
        expected = sum(bool(each and each.hour == 23) for each in times(300).column("at").to_pylist())
        assert table.scan(hour).to_arrow().num_rows == expected
        assert table.scan("country = 'DE'").to_arrow().num_rows == 100
        if partition_by == "hour(at)":
            assert len(list(table.scan(hour).plan_files())) == 1


def test_a_delta_table_is_partitioned_by_columns(tmp_path: Path) -> None:
    desk = Desk(DeltaHarness(Place(tmp_path / "lake"), partition_by=["country"]), tmp_path)
    desk.deliver(desk.seal(times(300)))
    assert desk.ids() == list(range(300))
    assert {each.parent.name for each in (tmp_path / "lake").glob("*/*.parquet")} == {
        "country=DE",
        "country=US",
        "country=__HIVE_DEFAULT_PARTITION__",
    }


# -- when things go wrong ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["iceberg", "delta"])
def test_whatever_write_of_a_delivery_loses_its_answer_rows_are_in_the_table_once(
    tmp_path: Path, store: ObjectStore, proxy: FaultProxy, kind: str
) -> None:
    """Each write of a delivery in turn."""
    bucket = BucketPlace(tmp_path / "lake", store, proxy)
    writes: list[int] | None = None  # their places among the requests of a delivery
    while writes is None or writes:
        bucket.below(f"lake-{next(_BUCKETS)}")
        desk = Desk(IcebergHarness(bucket) if kind == "iceberg" else DeltaHarness(bucket), tmp_path)
        desk.deliver(desk.seal(rows(1)))
        sealed = desk.seal(rows(2))
        proxy.seen.clear()
        if writes is None:
            desk.deliver(sealed)
            writes = [place for place, (line, _) in enumerate(proxy.seen) if not line.startswith(("GET", "HEAD"))]
            assert len(writes) >= 2, "rows, and the commit"
        else:
            proxy.plan.extend(["pass"] * writes.pop())
            proxy.then("lose")
            with suppress(DeliveryFailed):
                desk.deliver(sealed)
            assert not proxy.plan
            assert "lose" in [done for _, done in proxy.seen]
        desk.deliver(sealed)
        assert desk.ids() == [1, 2]


class RestHarness(IcebergHarness):
    """A table of a REST catalog."""

    def __init__(self, place: Place, server: RestCatalogServer, **options: Any) -> None:
        super().__init__(place, catalog_url=server.url, path="", **options)
        self._server = server

    @contextmanager
    def catalog(self) -> Iterator[SqlCatalog]:
        yield self._server.catalog


@pytest.mark.parametrize("loses", [False, True])
def test_a_rest_catalogs_table_has_rows_once_also_where_the_answer_to_a_commit_is_lost(
    tmp_path: Path, loses: bool
) -> None:
    """Also of the commit that makes the table, with its partitions."""
    with rest_catalog(tmp_path) as server:
        desk = Desk(RestHarness(Place(tmp_path / "lake"), server, partition_by="bucket(2, id)"), tmp_path)
        for number in range(1, 4):
            sealed = desk.seal(rows(number))
            server.loses_next_commit = loses
            with suppress(DeliveryFailed):
                desk.deliver(sealed)
            assert not server.loses_next_commit
            desk.deliver(sealed)
            desk.deliver(sealed)
        assert desk.ids() == [1, 2, 3]
        assert server.commits_count == 1 + 3


def test_a_rest_catalog_that_is_not_there_is_an_error_that_passes(tmp_path: Path) -> None:
    with rest_catalog(tmp_path) as server:
        desk = Desk(RestHarness(Place(tmp_path / "lake"), server), tmp_path)
        sealed = desk.seal(rows(1))
    with pytest.raises(DeliveryFailed) as caught:
        desk.deliver(sealed)
    assert not caught.value.is_final


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (iceberg, {"path": "lake"}),
        (iceberg, {"database": "a", "table": "b"}),
        (iceberg, {"path": "lake", "tables": [{"database": "a", "table": "b"}, {"database": "a", "table": "c"}]}),
        (iceberg, {"path": "lake", "database": "a", "table": "b", "partition_by": "fortnight(at)"}),
        (iceberg, {"path": "lake", "database": "a", "table": "b", "columns": [["id", "bigfoot"]]}),
        (iceberg, {"path": "gs://lake", "database": "a", "table": "b"}),
        (delta, {}),
        (delta, {"path": "ftp://lake"}),
        (delta, {"path": "lake", "columns": "id"}),
    ],
)
def test_options_that_cannot_be_right_are_refused_when_it_is_opened(
    tmp_path: Path, kind: Any, options: Mapping[str, Any]
) -> None:
    with pytest.raises(UsageError):
        kind.open_destination(DestinationSpec("table", options), Surroundings(ManualClock(), tmp_path))


@pytest.mark.parametrize(
    "columns",
    [
        [["id", "bigint"], ["text", "string"], ["tags", "array<string>"]],
        {"id": "bigint", "text": "string", "tags": "array<string>"},
        "id:bigint, text:string, tags:array<string>",
    ],
)
def test_columns_are_given_with_hives_types(tmp_path: Path, columns: Any) -> None:
    desk = Desk(IcebergHarness(Place(tmp_path / "lake"), columns=columns), tmp_path)
    assert desk.schema().names == ["id", "text", "tags"]
    desk.deliver(desk.seal(rows(1)))
    assert desk.harness.rows().to_pylist() == [{"id": 1, "text": "text 1", "tags": None}]
