"""Records that become Parquet, ORC and tables, on a real server, as readers have them that nobody here wrote."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet as pq
import pytest

from tests.wire.clients import ACCOUNT, REGION
from tests.wire.cloud import ROLE, eventually
from tests.wire.delivery_cloud import (
    DeliveryCloud,
    Key,
    delivery_cloud,
    extraction,
    processors,
    table_input,
)
from tests.wire.object_store import ACCESS_KEY, SECRET_KEY

ERRORS: Final = "errors/"
COLUMNS: Final = [
    ("id", "bigint"),
    ("name", "string"),
    ("price", "double"),
    ("amount", "decimal(10,2)"),
    ("ok", "boolean"),
    ("day", "date"),
    ("at", "timestamp"),
    ("tags", "array<string>"),
    ("user", "struct<name:string,age:int>"),
    ("notes", "map<string,string>"),
]
RECORDS: Final[list[dict[str, Any]]] = [
    {
        "id": 1,
        "name": "drît",
        "price": 1.5,
        "amount": 12.34,
        "ok": True,
        "day": "2026-07-01",
        "at": "2026-07-01 10:11:12.5",
        "tags": ["a", "b"],
        "user": {"name": "x", "age": 7},
        "notes": {"k": "v"},
    },
    {"id": 2, "unknown": "left out"},
]
FIRST: Final[dict[str, Any]] = {
    **RECORDS[0],
    "amount": decimal.Decimal("12.34"),
    "day": dt.date(2026, 7, 1),
    "at": dt.datetime(2026, 7, 1, 10, 11, 12, 500_000, dt.UTC).replace(tzinfo=None),
}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeliveryCloud]:
    with delivery_cloud(tmp_path_factory.mktemp("delivery") / "data") as made:
        yield made


@pytest.fixture
def bucket(cloud: DeliveryCloud) -> str:
    return cloud.bucket()


def to(table: str, format: dict[str, Any] | None = None, **deserializer: Any) -> dict[str, Any]:
    return {
        "mib": 64,
        "Prefix": "in/",
        "ErrorOutputPrefix": "errors/!{firehose:error-output-type}/",
        "DataFormatConversionConfiguration": {
            "Enabled": True,
            "SchemaConfiguration": {"RoleARN": ROLE, "DatabaseName": "lake", "TableName": table, "Region": REGION},
            "InputFormatConfiguration": {"Deserializer": deserializer or {"OpenXJsonSerDe": {}}},
            "OutputFormatConfiguration": {"Serializer": format or {"ParquetSerDe": {}}},
        },
    }


def put(cloud: DeliveryCloud, name: str, *documents: Any) -> None:
    cloud.send(name, *(each if isinstance(each, bytes) else json.dumps(each).encode() for each in documents))


def parquet(body: bytes) -> pa.Table:
    return pq.read_table(io.BytesIO(body))


# -- Parquet and ORC -------------------------------------------------------------------------------------------------


def by_pyarrow(path: Path) -> list[dict[str, Any]]:
    return list(pq.read_table(path).to_pylist())


def by_duckdb(path: Path) -> list[dict[str, Any]]:
    import duckdb

    with duckdb.connect() as db:
        read = db.execute(f"SELECT * FROM read_parquet('{path}') ORDER BY id")
        names = [each[0] for each in read.description]
        return [dict(zip(names, row, strict=True)) for row in read.fetchall()]


def by_polars(path: Path) -> list[dict[str, Any]]:
    import polars

    return polars.read_parquet(path).to_dicts()


def by_pandas(path: Path) -> list[dict[str, Any]]:
    import pandas

    rows: list[dict[str, Any]] = json.loads(pandas.read_parquet(path).to_json(orient="records", date_format="iso"))
    return rows


@pytest.mark.parametrize("read", [by_pyarrow, by_duckdb, by_polars, by_pandas])
def test_parquet_is_read_by_everybody(
    cloud: DeliveryCloud, bucket: str, tmp_path: Path, read: Callable[[Path], list[dict[str, Any]]]
) -> None:
    """Columns are those of a table that boto3 made in the catalog; what is missing is null."""
    name = cloud.to_s3(bucket, **to(cloud.table(COLUMNS)))
    put(cloud, name, *RECORDS)
    cloud.flush(name)
    ((text, body),) = cloud.objects(bucket).items()
    assert Key.of(text).extension == ".parquet"
    path = tmp_path / "read.parquet"
    path.write_bytes(body)
    first, second = read(path)
    assert list(first) == [column for column, _ in COLUMNS]
    if read is by_pandas:
        assert (first["id"], first["name"], first["price"], first["tags"]) == (1, "drît", 1.5, ["a", "b"])
        assert first["at"].startswith("2026-07-01T10:11:12.5")
    else:
        notes = first.pop("notes")
        assert notes in ({"k": "v"}, [("k", "v")], [{"key": "k", "value": "v"}])
        assert first == {column: value for column, value in FIRST.items() if column != "notes"}
    assert second["id"] == 2
    assert not any(value for column, value in second.items() if column != "id")


def test_orc_is_read_by_arrow_and_pandas(cloud: DeliveryCloud, bucket: str) -> None:
    import pandas

    format = {"OrcSerDe": {"Compression": "ZLIB", "StripeSizeBytes": 8 * 1024 * 1024}}
    name = cloud.to_s3(bucket, **to(cloud.table(COLUMNS), format))
    put(cloud, name, *RECORDS)
    cloud.flush(name)
    ((text, body),) = cloud.objects(bucket).items()
    assert Key.of(text).extension == ".orc"
    file = pyarrow.orc.ORCFile(io.BytesIO(body))
    assert file.compression == "ZLIB"
    first, second = file.read().to_pylist()
    assert {**first, "at": first["at"].replace(tzinfo=None), "notes": dict(first["notes"])} == FIRST
    assert {column: value for column, value in second.items() if value is not None} == {"id": 2}
    assert pandas.read_orc(io.BytesIO(body))["id"].tolist() == [1, 2]


def test_the_writers_options_are_in_the_file(cloud: DeliveryCloud, bucket: str) -> None:
    format = {"ParquetSerDe": {"Compression": "GZIP", "WriterVersion": "V2", "EnableDictionaryCompression": True}}
    name = cloud.to_s3(bucket, **to(cloud.table([("name", "string"), ("n", "int")]), format))
    put(cloud, name, *({"name": f"name {n % 3}", "n": n} for n in range(1_000)))
    cloud.flush(name)
    metadata = pq.ParquetFile(io.BytesIO(cloud.content(bucket))).metadata
    column = metadata.row_group(0).column(0)
    assert (metadata.num_rows, column.compression, column.has_dictionary_page) == (1_000, "GZIP", True)


# -- deserializers ---------------------------------------------------------------------------------------------------


def test_openx_folds_maps_and_coerces(cloud: DeliveryCloud, bucket: str) -> None:
    table = cloud.table([("id", "int"), ("user_name", "string"), ("stamp", "bigint"), ("list", "array<int>")])
    openx = {
        "CaseInsensitive": True,
        "ConvertDotsInJsonKeysToUnderscores": True,
        "ColumnToJsonKeyMappings": {"stamp": "timestamp"},
    }
    name = cloud.to_s3(bucket, **to(table, OpenXJsonSerDe=openx))
    put(cloud, name, {"ID": "7", "user.name": 5, "timestamp": 12, "list": 3}, b'{"id":1}{"id":2}\n')
    cloud.flush(name)
    assert parquet(cloud.content(bucket, "in/")).to_pylist() == [
        {"id": 7, "user_name": "5", "stamp": 12, "list": [3]},
        {"id": 1, "user_name": None, "stamp": None, "list": None},
        {"id": 2, "user_name": None, "stamp": None, "list": None},
    ]


def test_hive_reads_times_by_their_formats(cloud: DeliveryCloud, bucket: str) -> None:
    table = cloud.table([("n", "int"), ("at", "timestamp")])
    hive = {"TimestampFormats": ["yyyy-MM-dd'T'HH:mm:ssZZ", "millis"]}
    name = cloud.to_s3(bucket, **to(table, HiveJsonSerDe=hive))
    good = [{"n": 1, "at": "2026-07-01T10:00:00+02:00"}, {"n": 2, "at": 1_780_000_000_000}]
    put(cloud, name, *good, {"n": "three"}, {"n": 4, "at": "yesterday"})
    cloud.flush(name)
    found = {row["n"]: row["at"] for row in parquet(cloud.content(bucket, "in/")).to_pylist()}
    assert found[1].isoformat() == "2026-07-01T08:00:00"
    assert found[2] == dt.datetime.fromtimestamp(1_780_000_000, dt.UTC).replace(tzinfo=None)
    refused = [json.loads(base64.b64decode(each["rawData"]))["n"] for each in cloud.documents_in(bucket, ERRORS)]
    assert refused == ["three", 4]


# -- bad rows --------------------------------------------------------------------------------------------------------


def test_a_bad_record_goes_alone_to_the_error_output(cloud: DeliveryCloud, bucket: str) -> None:
    """With AWS's document, from which it can be had again as it came, to the byte."""
    source = cloud.source()
    table = cloud.table([("id", "int"), ("user", "struct<age:int>")])
    name = cloud.to_s3(bucket, source=source, **to(table))
    bad = [b"no document", b'{"id":1', b"[1]", b"null", b"\xff\xfe", b'{"user":{"age":"old"}}', b'{"id":{}}']
    good = [{"id": n, "user": {"age": n}} for n in range(1_000)]
    started_ms = time.time_ns() // 1_000_000
    records: list[tuple[str, Any]] = [("k", each) for each in good]
    for place, each in enumerate(bad):
        records.insert(place * 100 + 50, ("k", each))
    numbers = cloud.put(source, *records)
    cloud.flush(name)
    assert parquet(cloud.content(bucket, "in/")).to_pylist() == good
    (key,) = (key for key in cloud.keys(bucket) if key.startswith(ERRORS))
    assert Key.of(key).prefix == "errors/format-conversion-failed/"
    documents = cloud.documents_in(bucket, ERRORS)
    assert [base64.b64decode(each["rawData"]) for each in documents] == bad
    assert {each["lastErrorCode"] for each in documents} <= {
        "DataFormatConversion.ParseError",
        "DataFormatConversion.MalformedData",
    }
    first = documents[0]
    assert list(first) == [
        "attemptsMade",
        "arrivalTimestamp",
        "lastErrorCode",
        "lastErrorMessage",
        "attemptEndingTimestamp",
        "rawData",
        "sequenceNumber",
        "subSequenceNumber",
        "dataCatalogTable",
    ]
    assert started_ms - 1_000 <= first["arrivalTimestamp"] <= first["attemptEndingTimestamp"]
    assert [each["sequenceNumber"] for each in documents] == [
        number for number, (_, data) in zip(numbers, records, strict=True) if isinstance(data, bytes)
    ]
    assert first["dataCatalogTable"] == {
        "catalogId": ACCOUNT,
        "databaseName": "lake",
        "tableName": table,
        "region": REGION,
        "versionId": "LATEST",
        "catalogArn": f"arn:aws:glue:{REGION}:{ACCOUNT}:catalog",
    }


