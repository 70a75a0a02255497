"""Arithmetic functions: "Arithmetic Functions" of Flink's documentation, as Flink 2.3 answers when it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from streamkit_sql.errors import NotSupported
from streamkit_sql.expressions.bound import Bound, FunctionCall, FunctionRule
from streamkit_sql.expressions.casts import wrapped
from streamkit_sql.expressions.coercion import PRECISION_MAX, as_decimal
from streamkit_sql.expressions.functions import dates
from streamkit_sql.expressions.functions.signatures import (
    checked,
    constant_int,
    each_once,
    null_if_any,
    over,
    takes,
)
from streamkit_sql.types import DOUBLE, INTEGER, Kind, SqlType, char, decimal

_NUMBER: Final = takes("NUMERIC")
_PAIR: Final = takes("NUMERIC", "NUMERIC")
_LEAST: Final = {Kind.TINYINT: 1 << 7, Kind.SMALLINT: 1 << 15, Kind.INTEGER: 1 << 31, Kind.BIGINT: 1 << 63}
_DIGITS: Final = {Kind.TINYINT: 3, Kind.SMALLINT: 5, Kind.INTEGER: 10, Kind.BIGINT: 19}
_EXACT_DIGITS_MAX: Final = 15  # behind the point, for which a DOUBLE's digits are rounded in DECIMAL
_EXACT_BELOW: Final = "1e15"
_NO_SCALE: Final = "Flink gives such values a wrong scale."


def _double(bound: Bound) -> str:
    return bound.sql if bound.type.kind is Kind.DOUBLE else f"CAST({bound.sql} AS DOUBLE)"


def _doubles(template: str, count: int = 1) -> FunctionRule:
    """Of numbers, as DOUBLE. Java gives NaN and Infinity where others fail, and so does DuckDB."""

    def build(call: FunctionCall) -> Bound:
        sql = template.format(*map(_double, call.arguments))
        return over(sql, null_if_any(DOUBLE, *call.arguments), *call.arguments)

    return checked(build, _NUMBER if count == 1 else _PAIR)


def _log(call: FunctionCall) -> Bound:
    first, *rest = map(_double, call.arguments)
    sql = f"(ln({rest[0]}) / ln({first}))" if rest else f"ln({first})"
    return over(sql, null_if_any(DOUBLE, *call.arguments), *call.arguments)


def _abs(call: FunctionCall) -> Bound:
    (value,) = call.arguments
    least = _LEAST.get(value.type.kind)
    if least is None:
        return over(f"abs({value.sql})", value.type, value)
    # Java has no positive counterpart of the least number.
    number = f"CAST('-{least}' AS {value.type.duckdb})"
    return over(each_once(value.sql, f"CASE WHEN {{x}} = {number} THEN {{x}} ELSE abs({{x}}) END"), value.type, value)


def _whole(function: str) -> FunctionRule:
    def build(call: FunctionCall) -> Bound:
        value = call.arguments[0]
        if call.words:
            return dates.rounded(call)
        if value.type.is_integer:
            return value
        if value.type.kind is Kind.DECIMAL:
            of = decimal(value.type.precision, 0, nullable=value.type.nullable)
            return over(f"CAST({function}({value.sql}) AS {of.duckdb})", of, value)
        return over(f"{function}({value.sql})", value.type, value)

    return checked(build, _NUMBER, takes("DATETIME"))


def _sign(call: FunctionCall) -> Bound:
    (value,) = call.arguments
    sql = f"CAST(sign({value.sql}) AS {value.type.duckdb})"
    if value.type.is_approximate:
        sql = each_once(
            value.sql, f"CASE WHEN isnan({{x}}) THEN {{x}} ELSE CAST(sign({{x}}) AS {value.type.duckdb}) END"
        )
    return over(sql, value.type, value)


def _mod(call: FunctionCall) -> Bound:
    """The result has the second one's type, decimals their own rule; the sign is the first one's."""
    left, right = call.arguments
    if left.type.is_integer and right.type.is_integer:
        of = null_if_any(right.type, left, right)
        by_zero = "/ by zero"
    else:
        a, b = as_decimal(left.type), as_decimal(right.type)
        scale = max(a.scale, b.scale)
        of = null_if_any(
            decimal(min(min(a.precision - a.scale, b.precision - b.scale) + scale, PRECISION_MAX), scale), left, right
        )
        by_zero = "Division by zero"
    sql = f"CAST({left.sql} % {right.sql} AS {of.duckdb})"
    if constant_int(right) is None or constant_int(right) == 0:
        sql = f"(CASE WHEN {right.sql} = 0 AND {left.sql} IS NOT NULL THEN error('{by_zero}') ELSE {sql} END)"
    return over(sql, of, left, right)


# -- ROUND and TRUNCATE ----------------------------------------------------------------------------------------------


def _digits_type(of: SqlType, digits: int | None) -> SqlType:
    if of.kind is not Kind.DECIMAL or digits is None or digits >= of.scale:
        return of
    kept = max(digits, 0)
    return decimal(min(1 + of.precision - of.scale + kept, PRECISION_MAX), kept, nullable=of.nullable)


def _round(call: FunctionCall) -> Bound:
    value = call.arguments[0]
    places = call.arguments[1] if len(call.arguments) > 1 else None
    digits = 0 if places is None else constant_int(places)
    if places is not None and places.is_constant and places.value is None:
        return over(f"CAST(NULL AS {value.type.duckdb})", value.type.with_null(), *call.arguments)
    of = _digits_type(null_if_any(value.type, *call.arguments), digits)
    cuts = call.name == "TRUNCATE"
    if value.type.is_approximate:
        sql = _approximate(value, "0" if places is None else places.sql, digits, cuts)
    elif digits is not None:
        sql = _exact(value, digits, of, cuts)
    else:
        assert places is not None
        if value.type.kind is Kind.DECIMAL:
            raise NotSupported(f"{call.name} of a DECIMAL to places that are no literal", call.place, _NO_SCALE)
        sql = _by_row(value, places, of, cuts)
    return over(sql, of, *call.arguments)


def _exact(value: Bound, digits: int, of: SqlType, cuts: bool) -> str:
    kind = value.type.kind
    if kind is Kind.DECIMAL:
        if digits >= value.type.scale:
            return value.sql if of.same_as(value.type) else f"CAST({value.sql} AS {of.duckdb})"
        if -digits >= value.type.precision - value.type.scale + (0 if cuts else 1):
            return _zero(value, of)
        return f"CAST({_at(value.sql, digits, cuts)} AS {of.duckdb})"
    if digits >= 0:
        return value.sql
    if -digits >= _DIGITS[kind] + (0 if cuts else 1):
        return _zero(value, of)
    wide = f"CAST({value.sql} AS HUGEINT)"
    step = 10**-digits
    sql = f"({{x}} - {{x}} % {step})"
    if not cuts:
        sql += f" + CASE WHEN abs({{x}} % {step}) * 2 >= {step} THEN sign({{x}}) * {step} ELSE 0 END"
    rounded = each_once(wide, sql)
    # Only rounding up can leave the type, and then wraps.
    return f"CAST({rounded} AS {of.duckdb})" if cuts else wrapped(rounded, kind)


def _at(sql: str, digits: int, cuts: bool) -> str:
    if not cuts:
        return f"round({sql}, {digits})"
    if digits >= 0:
        return f"trunc({sql}, {digits})"
    return f"(trunc({sql}) - trunc({sql}) % {10**-digits})"


def _zero(value: Bound, of: SqlType) -> str:
    zero = f"CAST(0 AS {of.duckdb})"
    return f"(CASE WHEN {value.sql} IS NOT NULL THEN {zero} END)" if value.type.nullable else zero


def _by_row(value: Bound, places: Bound, of: SqlType, cuts: bool) -> str:
    """Each row has its own number of places: one branch for each that makes a difference."""
    branches = "".join(
        f" WHEN {digits} THEN {_exact(value, digits, of, cuts)}" for digits in range(-_DIGITS[value.type.kind], 0)
    )
    p = places.sql
    kept = f"(CASE WHEN {p} >= 0 THEN {value.sql} ELSE CASE {p}{branches} ELSE {_zero(value, of)} END END)"
    return f"(CASE WHEN {p} IS NOT NULL THEN {kept} END)" if places.type.nullable else kept


def _approximate(value: Bound, places: str, digits: int | None, cuts: bool) -> str:
    """Java rounds the shortest decimal that tells a DOUBLE from others, a FLOAT's after it became a DOUBLE."""
    name = "flink_truncate" if cuts else "flink_round"
    double = _double(value)
    if digits is None or not 0 <= digits <= _EXACT_DIGITS_MAX:
        sql = f"{name}({double}, CAST({places} AS INTEGER))"
    else:
        exact = "CAST(CAST({x} AS VARCHAR) AS DECIMAL(38, 20))"
        number = f"{'trunc' if cuts else 'round'}({exact}, {digits})"
        sql = each_once(
            double,
            f"CASE WHEN abs({{x}}) < {_EXACT_BELOW} THEN CAST(CAST({number} AS VARCHAR) AS DOUBLE)"
            f" ELSE {name}({{x}}, {digits}) END",
        )
    return f"CAST({sql} AS FLOAT)" if value.type.kind is Kind.FLOAT else sql


