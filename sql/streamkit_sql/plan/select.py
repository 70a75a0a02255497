"""SELECT: from FROM to the projection, in the order SQL evaluates it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from streamkit_sql.errors import NotSupported, SyntaxProblem, TypeProblem
from streamkit_sql.expressions.bound import Bound, Column
from streamkit_sql.language import tree
from streamkit_sql.plan import grouping, joins, overs, ranks, subqueries, walk
from streamkit_sql.plan.maps import both, keep, project
from streamkit_sql.plan.nodes import Changes, GroupAggregate, Node, Ordering, Over, PendingRank, Values
from streamkit_sql.plan.scopes import Bind, Item, TableScope, reference
from streamkit_sql.plan.sources import From

if TYPE_CHECKING:
    from streamkit_sql.plan.planner import Planner


@dataclass(slots=True)
class SelectScope:
    """A FROM's scope in which some expressions are columns already: grouped, aggregated, or computed by an OVER."""

    base: TableScope
    done: list[tuple[tree.Expression, Bound]] = field(default_factory=list)
    by_text: dict[str, Bound] = field(default_factory=dict)
    """What the source's columns have become; where set, no other column of it can be named."""
    only: str | None = None
    """Why others cannot."""

    def resolve(self, name: tree.Name) -> Bound:
        bound = self.base.resolve(name)
        if self.only is None:
            return bound
        found = self.by_text.get(bound.sql)
        if found is None:
            raise TypeProblem(f"{'.'.join(name.parts)!r} {self.only}", name.place)
        return found

    def replace(self, node: tree.Expression, bind: Bind) -> Bound | None:
        for each, bound in self.done:
            if each == node:
                return bound
        return None


def plan(planner: Planner, select: tree.Select, outer: TableScope | None = None) -> Node:
    return plan_ordered(planner, select, (), outer)[0]


def plan_ordered(
    planner: Planner, select: tree.Select, order: Sequence[tree.OrderItem], outer: TableScope | None = None
) -> tuple[Node, tuple[Ordering, ...]]:
    """The SELECT's relation, and an ORDER BY over it. What is ordered by and not selected is a hidden column, whose
    name starts with `$order`."""
    source = _from(planner, select, outer)
    scope = SelectScope(source.scope(outer))
    node = source.node
    items = _items(source, select, outer)
    if select.group_by is not None or _has_aggregate(planner, select, items):
        node, scope = grouping.plan(planner, source, select, [expression for _, expression in items], order)
        if select.having is not None:
            node = keep(node, planner.bind(select.having, scope))
    over = _over_calls(select, [expression for _, expression in items])
    number: str | None = None
    if over:
        node, number = overs.plan(planner, node, scope, select, over)
    node, bound = _bind_items(planner, node, scope, items)
    names = _names(items)
    ordering, hidden = _ordering(planner, scope, order, items, bound, names)
    if select.distinct and hidden:
        raise NotSupported("ORDER BY with DISTINCT takes selected columns.", select.place)
    projected: Node = project(node, [*zip(names, bound, strict=True), *hidden])
    if number is not None and not isinstance(node, PendingRank):
        raise AssertionError(number)
    if select.qualify is not None:
        projected = _qualified(planner, projected, select, names, items, bound)
    if select.distinct:
        projected = distinct(planner, projected)
    return projected, ordering


def _from(planner: Planner, select: tree.Select, outer: TableScope | None) -> From:
    conditions = walk.conjuncts(select.where)
    if select.source is None:
        node = Values(columns=(), rows=((),))
        if conditions:
            return From(keep(node, both([planner.bind(each, TableScope((), outer)) for each in conditions])), ())
        return From(node, ())
    plain = [each for each in conditions if not walk.has_query(each)]
    source = joins.plan(planner, select.source, plain)
    for each in conditions:
        if walk.has_query(each):
            source = subqueries.filtered(planner, source, each)
    return source


def _items(
    source: From, select: tree.Select, outer: TableScope | None
) -> list[tuple[str | None, tree.Expression | Bound]]:
    """What is selected, with the names that are written or known; stars are columns already."""
    items: list[tuple[str | None, tree.Expression | Bound]] = []
    scope = source.scope(outer)
    for item in select.items:
        if isinstance(item.expression, tree.Star):
            items += scope.star(item.expression.qualifier, item.expression)
        else:
            items.append((item.alias, item.expression))
    return items


def _names(items: Sequence[tuple[str | None, tree.Expression | Bound]]) -> list[str]:
    """A column is called by its alias, else by the column it is, else EXPR$n; the second of a name gets a number."""
    names: list[str] = []
    for index, (alias, expression) in enumerate(items):
        name = alias
        if name is None and isinstance(expression, tree.Name):
            name = expression.parts[-1]
        if name is None and isinstance(expression, tree.FieldOf):
            name = expression.name
        base = name if name is not None else f"EXPR${index}"
        unique, number = base, 0
        while unique in names:
            unique, number = f"{base}{number}", number + 1
        names.append(unique)
    return names


def _has_aggregate(
    planner: Planner, select: tree.Select, items: Sequence[tuple[str | None, tree.Expression | Bound]]
) -> bool:
    nodes = [expression for _, expression in items if not isinstance(expression, Bound)]
    return select.having is not None or any(
        isinstance(each, tree.Call) and each.over is None and planner.is_aggregate(each.name)
        for node in nodes
        for each in _outside_over(node)
    )


