"""Joins: which of Flink's kinds a join is, from its inputs and its condition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from streamkit_sql.errors import NotSupported, TypeProblem
from streamkit_sql.expressions.bound import Bound, Column, combine
from streamkit_sql.language import tree
from streamkit_sql.plan import sources, walk
from streamkit_sql.plan.catalog import View
from streamkit_sql.plan.maps import both, project, rename
from streamkit_sql.plan.nodes import (
    Changes,
    IntervalJoin,
    JoinKind,
    LookupJoin,
    Map,
    Node,
    Rank,
    RegularJoin,
    TemporalJoin,
    WindowJoin,
)
from streamkit_sql.plan.scopes import Item, TableScope, reference
from streamkit_sql.plan.sources import From
from streamkit_sql.types import BIGINT, BOOLEAN, quoted

if TYPE_CHECKING:
    from streamkit_sql.plan.planner import Planner


def plan(planner: Planner, source: tree.FromItem, where: Sequence[tree.Expression]) -> From:
    """A whole FROM with the conditions of WHERE: each is asked where it costs least, if no outer join is below it."""
    if not isinstance(source, tree.Join):
        return sources.filtered(planner, sources.plan(planner, source), where)
    if isinstance(source.right, tree.Unnest) or _is_lateral(source.right):
        return _lateral(planner, source, where)
    if isinstance(source.right, tree.TableName) and source.right.as_of is not None:
        return sources.filtered(planner, _temporal(planner, source), where)
    is_inner = source.kind in ("INNER", "CROSS")
    left, right = plan_bare(planner, source.left), plan_bare(planner, source.right)
    conditions = [*walk.conjuncts(source.condition), *_using(source, left, right)]
    left_items = len(left.items)
    items = (*left.items, *right.items)
    if is_inner:
        conditions += where
    to_left, to_right, across = [], [], []
    for each in conditions:
        refers = sources.refers_to(items, each)
        if walk.has_query(each):
            across.append(each)
        elif refers and max(refers) < left_items and is_inner:
            to_left.append(each)
        elif refers and min(refers) >= left_items and (is_inner or source.kind == "LEFT"):
            to_right.append(each)
        elif refers and max(refers) < left_items and source.kind == "RIGHT":
            to_left.append(each)
        else:
            across.append(each)
    left = plan(planner, source.left, to_left)
    right = plan(planner, source.right, to_right)
    subqueries = [each for each in across if walk.has_query(each)]
    kind: JoinKind = "INNER" if source.kind == "CROSS" else source.kind
    joined = join(planner, left, right, kind, [each for each in across if each not in subqueries], source)
    if source.using or source.natural:
        joined = _merged(planner, joined, source, left_items)
    return sources.filtered(planner, joined, [*subqueries, *([] if is_inner else where)])


def plan_bare(planner: Planner, source: tree.FromItem) -> From:
    """For its items only."""
    if isinstance(source, tree.Join):
        return plan(planner, source, [])
    return sources.plan(planner, source)


def _is_lateral(source: tree.FromItem) -> bool:
    return isinstance(source, tree.TableFunction) and source.lateral


def _lateral(planner: Planner, source: tree.Join, where: Sequence[tree.Expression]) -> From:
    left = plan(planner, source.left, [])
    if not isinstance(source.right, tree.Unnest):
        assert isinstance(source.right, tree.TableFunction)
        raise NotSupported(f"the table function {source.right.name} is not supported.", source.right.place)
    if source.kind not in ("INNER", "CROSS", "LEFT"):
        raise NotSupported(f"{source.kind} JOIN of UNNEST.", source.place)
    joined = sources.unnest(planner, left, source.right, outer=source.kind == "LEFT")
    on = [
        each
        for each in walk.conjuncts(source.condition)
        if not (isinstance(each, tree.Literal_) and each.value is True)
    ]
    if on and source.kind == "LEFT":
        raise NotSupported("LEFT JOIN UNNEST takes ON TRUE.", source.place)
    return sources.filtered(planner, joined, [*on, *where])


def _using(source: tree.Join, left: From, right: From) -> list[tree.Expression]:
    names: Sequence[str] = source.using
    if source.natural:
        of_right = {name for item in right.items for name, _ in item.columns}
        names = [name for item in left.items for name, _ in item.columns if name in of_right]
    conditions: list[tree.Expression] = []
    for name in names:
        sides = []
        for side in (left, right):
            owner = next((item for item in side.items if item.has(name)), None)
            if owner is None or owner.alias is None:
                raise NotSupported(f"USING ({name}) needs the column in two named tables.", source.place)
            sides.append(tree.Name((owner.alias, name), place=source.place))
        conditions.append(tree.Binary("=", sides[0], sides[1], place=source.place))
    return conditions


def _merged(planner: Planner, joined: From, source: tree.Join, left_items: int) -> From:
    """USING's columns stand once."""
    names = set(source.using) or {name for item in joined.items[:left_items] for name, _ in item.columns} & {
        name for item in joined.items[left_items:] for name, _ in item.columns
    }
    if source.kind in ("RIGHT", "FULL"):
        raise NotSupported(f"USING with a {source.kind} join.", source.place, "Write ON.")
    right = tuple(
        replace(item, columns=tuple(each for each in item.columns if each[0] not in names))
        for item in joined.items[left_items:]
    )
    return From(joined.node, (*joined.items[:left_items], *right))


