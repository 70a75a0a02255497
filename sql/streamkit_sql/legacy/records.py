"""The tables of an application's inputs and outputs.

Rules: "Mapping Streaming Source Elements to SQL Input Columns" and "Working with JSONPath" of the developer guide. Only
paths of names are taken: those with indexes make several rows of a record, or read an array.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from streamkit_sql.errors import NotSupported, SqlError, TypeProblem
from streamkit_sql.language import tree
from streamkit_sql.legacy.functions import binary, call, number
from streamkit_sql.legacy.inputs import Format, Input, InputColumn, Output, ReferenceTable
from streamkit_sql.legacy.parser import parse_type
from streamkit_sql.legacy.scopes import ARRIVAL, ROWTIME, Column, Relation, inner_name
from streamkit_sql.legacy.tables import rowtime_column
from streamkit_sql.limits import LEGACY_PARALLELISM_MAX
from streamkit_sql.types import BIGINT, Field, Kind, SqlType, timestamp_ltz, varchar

WINDOW_TIME: Final = tree.Name(("window_time",))
_SHARD: Final = "SHARD_ID"
_SHARD_DIGITS: Final = 9
"""Where the number begins in `shardId-000000000001`."""
_STEP: Final = re.compile(r"\.([^.\[\]]+)|\['([^']+)'\]")


def relations(given: Input) -> list[tuple[str, Relation]]:
    """The in-application streams and the reference tables, by name. Raises SqlError where the schema is not right."""
    _require(given)
    columns = (*_columns(given.columns), Column(ARRIVAL, ARRIVAL, timestamp_ltz(3), "event", hidden=True))
    relation = Relation((*columns, rowtime_column()))
    found = [(name, relation) for name in given.names]
    return found + [(each.name, Relation(_columns(each.columns), is_reference=True)) for each in given.references]


def _require(given: Input) -> None:
    for columns in (given.columns, *(each.columns for each in given.references)):
        names = [column.name.lower() for column in columns]
        if not names:
            raise SqlError(f"the schema of {given.prefix!r} has no columns")
        for name in names:
            if names.count(name) > 1 or name.upper() in (ROWTIME, ARRIVAL):
                raise SqlError(f"the schema of {given.prefix!r} has the column {name!r} twice, or differing by case")
    if not 1 <= given.parallelism <= LEGACY_PARALLELISM_MAX:
        text = f"the parallelism of {given.prefix!r} is from 1 to {LEGACY_PARALLELISM_MAX}, not {given.parallelism}"
        raise SqlError(text)


def _columns(columns: Sequence[InputColumn]) -> tuple[Column, ...]:
    """By the names that the streams' views give them."""
    made: list[Column] = []
    for each in columns:
        name = inner_name(each.name, [ROWTIME, ARRIVAL, *(column.sql for column in made)])
        made.append(Column(each.name, name, parse_type(each.type).with_null()))
    return tuple(made)


def statements(given: Input, *, by_arrival: bool) -> list[tree.Statement]:
    """The table of the records, the streams over it, and the reference tables. `by_arrival`: a window goes by the time
    of arrival, which then has a watermark."""
    paths = _paths(given.columns, given.row_path, given.format)
    columns = _columns(given.columns)
    is_plain = all(path == (column.sql,) for path, column in zip(paths, columns, strict=True))
    is_direct = is_plain and given.parallelism == 1
    name = given.names[0] if is_direct else f"{given.prefix}_RECORDS"
    made: list[tree.Statement] = [_table(given, name, paths, columns, by_arrival=by_arrival)]
    if not is_direct:
        made += [_view(given, name, index, paths, columns) for index in range(given.parallelism)]
    return [*made, *(_reference(each) for each in given.references)]


def _table(
    given: Input, name: str, paths: Sequence[tuple[str, ...]], columns: Sequence[Column], *, by_arrival: bool
) -> tree.CreateTable:
    arrival = tree.MetadataColumn(ARRIVAL, timestamp_ltz(3), "timestamp", virtual=True)
    written: list[tree.PhysicalColumn | tree.MetadataColumn | tree.ComputedColumn] = [*_physical(paths, columns)]
    written.append(arrival)
    if given.parallelism > 1:
        written.append(tree.MetadataColumn(_SHARD, varchar(128), "shard-id", virtual=True))
    written.append(tree.ComputedColumn(ROWTIME, call("PROCTIME")))
    watermark = tree.Watermark((ARRIVAL,), tree.Name((ARRIVAL,))) if by_arrival else None
    options = (("connector", "kinesis"), ("stream", given.stream), *_format(given.format, given.delimiter))
    return tree.CreateTable(tree.Name((name,)), tuple(written), options, watermark)