# -- what is not repeatable ------------------------------------------------------------------------------------------


def _random(sql: str, of: SqlType, *parts: Bound) -> Bound:
    found = over(sql, of.with_null(False), *parts)
    return Bound(found.sql, found.type, found.columns, is_deterministic=False, foreign=found.foreign)


def _rand(call: FunctionCall) -> Bound:
    if call.arguments:
        raise NotSupported("RAND with a seed", call.place, "Java's sequence of numbers is not reproduced.")
    return _random("random()", DOUBLE)


def _rand_integer(call: FunctionCall) -> Bound:
    if len(call.arguments) > 1:
        raise NotSupported("RAND_INTEGER with a seed", call.place, "Java's sequence of numbers is not reproduced.")
    (bound,) = call.arguments
    return _random(f"CAST(floor(random() * {bound.sql}) AS INTEGER)", INTEGER, bound)


def _uuid(call: FunctionCall) -> Bound:
    return _random("CAST(uuid() AS VARCHAR)", char(36))


def _constant(sql: str, of: SqlType) -> FunctionRule:
    def build(call: FunctionCall) -> Bound:
        return over(sql, of.with_null(False))

    return checked(build, takes())


_CEIL: Final = _whole("ceil")
_DIGITS_GIVEN: Final = checked(_round, takes("NUMERIC", "INTEGER", optional=1))