# -- the kinds -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Condition:
    """A join's condition, sorted: equal keys, bounds on the difference of two time attributes, and the rest."""

    left_keys: list[Bound]
    right_keys: list[Bound]
    times: tuple[Bound, Bound] | None = None
    lower_ms: int | None = None  # right - left
    upper_ms: int | None = None
    rest: list[Bound] | None = None


def join(
    planner: Planner, left: From, right: From, kind: JoinKind, conditions: Sequence[tree.Expression], at: tree.Node
) -> From:
    """Left with right. The columns of SEMI and ANTI are the left's."""
    left, right = _settled(planner, left), _settled(planner, right)
    renamed_node, columns = rename(right.node, {column.name for column in left.node.columns})
    right = From(renamed_node, tuple(_renamed(item, columns) for item in right.items))
    scope = TableScope((*left.items, *right.items))
    left_names = {column.name for column in left.node.columns}
    sorted_out = _sort(planner, scope, left_names, conditions)
    node = (
        _window_join(left.node, right.node, kind, sorted_out)
        or _interval_join(left.node, right.node, kind, sorted_out)
        or _regular_join(planner, left.node, right.node, kind, sorted_out, at)
    )
    return From(node, left.items if kind in ("SEMI", "ANTI") else _with_nulls(scope.items, node))


def _settled(planner: Planner, side: From) -> From:
    return sources.filtered(planner, side, [])


def _renamed(item: Item, columns: dict[str, Column]) -> Item:
    def anew(bound: Bound) -> Bound:
        (name,) = bound.columns
        return reference(columns[name])

    visible = tuple((name, anew(bound)) for name, bound in item.columns)
    return Item(item.alias, visible, {path: anew(bound) for path, bound in item.leaves.items()})


def _with_nulls(items: tuple[Item, ...], node: Node) -> tuple[Item, ...]:
    """The items as the joined relation has them: an outer join's other side may be NULL."""
    by_name = {column.name: column for column in node.columns}

    def anew(bound: Bound) -> Bound:
        (name,) = bound.columns
        return reference(by_name[name])

    return tuple(
        Item(
            item.alias,
            tuple((name, anew(bound)) for name, bound in item.columns),
            {path: anew(bound) for path, bound in item.leaves.items()},
        )
        for item in items
    )


