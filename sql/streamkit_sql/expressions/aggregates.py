"""Aggregate functions: their types as Flink 2.3 derives them, and accumulators that merge.

Sums of whole numbers are kept as HUGEINT and cut to their type at the end, which wraps as Flink's sums do, for cutting
and adding can change places. Variances are made of sums of squares, by the formula Flink's planner puts in their place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from streamkit_sql.errors import NotSupported, Place, TypeProblem
from streamkit_sql.expressions import binder, foreign
from streamkit_sql.expressions.bound import (
    ARRIVAL_ORDER,
    Aggregate,
    Bound,
    FunctionRule,
    Partial,
    Scope,
    Settings,
    UserFunction,
)
from streamkit_sql.expressions.casts import Casts, kind_sql, wrapped
from streamkit_sql.expressions.coercion import PRECISION_MAX
from streamkit_sql.language import tree
from streamkit_sql.types import BIGINT, DOUBLE, INTEGERS, Kind, SqlType, array, decimal, quoted, text_literal, varchar

WEIGHT: Final = '"$w"'
_UNORDERED: Final = (
    *(Kind.ARRAY, Kind.MAP, Kind.MULTISET, Kind.ROW, Kind.BINARY, Kind.VARBINARY),
    *(Kind.INTERVAL_MS, Kind.INTERVAL_MONTHS),
)
"""What MIN and MAX do not take."""
_JSON_TEXT: Final = varchar(2000, nullable=False)


def is_aggregate(name: str) -> bool:
    """Flink's and those of DuckDB's whose name no function of Flink's has; the name in capitals."""
    if name in _RULES:
        return True
    from streamkit_sql.expressions.functions import RULES

    return name not in RULES and name not in binder.SPECIAL and name in foreign.functions("aggregate")


def bind_aggregate(
    call: tree.Call,
    scope: Scope,
    settings: Settings,
    functions: Mapping[str, FunctionRule | UserFunction],
    *,
    has_keys: bool = True,
) -> Aggregate:
    """Without `has_keys` the one group may be empty, so that all but counts may be NULL. Raises as `binder.bind`."""

    def bind(node: tree.Expression) -> Bound:
        return binder.bind(node, scope, settings, functions)

    if call.order:
        raise NotSupported("WITHIN GROUP (ORDER BY ..), which Flink does not keep to.", call.place)
    starred = any(isinstance(each, tree.Star) for each in call.arguments)
    if starred and (call.name != "COUNT" or len(call.arguments) > 1):
        raise TypeProblem(f"{call.name} does not take *.", call.place)
    arguments = () if starred else tuple(bind(each).materialized() for each in call.arguments)
    for argument, node in zip(arguments, call.arguments, strict=False):
        if argument.type.kind is Kind.NULL:
            raise TypeProblem("NULL has no type here.", node.place, "Write CAST(NULL AS INT) or its like.")
    condition = None if call.filter is None else bind(call.filter)
    if condition is not None and condition.type.kind is not Kind.BOOLEAN:
        raise TypeProblem(f"FILTER takes a BOOLEAN, not a {condition.type}.", call.place)
    own = next((each for key, each in functions.items() if key.upper() == call.name), None)
    asked = _Asked(call, arguments, condition, settings, has_keys, starred)
    if own is not None and not callable(own):
        return asked.user(own)
    rule = _RULES.get(call.name)
    return asked.foreign() if rule is None else rule(asked)