# -- schemas that change ---------------------------------------------------------------------------------------------


def test_a_new_version_of_the_table_is_picked_up(cloud: DeliveryCloud, bucket: str) -> None:
    """Records of before are in a file of their own, with the columns of then; a version that is named stays."""
    table, pinned = cloud.table([("id", "int")]), cloud.bucket()
    latest = cloud.to_s3(bucket, **to(table))
    configuration = to(table)
    version = cloud.glue.get_table(DatabaseName="lake", Name=table)["Table"]["VersionId"]
    configuration["DataFormatConversionConfiguration"]["SchemaConfiguration"]["VersionId"] = version
    first = cloud.to_s3(pinned, **configuration)
    for name in (latest, first):
        put(cloud, name, {"id": 1, "name": "a"})
    for name in (latest, first):
        eventually(lambda: cloud.metric("streamkit_delivery_converted_records_total", delivery_stream=name) == 1)  # noqa: B023
    cloud.glue.update_table(DatabaseName="lake", TableInput=table_input(table, [("id", "int"), ("name", "string")]))
    for name in (latest, first):
        put(cloud, name, {"id": 2, "name": "b"})
        cloud.flush(name)
    files = sorted(
        (parquet(body).to_pylist() for body in cloud.objects(bucket).values()), key=lambda rows: rows[0]["id"]
    )
    assert files == [[{"id": 1}], [{"id": 2, "name": "b"}]]
    assert parquet(cloud.content(pinned)).to_pylist() == [{"id": 1}, {"id": 2}]