def _view(
    given: Input, name: str, index: int, paths: Sequence[tuple[str, ...]], columns: Sequence[Column]
) -> tree.CreateView:
    """One in-application stream. Which shards it has is not documented; here every n-th."""
    items = []
    for path, column in zip(paths, columns, strict=True):
        items.append(tree.SelectItem(tree.Name(path), None if path[-1] == column.sql else column.sql))
    items += [tree.SelectItem(tree.Name((each,))) for each in (ARRIVAL, ROWTIME)]
    where: tree.Expression | None = None
    if given.parallelism > 1:
        digits = call("SUBSTRING", tree.Name((_SHARD,)), number(_SHARD_DIGITS))
        of = call("MOD", tree.Cast(digits, BIGINT), number(given.parallelism))
        where = binary(of, "=", number(index))
    select = tree.Select(tuple(items), tree.TableName(tree.Name((name,))), where)
    return tree.CreateView(tree.Name((given.names[index],)), select)


def _reference(given: ReferenceTable) -> tree.CreateTable:
    columns = _columns(given.columns)
    paths = _paths(given.columns, "$", given.format)
    for path, column in zip(paths, columns, strict=True):
        if path != (column.sql,):
            raise NotSupported(
                f"the mapping of {column.name!r} of {given.name!r}", hint="Map it to a field of its name."
            )
    options = (("connector", "filesystem"), ("path", given.path), *_format(given.format, given.delimiter))
    return tree.CreateTable(tree.Name((given.name,)), tuple(_physical(paths, columns)), options)


def sink(name: tree.Name, columns: Sequence[tree.PhysicalColumn], output: Output | None) -> tree.CreateTable:
    """Where a stream goes; it is printed without an output."""
    if output is None:
        options: tuple[tuple[str, str], ...] = (("connector", "print"),)
    elif output.delivery_stream:
        options = (("connector", "streamkit-delivery"), ("delivery-stream", output.delivery_stream))
    else:
        options = (("connector", "kinesis"), ("stream", output.stream))
    if output is not None:
        options = (*options, ("format", output.format))
    return tree.CreateTable(name, tuple(columns), options)


def _format(of: Format, delimiter: str) -> tuple[tuple[str, str], ...]:
    """A record that does not fit costs its row, not the query: there is no error stream to put it into."""
    options = [("format", of), (f"{of}.ignore-parse-errors", "true")]
    if of == "csv" and delimiter != ",":
        options.append(("csv.field-delimiter", delimiter))
    return tuple(options)


# -- paths -----------------------------------------------------------------------------------------------------------


def _paths(columns: Sequence[InputColumn], row_path: str, of: Format) -> list[tuple[str, ...]]:
    """Where each column is in a record. A CSV's columns are called as the streams' are."""
    if of == "csv":
        return [(column.sql,) for column in _columns(columns)]
    row = _names(row_path)
    return [(*row, *(_names(each.mapping) if each.mapping else (each.name,))) for each in columns]


def _names(path: str) -> tuple[str, ...]:
    """`$.a.b`: a, b."""
    rest = path.strip().removeprefix("$")
    names = [dotted or quoted for dotted, quoted in _STEP.findall(rest)]
    if _STEP.sub("", rest):
        raise NotSupported(f"the path {path!r} is not supported", hint="Paths are of names: $.a.b.")
    return tuple(names)


def _physical(paths: Sequence[tuple[str, ...]], columns: Sequence[Column]) -> list[tree.PhysicalColumn]:
    """The fields of a record: paths with a common beginning are one row type."""
    found: dict[str, list[tuple[tuple[str, ...], SqlType]]] = {}
    for path, column in zip(paths, columns, strict=True):
        if not path:
            raise NotSupported(f"a whole record as the column {column.name!r}", hint="Map it to a field.")
        assert column.type is not None
        found.setdefault(path[0], []).append((path[1:], column.type))
    return [tree.PhysicalColumn(name, _type_of(name, inside)) for name, inside in found.items()]


def _type_of(name: str, inside: Sequence[tuple[tuple[str, ...], SqlType]]) -> SqlType:
    types = [of for path, of in inside if not path]
    if types:
        if any(path for path, _ in inside) or any(not of.same_as(types[0]) for of in types):
            raise TypeProblem(f"the field {name!r} of a record is mapped to columns of several types")
        return types[0]
    found: dict[str, list[tuple[tuple[str, ...], SqlType]]] = {}
    for path, of in inside:
        found.setdefault(path[0], []).append((path[1:], of))
    return SqlType(Kind.ROW, fields=tuple(Field(each, _type_of(each, rest)) for each, rest in found.items()))
