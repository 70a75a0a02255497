"""Literals: values that are known when a script is read.

Types as Flink 2.3 gives them: `1.50` is DECIMAL(3, 2), digits counted as they are written (0.05 has three), a text is
CHAR of its length, a TIMESTAMP has as many digits as its fraction.
"""

from __future__ import annotations

import datetime
import math
import re
from decimal import Decimal
from typing import Any, Final

from streamkit_sql.errors import Place, TypeProblem
from streamkit_sql.expressions.bound import Bound
from streamkit_sql.language import tree
from streamkit_sql.types import (
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    INTEGER,
    INTERVAL_MONTHS,
    INTERVAL_MS,
    NULL,
    Kind,
    SqlType,
    char,
    decimal,
    text_literal,
    timestamp,
)

_DATE: Final = re.compile(r"(\d{1,4})-(\d{1,2})-(\d{1,2})")
_TIME: Final = re.compile(r"(\d{1,2}):(\d{1,2}):(\d{1,2})(?:\.(\d{1,9}))?")
_FORMATS: Final = {"DATE": "yyyy-MM-dd", "TIME": "HH:mm:ss", "TIMESTAMP": "yyyy-MM-dd HH:mm:ss"}


def constant(sql: str, of: SqlType, value: Any) -> Bound:
    return Bound(sql, of, is_constant=True, value=value)


def bind_literal(
    node: tree.Literal_ | tree.BytesLiteral | tree.TimeLiteral | tree.IntervalLiteral,
) -> Bound:
    """Never nullable, but for NULL. The values of DATE, TIME, TIMESTAMP are Python's, of intervals their number."""
    if isinstance(node, tree.BytesLiteral):
        text = "".join(f"\\x{byte:02X}" for byte in node.value)
        return constant(f"'{text}'::BLOB", SqlType(Kind.BINARY, nullable=False, length=len(node.value)), node.value)
    if isinstance(node, tree.TimeLiteral):
        return _instant(node)
    if isinstance(node, tree.IntervalLiteral):
        if node.months is not None:
            return constant(_signed(node.months, "INTEGER"), INTERVAL_MONTHS.with_null(False), node.months)
        assert node.milliseconds is not None
        return constant(_signed(node.milliseconds, "BIGINT"), INTERVAL_MS.with_null(False), node.milliseconds)
    return of_value(node.value, node.place)


def null_of(of: SqlType) -> Bound:
    """A typed NULL."""
    return constant(f"CAST(NULL AS {of.duckdb})", of.with_null(), None)


def of_value(value: int | Decimal | float | str | bool | None, place: Place) -> Bound:
    """The literal a Python value is written as."""
    if value is None:
        return constant("NULL", NULL, None)
    if isinstance(value, bool):
        return constant("TRUE" if value else "FALSE", BOOLEAN.with_null(False), value)
    if isinstance(value, str):
        sql = text_literal(value)
        if "\0" in value:
            sql = "(" + " || chr(0) || ".join(text_literal(part) for part in value.split("\0")) + ")"
        return constant(sql, char(len(value.encode("utf-16-le")) // 2, nullable=False), value)
    if isinstance(value, int):
        if -(2**31) <= value < 2**31:
            return constant(_signed(value, "INTEGER"), INTEGER.with_null(False), value)
        if -(2**63) <= value < 2**63:
            return constant(_signed(value, "BIGINT"), BIGINT.with_null(False), value)
        raise TypeProblem(f"the number {value} is out of range.", place, "BIGINT ends at 9223372036854775807.")
    if isinstance(value, float):
        if math.isinf(value):
            raise TypeProblem("the number is out of range.", place)
        return constant(f"({value!r}::DOUBLE)", DOUBLE.with_null(False), value)
    _, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    if exponent == 0:
        return of_value(int(value), place)  # `5.` is an INT
    scale = max(-exponent, 0)
    written = len(digits) + max(exponent, 0)
    # A zero before the point was written and counts, unless the text begins with the point, which no Decimal tells.
    precision = max(written, scale + 1) if scale else written
    if precision == 39 and scale == 38:
        precision = 38
    if precision > 38 or precision - scale > 19:
        raise TypeProblem(f"the number {value} is out of range.", place, "Write it as a text and CAST it.")
    sql = f"CAST('{value:f}' AS DECIMAL({precision},{scale}))"
    return constant(sql, decimal(precision, scale, nullable=False), value)


def _signed(value: int, of: str) -> str:
    text = str(value) if value >= 0 else f"({value})"
    fits_by_itself = -(2**31) < value < 2**31
    if of == "INTEGER" and fits_by_itself:
        return text
    if of == "BIGINT" and not fits_by_itself and value > -(2**63):
        return text
    return f"CAST({value} AS {of})"


def _instant(node: tree.TimeLiteral) -> Bound:
    kind, text = node.kind, node.text.strip()
    day, _, time = text.partition(" ") if kind == "TIMESTAMP" else (text, "", "") if kind == "DATE" else ("", "", text)
    if kind == "TIMESTAMP" and not time:
        time = "00:00:00"
    try:
        date = _date(day) if kind != "TIME" else datetime.date(1970, 1, 1)
        clock, precision, padded = _time(time) if kind != "DATE" else (datetime.time(), 0, "")
    except ValueError:
        form = _FORMATS[kind]
        raise TypeProblem(f"{kind} {node.text!r} is not in the form {form!r}.", node.place) from None
    if kind == "DATE":
        return constant(f"DATE '{date}'", DATE.with_null(False), date)
    if kind == "TIME":
        return constant(f"TIME '{padded}'", SqlType(Kind.TIME, nullable=False, precision=precision), clock)
    of = timestamp(precision, nullable=False)
    return constant(f"CAST('{date} {padded}' AS {of.duckdb})", of, datetime.datetime.combine(date, clock))


def _date(text: str) -> datetime.date:
    match = _DATE.fullmatch(text)
    if match is None:
        raise ValueError(text)
    year, month, day = (int(part) for part in match.groups())
    return datetime.date(year, month, day)


def _time(text: str) -> tuple[datetime.time, int, str]:
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(text)
    hour, minute, second = (int(part) for part in match.groups()[:3])
    fraction = match[4] or ""
    clock = datetime.time(hour, minute, second, int(fraction.ljust(6, "0")[:6]))
    padded = f"{hour:02}:{minute:02}:{second:02}" + (f".{fraction}" if fraction else "")
    return clock, len(fraction), padded
