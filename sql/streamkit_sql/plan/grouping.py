"""GROUP BY: per window where the keys hold a window, else over all that came."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Literal

from streamkit_sql.errors import NotSupported, TypeProblem
from streamkit_sql.expressions.bound import Aggregate, Bound, Column
from streamkit_sql.language import tree
from streamkit_sql.plan import group_windows, walk, windows
from streamkit_sql.plan.nodes import Changes, GroupAggregate, Node, WindowAggregate, WindowOf
from streamkit_sql.plan.scopes import TableScope, reference
from streamkit_sql.plan.sources import From
from streamkit_sql.types import BIGINT, quoted, timestamp

if TYPE_CHECKING:
    from streamkit_sql.plan.planner import Planner
    from streamkit_sql.plan.select import SelectScope

SETS_MAX = 4_096
"""Grouping sets of one query, as many as Calcite takes for a CUBE of 12 columns."""
_GROUPING = ("GROUPING", "GROUPING_ID")


def plan(
    planner: Planner,
    source: From,
    select: tree.Select,
    items: Sequence[tree.Expression | Bound],
    order: Sequence[tree.OrderItem],
) -> tuple[Node, SelectScope]:
    """The groups, and the scope in which what is selected of them is bound."""
    from streamkit_sql.plan.select import SelectScope, sources_settled

    source = From(sources_settled(planner, source.node), source.items)
    legacy = group_windows.find(planner, source, select.group_by)
    if legacy is not None:
        source, select = legacy.source, legacy.select_of(select)
    base = source.scope()
    expressions, sets = _sets(planner, base, select.group_by or ())
    keys = []
    for index, expression in enumerate(expressions):
        bound = planner.bind(expression, base)
        keys.append((f"$key{index}", bound))
    calls = _aggregate_calls(planner, [*items, select.having, *(each.expression for each in order)])
    aggregates = []
    for index, call in enumerate(calls):
        aggregates.append((f"$agg{index}", planner.bind_aggregate(call, base, has_keys=bool(keys))))
    groupings = _grouping_calls([*items, select.having])
    ids = tuple((f"$grouping{i}", _positions(planner, base, call, keys)) for i, call in enumerate(groupings))
    node: Node | None = window_aggregate(planner, source.node, tuple(keys), tuple(aggregates), sets, ids)
    if node is None:
        node = _group_aggregate(planner, source.node, tuple(keys), tuple(aggregates), sets, ids)
    scope = SelectScope(base, only="is neither grouped by nor aggregated.")
    by_name = {column.name: column for column in node.columns}
    for (name, bound), expression in zip(keys, expressions, strict=True):
        column = reference(by_name[name])
        scope.by_text[bound.sql] = column
        scope.done.append((expression, column))
    _name_window(source.node, node, scope)
    for (name, _), call in zip(aggregates, calls, strict=True):
        scope.done.append((call, reference(by_name[name])))
    for (name, _), call in zip(ids, groupings, strict=True):
        scope.done.append((call, reference(by_name[name])))
    if legacy is not None:
        scope = legacy.widened(scope)
    return node, scope


def _name_window(source: Node, node: Node, scope: SelectScope) -> None:
    """`window_time` can be selected although nobody groups by it."""
    window = source.window
    if isinstance(node, WindowAggregate) and window is not None and window.time_column is not None and node.window:
        scope.by_text.setdefault(quoted(window.time_column), reference(node.column(node.window.time_column or "")))


def _aggregate_calls(planner: Planner, nodes: Sequence[tree.Expression | Bound | None]) -> list[tree.Call]:
    """Each aggregate call once, innermost OVER arguments included."""
    calls: list[tree.Call] = []
    for node in nodes:
        if node is None or isinstance(node, Bound):
            continue
        for each in walk.expressions(node):
            if (
                isinstance(each, tree.Call)
                and each.over is None
                and planner.is_aggregate(each.name)
                and each not in calls
            ):
                if each.name in _GROUPING:
                    continue
                calls.append(each)
    return calls


def _grouping_calls(nodes: Sequence[tree.Expression | Bound | None]) -> list[tree.Call]:
    calls: list[tree.Call] = []
    for node in nodes:
        if node is not None and not isinstance(node, Bound):
            for each in walk.expressions(node):
                if isinstance(each, tree.Call) and each.name in _GROUPING and each not in calls:
                    calls.append(each)
    return calls


def _positions(
    planner: Planner, base: TableScope, call: tree.Call, keys: Sequence[tuple[str, Bound]]
) -> tuple[int, ...]:
    found = []
    for argument in call.arguments:
        text = planner.bind(argument, base).sql
        index = next((i for i, (_, bound) in enumerate(keys) if bound.sql == text), None)
        if index is None:
            raise TypeProblem(f"{call.name} takes what is grouped by.", argument.place)
        found.append(index)
    return tuple(found)


def _sets(
    planner: Planner, base: TableScope, elements: Sequence[tree.GroupingElement]
) -> tuple[list[tree.Expression], tuple[tuple[int, ...], ...] | None]:
    """The expressions grouped by, each once, and the sets of their indexes; None where there is one set of all."""
    expressions: list[tree.Expression] = []
    texts: list[str] = []

    def index_of(expression: tree.Expression) -> int:
        text = planner.bind(expression, base).sql
        if text not in texts:
            texts.append(text)
            expressions.append(expression)
        return texts.index(text)

    sets: list[tuple[int, ...]] = [()]
    is_plain = True
    for element in elements:
        if element.kind == "PLAIN":
            for expression in element.expressions or [each for group in element.sets for each in group]:
                index = index_of(expression)
                sets = [_with(each, (index,)) for each in sets]
            continue
        is_plain = False
        groups = [tuple(index_of(each) for each in group) for group in element.sets] or [
            (index_of(each),) for each in element.expressions
        ]
        if element.kind == "GROUPING SETS":
            mine = groups
        elif element.kind == "ROLLUP":
            mine = [tuple(i for group in groups[:stop] for i in group) for stop in range(len(groups), -1, -1)]
        else:
            if len(groups) > 12:
                raise NotSupported("CUBE of more than 12 columns.", element.place)
            mine = [
                tuple(i for group in chosen for i in group)
                for size in range(len(groups), -1, -1)
                for chosen in combinations(groups, size)
            ]
        sets = [_with(each, more) for each in sets for more in mine]
        if len(sets) > SETS_MAX:
            raise NotSupported(f"more than {SETS_MAX} grouping sets.", element.place)
    return expressions, None if is_plain else tuple(sets)


def _with(of: tuple[int, ...], more: tuple[int, ...]) -> tuple[int, ...]:
    return (*of, *(each for each in more if each not in of))


def window_aggregate(
    planner: Planner,
    source: Node,
    keys: tuple[tuple[str, Bound], ...],
    aggregates: tuple[tuple[str, Aggregate], ...],
    sets: tuple[tuple[int, ...], ...] | None = None,
    ids: tuple[tuple[str, tuple[int, ...]], ...] = (),
) -> WindowAggregate | None:
    """Groups per window; None where the keys do not hold a window's start and end."""
    window = source.window
    if window is None or window.start is None or window.end is None:
        return None
    parts: dict[str, Literal["start", "end", "time"]] = {quoted(window.start): "start", quoted(window.end): "end"}
    if window.time_column is not None:
        parts[quoted(window.time_column)] = "time"
    of_window = [index for index, (_, bound) in enumerate(keys) if bound.sql in parts]
    if {parts[keys[index][1].sql] for index in of_window} < {"start", "end"}:
        return None
    if sets is not None and any(not set(of_window) <= set(each) for each in sets):
        raise NotSupported("grouping sets need window_start and window_end in each set.")
    if source.changes is Changes.UPDATES:
        raise NotSupported("a window over a relation whose rows change.")
    outputs = [(keys[index][0], parts[keys[index][1].sql]) for index in of_window]
    if "time" not in [part for _, part in outputs]:
        outputs.append(("$window_time", "time"))
    others = [index for index in range(len(keys)) if index not in of_window]
    place = {index: position for position, index in enumerate(others)}
    bare = windows.without_windows(source)
    if bare is not None:
        known = {column.name for column in bare.node.columns}
        read = [bound.columns for index, (_, bound) in enumerate(keys) if index in place]
        read += [each.columns for _, each in aggregates]
        if any(not columns <= known for columns in read):
            bare = None  # something is computed from the window itself: rows are taken once per window
    time_type = source.column(window.time_column).type if window.time_column else timestamp(3, nullable=False)
    types = {"start": timestamp(3, nullable=False), "end": timestamp(3, nullable=False), "time": time_type}
    columns = [
        *(_nullable(keys[index][0], keys[index][1], sets, index) for index in others),
        *(Column(name, each.type) for name, each in aggregates),
        *(Column(name, types[part], window.time if part == "time" else None) for name, part in outputs),
        *(Column(name, BIGINT.with_null(False)) for name, _ in ids),
    ]
    names = {part: name for name, part in reversed(outputs)}
    return WindowAggregate(
        columns=tuple(columns),
        key=(*(keys[index][0] for index in others), names["start"], names["end"]) if sets is None else None,
        window=WindowOf(names["start"], names["end"], names["time"], window.time, window.spec),
        input=source if bare is None else bare.node,
        time=None if bare is None else bare.time,
        time_kind=window.time,
        spec=window.spec,
        keys=tuple(keys[index] for index in others),
        aggregates=aggregates,
        outputs=tuple(outputs),
        start=reference(source.column(window.start)) if bare is None else None,
        end=reference(source.column(window.end)) if bare is None else None,
        grouping_sets=None if sets is None else tuple(tuple(place[i] for i in each if i in place) for each in sets),
        grouping_ids=tuple((name, tuple(place[i] for i in positions)) for name, positions in ids),
    )


def _nullable(name: str, bound: Bound, sets: tuple[tuple[int, ...], ...] | None, index: int) -> Column:
    may_miss = sets is not None and any(index not in each for each in sets)
    return Column(name, bound.type.with_null(bound.type.nullable or may_miss), None)


def _group_aggregate(
    planner: Planner,
    source: Node,
    keys: tuple[tuple[str, Bound], ...],
    aggregates: tuple[tuple[str, Aggregate], ...],
    sets: tuple[tuple[int, ...], ...] | None,
    ids: tuple[tuple[str, tuple[int, ...]], ...],
) -> Node:
    columns = [
        *(_nullable(name, bound, sets, index) for index, (name, bound) in enumerate(keys)),
        *(Column(name, each.type) for name, each in aggregates),
        *(Column(name, BIGINT.with_null(False)) for name, _ in ids),
    ]
    return GroupAggregate(
        columns=tuple(columns), changes=Changes.UPDATES, key=tuple(name for name, _ in keys) if sets is None else None,
        input=source, keys=keys, aggregates=aggregates, grouping_sets=sets, grouping_ids=ids, ttl_ms=planner.ttl_ms,
    )  # fmt: skip