def _outside_over(node: tree.Expression) -> list[tree.Node]:
    """The nodes of an expression that are not an OVER's own function."""
    found = []
    skipped: set[int] = set()
    for each in walk.expressions(node):
        if id(each) in skipped:
            continue
        if isinstance(each, tree.Call) and each.over is not None:
            skipped.add(id(each))
            continue
        found.append(each)
    return found


def _over_calls(select: tree.Select, expressions: Sequence[tree.Expression | Bound]) -> list[tree.Call]:
    nodes = [each for each in expressions if not isinstance(each, Bound)]
    if select.qualify is not None:
        nodes.append(select.qualify)
    calls: list[tree.Call] = []
    for node in nodes:
        for each in walk.expressions(node):
            if isinstance(each, tree.Call) and each.over is not None and each not in calls:
                calls.append(each)
    return calls


def _bind_items(
    planner: Planner, node: Node, scope: SelectScope, items: Sequence[tuple[str | None, tree.Expression | Bound]]
) -> tuple[Node, list[Bound]]:
    bound = []
    for _, expression in items:
        if isinstance(expression, Bound):
            if scope.only is not None:
                found = scope.by_text.get(expression.sql)
                if found is None:
                    raise TypeProblem(f"a column of * {scope.only}")
                expression = found
            bound.append(expression)
            continue
        if walk.has_query(expression):
            node, expression = subqueries.scalar(planner, node, scope, expression)
        bound.append(planner.bind(expression, scope))
    return node, bound


def _ordering(
    planner: Planner,
    scope: SelectScope,
    order: Sequence[tree.OrderItem],
    items: Sequence[tuple[str | None, tree.Expression | Bound]],
    bound: Sequence[Bound],
    names: Sequence[str],
) -> tuple[tuple[Ordering, ...], list[tuple[str, Bound]]]:
    """ORDER BY names what is selected: by its name, its number, or its expression; or columns of the source."""
    ordering: list[Ordering] = []
    hidden: list[tuple[str, Bound]] = []
    for item in order:
        expression = item.expression
        index = None
        if isinstance(expression, tree.Literal_) and type(expression.value) is int:
            index = expression.value - 1
            if not 0 <= index < len(names):
                raise SyntaxProblem(f"ORDER BY {expression.value}: there are {len(names)} columns.", expression.place)
        elif isinstance(expression, tree.Name) and len(expression.parts) == 1 and expression.parts[0] in names:
            index = names.index(expression.parts[0])
        else:
            target = planner.bind(expression, scope)
            index = next((i for i, each in enumerate(bound) if each.sql == target.sql), None)
            if index is None:
                name = f"$order{len(hidden)}"
                hidden.append((name, target))
                column = Column(name, target.type, target.time)
        if index is not None:
            column = Column(names[index], bound[index].type, bound[index].time)
        nulls_first = item.nulls_first if item.nulls_first is not None else not item.descending
        ordering.append(Ordering(reference(column), item.descending, nulls_first))
    return tuple(ordering), hidden


def _qualified(
    planner: Planner,
    node: Node,
    select: tree.Select,
    names: Sequence[str],
    items: Sequence[tuple[str | None, tree.Expression | Bound]],
    bound: Sequence[Bound],
) -> Node:
    """QUALIFY is a filter on what is selected, by name or by expression; so the rank is decided by it."""
    from streamkit_sql.plan import sources

    assert select.qualify is not None
    item = Item(None, tuple((column.name, reference(column)) for column in node.columns))
    conditions = []
    for each in walk.conjuncts(select.qualify):
        for name, (_, expression) in zip(names, items, strict=True):
            if not isinstance(expression, Bound) and isinstance(each, tree.Binary):
                if each.left == expression:
                    each = replace(each, left=tree.Name((name,), place=each.left.place))
                elif each.right == expression:
                    each = replace(each, right=tree.Name((name,), place=each.right.place))
        conditions.append(each)
    return sources.filtered(planner, From(node, (item,)), conditions).node


def distinct(planner: Planner, node: Node) -> Node:
    """Each row once. Where rows belong to windows, once per window, when it closes."""
    node = sources_settled(planner, node)
    keys = tuple((column.name, reference(column)) for column in node.columns)
    windowed = grouping.window_aggregate(planner, node, keys, ())
    if windowed is not None:
        return project(windowed, [(column.name, reference(windowed.column(column.name))) for column in node.columns])
    return GroupAggregate(
        columns=tuple(replace(column, time=None) for column in node.columns), changes=Changes.UPDATES,
        key=tuple(column.name for column in node.columns), input=node, keys=keys, aggregates=(), ttl_ms=planner.ttl_ms,
    )  # fmt: skip


def sources_settled(planner: Planner, node: Node) -> Node:
    """The relation, any pending rank in it decided (which is refused: nothing says which ranks)."""
    pending = ranks.pending_of(node)
    return node if pending is None else ranks.decide(node, 1, ranks.ENDLESS, None)


def sort_by_time(node: Node, ordering: tuple[Ordering, ...]) -> Node:
    """Rows in the order of their time attribute: an OVER that computes nothing, for it emits in that order."""
    time = ordering[0].expression
    assert time.time is not None
    return Over(columns=node.columns, input=node, partition=(), time=time, time_kind=time.time, calls=())