@dataclass(frozen=True, slots=True)
class _Asked:
    """An aggregate call with bound arguments."""

    call: tree.Call
    arguments: tuple[Bound, ...]
    condition: Bound | None
    settings: Settings
    has_keys: bool
    starred: bool

    @property
    def place(self) -> Place:
        return self.call.place

    @property
    def distinct(self) -> str:
        return "DISTINCT " if self.call.distinct else ""

    def one(self) -> Bound:
        return self.some(1, 1)[0]

    def some(self, least: int, most: int) -> tuple[Bound, ...]:
        count = len(self.arguments)
        if not least <= count <= most or self.starred:
            wanted = str(least) if least == most else f"{least} to {most}"
            raise TypeProblem(f"{self.call.name} takes {wanted} arguments, not {count}.", self.place)
        return self.arguments

    def number(self) -> Bound:
        of = self.one()
        if not of.type.is_number:
            raise TypeProblem(f"{self.call.name} takes a number, not a {of.type}.", self.place)
        return of

    def where(self, *more: str) -> str:
        """The FILTER clause of a DuckDB aggregate."""
        conditions = [*more] if self.condition is None else [*more, self.condition.sql]
        return f" FILTER (WHERE {' AND '.join(conditions)})" if conditions else ""

    def given(self, of: Bound) -> str:
        """The FILTER clause that leaves values only."""
        return self.where(f"{of.sql} IS NOT NULL") if of.type.nullable else self.where()

    def nullable(self, of: Bound) -> bool:
        return of.type.nullable or self.condition is not None or not self.has_keys

    def result(
        self, of: SqlType, whole: str, *partials: Partial, final: str = "", distinct_of: Bound | None = None
    ) -> Aggregate:
        read = [*self.arguments, *([] if self.condition is None else [self.condition])]
        return Aggregate(
            name=self.call.name,
            type=of,
            arguments=self.arguments,
            whole=whole,
            partials=() if self.call.distinct and distinct_of is not None else partials,
            final=final,
            columns=frozenset().union(*(each.columns for each in read)),
            distinct_of=distinct_of if self.call.distinct else None,
            foreign=frozenset().union(*(each.foreign for each in read)),
        )

    def count_of(self, of: Bound | None) -> Partial:
        """How many values there are."""
        where = self.where() if of is None else self.given(of)
        counted = f"count(*){where}" if of is None or not of.type.nullable else f"count({of.sql}){self.where()}"
        changed = f"CAST(coalesce(sum({WEIGHT}){where}, 0) AS BIGINT)"
        return Partial("BIGINT", counted, changed, "CAST(sum({}) AS BIGINT)")

    def sum_of(self, sql: str, of: SqlType) -> Partial:
        """A sum in a type that has room for it."""
        if of.is_integer:
            return Partial(
                "HUGEINT",
                f"CAST(sum({sql}){self.where()} AS HUGEINT)",
                f"CAST(sum(CAST({sql} AS HUGEINT) * {WEIGHT}){self.where()} AS HUGEINT)",
                "CAST(sum({}) AS HUGEINT)",
            )
        if of.kind is Kind.DECIMAL:
            held = f"DECIMAL({PRECISION_MAX},{of.scale})"
            changed = f"CAST(sum(CAST({sql} AS {held}) * {WEIGHT}){self.where()} AS {held})"
            return Partial(held, f"sum({sql}){self.where()}", changed, "sum({})")
        number = sql if of.kind is Kind.DOUBLE else f"CAST({sql} AS DOUBLE)"  # FLOAT times a weight may overflow
        return Partial("DOUBLE", f"sum({sql}){self.where()}", f"sum({number} * {WEIGHT}){self.where()}", "sum({})")

    def user(self, function: UserFunction) -> Aggregate:
        """A user's aggregate is a DuckDB function over one list an argument, in the order of arrival."""
        if not function.is_aggregate:
            raise TypeProblem(f"{self.call.name} is no aggregate.", self.place)
        if self.starred:
            raise TypeProblem(f"{self.call.name} does not take *.", self.place)
        arguments = binder.taken(function, self.call, self.arguments, self.settings)
        if self.call.distinct and len(arguments) != 1:
            raise NotSupported(f"{self.call.name}(DISTINCT ..) of {len(arguments)} arguments.", self.place)
        lists = [_in_order(self, each, self.where()) for each in arguments]
        lists = lists or [f"list(0::TINYINT ORDER BY {ARRIVAL_ORDER}){self.where()}"]
        name = function.named([each.type for each in arguments], self.settings.zone)
        return self.result(function.result, f"{quoted(name)}({', '.join(lists)})")

    def foreign(self) -> Aggregate:
        """DuckDB's own."""
        name = self.call.name
        inside = f"{self.distinct}{', '.join(each.sql for each in self.arguments)}"
        sql = f"{name.lower()}({inside}){self.where()}"
        text, of = foreign.described(name, sql, self.arguments, self.place)
        found = self.result(of.with_null(), text)
        return Aggregate(name, found.type, self.arguments, text, columns=found.columns, foreign=found.foreign | {name})


# -- counts and sums -------------------------------------------------------------------------------------------------