def _sort(
    planner: Planner, scope: TableScope, left_names: set[str], conditions: Sequence[tree.Expression]
) -> _Condition:
    found = _Condition([], [], rest=[])
    assert found.rest is not None
    for each in conditions:
        bound = planner.bind(each, scope)
        if bound.is_constant and bound.value is True:
            continue
        if bound.type.kind is not BOOLEAN.kind:
            raise TypeProblem(f"a condition is BOOLEAN; this is a {bound.type}.", each.place)
        if isinstance(each, tree.Binary):
            if _is_interval(planner, scope, left_names, each, found):
                continue
            if each.operator == "=":
                a, b = planner.bind(each.left, scope), planner.bind(each.right, scope)
                sides = _sides(a, b, left_names)
                if sides is not None and a.type.with_null().same_as(b.type.with_null()):
                    found.left_keys.append(sides[0])
                    found.right_keys.append(sides[1])
                    continue
                if sides is not None:
                    common = _common(planner, a, b)
                    if common is not None:
                        a, b = common
                        sides = _sides(a, b, left_names)
                        assert sides is not None
                        found.left_keys.append(sides[0])
                        found.right_keys.append(sides[1])
                        continue
        found.rest.append(bound)
    return found


def _common(planner: Planner, a: Bound, b: Bound) -> tuple[Bound, Bound] | None:
    from streamkit_sql.expressions import coercion

    if not (a.type.is_exact and b.type.is_exact) and not (a.type.is_text and b.type.is_text):
        return None
    of = coercion.common_type([a.type, b.type])
    return None if of is None else (planner.cast(a, of), planner.cast(b, of))


def _sides(a: Bound, b: Bound, left_names: set[str]) -> tuple[Bound, Bound] | None:
    if a.columns and b.columns:
        if a.columns <= left_names and not b.columns & left_names:
            return a, b
        if b.columns <= left_names and not a.columns & left_names:
            return b, a
    return None


_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "="}
_SHIFTS: dict[str, Literal[-1, 1]] = {"+": 1, "-": -1}


def _time_of(planner: Planner, scope: TableScope, node: tree.Expression) -> tuple[Bound, int] | None:
    """A time attribute plus a constant, in ms."""
    if isinstance(node, tree.Binary) and node.operator in _SHIFTS and isinstance(node.right, tree.IntervalLiteral):
        inner = _time_of(planner, scope, node.left)
        if inner is None or node.right.milliseconds is None:
            return None
        return inner[0], inner[1] + _SHIFTS[node.operator] * node.right.milliseconds
    if isinstance(node, tree.Name):
        bound = planner.bind(node, scope)
        return (bound, 0) if bound.time is not None else None
    return None


def _is_interval(
    planner: Planner, scope: TableScope, left_names: set[str], condition: tree.Binary, found: _Condition
) -> bool:
    """Whether the condition bounds the difference of both sides' time attributes; noted in `found` then."""
    if condition.operator not in ("=", "<", "<=", ">", ">="):
        return False
    a, b = _time_of(planner, scope, condition.left), _time_of(planner, scope, condition.right)
    if a is None or b is None or a[0].time != b[0].time:
        return False
    sides = _sides(a[0], b[0], left_names)
    if sides is None or (found.times is not None and found.times != sides):
        return False
    # left + p <op> right + q, so right - left <flipped op> p - q
    operator: str = condition.operator
    (_, p), (_, q) = (a, b) if sides[0] is a[0] else (b, a)
    if sides[0] is not a[0]:
        operator = _FLIPPED[operator]
    difference = p - q
    if operator in ("<", "<=", "="):  # right - left >= difference
        lower = difference + (operator == "<")
        found.lower_ms = lower if found.lower_ms is None else max(found.lower_ms, lower)
    if operator in (">", ">=", "="):
        upper = difference - (operator == ">")
        found.upper_ms = upper if found.upper_ms is None else min(found.upper_ms, upper)
    found.times = sides
    return True


def _columns(left: Node, right: Node, kind: JoinKind, *, keeps_time: bool) -> tuple[Column, ...]:
    def side(node: Node, *, may_miss: bool) -> list[Column]:
        return [
            replace(
                column,
                type=column.type.with_null(column.type.nullable or may_miss),
                time=column.time if keeps_time and not may_miss else None,
            )
            for column in node.columns
        ]  # fmt: skip

    lefts = side(left, may_miss=kind in ("RIGHT", "FULL"))
    return tuple(lefts if kind in ("SEMI", "ANTI") else [*lefts, *side(right, may_miss=kind in ("LEFT", "FULL"))])


