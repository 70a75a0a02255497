"""AWS Glue's Data Catalog: databases, tables, versions, partitions, over `streamkit.catalog`.

Values come checked against the service model; what a function returns is encoded by it. Rules beyond the model, and
their words, are in `streamkit.catalog.rules`. Operations that are in the model and not here (jobs, crawlers, the schema
registry, and more) are answered by name as not implemented. Glue's model is the largest of all: the gateway makes this
service when it is first asked for.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import pybase64

from streamkit.api.gateway import Action, FastPath
from streamkit.api.service_model import ServiceModel
from streamkit.catalog.catalog import Catalog
from streamkit.catalog.rules import database_not_found
from streamkit.catalog.state import DatabaseState, PartitionState, TableState
from streamkit.model.errors import EntityNotFound, InvalidInput, NotImplementedHere, RequestError
from streamkit.model.limits import CATALOG_PAGE_BYTES_MAX, CATALOG_PAGE_MAX, CATALOG_PARTITIONS_PAGE_MAX
from streamkit.model.names import ACCOUNT_ID, Scope

Values = dict[str, Any]
Operation = Callable[["Glue", Scope, Values], Awaitable[Mapping[str, Any]]]

TARGET_PREFIX: Final = "AWSGlue"
_OPERATIONS: Final[dict[str, Operation]] = {}
_DATABASE_ARN: Final = re.compile(r"arn:aws[^:]*:glue:([^:]*):([0-9]{12}):database/([^/]+)")
_TIMES: Final = {"createtime": "created_at_ms", "updatetime": "updated_at_ms"}


def operation(name: str) -> Callable[[Operation], Operation]:
    def register(function: Operation) -> Operation:
        _OPERATIONS[name] = function
        return function

    return register


class Glue:
    """See `streamkit.api.gateway.JsonService`."""

    def __init__(self, catalog: Catalog) -> None:
        self.model = ServiceModel.load("glue", "2017-03-31")
        assert self.model.target_prefix == TARGET_PREFIX
        self.catalog = catalog

    @property
    def actions(self) -> Mapping[str, Action]:
        return {name: _bound(self, function) for name, function in _OPERATIONS.items()}

    @property
    def fast_paths(self) -> Mapping[str, FastPath]:
        return {}


def _bound(glue: Glue, function: Operation) -> Action:
    return lambda scope, given: function(glue, _catalog_of(scope, given), given)


def _catalog_of(scope: Scope, given: Values) -> Scope:
    """Whose catalog is meant: an account's number is its catalog's. There are no others here."""
    catalog = given.get("CatalogId")
    if catalog is None or catalog == scope.account:
        return scope
    if not ACCOUNT_ID.fullmatch(catalog):
        raise EntityNotFound(f"Catalog {catalog} not found.")
    return Scope(catalog, scope.region)


# -- databases -------------------------------------------------------------------------------------------------------


@operation("CreateDatabase")
async def create_database(glue: Glue, scope: Scope, given: Values) -> Mapping[str, Any]:
    glue.catalog.create_database(scope, given["DatabaseInput"], given.get("Tags"))
    return {}


@operation("GetDatabase")
async def get_database(glue: Glue, scope: Scope, given: Values) -> Mapping[str, Any]:
    return {"Database": _database_fields(glue.catalog.database(scope, given["Name"]))}


@operation("GetDatabases")
async def get_databases(glue: Glue, scope: Scope, given: Values) -> Mapping[str, Any]:
    page = glue.catalog.databases(scope, after=_after(given), items_max=given.get("MaxResults", CATALOG_PAGE_MAX))
    wanted = {"NAME": "Name", "TARGET_DATABASE": "TargetDatabase"}
    return {
        "DatabaseList": [_only(_database_fields(each), given.get("AttributesToGet"), wanted) for each in page.items],
        "NextToken": _token(page.onward),
    }


@operation("UpdateDatabase")
async def update_database(glue: Glue, scope: Scope, given: Values) -> Mapping[str, Any]:
    glue.catalog.update_database(scope, given["Name"], given["DatabaseInput"])
    return {}


@operation("DeleteDatabase")
async def delete_database(glue: Glue, scope: Scope, given: Values) -> Mapping[str, Any]:
    glue.catalog.delete_database(scope, given["Name"])
    return {}


# -- tables ----------------------------------------------------------------------------------------------------------


@operation("CreateTable")
async def create_table(glue: Glue, scope: Scope, given: Values) -> Mapping[str, Any]:
    glue.catalog.create_table(scope, given["DatabaseName"], _table_input(given), given.get("PartitionIndexes", ()))
    return {}


@operation("GetTable")
async def get_table(glue: Glue, scope: Scope, given: Values) -> Mapping[str, Any]:
    return {"Table": _table_fields(glue.catalog.table(scope, given["DatabaseName"], given["Name"]))}


@operation("GetTables")
async def get_tables(glue: Glue, scope: Scope, given: Values) -> Mapping[str, Any]:
    page = glue.catalog.tables(
        scope,
        given["DatabaseName"],
        expression=given.get("Expression"),
        after=_after(given),
        items_max=given.get("MaxResults", CATALOG_PAGE_MAX),
    )
    wanted = {"NAME": "Name", "TABLE_TYPE": "TableType"}
    return {
        "TableList": [_only(_table_fields(each), given.get("AttributesToGet"), wanted) for each in page.items],
        "NextToken": _token(page.onward),
    }


@operation("UpdateTable")
async def update_table(glue: Glue, scope: Scope, given: Values) -> Mapping[str, Any]:
    glue.catalog.update_table(
        scope,
        given["DatabaseName"],
        _table_input(given),
        version=given.get("VersionId"),
        archives=not given.get("SkipArchive", False),
    )
    return {}


@operation("DeleteTable")
async def delete_table(glue: Glue, scope: Scope, given: Values) -> Mapping[str, Any]:
    glue.catalog.delete_table(scope, given["DatabaseName"], given["Name"])
    return {}


@operation("BatchDeleteTable")
async def batch_delete_table(glue: Glue, scope: Scope, given: Values) -> Mapping[str, Any]:
    database = glue.catalog.database(scope, given["DatabaseName"]).name
    failed = _each(given["TablesToDelete"], lambda name: glue.catalog.delete_table(scope, database, name))
    return {"Errors": [{"TableName": name, "ErrorDetail": _detail(error)} for name, error in failed]}


@operation("SearchTables")
async def search_tables(glue: Glue, scope: Scope, given: Values) -> Mapping[str, Any]:
    """As far as one can be found by texts; AWS's ranking and the exact ways of its tokens are not known."""
    tests = [_property_test(each) for each in given.get("Filters", ())]
    if given.get("SearchText"):
        tests.append(_text_test(given["SearchText"]))
    order = given.get("SortCriteria", ())
    found = [
        ([_sortable(table, each.get("FieldName", "Name")) for each in order], table.database, table.name)
        for table in glue.catalog.every_table(scope)
        if all(test(table) for test in tests)
    ]
    for place, criterion in reversed(list(enumerate(order))):
        found.sort(key=lambda each: each[0][place], reverse=criterion.get("Sort") == "DESC")
    stop = start = _start(given)
    tables: list[TableState] = []
    size_bytes = 0
    for _, database, name in found[start : start + given.get("MaxResults", CATALOG_PAGE_MAX)]:
        tables.append(glue.catalog.table(scope, database, name))
        size_bytes += _size_bytes(tables[-1])
        stop += 1
        if size_bytes > CATALOG_PAGE_BYTES_MAX:
            break
    return {
        "TableList": [_table_fields(table) for table in tables],
        "NextToken": _token(str(stop)) if stop < len(found) else None,
    }