def _count(asked: _Asked) -> Aggregate:
    of = BIGINT.with_null(False)
    if not asked.arguments:
        if not asked.starred:
            raise TypeProblem("COUNT takes * or an argument.", asked.place)
        part = asked.count_of(None)
        return asked.result(of, part.of_rows, part, final="coalesce({0}, 0)")
    if len(asked.arguments) > 1:
        raise NotSupported("COUNT of several values, which Flink does not count.", asked.place)
    value = asked.one()
    if asked.call.distinct:
        if value.type.kind in (Kind.ROW, Kind.BINARY, Kind.VARBINARY):
            raise TypeProblem(f"COUNT(DISTINCT ..) does not take a {value.type}.", asked.place)
        return asked.result(of, f"count(DISTINCT {value.sql}){asked.where()}", distinct_of=value)
    part = asked.count_of(value)
    return asked.result(of, part.of_rows, part, final="coalesce({0}, 0)")


def _sum(asked: _Asked) -> Aggregate:
    value = asked.number()
    kind = value.type.kind
    of = decimal(PRECISION_MAX, value.type.scale) if kind is Kind.DECIMAL else SqlType(kind)
    of = of.with_null(asked.nullable(value))

    def ended(total: str) -> str:
        if kind in INTEGERS:
            return wrapped(total, kind)
        return Casts(asked.settings).convert(total, DOUBLE, of) if kind is Kind.FLOAT else total

    whole = ended(f"sum({asked.distinct}{value.sql}){asked.where()}")
    if asked.call.name == "$SUM0":
        zero = f"CAST(0 AS {of.duckdb})"
        total = asked.sum_of(value.sql, value.type)
        of = of.with_null(False)
        final = f"coalesce({ended('{0}')}, {zero})"
        return asked.result(of, f"coalesce({whole}, {zero})", total, final=final, distinct_of=value)
    total, count = asked.sum_of(value.sql, value.type), asked.count_of(value)
    final = f"CASE WHEN {{1}} > 0 THEN {ended('{0}')} END"
    return asked.result(of, whole, total, count, final=final, distinct_of=value)


def _average(asked: _Asked) -> Aggregate:
    value = asked.number()
    kind = value.type.kind
    scale = value.type.scale
    of = decimal(PRECISION_MAX, max(6, scale)) if kind is Kind.DECIMAL else SqlType(kind)
    of = of.with_null(asked.nullable(value))

    def ended(total: str, count: str) -> str:
        if kind in INTEGERS:
            return f"CAST({wrapped(total, Kind.BIGINT)} // {count} AS {kind_sql(kind)})"
        if kind is Kind.DECIMAL:
            return _decimal_mean(total, count, scale, of)
        return f"CAST({total} / {count} AS {of.duckdb})"

    sum_text = f"sum({asked.distinct}{value.sql}){asked.where()}"
    count_text = f"nullif(count({asked.distinct}{value.sql}){asked.where()}, 0)"
    final = f"CASE WHEN {{1}} > 0 THEN {ended('{0}', '{1}')} END"
    partials = (asked.sum_of(value.sql, value.type), asked.count_of(value))
    return asked.result(of, ended(sum_text, count_text), *partials, final=final, distinct_of=value)


def _decimal_mean(total: str, count: str, scale: int, of: SqlType) -> str:
    """A quotient rounded half up, over the whole number that stands for the sum."""
    digits = f"CAST(replace(CAST({total} AS VARCHAR), '.', '') AS HUGEINT)"
    n = f"({digits} * {10 ** (of.scale - scale)})" if of.scale > scale else digits
    quotient = f"({n} // {count})"
    step = (
        f"CASE WHEN abs({n} - {quotient} * {count}) * 2 >= {count} THEN CASE WHEN {n} < 0 THEN -1 ELSE 1 END ELSE 0 END"
    )
    unit = "0." + "0" * (of.scale - 1) + "1"
    return (
        f"CAST(CAST({quotient} + {step} AS DECIMAL(38,0)) * CAST('{unit}' AS DECIMAL({of.scale},{of.scale}))"
        f" AS {of.duckdb})"
    )


