"""Functions of arrays and maps: "Collection Functions" of Flink's documentation. Elements are told apart as by IS
DISTINCT FROM, and results keep the order in which elements come first."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from streamkit_sql.errors import TypeProblem
from streamkit_sql.expressions.bound import Bound, FunctionCall, FunctionRule
from streamkit_sql.expressions.casts import cast
from streamkit_sql.expressions.coercion import merged_type
from streamkit_sql.expressions.functions.signatures import (
    checked,
    constant_text,
    each_once,
    guarded,
    is_null,
    null_if_any,
    null_of,
    over,
    takes,
)
from streamkit_sql.types import BOOLEAN, INTEGER, STRING, Kind, SqlType, array, map_of, row

_ARRAY: Final = takes("ARRAY")
_WITH_VALUE: Final = takes("ARRAY", "ANY")


def _element(bound: Bound) -> SqlType:
    assert bound.type.element is not None
    return bound.type.element


def _same_arrays(call: FunctionCall) -> tuple[SqlType, list[Bound]]:
    """The arrays as one type; nullable if one of them is."""
    of = merged_type([argument.type for argument in call.arguments])
    if of is None:
        given = ", ".join(str(argument.type) for argument in call.arguments)
        raise TypeProblem(f"{call.name}'s arguments have no common type: {given}", call.place)
    of = null_if_any(of, *call.arguments)
    parts = [
        each if each.type.same_as(of) else cast(each, of.with_null(each.type.nullable), call.settings)
        for each in call.arguments
    ]
    return of, parts


def _value_in(call: FunctionCall) -> Bound:
    """The element that is given along with an array, as the array's elements are."""
    values, value = call.arguments[0], call.arguments[1]
    element = _element(values)
    if value.type.kind is Kind.NULL:
        return null_of(element)
    common = merged_type([element, value.type])
    if common is None or not common.same_as(element):
        raise TypeProblem(f"{call.name}: {value.type} is no element of {values.type}", call.place)
    if value.type.same_as(element):
        return value
    return cast(value, element.with_null(value.type.nullable), call.settings)


def _cardinality(call: FunctionCall) -> Bound:
    (value,) = call.arguments
    function = "len" if value.type.kind is Kind.ARRAY else "cardinality"
    return over(f"CAST({function}({value.sql}) AS INTEGER)", null_if_any(INTEGER, value), value)


def _only(call: FunctionCall) -> Bound:
    (value,) = call.arguments
    of = _element(value).with_null(value.type.nullable or _element(value).nullable)
    sql = each_once(value.sql, "CASE WHEN len({x}) > 1 THEN error('Array has more than one element.') ELSE {x}[1] END")
    return over(sql, of, value)


def _added(call: FunctionCall) -> Bound:
    values, value = call.arguments[0], _value_in(call)
    element = _element(values).with_null(_element(values).nullable or value.type.nullable)
    of = array(element, nullable=values.type.nullable)
    one = f"[{value.sql}]"
    first, second = (values.sql, one) if call.name == "ARRAY_APPEND" else (one, values.sql)
    return over(guarded(f"list_concat({first}, {second})", values), of, *call.arguments)


def _concatenated(call: FunctionCall) -> Bound:
    of, parts = _same_arrays(call)
    joined = parts[0].sql
    for part in parts[1:]:
        joined = f"list_concat({joined}, {part.sql})"
    return over(guarded(joined, *parts), of, *call.arguments)


def _contains(call: FunctionCall) -> Bound:
    values, value = call.arguments[0], _value_in(call)
    sql = guarded(f"(list_position({values.sql}, {value.sql}) IS NOT NULL)", values)
    return over(sql, null_if_any(BOOLEAN, values), *call.arguments)


def _position(call: FunctionCall) -> Bound:
    values, value = call.arguments[0], _value_in(call)
    sql = f"CAST(coalesce(list_position({values.sql}, {value.sql}), 0) AS INTEGER)"
    return over(guarded(sql, values, value), null_if_any(INTEGER, values, value), *call.arguments)


def _removed(call: FunctionCall) -> Bound:
    values, value = call.arguments[0], _value_in(call)
    sql = f"list_filter({values.sql}, lambda e: e IS DISTINCT FROM {value.sql})"
    return over(sql, values.type, *call.arguments)