# -- versions --------------------------------------------------------------------------------------------------------


@operation("GetTableVersion")
async def get_table_version(glue: Glue, scope: Scope, given: Values) -> Mapping[str, Any]:
    table = glue.catalog.table(scope, given["DatabaseName"], given["TableName"], given.get("VersionId"))
    return {"TableVersion": _version_fields(table)}


@operation("GetTableVersions")
async def get_table_versions(glue: Glue, scope: Scope, given: Values) -> Mapping[str, Any]:
    page = glue.catalog.versions(
        scope,
        given["DatabaseName"],
        given["TableName"],
        after=_after(given),
        items_max=given.get("MaxResults", CATALOG_PAGE_MAX),
    )
    return {"TableVersions": [_version_fields(each) for each in page.items], "NextToken": _token(page.onward)}


@operation("DeleteTableVersion")
async def delete_table_version(glue: Glue, scope: Scope, given: Values) -> Mapping[str, Any]:
    glue.catalog.delete_version(scope, given["DatabaseName"], given["TableName"], given["VersionId"])
    return {}


@operation("BatchDeleteTableVersion")
async def batch_delete_table_version(glue: Glue, scope: Scope, given: Values) -> Mapping[str, Any]:
    table = glue.catalog.table(scope, given["DatabaseName"], given["TableName"])
    failed = _each(
        given["VersionIds"],
        lambda version: glue.catalog.delete_version(scope, table.database, table.name, version),
    )
    return {
        "Errors": [
            {"TableName": table.name, "VersionId": version, "ErrorDetail": _detail(error)} for version, error in failed
        ]
    }