def _variance(asked: _Asked) -> Aggregate:
    value = asked.number()
    name = asked.call.name
    is_root, is_sample = name.startswith("STDDEV"), not name.endswith("_POP")
    kind = value.type.kind
    of = decimal(PRECISION_MAX, max(6, value.type.scale)) if kind is Kind.DECIMAL else SqlType(kind)
    of = of.with_null(asked.nullable(value))
    number = f"CAST({value.sql} AS DOUBLE)"

    def ended(count: str, total: str, squares: str) -> str:
        divisor = f"nullif({count} - 1, 0)" if is_sample else count
        text = f"(({squares} - {total} * {total} / {count}) / {divisor})"
        if is_root:
            text = f"CASE WHEN {text} < 0 THEN 'NaN'::DOUBLE ELSE sqrt({text}) END"
        return Casts(asked.settings).convert(text, DOUBLE, of)

    distinct, where = asked.distinct, asked.where()
    whole = ended(
        f"nullif(count({distinct}{value.sql}){where}, 0)",
        f"sum({distinct}{number}){where}",
        f"sum({distinct}{number} * {number}){where}",
    )
    partials = (asked.count_of(value), asked.sum_of(number, DOUBLE), asked.sum_of(f"{number} * {number}", DOUBLE))
    final = f"CASE WHEN {{0}} > 0 THEN {ended('{0}', '{1}', '{2}')} END"
    return asked.result(of, whole, *partials, final=final, distinct_of=value)


def _percentile(asked: _Asked) -> Aggregate:
    arguments = asked.some(2, 2)
    value, share = arguments
    if not value.type.is_number or not share.sql or asked.call.distinct:
        raise TypeProblem("PERCENTILE takes a number and a share.", asked.place)
    of = DOUBLE if share.type.kind is not Kind.ARRAY else array(DOUBLE)
    asked_share = f"CAST({share.sql} AS DOUBLE{'[]' if share.type.kind is Kind.ARRAY else ''})"
    return asked.result(of, f"quantile_cont(CAST({value.sql} AS DOUBLE), {asked_share}){asked.where()}")


# -- chosen and collected values -------------------------------------------------------------------------------------


def _extreme(asked: _Asked) -> Aggregate:
    value = asked.one()
    if value.type.kind in _UNORDERED:
        raise TypeProblem(f"{asked.call.name} does not take a {value.type}.", asked.place)
    name = asked.call.name.lower()
    text = f"{name}({value.sql}){asked.where()}"
    of = value.type.with_null(asked.nullable(value))
    part = Partial(value.type.duckdb, text, None, name + "({})")
    return asked.result(of, text, part, final="{0}")


def _by_arrival(asked: _Asked) -> Aggregate:
    """FIRST_VALUE and LAST_VALUE, of those that are not NULL."""
    value = asked.one()
    is_first = asked.call.name == "FIRST_VALUE"
    of = value.type.with_null(asked.nullable(value))
    whole = f"{'arg_min' if is_first else 'arg_max'}({value.sql}, {ARRIVAL_ORDER}){asked.given(value)}"
    if value.type.kind in (Kind.MAP, Kind.MULTISET):
        return asked.result(of, whole)
    name = "min" if is_first else "max"
    packed = f'struct_pack("n" := {ARRIVAL_ORDER}, "v" := {value.sql})'
    held = f'STRUCT("n" BIGINT, "v" {value.type.duckdb})'
    part = Partial(held, f"{name}({packed}){asked.given(value)}", None, name + "({})")
    return asked.result(of, whole, part, final="struct_extract({0}, 'v')")


def _in_order(asked: _Asked, value: Bound, where: str) -> str:
    """The list of values by arrival; DISTINCT keeps the first of equal ones."""
    values = f"list({value.sql} ORDER BY {ARRIVAL_ORDER}){where}"
    if not asked.call.distinct:
        return values
    first = "lambda v, i: len(list_filter(l[:i], lambda u: u IS NOT DISTINCT FROM v)) = 1"
    return f"list_transform([{values}], lambda l: list_filter(l, {first}))[1]"