def test_a_lake_of_partitions_is_read_as_one_table(cloud: DeliveryCloud, bucket: str, tmp_path: Path) -> None:
    """Hive's folders, by DuckDB and polars."""
    import duckdb
    import polars

    table = cloud.table([("id", "int"), ("kind", "string")])
    configuration = {
        **to(table),
        "Prefix": "in/kind=!{partitionKeyFromQuery:kind}/",
        "DynamicPartitioningConfiguration": {"Enabled": True},
        **processors(extraction("{kind: .kind}")),
    }
    name = cloud.to_s3(bucket, **configuration)
    put(cloud, name, *({"id": n, "kind": "abc"[n % 3]} for n in range(300)), {"id": "no number", "kind": "a"})
    cloud.flush(name)
    for key, body in cloud.objects(bucket, "in/").items():
        path = tmp_path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    files = f"{tmp_path}/in/**/*.parquet"
    with duckdb.connect() as db:
        counted = db.execute(
            "SELECT kind, count(*), min(id) FROM read_parquet(?, hive_partitioning = true) GROUP BY 1 ORDER BY 1",
            [files],
        ).fetchall()
    assert counted == [("a", 100, 0), ("b", 100, 1), ("c", 100, 2)]
    assert polars.scan_parquet(files, hive_partitioning=True).select("id").collect().height == 300
    assert len(cloud.documents_in(bucket, ERRORS)) == 1