# -- partitions ------------------------------------------------------------------------------------------------------


@operation("CreatePartition")
async def create_partition(glue: Glue, scope: Scope, given: Values) -> Mapping[str, Any]:
    glue.catalog.create_partition(scope, *_named(given), given["PartitionInput"])
    return {}


@operation("BatchCreatePartition")
async def batch_create_partition(glue: Glue, scope: Scope, given: Values) -> Mapping[str, Any]:
    known = glue.catalog.create_partitions(scope, *_named(given), given["PartitionInputList"])
    detail = {"ErrorCode": "AlreadyExistsException", "ErrorMessage": "Partition already exists."}
    return {"Errors": [{"PartitionValues": values, "ErrorDetail": detail} for values in known]}


@operation("GetPartition")
async def get_partition(glue: Glue, scope: Scope, given: Values) -> Mapping[str, Any]:
    table = glue.catalog.table(scope, *_named(given))
    found = glue.catalog.partition(scope, *_named(given), given["PartitionValues"])
    return {"Partition": _partition_fields(table, found)}


@operation("GetPartitions")
async def get_partitions(glue: Glue, scope: Scope, given: Values) -> Mapping[str, Any]:
    """Segments, which are for reading in parallel: the first has all partitions, the others none."""
    table = glue.catalog.table(scope, *_named(given))
    if given.get("Segment", {}).get("SegmentNumber"):
        return {"Partitions": []}
    page = glue.catalog.partitions(
        scope,
        *_named(given),
        expression=given.get("Expression"),
        after=_after(given),
        items_max=given.get("MaxResults", CATALOG_PARTITIONS_PAGE_MAX),
    )
    bare = given.get("ExcludeColumnSchema", False)
    return {
        "Partitions": [_partition_fields(table, each, without_columns=bare) for each in page.items],
        "NextToken": _token(page.onward),
    }


@operation("BatchGetPartition")
async def batch_get_partition(glue: Glue, scope: Scope, given: Values) -> Mapping[str, Any]:
    """Partitions that are not there are left out. What makes the answer too large is for another call."""
    table = glue.catalog.table(scope, *_named(given))
    found: list[PartitionState] = []
    size_bytes = 0
    wanted = given["PartitionsToGet"]
    for place, each in enumerate(wanted):
        if size_bytes > CATALOG_PAGE_BYTES_MAX:
            left = wanted[place:]
            break
        try:
            found.append(glue.catalog.partition(scope, *_named(given), each["Values"]))
        except EntityNotFound:
            continue
        size_bytes += _size_bytes(found[-1])
    else:
        left = []
    return {"Partitions": [_partition_fields(table, each) for each in found], "UnprocessedKeys": left}


@operation("UpdatePartition")
async def update_partition(glue: Glue, scope: Scope, given: Values) -> Mapping[str, Any]:
    glue.catalog.update_partition(scope, *_named(given), given["PartitionValueList"], given["PartitionInput"])
    return {}


@operation("DeletePartition")
async def delete_partition(glue: Glue, scope: Scope, given: Values) -> Mapping[str, Any]:
    glue.catalog.delete_partition(scope, *_named(given), given["PartitionValues"])
    return {}


@operation("BatchDeletePartition")
async def batch_delete_partition(glue: Glue, scope: Scope, given: Values) -> Mapping[str, Any]:
    table = glue.catalog.table(scope, *_named(given))
    failed = _each(
        [each["Values"] for each in given["PartitionsToDelete"]],
        lambda values: glue.catalog.delete_partition(scope, table.database, table.name, values),
    )
    return {"Errors": [{"PartitionValues": values, "ErrorDetail": _detail(error)} for values, error in failed]}