RULES: Final[Mapping[str, FunctionRule]] = MappingProxyType(
    {
        "ABS": checked(_abs, _NUMBER),
        "POWER": _doubles("pow({0}, {1})", 2),
        "SQRT": _doubles("sqrt({0})"),
        "LN": _doubles("ln({0})"),
        "LOG10": _doubles("log10({0})"),
        "LOG2": _doubles("(ln({0}) / ln(2))"),
        "LOG": checked(_log, takes("NUMERIC", "NUMERIC", optional=1)),
        "EXP": _doubles("exp({0})"),
        "CEIL": _CEIL,
        "CEILING": _CEIL,
        "FLOOR": _whole("floor"),
        "SIN": _doubles("sin({0})"),
        "SINH": _doubles("sinh({0})"),
        "COS": _doubles("cos({0})"),
        "COSH": _doubles("cosh({0})"),
        "TAN": _doubles("tan({0})"),
        "TANH": _doubles("tanh({0})"),
        "COT": _doubles("(CAST(1 AS DOUBLE) / tan({0}))"),
        "ASIN": _doubles("asin({0})"),
        "ACOS": _doubles("acos({0})"),
        "ATAN": _doubles("atan({0})"),
        "ATAN2": _doubles("atan2({0}, {1})", 2),
        "DEGREES": _doubles("({0} * CAST(57.29577951308232 AS DOUBLE))"),
        "RADIANS": _doubles("({0} * CAST(0.017453292519943295 AS DOUBLE))"),
        "SIGN": checked(_sign, _NUMBER),
        "ROUND": _DIGITS_GIVEN,
        "TRUNCATE": _DIGITS_GIVEN,
        "MOD": checked(_mod, takes("EXACT_NUMERIC", "EXACT_NUMERIC")),
        "PI": _constant("pi()", DOUBLE),
        "E": _constant("CAST(2.718281828459045 AS DOUBLE)", DOUBLE),
        "RAND": checked(_rand, takes("INTEGER", optional=1)),
        "RAND_INTEGER": checked(_rand_integer, takes("INTEGER", "INTEGER", optional=1)),
        "UUID": checked(_uuid, takes()),
    }
)