# -- places by URL ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["parquet", "orc"])
def test_columns_are_found_in_the_first_records_and_kept(cloud: DeliveryCloud, tmp_path: Path, format: str) -> None:
    """In the catalog, where one can see and change them."""
    name = cloud.to_url(f"file://{tmp_path}", Format=format)
    put(cloud, name, {"id": 1, "at": "2026-07-01T10:00:00Z", "user": {"age": 7}}, {"id": 2, "score": 0.5})
    cloud.flush(name)
    put(cloud, name, {"id": 3, "later": True}, {"id": "four"})
    cloud.flush(name)
    paths = sorted((path for path in tmp_path.rglob(f"*.{format}")), key=lambda path: path.stat().st_mtime_ns)
    read = pq.read_table if format == "parquet" else pyarrow.orc.read_table
    rows = [row for path in paths for row in read(path).to_pylist()]
    assert [row["id"] for row in rows] == [1, 2, 3]
    assert rows[0]["user"] == {"age": 7}
    assert rows[1]["score"] == 0.5
    columns = cloud.glue.get_table(DatabaseName="streamkit", Name=name)["Table"]["StorageDescriptor"]["Columns"]
    assert [each["Name"] for each in columns] == ["id", "at", "user", "score"]
    (refused,) = (path for path in (tmp_path / "_errors").rglob("*") if path.is_file())
    assert base64.b64decode(json.loads(refused.read_bytes())["rawData"]) == b'{"id": "four"}'