@operation("GetPartitionIndexes")
async def get_partition_indexes(glue: Glue, scope: Scope, given: Values) -> Mapping[str, Any]:
    """What CreateTable was given; nothing is made faster by them here."""
    table = glue.catalog.table(scope, *_named(given))
    kinds = {each["Name"]: each.get("Type") for each in table.partition_keys}
    return {
        "PartitionIndexDescriptorList": [
            {
                "IndexName": index["IndexName"],
                "Keys": [{"Name": name, "Type": kinds.get(name)} for name in index["Keys"]],
                "IndexStatus": "ACTIVE",
            }
            for index in table.partition_indexes
        ]
    }


# -- tags, and what others ask first ---------------------------------------------------------------------------------


@operation("TagResource")
async def tag_resource(glue: Glue, scope: Scope, given: Values) -> Mapping[str, Any]:
    at, name = _tagged(given)
    glue.catalog.set_tags(at, name, {**glue.catalog.database(at, name).tags, **given["TagsToAdd"]})
    return {}


@operation("UntagResource")
async def untag_resource(glue: Glue, scope: Scope, given: Values) -> Mapping[str, Any]:
    at, name = _tagged(given)
    known = glue.catalog.database(at, name).tags
    glue.catalog.set_tags(at, name, {key: known[key] for key in known if key not in given["TagsToRemove"]})
    return {}


@operation("GetTags")
async def get_tags(glue: Glue, scope: Scope, given: Values) -> Mapping[str, Any]:
    return {"Tags": glue.catalog.database(*_tagged(given)).tags}


@operation("GetUserDefinedFunctions")
async def get_user_defined_functions(glue: Glue, scope: Scope, given: Values) -> Mapping[str, Any]:
    """There are none; Spark and Trino ask all the same."""
    if given.get("DatabaseName") is not None:
        glue.catalog.database(scope, given["DatabaseName"])
    return {"UserDefinedFunctions": []}


# -- what requests mean ----------------------------------------------------------------------------------------------


def _named(given: Values) -> tuple[str, str]:
    return given["DatabaseName"], given["TableName"]


def _table_input(given: Values) -> Values:
    """The definition in a CreateTable or an UpdateTable. Glue can also make Iceberg's metadata files and views by
    itself: that is not done here."""
    for member in ("OpenTableFormatInput", "UpdateOpenTableFormatInput", "ViewUpdateAction"):
        if given.get(member) is not None:
            raise NotImplementedHere(f"streamkit does not implement {member} yet.")
    table: Values | None = given.get("TableInput")
    if table is None:
        raise InvalidInput("TableInput is required.")  # ours
    if table.get("ViewDefinition") is not None:
        raise NotImplementedHere("streamkit does not implement ViewDefinition yet.")
    return table


def _tagged(given: Values) -> tuple[Scope, str]:
    """Of what can be tagged in Glue, only databases are here."""
    match = _DATABASE_ARN.fullmatch(given["ResourceArn"])
    if match is None:
        raise InvalidInput(f"{given['ResourceArn']} is no database of the data catalog.")
    scope, name = Scope(match[2], match[1]), match[3]
    if name != name.lower():
        raise database_not_found(name)
    return scope, name


def _token(onward: str | None) -> str | None:
    return None if onward is None else pybase64.b64encode_as_string(onward.encode())


def _after(given: Values) -> str:
    """Where a page begins. AWS's text for a token that it did not give is not known."""
    token = given.get("NextToken")
    if not token:
        return ""
    try:
        return str(pybase64.b64decode(token, validate=True).decode())
    except ValueError:
        raise InvalidInput("The NextToken is not valid.") from None


def _start(given: Values) -> int:
    after = _after(given) or "0"
    if not (after.isascii() and after.isdecimal()):
        raise InvalidInput("The NextToken is not valid.")
    return int(after)


def _size_bytes(state: TableState | PartitionState) -> int:
    return len(msgspec.json.encode(state.document))


def _each(items: Iterable[Any], change: Callable[[Any], None]) -> list[tuple[Any, RequestError]]:
    """Those whose change was refused, and why."""
    failed: list[tuple[Any, RequestError]] = []
    for item in items:
        try:
            change(item)
        except RequestError as error:
            failed.append((item, error))
    return failed