def _window_join(left: Node, right: Node, kind: JoinKind, on: _Condition) -> Node | None:
    a, b = left.window, right.window
    if a is None or b is None or None in (a.start, a.end, b.start, b.end) or a.time != b.time:
        return None
    pairs = {(x.sql, y.sql) for x, y in zip(on.left_keys, on.right_keys, strict=True)}
    assert a.start is not None
    assert a.end is not None
    assert b.start is not None
    assert b.end is not None
    if (quoted(a.start), quoted(b.start)) not in pairs or (quoted(a.end), quoted(b.end)) not in pairs:
        return None
    rest = [*(on.rest or []), *_time_bounds(on)]
    return WindowJoin(
        columns=_columns(left, right, kind, keeps_time=True), window=a if kind not in ("RIGHT", "FULL") else None,
        left=left, right=right, kind=kind, left_end=reference(left.column(a.end)),
        right_end=reference(right.column(b.end)),
        time_kind=a.time, left_keys=tuple(on.left_keys), right_keys=tuple(on.right_keys), residual=both(rest),
    )  # fmt: skip


def _time_bounds(on: _Condition) -> list[Bound]:
    """The bounds on times as plain conditions, for joins that are no interval joins."""
    if on.times is None:
        return []
    left, right = on.times
    difference = f"(epoch_us({right.sql}) - epoch_us({left.sql}))"
    bounds = []
    if on.lower_ms is not None:
        bounds.append(combine(f"({difference} >= {on.lower_ms * 1000})", BOOLEAN, left, right))
    if on.upper_ms is not None:
        bounds.append(combine(f"({difference} <= {on.upper_ms * 1000})", BOOLEAN, left, right))
    return bounds


def _interval_join(left: Node, right: Node, kind: JoinKind, on: _Condition) -> Node | None:
    if on.times is None or on.lower_ms is None or on.upper_ms is None:
        return None
    if Changes.UPDATES in (left.changes, right.changes) or kind in ("SEMI", "ANTI"):
        return None
    left_time, right_time = on.times
    assert left_time.time is not None
    return IntervalJoin(
        columns=_columns(left, right, kind, keeps_time=True), left=left, right=right, kind=kind,
        left_keys=tuple(on.left_keys), right_keys=tuple(on.right_keys), left_time=left_time, right_time=right_time,
        time_kind=left_time.time, lower_ms=on.lower_ms, upper_ms=on.upper_ms, residual=both(on.rest or []),
    )  # fmt: skip


def _regular_join(planner: Planner, left: Node, right: Node, kind: JoinKind, on: _Condition, at: tree.Node) -> Node:
    append = (left.changes, right.changes) == (Changes.APPEND, Changes.APPEND)
    rest = [*(on.rest or []), *_time_bounds(on)]
    is_append = append and kind in ("INNER", "SEMI")
    key = None
    if left.key is not None and right.key is not None and kind not in ("SEMI", "ANTI"):
        key = (*left.key, *right.key)
    elif left.key is not None and kind in ("SEMI", "ANTI"):
        key = left.key
    return RegularJoin(
        columns=_columns(left, right, kind, keeps_time=False), changes=Changes.APPEND if is_append else Changes.UPDATES,
        key=key, left=left, right=right, kind=kind, left_keys=tuple(on.left_keys), right_keys=tuple(on.right_keys),
        residual=both(rest), left_ttl_ms=planner.ttl_ms, right_ttl_ms=planner.ttl_ms,
    )  # fmt: skip