def _distinct_sql(sql: str, condition: str = "") -> str:
    return each_once(sql, f"list_filter({{x}}, lambda e, i: list_position({{x}}, e) = i{condition})")


def _distinct(call: FunctionCall) -> Bound:
    (values,) = call.arguments
    return over(_distinct_sql(values.sql), values.type, values)


def _set(call: FunctionCall) -> Bound:
    of, (left, right) = _same_arrays(call)
    if call.name == "ARRAY_UNION":
        sql = _distinct_sql(f"list_concat({left.sql}, {right.sql})")
    else:
        found = "IS NULL" if call.name == "ARRAY_EXCEPT" else "IS NOT NULL"
        sql = _distinct_sql(left.sql, f" AND list_position({right.sql}, e) {found}")
    return over(guarded(sql, left, right), of, *call.arguments)


def _joined(call: FunctionCall) -> Bound:
    values, between, *rest = call.arguments
    if not _element(values).is_text:
        raise TypeProblem(f"ARRAY_JOIN takes an array of texts, not {values.type}", call.place)
    list_ = values.sql
    if _element(values).nullable:
        list_ = (
            f"list_transform({list_}, lambda e: coalesce(e, {rest[0].sql}))"
            if rest
            else f"list_filter({list_}, lambda e: e IS NOT NULL)"
        )
    known = constant_text(between) is not None
    joined = f"array_to_string({list_}, {between.sql})" if known else f"flink_array_join({list_}, {between.sql})"
    sql = guarded(joined, *call.arguments)
    return over(sql, null_if_any(STRING, *call.arguments), *call.arguments)


def _extreme(function: str) -> FunctionRule:
    def build(call: FunctionCall) -> Bound:
        (values,) = call.arguments
        return over(f"{function}({values.sql})", _element(values).with_null(), values)

    return checked(build, _ARRAY)


def _reversed(call: FunctionCall) -> Bound:
    (values,) = call.arguments
    return over(f"list_reverse({values.sql})", values.type, values)


def _slice(call: FunctionCall) -> Bound:
    """Places count from 1, negative ones from the end; 0 is 1. Both ends are in the slice."""
    values, start, *rest = call.arguments
    of = null_if_any(values.type, *call.arguments)

    def template(x: str) -> str:
        end = "len({x})"
        if rest:
            e = rest[0].sql
            end = f"(CASE WHEN {e} = 0 THEN 1 WHEN {e} < 0 THEN len({{x}}) + {e} + 1 ELSE {e} END)"
        s = start.sql
        first = f"(CASE WHEN {s} = 0 THEN 1 WHEN {s} < 0 THEN greatest(len({{x}}) + {s} + 1, 1) ELSE {s} END)"
        return each_once(x, f"CASE WHEN {end} < {first} THEN {{x}}[1:0] ELSE {{x}}[{first}:{end}] END")

    return over(guarded(template(values.sql), *call.arguments), of, *call.arguments)


def _sorted(call: FunctionCall) -> Bound:
    """NULLs are lowest: first, or last where it is descending; the third argument says otherwise."""
    values, *rest = call.arguments
    of = null_if_any(values.type, *call.arguments)
    if any(is_null(flag) for flag in rest):
        return null_of(of)
    ascending = rest[0].sql if rest else "TRUE"
    nulls_first = rest[1].sql if len(rest) > 1 else ascending

    def by(is_ascending: bool, first: bool) -> str:
        return f"list_sort({values.sql}, '{'ASC' if is_ascending else 'DESC'}', 'NULLS {'FIRST' if first else 'LAST'}')"

    if all(flag.is_constant for flag in rest):
        is_ascending = not rest or bool(rest[0].value)
        return over(by(is_ascending, bool(rest[1].value) if len(rest) > 1 else is_ascending), of, *call.arguments)
    branches = "".join(
        f" WHEN ({ascending}) = {a} AND ({nulls_first}) = {b} THEN {by(a, b)}"
        for a in (True, False)
        for b in (True, False)
    )
    return over(f"(CASE{branches} END)", of, *call.arguments)


# -- maps ------------------------------------------------------------------------------------------------------------