def _detail(error: RequestError) -> Values:
    return {"ErrorCode": error.code, "ErrorMessage": error.message}


# -- how things look -------------------------------------------------------------------------------------------------


def _database_fields(state: DatabaseState) -> Values:
    return {
        "CreateTableDefaultPermissions": [],
        **state.document,
        "CreateTime": state.created_at_ms,
        "CatalogId": state.account,
    }


def _table_fields(state: TableState) -> Values:
    """What AWS adds to a definition, as its answers have it (hashicorp/terraform-provider-aws 35954)."""
    fields = {
        "Retention": 0,
        **state.document,
        "DatabaseName": state.database,
        "CreateTime": state.created_at_ms,
        "UpdateTime": state.updated_at_ms,
        "CreatedBy": f"arn:aws:iam::{state.account}:root",
        "IsRegisteredWithLakeFormation": False,
        "IsMultiDialectView": False,
        "CatalogId": state.account,
        "VersionId": str(state.version),
    }
    if fields.get("StorageDescriptor") is not None:
        fields["StorageDescriptor"] = _storage_fields(fields["StorageDescriptor"])
    return fields


def _storage_fields(given: Values) -> Values:
    return {"Compressed": False, "NumberOfBuckets": 0, "SortColumns": [], "StoredAsSubDirectories": False, **given}


def _version_fields(state: TableState) -> Values:
    return {"Table": _table_fields(state), "VersionId": str(state.version)}


def _partition_fields(table: TableState, state: PartitionState, *, without_columns: bool = False) -> Values:
    fields = {
        "Values": state.values,
        "DatabaseName": table.database,
        "TableName": table.name,
        "CreationTime": state.created_at_ms,
        **state.document,
        "CatalogId": table.account,
    }
    storage = fields.get("StorageDescriptor")
    if storage is not None:
        kept = {name: value for name, value in storage.items() if not (without_columns and name == "Columns")}
        fields["StorageDescriptor"] = _storage_fields(kept)
    return fields


def _only(fields: Values, attributes: Sequence[str] | None, names: Mapping[str, str]) -> Values:
    """The attributes that are asked for; all where none are."""
    if attributes is None:
        return fields
    wanted = {names[each] for each in attributes if each in names}
    return {name: value for name, value in fields.items() if name in wanted}


# -- searching -------------------------------------------------------------------------------------------------------


def _property_test(given: Values) -> Callable[[TableState], bool]:
    """A value fits where it is the property, or one of the tokens it falls into: `link` fits `customer-link`."""
    key, wanted = given.get("Key", "").lower(), given.get("Value", "").lower()
    if key in _TIMES or key == "lastaccesstime":
        raise NotImplementedHere("streamkit does not search tables by time yet.")

    def fits(table: TableState) -> bool:
        value = _property(table, key).lower()
        return wanted == value or wanted in re.split(r"\W+", value)

    return fits


def _property(table: TableState, key: str) -> str:
    known = {"name": table.name, "tablename": table.name, "databasename": table.database, "catalogid": table.account}
    if key in known:
        return known[key]
    members = {name.lower(): value for name, value in table.document.items() if isinstance(value, str)}
    parameters = {name.lower(): value for name, value in (table.document.get("Parameters") or {}).items()}
    return str(members.get(key, parameters.get(key, "")))


def _text_test(text: str) -> Callable[[TableState], bool]:
    """In quotes, a name that is just that; otherwise found anywhere in what describes a table."""
    wanted = text.lower()
    if len(wanted) > 2 and wanted[0] == wanted[-1] == '"':
        return lambda table: wanted[1:-1] in (table.name, table.database)

    def fits(table: TableState) -> bool:
        described = [table.name, table.database, table.document.get("Description") or ""]
        for column in (*table.columns, *table.partition_keys):
            described += [column["Name"], column.get("Comment") or ""]
        described += (table.document.get("Parameters") or {}).values()
        return any(wanted in each.lower() for each in described)

    return fits


def _sortable(table: TableState, name: str) -> tuple[int, str]:
    time = _TIMES.get(name.lower())
    return (getattr(table, time), "") if time else (0, _property(table, name.lower()))