def _temporal(planner: Planner, source: tree.Join) -> From:
    """FOR SYSTEM_TIME AS OF: a version by event time, or a reference table as it is now."""
    assert isinstance(source.right, tree.TableName)
    assert source.right.as_of is not None
    if source.kind not in ("INNER", "LEFT"):
        raise NotSupported(f"{source.kind} JOIN with FOR SYSTEM_TIME AS OF.", source.place, "INNER and LEFT there are.")
    left = _settled(planner, plan(planner, source.left, []))
    as_of = planner.bind(source.right.as_of, left.scope())
    if as_of.time is None:
        raise TypeProblem("FOR SYSTEM_TIME AS OF takes a time attribute of the left table.", source.right.as_of.place)
    right = _settled(planner, sources.plan(planner, replace(source.right, as_of=None)))
    each_version = _each_version(right.node) if as_of.time == "event" else None
    key = right.node.key
    if each_version is not None:
        right = From(each_version, right.items)
    renamed_node, columns = rename(right.node, {column.name for column in left.node.columns})
    right = From(renamed_node, tuple(_renamed(item, columns) for item in right.items))
    scope = TableScope((*left.items, *right.items))
    on = _sort(planner, scope, {column.name for column in left.node.columns}, walk.conjuncts(source.condition))
    if not on.left_keys:
        raise NotSupported("a temporal join needs equal keys.", source.place)
    by = {bound.sql for bound in on.right_keys}
    if each_version is not None and key is not None and by != {quoted(columns[name].name) for name in key}:
        hint = f"Its key is {', '.join(key)}."
        raise TypeProblem("a temporal join is by the versioned table's key, all of it.", source.place, hint)
    kind: Literal["INNER", "LEFT"] = "LEFT" if source.kind == "LEFT" else "INNER"
    out = _columns(left.node, right.node, kind, keeps_time=True)
    residual = both([*(on.rest or []), *_time_bounds(on)])
    lookup = _lookup(planner, source.right) if as_of.time == "processing" else None
    node: Node
    if lookup is not None:
        names = {column.name: original for original, column in columns.items()}
        node = LookupJoin(
            columns=out, changes=left.node.changes, left=left.node, table=lookup, table_columns=right.node.columns,
            table_names=tuple(names[column.name] for column in right.node.columns), kind=kind,
            left_keys=tuple(on.left_keys), right_keys=tuple(on.right_keys), residual=residual,
        )  # fmt: skip
    else:
        versions = next((column for column in right.node.columns if column.time == "event"), None)
        if as_of.time == "event" and versions is None:
            hint = "Declare a watermark and a primary key for it, or deduplicate it by its time."
            raise TypeProblem("the versioned table has no event time.", source.right.place, hint)
        node = TemporalJoin(
            columns=out, left=left.node, right=right.node, kind=kind, left_keys=tuple(on.left_keys),
            right_keys=tuple(on.right_keys), left_time=as_of, residual=residual, time_kind=as_of.time,
            right_time=None if versions is None else reference(versions), newest_only=each_version is not None,
        )  # fmt: skip
    return From(node, _with_nulls(scope.items, node))


def _each_version(node: Node) -> Node | None:
    """What a deduplication that keeps the last row by event time is made of: all versions there are, where it would
    only give the last one of a tick. None for other relations."""
    if isinstance(node, Map):
        inner = None if node.condition is not None else _each_version(node.input)
        return None if inner is None else project(inner, node.projections)
    if not isinstance(node, Rank) or (node.first, node.last) != (1, 1) or node.input.changes is Changes.UPDATES:
        return None
    by = node.ordering[0]
    if by.expression.time != "event" or not by.descending:
        return None
    one = Bound("1::BIGINT", BIGINT.with_null(False))
    return project(
        node.input,
        [
            (column.name, one if column.name == node.number else reference(node.input.column(column.name)))
            for column in node.columns
        ],
    )


def _lookup(planner: Planner, table: tree.TableName) -> str | None:
    """The table's name, where it can be looked up in."""
    if table.name.parts[-1] in planner.views:
        return None
    found = planner.catalog.find(table.name)
    if isinstance(found, View) or not found.is_bounded:
        return None
    return found.name