def test_an_iceberg_table_has_every_record_once(cloud: DeliveryCloud, tmp_path: Path) -> None:
    """By pyiceberg and DuckDB, from a stream; what is no record of the table is in its errors."""
    import duckdb
    from pyiceberg.catalog.sql import SqlCatalog

    source = cloud.source(shards=2)
    columns = [{"Name": "id", "Type": "bigint"}, {"Name": "kind", "Type": "string"}]
    name = cloud.to_url(f"iceberg+file://{tmp_path}", source=source, Columns=columns, Options={"table": "sales.orders"})
    for start in (0, 100, 200):
        cloud.put(source, *((str(n), {"id": n, "kind": "ab"[n % 2]}) for n in range(start, start + 100)), ("k", b"bad"))
        cloud.flush(name)
    catalog = SqlCatalog("streamkit", uri=f"sqlite:///{tmp_path}/catalog.sqlite", warehouse=f"file://{tmp_path}")
    try:
        table = catalog.load_table("sales.orders")
        rows = table.scan(row_filter="kind = 'a'").to_arrow()
        assert sorted(table.scan().to_arrow()["id"].to_pylist()) == list(range(300))
        assert len(table.snapshots()) == 3
        files = table.inspect.files()["file_path"].to_pylist()
    finally:
        catalog.engine.dispose()
    assert sorted(rows["id"].to_pylist()) == list(range(0, 300, 2))
    with duckdb.connect() as db:
        assert db.execute("SELECT count(*) FROM read_parquet(?)", [files]).fetchone() == (300,)
    errors = [path.read_bytes() for path in (tmp_path / "_errors").rglob("*-*") if path.is_file()]
    assert [base64.b64decode(json.loads(each)["rawData"]) for each in errors] == [b"bad"] * 3
    assert cloud.metric("streamkit_delivery_records_total", delivery_stream=name, destination="Iceberg") == 300


def test_a_delta_table_has_every_record_once(cloud: DeliveryCloud, tmp_path: Path) -> None:
    """By the package deltalake and polars; columns are found in the first records."""
    import polars
    from deltalake import DeltaTable

    name = cloud.to_url(f"delta+file://{tmp_path}/table")
    put(cloud, name, *({"id": n, "kind": "ab"[n % 2], "at": n / 2} for n in range(100)))
    cloud.flush(name)
    put(cloud, name, *({"id": n, "kind": "c"} for n in range(100, 150)))
    cloud.flush(name)
    table = DeltaTable(f"{tmp_path}/table")
    found = pa.table(table.to_pyarrow_table())
    assert sorted(found["id"].to_pylist()) == list(range(150))
    assert polars.read_delta(f"{tmp_path}/table").filter(polars.col("kind") == "c")["at"].null_count() == 50


def test_an_iceberg_destination_as_aws_has_it_fills_its_table(cloud: DeliveryCloud, bucket: str) -> None:
    """Warehouse in S3; the catalog is the server's."""
    from pyiceberg.catalog.sql import SqlCatalog

    source = cloud.source()
    name = cloud.deliver(
        "Iceberg",
        {
            "RoleARN": ROLE,
            "CatalogConfiguration": {
                "CatalogARN": f"arn:aws:glue:{REGION}:{ACCOUNT}:catalog",
                "WarehouseLocation": f"s3://{bucket}/warehouse",
            },
            "DestinationTableConfigurationList": [
                {"DestinationDatabaseName": "sales", "DestinationTableName": "orders", "S3ErrorOutputPrefix": "x/"}
            ],
            "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 60},
            "S3Configuration": {
                "BucketARN": f"arn:aws:s3:::{bucket}",
                "RoleARN": ROLE,
                "ErrorOutputPrefix": "errors/!{firehose:error-output-type}/",
            },
        },
        source,
    )
    cloud.put(source, *((str(n), {"id": n, "name": f"n{n}"}) for n in range(50)), ("k", b"bad"))
    cloud.flush(name)
    cloud.put(source, ("k", {"id": 50, "name": "n50"}))
    cloud.flush(name)
    catalog = SqlCatalog(
        "streamkit",
        uri=f"sqlite:///{cloud.server.data}/buckets/catalog.sqlite",
        warehouse=f"s3://{bucket}/warehouse",
        **{
            "s3.endpoint": cloud.store.endpoint,
            "s3.access-key-id": ACCESS_KEY,
            "s3.secret-access-key": SECRET_KEY,
            "s3.region": REGION,
        },
    )
    try:
        found = catalog.load_table("sales.orders").scan().to_arrow()
    finally:
        catalog.engine.dispose()
    assert sorted(found["id"].to_pylist()) == list(range(51))
    (error,) = cloud.documents_in(bucket, ERRORS)
    assert base64.b64decode(error["rawData"]) == b"bad"
    assert cloud.metric("streamkit_delivery_records_total", delivery_stream=name, destination="Iceberg") == 51
