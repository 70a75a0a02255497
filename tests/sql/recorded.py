"""What Flink answered to single expressions (expressions.json, made by flink/ask.py), and the same asked of ours."""

from __future__ import annotations

import base64
import datetime
import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import duckdb

from streamkit_sql.expressions import exact
from streamkit_sql.expressions.bound import Column, Settings
from streamkit_sql.expressions.functions import python_functions
from streamkit_sql.language.parser import parse_type
from streamkit_sql.plan.scopes import Item, TableScope, reference
from streamkit_sql.runtime.duck import connect
from streamkit_sql.types import Kind, SqlType

PATH = Path(__file__).with_name("expressions.json")


@dataclass(frozen=True)
class Answers:
    """Answers over the rows of one table `t`; `kind` is expressions or aggregates."""

    kind: str
    columns: dict[str, str]
    rows: list[list[Any]]
    settings: Settings
    answers: list[dict[str, Any]]

    @property
    def scope(self) -> TableScope:
        columns = [Column(name, parse_type(of)) for name, of in self.columns.items()]
        return TableScope((Item("t", tuple((column.name, reference(column)) for column in columns)),))

    def database(self) -> duckdb.DuckDBPyConnection:
        """With the rows in `t`, which also has `$n`, the place of a row."""
        database = connect()
        exact.install(database)
        python_functions.install(database)
        types = {name: parse_type(of) for name, of in self.columns.items()}
        listed = ", ".join(f'"{name}" {of.duckdb}' for name, of in types.items())
        database.execute(f'CREATE TABLE t ({listed}, "$n" BIGINT)')
        for place, row in enumerate(self.rows):
            cells = [_cell(index, of) for index, of in enumerate(types.values(), 1)]
            values = [_stored(value, of) for value, of in zip(row, types.values(), strict=True)]
            database.execute(f"INSERT INTO t SELECT {', '.join(cells)}, {place}", values)
        return database


@cache
def recorded() -> list[Answers]:
    """All that was recorded."""
    content = json.loads(PATH.read_text(encoding="utf-8"))
    return [
        Answers(
            each["kind"],
            each["columns"],
            each["rows"],
            Settings(zone=each["settings"].get("table.local-time-zone", "UTC")),
            each["answers"],
        )
        for each in content["sets"]
    ]


def _cell(index: int, of: SqlType) -> str:
    return f"CAST({f'CAST(${index} AS JSON)' if of.kind is Kind.MAP else f'${index}'} AS {of.duckdb})"


def _stored(value: Any, of: SqlType) -> Any:
    if value is None:
        return None
    if of.is_bytes:
        return base64.b64decode(value)
    if of.kind is Kind.DECIMAL:
        return Decimal(value)
    if of.kind is Kind.TIMESTAMP_LTZ:
        return value.rstrip("Z")
    if of.kind is Kind.ROW:
        return {field.name: value.get(field.name) for field in of.fields}
    return json.dumps(value) if of.kind is Kind.MAP else value


def _number(value: float) -> str:
    return "NaN" if math.isnan(value) else repr(value)


def _single(value: float) -> str:
    return _number(value if math.isinf(value) else struct.unpack("f", struct.pack("f", value))[0])


def ours(value: Any, of: SqlType) -> object:
    """A value from DuckDB, to be compared."""
    if value is None:
        return None
    kind = of.kind
    match kind:
        case Kind.DOUBLE:
            return _number(value)
        case Kind.FLOAT:
            return _single(value)
        case Kind.DECIMAL:
            return f"{value:f}"
        case Kind.ARRAY:
            assert of.element is not None
            return [ours(each, of.element) for each in value]
        case Kind.MAP | Kind.MULTISET:
            assert of.element is not None
            pairs = value.items()
            inner = (of.key, of.element) if of.key is not None else (of.element, SqlType(Kind.INTEGER))
            return sorted((str(ours(key, inner[0])), str(ours(item, inner[1]))) for key, item in pairs)
        case Kind.ROW:
            return [ours(value[field.name], field.type) for field in of.fields]
        case Kind.TIMESTAMP | Kind.TIMESTAMP_LTZ:
            assert isinstance(value, datetime.datetime), value
            return value.isoformat(timespec="microseconds")
        case Kind.TIME:
            return value.isoformat(timespec="microseconds")
        case Kind.BINARY | Kind.VARBINARY:
            return bytes(value).hex()
        case Kind.INTERVAL_MS:
            return Decimal(value) / 1000
    return str(value) if kind is Kind.DATE else value


def theirs(value: Any, of: SqlType) -> object:
    """A value as RowText.java wrote it, to be compared."""
    if not isinstance(value, list):
        return value
    tag, *rest = value
    match tag:
        case "double":
            return _number(float(rest[0]))
        case "float":
            return _single(float(rest[0]))
        case "array":
            assert of.element is not None
            return [theirs(each, of.element) for each in rest]
        case "map":
            assert of.element is not None
            inner = (of.key, of.element) if of.key is not None else (of.element, SqlType(Kind.INTEGER))
            return sorted((str(theirs(key, inner[0])), str(theirs(item, inner[1]))) for key, item in rest)
        case "row":
            return [theirs(each, field.type) for each, field in zip(rest, of.fields, strict=True)]
        case "seconds":
            return Decimal(rest[0])
        case "months":
            return int(rest[0])
    return rest[0]


def flink_type(text: str) -> str:
    """The type's text; Flink prints intervals by their digits and marks time attributes."""
    text = text.replace(" *PROCTIME*", "")
    if text.startswith("INTERVAL SECOND(3)"):
        return text.replace("INTERVAL SECOND(3)", "INTERVAL DAY TO SECOND")
    return text.replace("INTERVAL MONTH", "INTERVAL YEAR TO MONTH")


def each_of(kind: str) -> Iterator[tuple[Answers, dict[str, Any]]]:
    """Every answer of a kind."""
    for answers in recorded():
        if answers.kind == kind:
            for answer in answers.answers:
                yield answers, answer
