"""IN, EXISTS and scalar subqueries, as joins."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from streamkit_sql.errors import NotSupported, UnknownName
from streamkit_sql.language import tree
from streamkit_sql.plan import joins, sources, walk
from streamkit_sql.plan.nodes import GroupAggregate, Map, Node
from streamkit_sql.plan.scopes import TableScope, reference
from streamkit_sql.plan.sources import From

if TYPE_CHECKING:
    from streamkit_sql.plan.planner import Planner
    from streamkit_sql.plan.select import SelectScope

_ALIAS = "$in"


def filtered(planner: Planner, source: From, condition: tree.Expression) -> From:
    """The rows for which a condition with a subquery holds."""
    negated = False
    while isinstance(condition, tree.Unary) and condition.operator == "NOT":
        negated, condition = not negated, condition.operand
    if isinstance(condition, tree.InQuery):
        return _in(planner, source, condition, negated != condition.negated)
    if isinstance(condition, tree.Exists):
        return _exists(planner, source, condition, negated)
    if any(isinstance(each, tree.ScalarQuery) for each in walk.expressions(condition)):
        from streamkit_sql.plan.select import SelectScope

        scope = SelectScope(source.scope())
        node, _ = scalar(planner, source.node, scope, condition)
        bound = planner.bind(tree.Unary("NOT", condition) if negated else condition, scope)
        from streamkit_sql.plan.maps import keep

        return From(keep(node, bound), source.items)
    hint = "Put the subquery into a condition of its own, joined by AND."
    raise NotSupported("a subquery inside OR or a function.", condition.place, hint)


def _in(planner: Planner, source: From, condition: tree.InQuery, negated: bool) -> From:
    if _is_correlated(planner, condition.query):
        return _in_correlated(planner, source, condition, negated)
    inner = sources.of_node(planner.inner().query(condition.query), _ALIAS, (), condition)
    if len(inner.node.columns) != 1:
        raise NotSupported("IN takes a subquery of one column.", condition.place)
    column = tree.Name((_ALIAS, inner.items[0].columns[0][0]), place=condition.place)
    equal: tree.Expression = tree.Binary("=", condition.operand, column, place=condition.place)
    if negated and (
        inner.node.columns[0].type.nullable or planner.bind(condition.operand, source.scope()).type.nullable
    ):
        # NOT IN is not true where the comparison is unknown: a NULL on either side keeps the row out.
        equal = tree.Is(equal, "FALSE", negated=True, place=condition.place)
    return joins.join(planner, source, inner, "ANTI" if negated else "SEMI", [equal], condition)


def _is_correlated(planner: Planner, query: tree.Query) -> bool:
    """Whether the WHERE of a plain SELECT names columns of the query around."""
    if not isinstance(query, tree.Select) or query.source is None or query.group_by is not None:
        return False
    scope = TableScope(joins.plan_bare(planner.inner(), query.source).items)
    for each in walk.conjuncts(query.where):
        try:
            planner.bind(each, scope)
        except UnknownName:
            return True
        except NotSupported:
            continue
    return False


def _in_correlated(planner: Planner, source: From, condition: tree.InQuery, negated: bool) -> From:
    """As EXISTS with one condition more."""
    select = condition.query
    assert isinstance(select, tree.Select)
    if len(select.items) != 1 or negated:
        raise NotSupported(
            "NOT IN, or several columns, in a correlated subquery.", condition.place, "Write NOT EXISTS."
        )
    equal = tree.Binary("=", condition.operand, select.items[0].expression, place=condition.place)
    where = equal if select.where is None else tree.Binary("AND", select.where, equal, place=condition.place)
    return _exists(planner, source, tree.Exists(replace(select, where=where), place=condition.place), negated)


def _exists(planner: Planner, source: From, condition: tree.Exists, negated: bool) -> From:
    """What the subquery's WHERE says of both is the join's condition."""
    select = condition.query
    if not isinstance(select, tree.Select) or select.source is None or select.group_by is not None:
        raise NotSupported("EXISTS takes a plain SELECT .. FROM .. WHERE.", condition.place)
    bare = joins.plan_bare(planner.inner(), select.source)
    own: list[tree.Expression] = []
    across: list[tree.Expression] = []
    for each in walk.conjuncts(select.where):
        try:
            planner.bind(each, TableScope(bare.items))
            own.append(each)
        except UnknownName:
            across.append(each)
    inner = joins.plan(planner.inner(), select.source, own)
    return joins.join(planner, source, inner, "ANTI" if negated else "SEMI", across, condition)


def scalar(
    planner: Planner, node: Node, scope: SelectScope, expression: tree.Expression
) -> tuple[Node, tree.Expression]:
    """The relation with the values of an expression's scalar subqueries as columns, which the scope then knows."""
    for each in walk.expressions(expression):
        if not isinstance(each, tree.ScalarQuery):
            continue
        inner = planner.inner().query(each.query)
        if len(inner.columns) != 1 or not _is_single(inner):
            hint = "An aggregate without GROUP BY gives one row."
            raise NotSupported("a scalar subquery that may give more than one row.", each.place, hint)
        left = From(node, ())
        joined = joins.join(planner, left, sources.of_node(inner, "$scalar", (), each), "LEFT", [], each)
        node = joined.node
        scope.done.append((each, reference(node.columns[-1])))
    return node, expression


def _is_single(node: Node) -> bool:
    while isinstance(node, Map):
        node = node.input
    return isinstance(node, GroupAggregate) and not node.keys