def _list_aggregate(asked: _Asked) -> Aggregate:
    arguments = asked.some(1, 2)
    value = arguments[0]
    if not value.type.is_text:
        raise TypeProblem(f"LISTAGG takes a text, not a {value.type}.", asked.place, "Write a CAST.")
    separator = ","
    if len(arguments) == 2:
        if not isinstance(arguments[1].value, str):
            raise TypeProblem("the separator of LISTAGG is a literal.", asked.place)
        separator = arguments[1].value
    of = value.type.with_null(asked.nullable(value))
    if asked.call.distinct:
        text = f"array_to_string({_in_order(asked, value, asked.given(value))}, {text_literal(separator)})"
    else:
        text = f"string_agg({value.sql}, {text_literal(separator)} ORDER BY {ARRIVAL_ORDER}){asked.where()}"
    return asked.result(of, text)


def _array_aggregate(asked: _Asked) -> Aggregate:
    value = asked.one()
    where = asked.given(value) if asked.call.ignore_nulls else asked.where()
    of = array(value.type, nullable=value.type.nullable)
    return asked.result(of, _in_order(asked, value, where))


def _collect(asked: _Asked) -> Aggregate:
    value = asked.one()
    of = SqlType(Kind.MULTISET, nullable=False, element=value.type)
    counted = f"histogram({value.sql}){asked.where()}"
    if asked.call.distinct:
        keys = f"map_keys({counted})"
        counted = f"map({keys}, list_transform({keys}, lambda v: 1))"
    return asked.result(of, f"coalesce(CAST({counted} AS {of.duckdb}), CAST(map([], []) AS {of.duckdb}))")


def _single_value(asked: _Asked) -> Aggregate:
    value = asked.one()
    count = f"count(*){asked.where()}"
    failing = "error('SingleValueAggFunction received more than one element.')"
    text = f"CASE WHEN {count} > 1 THEN {failing} ELSE first({value.sql}){asked.where()} END"
    return asked.result(value.type.with_null(), text)


def _json_array(asked: _Asked) -> Aggregate:
    value = asked.one()
    keeps_null = "NULL ON NULL" in asked.call.words
    where = asked.where() if keeps_null else asked.given(value)
    item = f"coalesce(CAST(to_json({value.sql}) AS VARCHAR), 'null')"
    items = f"string_agg({item}, ',' ORDER BY {ARRIVAL_ORDER}){where}"
    return asked.result(_JSON_TEXT, f"('[' || coalesce({items}, '') || ']')")


def _json_object(asked: _Asked) -> Aggregate:
    key, value = asked.some(2, 2)
    if not key.type.is_text:
        raise TypeProblem(f"a key of JSON_OBJECTAGG is a text, not a {key.type}.", asked.place)
    where = asked.given(value) if "ABSENT ON NULL" in asked.call.words else asked.where()
    # Flink takes no NULL for a key either.
    name = f"CAST(to_json(coalesce({key.sql}, error('a key of JSON_OBJECTAGG is NULL'))) AS VARCHAR)"
    item = f"{name} || ':' || coalesce(CAST(to_json({value.sql}) AS VARCHAR), 'null')"
    items = f"string_agg({item}, ',' ORDER BY {key.sql}){where}"
    return asked.result(_JSON_TEXT, f"('{{' || coalesce({items}, '') || '}}')")


def _grouping(asked: _Asked) -> Aggregate:
    text = f"grouping({', '.join(each.sql for each in asked.arguments)})"
    return asked.result(BIGINT.with_null(False), text)


_RULES: Final[Mapping[str, Callable[[_Asked], Aggregate]]] = {
    "COUNT": _count,
    "SUM": _sum,
    "$SUM0": _sum,
    "AVG": _average,
    "MIN": _extreme,
    "MAX": _extreme,
    "STDDEV_POP": _variance,
    "STDDEV_SAMP": _variance,
    "STDDEV": _variance,
    "VAR_POP": _variance,
    "VAR_SAMP": _variance,
    "VARIANCE": _variance,
    "PERCENTILE": _percentile,
    "FIRST_VALUE": _by_arrival,
    "LAST_VALUE": _by_arrival,
    "LISTAGG": _list_aggregate,
    "ARRAY_AGG": _array_aggregate,
    "COLLECT": _collect,
    "SINGLE_VALUE": _single_value,
    "JSON_ARRAYAGG": _json_array,
    "JSON_OBJECTAGG": _json_object,
    "GROUPING": _grouping,
    "GROUPING_ID": _grouping,
    "GROUP_ID": _grouping,
}
FLINK_AGGREGATES: Final = frozenset(_RULES)