def _sides(bound: Bound) -> tuple[SqlType, SqlType]:
    assert bound.type.key is not None
    assert bound.type.element is not None
    return bound.type.key, bound.type.element


def _map_part(function: str) -> FunctionRule:
    def build(call: FunctionCall) -> Bound:
        (value,) = call.arguments
        key, element = _sides(value)
        of = {
            "map_keys": key,
            "map_values": element,
            "map_entries": row(("key", key), ("value", element), nullable=True),
        }
        inner = of[function]
        return over(f"{function}({value.sql})", array(inner, nullable=value.type.nullable), value)

    return checked(build, takes("MAP"))


def _map_from_arrays(call: FunctionCall) -> Bound:
    """Of equal keys the last counts. Flink has a NULL key; DuckDB has none and fails."""
    keys, values = call.arguments
    of = null_if_any(map_of(_element(keys), _element(values)), keys, values)
    lengths = (
        "'The length of the keys array ' || len({k}) || ' is not equal to the length of the values array ' || len({v})"
    )
    last = "list_filter(range(1, len({k}) + 1), lambda i: list_position({k}[i + 1:], {k}[i]) IS NULL)"
    made = f"map(list_transform({last}, lambda i: {{k}}[i]), list_transform({last}, lambda i: {{v}}[i]))"
    sql = f"(CASE WHEN len({{k}}) <> len({{v}}) THEN error({lengths}) ELSE {made} END)"
    text = sql.replace("{k}", keys.sql).replace("{v}", values.sql)
    return over(guarded(text, keys, values), of, keys, values)


def _map_union(call: FunctionCall) -> Bound:
    of, parts = _same_arrays(call)
    sql = f"map_concat({', '.join(part.sql for part in parts)})" if len(parts) > 1 else parts[0].sql
    return over(guarded(sql, *parts), of, *call.arguments)


def _str_to_map(call: FunctionCall) -> Bound:
    text, *marks = (argument.sql for argument in call.arguments)
    between, inside = marks or ("','", "'='")
    return over(f"flink_str_to_map({text}, {between}, {inside})", map_of(STRING, STRING), *call.arguments)


_ADDED: Final = checked(_added, _WITH_VALUE)
_SET: Final = checked(_set, takes("ARRAY", "ARRAY"))

RULES: Final[Mapping[str, FunctionRule]] = MappingProxyType(
    {
        "CARDINALITY": checked(_cardinality, takes("COLLECTION")),
        "ELEMENT": checked(_only, _ARRAY),
        "ARRAY_APPEND": _ADDED,
        "ARRAY_PREPEND": _ADDED,
        "ARRAY_CONCAT": checked(_concatenated, takes("ARRAY", repeats=True)),
        "ARRAY_CONTAINS": checked(_contains, _WITH_VALUE),
        "ARRAY_DISTINCT": checked(_distinct, _ARRAY),
        "ARRAY_EXCEPT": _SET,
        "ARRAY_INTERSECT": _SET,
        "ARRAY_UNION": _SET,
        "ARRAY_JOIN": checked(_joined, takes("ARRAY", "CHARACTER", "CHARACTER", optional=1)),
        "ARRAY_MAX": _extreme("list_max"),
        "ARRAY_MIN": _extreme("list_min"),
        "ARRAY_POSITION": checked(_position, _WITH_VALUE),
        "ARRAY_REMOVE": checked(_removed, _WITH_VALUE),
        "ARRAY_REVERSE": checked(_reversed, _ARRAY),
        "ARRAY_SLICE": checked(_slice, takes("ARRAY", "INTEGER", "INTEGER", optional=1)),
        "ARRAY_SORT": checked(_sorted, takes("ARRAY", "BOOLEAN", "BOOLEAN", optional=2)),
        "MAP_KEYS": _map_part("map_keys"),
        "MAP_VALUES": _map_part("map_values"),
        "MAP_ENTRIES": _map_part("map_entries"),
        "MAP_FROM_ARRAYS": checked(_map_from_arrays, takes("ARRAY", "ARRAY")),
        "MAP_UNION": checked(_map_union, takes("MAP", repeats=True)),
        "STR_TO_MAP": checked(_str_to_map, takes("CHARACTER"), takes("CHARACTER", "CHARACTER", "CHARACTER")),
    }
)
