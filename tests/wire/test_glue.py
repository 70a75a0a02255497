"""The data catalog as boto3 and pyiceberg see it, over HTTP."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from pyiceberg.catalog.glue import GlueCatalog
from pyiceberg.exceptions import (
    NamespaceNotEmptyError,
    NoSuchTableError,
    TableAlreadyExistsError,
)

from streamkit.testing.server import ServerProcess
from tests.wire.clients import ACCOUNT, REGION, RawClient

COLUMNS = [{"Name": "id", "Type": "bigint", "Comment": "key"}, {"Name": "tags", "Type": "array<string>"}]
STORAGE = {
    "Columns": COLUMNS,
    "Location": "s3://lake/orders/",
    "InputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
    "SerdeInfo": {"SerializationLibrary": "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"},
}


@functools.cache
def _session() -> Any:
    return boto3.session.Session()


@pytest.fixture
def glue(streamkit_shared_server: ServerProcess) -> Iterator[Any]:
    """boto3 on the shared server; checks nothing by itself and tries once."""
    client = _session().client(
        "glue",
        endpoint_url=streamkit_shared_server.endpoint,
        region_name=REGION,
        aws_access_key_id=ACCOUNT,
        aws_secret_access_key="secret",
        config=Config(retries={"total_max_attempts": 1}, parameter_validation=False),
    )
    yield client
    client.close()


@pytest.fixture
def db(glue: Any) -> Any:
    """The same, with the database `db`."""
    glue.create_database(DatabaseInput={"Name": "db"})
    return glue


def refused(call: Any, **given: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**given)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


# -- databases -------------------------------------------------------------------------------------------------------


def test_a_database_lives_as_glues_do(glue: Any) -> None:
    """Made, found under a folded name, changed, listed and deleted."""
    given = {"Name": "Sales", "Description": "all of them", "LocationUri": "s3://b/x", "Parameters": {"a": "b"}}
    glue.create_database(DatabaseInput=given, Tags={"team": "x"})
    found = glue.get_database(Name="SALES")["Database"]
    assert {name: found[name] for name in given} == {**given, "Name": "sales"}
    assert found["CatalogId"] == ACCOUNT
    assert found["CreateTime"].microsecond == 0
    glue.update_database(Name="sales", DatabaseInput={"Name": "sales", "Description": "less"})
    assert "LocationUri" not in glue.get_database(Name="sales")["Database"]
    assert [each["Name"] for each in glue.get_databases()["DatabaseList"]] == ["sales"]
    assert glue.get_databases(AttributesToGet=["NAME"])["DatabaseList"] == [{"Name": "sales"}]
    glue.delete_database(Name="sales")
    assert glue.get_databases()["DatabaseList"] == []


def test_tags_of_a_database(glue: Any) -> None:
    """By its ARN."""
    glue.create_database(DatabaseInput={"Name": "db"}, Tags={"a": "1"})
    arn = f"arn:aws:glue:{REGION}:{ACCOUNT}:database/db"
    glue.tag_resource(ResourceArn=arn, TagsToAdd={"b": "2"})
    glue.untag_resource(ResourceArn=arn, TagsToRemove=["a"])
    assert glue.get_tags(ResourceArn=arn)["Tags"] == {"b": "2"}
    assert refused(glue.get_tags, ResourceArn=arn.replace("database/db", "job/x"))[0] == "InvalidInputException"


# -- tables ----------------------------------------------------------------------------------------------------------


def test_a_table_is_told_as_it_was_given_and_what_glue_adds(db: Any) -> None:
    """Its definition comes back whole."""
    given = {
        "Name": "Orders",
        "StorageDescriptor": STORAGE,
        "PartitionKeys": [{"Name": "day", "Type": "date"}],
        "TableType": "EXTERNAL_TABLE",
        "Parameters": {"classification": "parquet"},
    }
    db.create_table(DatabaseName="DB", TableInput=given)
    found = db.get_table(DatabaseName="db", Name="ORDERS")["Table"]
    assert found["Name"] == "orders"
    assert {name: found[name] for name in ("PartitionKeys", "TableType", "Parameters")} == {
        name: given[name] for name in ("PartitionKeys", "TableType", "Parameters")
    }
    assert found["StorageDescriptor"] == {
        **STORAGE,
        "Compressed": False,
        "NumberOfBuckets": 0,
        "SortColumns": [],
        "StoredAsSubDirectories": False,
    }
    assert (found["DatabaseName"], found["CatalogId"], found["VersionId"]) == ("db", ACCOUNT, "0")
    assert (found["Retention"], found["IsRegisteredWithLakeFormation"]) == (0, False)
    assert found["CreateTime"] == found["UpdateTime"]
    assert found["CreateTime"].microsecond == 0


def test_versions_of_a_table(db: Any) -> None:
    """Each update archives the one before; a stale VersionId changes nothing; SkipArchive keeps none."""
    db.create_table(DatabaseName="db", TableInput={"Name": "t", "Owner": "0"})
    db.update_table(DatabaseName="db", TableInput={"Name": "t", "Owner": "1"}, VersionId="0")
    assert refused(db.update_table, DatabaseName="db", TableInput={"Name": "t", "Owner": "lost"}, VersionId="0") == (
        "ConcurrentModificationException",
        "Update table failed due to concurrent modifications.",
    )
    db.update_table(DatabaseName="db", TableInput={"Name": "t", "Owner": "2"}, SkipArchive=True)
    versions = db.get_table_versions(DatabaseName="db", TableName="t")["TableVersions"]
    assert [(each["VersionId"], each["Table"]["Owner"]) for each in versions] == [("2", "2"), ("0", "0")]
    assert db.get_table_version(DatabaseName="db", TableName="t", VersionId="0")["TableVersion"] == versions[1]
    assert db.get_table_version(DatabaseName="db", TableName="t")["TableVersion"] == versions[0]
    errors = db.batch_delete_table_version(DatabaseName="db", TableName="t", VersionIds=["0", "1"])["Errors"]
    assert [(each["VersionId"], each["ErrorDetail"]["ErrorCode"]) for each in errors] == [
        ("1", "EntityNotFoundException")
    ]
    assert refused(db.delete_table_version, DatabaseName="db", TableName="t", VersionId="0")[0] == (
        "EntityNotFoundException"
    )


def test_lists_of_tables_go_by_pages_and_patterns(db: Any) -> None:
    """As paginators and awswrangler ask."""
    for place in range(7):
        db.create_table(DatabaseName="db", TableInput={"Name": f"sales_{place}", "TableType": "EXTERNAL_TABLE"})
    db.create_table(DatabaseName="db", TableInput={"Name": "other"})
    pages = list(db.get_paginator("get_tables").paginate(DatabaseName="db", PaginationConfig={"PageSize": 3}))
    assert [[each["Name"] for each in page["TableList"]] for page in pages] == [
        ["other", "sales_0", "sales_1"],
        ["sales_2", "sales_3", "sales_4"],
        ["sales_5", "sales_6"],
    ]

    def named(expression: str) -> list[str]:
        return [each["Name"] for each in db.get_tables(DatabaseName="db", Expression=expression)["TableList"]]

    assert named("*_1|oth.*") == ["other", "sales_1"]
    assert named("sales_[45]") == ["sales_4", "sales_5"]
    assert db.get_tables(DatabaseName="db", Expression="other", AttributesToGet=["NAME"])["TableList"] == [
        {"Name": "other"}
    ]
    assert refused(db.get_tables, DatabaseName="db", Expression="(")[0] == "InvalidInputException"
    assert refused(db.get_tables, DatabaseName="db", NextToken="\xff")[0] == "InvalidInputException"


def test_many_tables_are_deleted_at_once(db: Any) -> None:
    """Those that are not there are told, and keep nobody else."""
    for name in "abc":
        db.create_table(DatabaseName="db", TableInput={"Name": name})
    errors = db.batch_delete_table(DatabaseName="db", TablesToDelete=["a", "x", "B"])["Errors"]
    detail = {"ErrorCode": "EntityNotFoundException", "ErrorMessage": "Table x not found."}
    assert errors == [{"TableName": "x", "ErrorDetail": detail}]
    assert [each["Name"] for each in db.get_tables(DatabaseName="db")["TableList"]] == ["c"]


def test_tables_are_found_by_texts(db: Any) -> None:
    """In names, columns, parameters; by properties; sorted, and by pages."""
    db.create_database(DatabaseInput={"Name": "db2"})
    db.create_table(DatabaseName="db", TableInput={"Name": "customer-link", "StorageDescriptor": STORAGE})
    db.create_table(DatabaseName="db", TableInput={"Name": "xxlinkyy", "Parameters": {"classification": "json"}})
    db.create_table(DatabaseName="db2", TableInput={"Name": "link"})

    def names(**given: Any) -> list[str]:
        return [each["Name"] for each in db.search_tables(**given)["TableList"]]

    assert names(SearchText="link") == ["customer-link", "xxlinkyy", "link"]
    assert names(SearchText='"link"') == ["link"]
    assert names(SearchText="TAGS") == ["customer-link"]
    assert names(Filters=[{"Key": "Name", "Value": "link"}]) == ["customer-link", "link"]
    assert names(Filters=[{"Key": "DatabaseName", "Value": "db2"}]) == ["link"]
    assert names(Filters=[{"Key": "classification", "Value": "json"}]) == ["xxlinkyy"]
    assert names(SortCriteria=[{"FieldName": "Name", "Sort": "DESC"}]) == ["xxlinkyy", "link", "customer-link"]
    first = db.search_tables(MaxResults=2)
    assert len(first["TableList"]) == 2
    assert [each["Name"] for each in db.search_tables(NextToken=first["NextToken"])["TableList"]] == ["link"]


# -- partitions ------------------------------------------------------------------------------------------------------


def test_partitions_are_registered_and_found(db: Any) -> None:
    """One by one, in batches, by an expression on their keys."""
    keys = [{"Name": "year", "Type": "int"}, {"Name": "region", "Type": "string"}]
    indexes = [{"IndexName": "by_year", "Keys": ["year"]}]
    db.create_table(DatabaseName="db", TableInput={"Name": "t", "PartitionKeys": keys}, PartitionIndexes=indexes)
    named = {"DatabaseName": "db", "TableName": "t"}
    db.create_partition(**named, PartitionInput={"Values": ["2025", "eu"], "StorageDescriptor": STORAGE})
    batch = [{"Values": [year, "us"]} for year in ("2025", "2026", "2026")]
    errors = db.batch_create_partition(**named, PartitionInputList=batch)["Errors"]
    assert [(each["PartitionValues"], each["ErrorDetail"]["ErrorCode"]) for each in errors] == [
        (["2026", "us"], "AlreadyExistsException")
    ]
    found = db.get_partition(**named, PartitionValues=["2025", "eu"])["Partition"]
    assert found["StorageDescriptor"]["Location"] == "s3://lake/orders/"
    assert (found["DatabaseName"], found["TableName"], found["Values"]) == ("db", "t", ["2025", "eu"])
    pages = list(db.get_paginator("get_partitions").paginate(**named, PaginationConfig={"PageSize": 2}))
    assert [len(page["Partitions"]) for page in pages] == [2, 1]
    listed = db.get_partitions(**named, Expression="year > 2024 and region like 'u%'", ExcludeColumnSchema=True)
    assert [each["Values"] for each in listed["Partitions"]] == [["2025", "us"], ["2026", "us"]]
    wanted = [{"Values": ["2026", "us"]}, {"Values": ["1", "xx"]}]
    answer = db.batch_get_partition(**named, PartitionsToGet=wanted)
    assert [each["Values"] for each in answer["Partitions"]] == [["2026", "us"]]
    db.update_partition(**named, PartitionValueList=["2026", "us"], PartitionInput={"Parameters": {"a": "b"}})
    assert db.get_partition(**named, PartitionValues=["2026", "us"])["Partition"]["Parameters"] == {"a": "b"}
    db.delete_partition(**named, PartitionValues=["2026", "us"])
    errors = db.batch_delete_partition(**named, PartitionsToDelete=[*wanted, {"Values": ["2025", "us"]}])["Errors"]
    assert [each["PartitionValues"] for each in errors] == [["2026", "us"], ["1", "xx"]]
    assert [each["Values"] for each in db.get_partitions(**named)["Partitions"]] == [["2025", "eu"]]
    described = db.get_partition_indexes(**named)["PartitionIndexDescriptorList"]
    assert described == [{"IndexName": "by_year", "Keys": [{"Name": "year", "Type": "int"}], "IndexStatus": "ACTIVE"}]


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "given", "code", "message"),
    [
        ("get_database", {"Name": "Nope"}, "EntityNotFoundException", "Database nope not found."),
        ("get_tables", {"DatabaseName": "nope"}, "EntityNotFoundException", "Database nope not found."),
        ("get_table", {"DatabaseName": "nope", "Name": "t"}, "EntityNotFoundException", "Database nope not found."),
        ("get_table", {"DatabaseName": "db", "Name": "t"}, "EntityNotFoundException", "Table t not found."),
        ("delete_table", {"DatabaseName": "db", "Name": "t"}, "EntityNotFoundException", "Table t not found."),
        (
            "update_table",
            {"DatabaseName": "db", "TableInput": {"Name": "t"}},
            "EntityNotFoundException",
            "Table t not found.",
        ),
        (
            "create_table",
            {"DatabaseName": "nope", "TableInput": {"Name": "t"}},
            "EntityNotFoundException",
            "Database nope not found.",
        ),
        ("create_database", {"DatabaseInput": {"Name": "DB"}}, "AlreadyExistsException", "Database already exists."),
        (
            "get_database",
            {"Name": "db", "CatalogId": "s3tablescatalog/b"},
            "EntityNotFoundException",
            "Catalog s3tablescatalog/b not found.",
        ),
        (
            "get_tables",
            {"DatabaseName": "db", "MaxResults": 1_000},
            "ValidationException",
            "1 validation error detected: Value '1000' at 'maxResults' failed to satisfy constraint: "
            "Member must have value less than or equal to 100",
        ),
        (
            "create_crawler",
            {"Name": "c", "Role": "r", "Targets": {}},
            "NotImplementedException",
            "streamkit does not implement CreateCrawler yet.",
        ),
    ],
)
def test_refusals_have_glues_codes_and_texts(
    db: Any, operation: str, given: dict[str, Any], code: str, message: str
) -> None:
    """Clients branch on the codes, people read the texts."""
    assert refused(getattr(db, operation), **given) == (code, message)


def test_accounts_have_catalogs_of_their_own(db: Any) -> None:
    """CatalogId means another one."""
    db.create_database(CatalogId="111111111111", DatabaseInput={"Name": "theirs"})
    assert [each["Name"] for each in db.get_databases()["DatabaseList"]] == ["db"]
    found = db.get_database(CatalogId="111111111111", Name="theirs")["Database"]
    assert found["CatalogId"] == "111111111111"


def test_an_operation_that_glue_does_not_have_is_unknown(db: Any, raw: RawClient) -> None:
    """Also when its model is loaded already."""
    headers = {"X-Amz-Target": "AWSGlue.Nope", "Authorization": raw.authorization, "X-Amz-Date": "20260101T000000Z"}
    answer = raw.request("POST", "/", b"{}", {**headers, "Content-Type": "application/x-amz-json-1.1"})
    assert (answer.status, answer.json) == (400, {"__type": "UnknownOperationException"})


def test_only_one_of_many_who_update_the_same_version_wins(db: Any) -> None:
    """The lock that table formats are built on."""
    db.create_table(DatabaseName="db", TableInput={"Name": "t"})
    won: list[str] = []

    def update(owner: str) -> None:
        try:
            db.update_table(DatabaseName="db", TableInput={"Name": "t", "Owner": owner}, VersionId="0")
        except db.exceptions.ConcurrentModificationException:
            return
        won.append(owner)

    threads = [threading.Thread(target=update, args=(str(place),)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = db.get_table(DatabaseName="db", Name="t")["Table"]
    assert (won, found["VersionId"]) == ([found["Owner"]], "1")


# -- pyiceberg -------------------------------------------------------------------------------------------------------


def test_pyiceberg_keeps_its_tables_in_it(glue: Any, tmp_path: Path) -> None:
    """Namespaces, tables, appends, a lost race, renames: what its GlueCatalog does against AWS."""
    catalog = GlueCatalog("g", client=glue, warehouse=tmp_path.as_uri())
    catalog.create_namespace("lake", {"comment": "x"})
    rows = pa.table({"id": [1, 2], "name": ["a", "b"]})
    table = catalog.create_table(("lake", "events"), rows.schema)
    stale = catalog.load_table(("lake", "events"))
    table.append(rows)
    with pytest.raises(TableAlreadyExistsError):
        catalog.create_table(("lake", "events"), rows.schema)
    described = glue.get_table(DatabaseName="lake", Name="events")["Table"]
    assert described["Parameters"]["table_type"] == "ICEBERG"
    assert json.loads(Path(described["Parameters"]["metadata_location"].removeprefix("file://")).read_text())
    assert [(each["Name"], each["Type"]) for each in described["StorageDescriptor"]["Columns"]] == [
        ("id", "bigint"),
        ("name", "string"),
    ]
    stale.append(rows)  # loses the race for the version, and is tried again on top of the other
    assert catalog.load_table(("lake", "events")).scan().to_arrow().num_rows == 4
    assert catalog.list_tables("lake") == [("lake", "events")]
    catalog.rename_table(("lake", "events"), ("lake", "renamed"))
    assert catalog.load_table(("lake", "renamed")).scan().to_arrow().column("id").to_pylist() == [1, 2, 1, 2]
    with pytest.raises(NoSuchTableError):
        catalog.load_table(("lake", "events"))
    with pytest.raises(NamespaceNotEmptyError):
        catalog.drop_namespace("lake")
    catalog.drop_table(("lake", "renamed"))
    catalog.drop_namespace("lake")
    assert catalog.list_namespaces() == []
