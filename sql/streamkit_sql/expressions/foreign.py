"""Functions of DuckDB's that Flink does not have: DuckDB itself is asked what they give."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Final

from streamkit_sql.errors import NotSupported, Place, TypeProblem, UnknownName
from streamkit_sql.expressions.bound import Bound, combine
from streamkit_sql.types import (
    BIGINT,
    BOOLEAN,
    BYTES_TYPE,
    DATE,
    DOUBLE,
    FLOAT,
    INTEGER,
    SMALLINT,
    STRING,
    TIME,
    TINYINT,
    Kind,
    SqlType,
    array,
    decimal,
    map_of,
    timestamp,
    timestamp_ltz,
)

if TYPE_CHECKING:
    import duckdb

_TYPES: Final = {
    "BOOLEAN": BOOLEAN,
    "TINYINT": TINYINT,
    "SMALLINT": SMALLINT,
    "INTEGER": INTEGER,
    "BIGINT": BIGINT,
    "FLOAT": FLOAT,
    "DOUBLE": DOUBLE,
    "VARCHAR": STRING,
    "BLOB": BYTES_TYPE,
    "DATE": DATE,
    "TIME": TIME,
    "TIMESTAMP": timestamp(6),
    "TIMESTAMP_NS": timestamp(9),
    "TIMESTAMP WITH TIME ZONE": timestamp_ltz(6),
    "UTINYINT": SMALLINT,
    "USMALLINT": INTEGER,
    "UINTEGER": BIGINT,
    "UBIGINT": decimal(20, 0),
    "HUGEINT": decimal(38, 0),
    "UHUGEINT": decimal(38, 0),
    "UUID": STRING,
    "JSON": STRING,
}


@cache
def _database() -> duckdb.DuckDBPyConnection:
    import duckdb

    return duckdb.connect(":memory:")


@cache
def functions(of_kind: str) -> dict[str, str]:
    """Names of DuckDB's functions ("scalar" or "aggregate"), in capitals, with how stable they are."""
    rows = (
        _database()
        .execute(
            "SELECT upper(function_name), max(coalesce(stability, 'CONSISTENT')) FROM duckdb_functions()"
            " WHERE function_type IN ($1, CASE WHEN $1 = 'scalar' THEN 'macro' ELSE $1 END)"
            " AND regexp_full_match(function_name, '[a-z_][a-z0-9_]*') GROUP BY ALL",
            [of_kind],
        )
        .fetchall()
    )
    return dict(rows)


def call(name: str, arguments: Sequence[Bound], places: Sequence[Place], place: Place) -> Bound:
    """DuckDB's scalar function of this name. UnknownName with near names where there is none."""
    from streamkit_sql.expressions.functions import RULES

    known = functions("scalar")
    if name not in known:
        raise UnknownName(f"there is no function {name}.", place, _near(name, [*RULES, *known]))
    if known[name] == "VOLATILE":
        raise NotSupported(f"DuckDB's {name}, which does not give the same again when a stream is replayed.", place)
    sql = f"{name.lower()}({', '.join(each.sql for each in arguments)})"
    text, of = described(name, sql, arguments, place)
    bound = combine(text, of, *arguments)
    return Bound(text, of, bound.columns, is_deterministic=bound.is_deterministic, foreign=bound.foreign | {name})


def described(name: str, sql: str, arguments: Sequence[Bound], place: Place) -> tuple[str, SqlType]:
    """The text as one of Flink's types, which DuckDB is asked for by the types of the arguments."""
    import duckdb

    shown = ", ".join(each.sql if each.is_constant else f"CAST(NULL AS {each.type.duckdb})" for each in arguments)
    try:
        rows = _database().execute(f"DESCRIBE SELECT {name.lower()}({shown})").fetchall()
    except duckdb.Error as error:
        message = re.sub(r"\s+", " ", str(error)).split(" LINE ")[0][:300]
        raise TypeProblem(f"DuckDB does not take {name} of these: {message}", place) from None
    given = str(rows[0][1])
    of = _flink_type(given)
    if of is None:
        raise NotSupported(f"DuckDB's {name} gives a {given}, which Flink does not have.", place)
    if of.kind is Kind.TIMESTAMP_LTZ:
        return f"timezone('UTC', {sql})", of
    return (sql if of.duckdb == given else f"CAST({sql} AS {of.duckdb})"), of


def _flink_type(text: str) -> SqlType | None:
    if text.endswith("[]"):
        element = _flink_type(text[:-2])
        return None if element is None else array(element)
    if match := re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", text):
        return decimal(int(match[1]), int(match[2]))
    if match := re.fullmatch(r"MAP\((\w+(?:\(\d+,\d+\))?), (.*)\)", text):
        key, value = _flink_type(match[1]), _flink_type(match[2])
        return None if key is None or value is None else map_of(key, value)
    return _TYPES.get(text)


def _near(name: str, known: Sequence[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, known, 3, 0.7)
    return f"Did you mean {' or '.join(dict.fromkeys(close))}?" if close else ""
