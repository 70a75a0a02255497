"""The table that a stream is, told from a sample of its records: what a query reads where there is no CREATE TABLE.

JSON objects give columns of the types that all their values fit; lines of equally many values are CSV; anything else is
one text, or bytes. The time is the arrival time, with a watermark of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from streamkit_sql.language import tree
from streamkit_sql.tables import java_text
from streamkit_sql.tables.csv_format import CsvOptions, parse_line
from streamkit_sql.tables.json_exact import Object, Real, Whole, parse
from streamkit_sql.types import (
    BIGINT,
    BOOLEAN,
    BYTES_TYPE,
    DOUBLE,
    STRING,
    Field,
    Kind,
    SqlType,
    array,
    decimal,
    timestamp,
    timestamp_ltz,
)

SAMPLE_RECORDS_MAX: Final = 1_000
"""Ours: later records cannot change a table that a query reads already, so more would only cost time."""
COLUMNS_MAX: Final = 1_000  # AWS: SourceSchema's record columns of an analytics application
DEPTH_MAX: Final = 16
"""Ours: what is nested deeper is a text."""
ARRIVAL: Final = "arrival_time"
_INTEGER_DIGITS_MAX: Final = 18
_UNKNOWN: Final = SqlType(Kind.NULL)
_NUMBER_COLUMN = re.compile(r"-?[0-9]+")


class _Times:
    """Which forms of timestamps the texts of a sample have; one table reads only one of them."""

    def __init__(self) -> None:
        self.standards: dict[str, int] = {"SQL": 0, "ISO-8601": 0}


def discover(name: str, options: Mapping[str, str], samples: Sequence[bytes]) -> tree.CreateTable:
    """`options` are the connector's; format and its options are added. `samples` may be empty: then records are texts.

    Columns keep the names that fields have, but those that differ only by case keep the first; a field called as the
    arrival time makes that `arrival_time_1`, and so on.
    """
    samples = [each for each in samples[:SAMPLE_RECORDS_MAX] if each]
    columns, more = _json(samples) or _csv(samples) or _raw(samples)
    taken = {each.name.lower() for each in columns}
    arrival, number = ARRIVAL, 0
    while arrival in taken:
        number += 1
        arrival = f"{ARRIVAL}_{number}"
    time = tree.MetadataColumn(arrival, timestamp_ltz(3), "timestamp", True)
    watermark = tree.Watermark((arrival,), tree.Name((arrival,)))
    return tree.CreateTable(
        name=tree.Name((name,)),
        columns=(*(tree.PhysicalColumn(each.name, each.type) for each in columns), time),
        options=tuple({**options, **more}.items()),
        watermark=watermark,
    )


# -- JSON ------------------------------------------------------------------------------------------------------------


def _json(samples: Sequence[bytes]) -> tuple[list[Field], dict[str, str]] | None:
    """Where at least nine of ten records are objects: a bad one does not make a stream of texts."""
    rows = []
    for each in samples:
        try:
            root = parse(each)
        except ValueError:
            continue
        rows += [
            inner
            for inner in (root if isinstance(root, list) and not isinstance(root, Object) else [root])
            if isinstance(inner, Object)
        ]
    if not rows or len(rows) * 10 < len(samples) * 9:
        return None
    times = _Times()
    _count_times(rows, times)
    standard = max(times.standards, key=lambda each: times.standards[each])
    of = _row_type(rows, standard, DEPTH_MAX)
    if not of.fields:
        return None
    options = {"format": "json"}
    if standard != "SQL":
        options["json.timestamp-format.standard"] = standard
    return list(of.fields), options


def _count_times(value: Any, times: _Times) -> None:
    if isinstance(value, Object):
        for _, each in value:
            _count_times(each, times)
    elif isinstance(value, list):
        for each in value:
            _count_times(each, times)
    elif type(value) is str:
        for standard in times.standards:
            if _time_type(value, standard) is not None:
                times.standards[standard] += 1


def _row_type(rows: Iterable[Object], standard: str, depth: int) -> SqlType:
    names: dict[str, str] = {}
    types: dict[str, SqlType] = {}
    for each in rows:
        for name, value in each.first().items():
            if not name or (name.lower() not in names and len(names) >= COLUMNS_MAX):
                continue
            if names.setdefault(name.lower(), name) == name:
                types[name] = _common(types.get(name, _UNKNOWN), _type_of(value, standard, depth))
    fields = tuple(Field(name, _settled(of)) for name, of in types.items())
    return SqlType(Kind.ROW, fields=fields)


def _type_of(value: Any, standard: str, depth: int) -> SqlType:
    if value is None:
        return _UNKNOWN
    if isinstance(value, bool):
        return BOOLEAN
    if isinstance(value, Whole):
        digits = len(value.lstrip("-"))
        return BIGINT if digits <= _INTEGER_DIGITS_MAX else decimal(38, 0) if digits <= 38 else STRING
    if isinstance(value, Real):
        return DOUBLE
    if isinstance(value, Object):
        return _row_type([value], standard, depth - 1) if depth and value else STRING
    if isinstance(value, list):
        if not depth:
            return STRING
        element = _UNKNOWN
        for each in value:
            element = _common(element, _type_of(each, standard, depth - 1))
        return array(element)
    return _time_type(value, standard) or STRING


def _time_type(text: str, standard: str) -> SqlType | None:
    if not 16 <= len(text) <= 40 or text[4:5] != "-":
        return None
    for has_zone in (False, True):
        try:
            java_text.timestamp_ns(text, standard, has_zone=has_zone)
        except ValueError:
            continue
        digits = len(text.rstrip("Z").partition(".")[2])
        precision = 3 if digits <= 3 else 6 if digits <= 6 else 9
        return timestamp_ltz(precision) if has_zone else timestamp(precision)
    return None


def _common(left: SqlType, right: SqlType) -> SqlType:
    """The type that takes the values of both; a text takes everything."""
    if left == right or right.kind is Kind.NULL:
        return left
    if left.kind is Kind.NULL:
        return right
    if left.kind is right.kind is Kind.ROW:
        names = {each.name.lower(): each.name for each in left.fields}
        types = {each.name: each.type for each in left.fields}
        for each in right.fields:
            if names.setdefault(each.name.lower(), each.name) == each.name:
                types[each.name] = _common(types.get(each.name, _UNKNOWN), each.type)
        return SqlType(Kind.ROW, fields=tuple(Field(name, of) for name, of in types.items()))
    if left.kind is right.kind is Kind.ARRAY:
        assert left.element is not None
        assert right.element is not None
        return array(_common(left.element, right.element))
    if left.is_timestamp and left.kind is right.kind:
        return left if left.precision >= right.precision else right
    if left.is_number and right.is_number:
        return DOUBLE if Kind.DOUBLE in (left.kind, right.kind) else decimal(38, 0)
    return STRING


def _settled(of: SqlType) -> SqlType:
    """What was always NULL is a text."""
    if of.kind is Kind.NULL:
        return STRING
    if of.kind is Kind.ARRAY:
        assert of.element is not None
        return array(_settled(of.element))
    return of


# -- CSV and the rest ------------------------------------------------------------------------------------------------


def _csv(samples: Sequence[bytes]) -> tuple[list[Field], dict[str, str]] | None:
    for delimiter in (",", "\t", ";", "|"):
        options = CsvOptions(delimiter=delimiter)
        try:
            lines = [parse_line(each.decode().rstrip("\r\n"), options, COLUMNS_MAX) for each in samples]
        except ValueError:
            continue
        widths = {len(line) for line in lines}
        if len(widths) != 1 or widths == {1}:
            continue
        columns = [
            Field(f"column_{index + 1}", _column_type(cells)) for index, cells in enumerate(zip(*lines, strict=True))
        ]
        written = {} if delimiter == "," else {"csv.field-delimiter": delimiter}
        return columns, {"format": "csv", **written}
    return None


def _column_type(cells: Sequence[str | None]) -> SqlType:
    texts = [each or "" for each in cells]
    if all(_NUMBER_COLUMN.fullmatch(each) and len(each) <= _INTEGER_DIGITS_MAX for each in texts):
        return BIGINT
    try:
        for each in texts:
            if each[-1:].isalpha():
                raise ValueError
            java_text.double(each)
        return DOUBLE
    except ValueError:
        pass
    if all(each in ("true", "false") for each in texts):
        return BOOLEAN
    found = [_time_type(each, "SQL") for each in texts]
    if all(each is not None for each in found):
        common = _UNKNOWN
        for of in found:
            assert of is not None
            common = _common(common, of)
        return common
    return STRING


def _raw(samples: Sequence[bytes]) -> tuple[list[Field], dict[str, str]]:
    try:
        for each in samples:
            each.decode()
    except UnicodeDecodeError:
        return [Field("data", BYTES_TYPE)], {"format": "raw"}
    return [Field("data", STRING)], {"format": "raw"}
