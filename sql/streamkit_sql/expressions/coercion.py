"""Which type two types have in common, and which type arithmetic on decimals gives.

Both as Flink 2.3 answers when it is asked (tests/sql/flink/ask.py), oddities included: the rule of Calcite's
`leastRestrictive` takes the first of two approximate types (FLOAT + DOUBLE is FLOAT, DOUBLE + FLOAT is DOUBLE) and the
second of two timestamps where that has more digits, whichever of the two kinds it is. COALESCE and its like merge
otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, Literal, TypeAlias

from streamkit_sql.types import INTEGERS, Field, Kind, SqlType, decimal

PRECISION_MAX: Final = 38
"""Of DECIMAL; Flink's FlinkTypeSystem, and what DuckDB's DECIMAL holds."""
_SCALE_KEPT_MIN: Final = 6  # digits behind the point that a result cut to 38 keeps, as in Spark and SQL Server
_DIGITS: Final = {Kind.TINYINT: 3, Kind.SMALLINT: 5, Kind.INTEGER: 10, Kind.BIGINT: 19}

_Pair: TypeAlias = Callable[[SqlType, SqlType], SqlType | None]


def common_type(types: Sequence[SqlType]) -> SqlType | None:
    """Of CASE, ARRAY[..], arithmetic, comparisons and set operations, in the order written; None where there is none.
    NULL goes with every type; the result takes NULL if one of them does."""
    return _folded(types, _least_restrictive)


def merged_type(types: Sequence[SqlType]) -> SqlType | None:
    """Of COALESCE, IFNULL, GREATEST and LEAST."""
    return _folded(types, _merged)


def _folded(types: Sequence[SqlType], pair: _Pair) -> SqlType | None:
    nullable = any(each.nullable or each.kind is Kind.NULL for each in types)
    found: SqlType | None = None
    for each in types:
        if each.kind is Kind.NULL:
            continue
        if found is None:
            found = each
            continue
        found = pair(found, each)
        if found is None:
            return None
    return None if found is None else found.with_null(nullable)


def as_decimal(of: SqlType) -> SqlType:
    """The DECIMAL that holds every value of an exact type."""
    return of if of.kind is Kind.DECIMAL else decimal(_DIGITS[of.kind], 0, nullable=of.nullable)


def _least_restrictive(a: SqlType, b: SqlType) -> SqlType | None:
    if a.is_number and b.is_number:
        return _numbers(a, b)
    if a.is_timestamp and b.is_timestamp:
        return b if b.precision > a.precision else replace(a, kind=b.kind if b.kind is Kind.TIMESTAMP_LTZ else a.kind)
    return _others(a, b, _least_restrictive)


def _merged(a: SqlType, b: SqlType) -> SqlType | None:
    if a.is_number and b.is_number:
        if Kind.DOUBLE in (a.kind, b.kind):
            return a if a.kind is Kind.DOUBLE else b
        if Kind.FLOAT in (a.kind, b.kind):
            return a if a.kind is Kind.FLOAT else b
        return _numbers(a, b)
    if a.is_timestamp and b.is_timestamp:
        kind = Kind.TIMESTAMP_LTZ if Kind.TIMESTAMP_LTZ in (a.kind, b.kind) else Kind.TIMESTAMP
        return SqlType(kind, precision=max(a.precision, b.precision))
    return _others(a, b, _merged)


def _numbers(a: SqlType, b: SqlType) -> SqlType:
    if a.is_approximate and b.is_approximate:
        return a
    if a.is_approximate or b.is_approximate:
        approximate, exact = (a, b) if a.is_approximate else (b, a)
        return SqlType(Kind.DOUBLE) if exact.kind is Kind.DECIMAL else approximate
    if a.is_integer and b.is_integer:
        return max(a, b, key=lambda each: INTEGERS.index(each.kind))
    a, b = as_decimal(a), as_decimal(b)
    scale = max(a.scale, b.scale)
    whole = max(a.precision - a.scale, b.precision - b.scale)
    precision = min(whole + scale, PRECISION_MAX)
    return decimal(precision, min(scale, PRECISION_MAX - min(whole, PRECISION_MAX)))


def _others(a: SqlType, b: SqlType, pair: _Pair) -> SqlType | None:
    for fixed, of_any_length, holds in (
        (Kind.CHAR, Kind.VARCHAR, a.is_text and b.is_text),
        (Kind.BINARY, Kind.VARBINARY, a.is_bytes and b.is_bytes),
    ):
        if holds:
            is_fixed = a.kind is b.kind is fixed and a.length == b.length
            return SqlType(fixed if is_fixed else of_any_length, length=max(a.length, b.length))
    if a.kind is not b.kind:
        return None
    if a.kind is Kind.TIME:
        return a if a.precision >= b.precision else b
    if a.kind in (Kind.ARRAY, Kind.MULTISET, Kind.MAP):
        assert a.element is not None
        assert b.element is not None
        element = _folded([a.element, b.element], pair)
        key = _folded([a.key, b.key], pair) if a.key is not None and b.key is not None else None
        if element is None or (key is None) != (a.key is None):
            return None
        return replace(a, element=element, key=key)
    if a.kind is Kind.ROW:
        if len(a.fields) != len(b.fields):
            return None
        fields = []
        for mine, other in zip(a.fields, b.fields, strict=True):
            of = _folded([mine.type, other.type], pair)
            if of is None:
                return None
            fields.append(Field(mine.name, of))
        return replace(a, fields=tuple(fields))
    return a


# -- decimals --------------------------------------------------------------------------------------------------------

DecimalOperator: TypeAlias = Literal["+", "-", "*", "/", "%"]


def uncut(operator: DecimalOperator, a: SqlType, b: SqlType) -> tuple[int, int]:
    """Precision and scale that would hold every result (of a division: the one Flink wants to have)."""
    (p1, s1), (p2, s2) = (a.precision, a.scale), (b.precision, b.scale)
    if operator in "+-":
        scale = max(s1, s2)
        return max(p1 - s1, p2 - s2) + scale + 1, scale
    if operator == "*":
        return p1 + p2 + 1, s1 + s2
    if operator == "/":
        scale = max(_SCALE_KEPT_MIN, s1 + p2 + 1)
        return p1 - s1 + s2 + scale, scale
    scale = max(s1, s2)
    return min(p1 - s1, p2 - s2) + scale, scale


def decimal_result(operator: DecimalOperator, a: SqlType, b: SqlType) -> SqlType:
    """The type of `a operator b`, cut to 38 digits: whole digits are kept before those behind the point."""
    precision, scale = uncut(operator, a, b)
    if precision > PRECISION_MAX:
        whole = precision - scale
        scale = max(PRECISION_MAX - whole, min(scale, _SCALE_KEPT_MIN))
        precision = PRECISION_MAX
    return decimal(precision, scale, nullable=a.nullable or b.nullable)


def is_cut(operator: DecimalOperator, a: SqlType, b: SqlType) -> bool:
    """Whether a result may have more digits than its type."""
    return uncut(operator, a, b)[0] > PRECISION_MAX
