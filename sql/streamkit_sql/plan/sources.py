"""FROM: tables, views, subqueries, window table functions, UNNEST; joins are in `joins`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamkit_sql.errors import NotSupported, TypeProblem
from streamkit_sql.expressions.bound import Column
from streamkit_sql.language import tree
from streamkit_sql.plan import walk, windows
from streamkit_sql.plan.catalog import View
from streamkit_sql.plan.maps import both, keep, project
from streamkit_sql.plan.nodes import Node, Scan, Unnest
from streamkit_sql.plan.ranks import bounds_of, decide, pending_of
from streamkit_sql.plan.scopes import Item, TableScope, reference
from streamkit_sql.types import INTEGER, Kind, SqlType

if TYPE_CHECKING:
    from streamkit_sql.plan.planner import Planner


@dataclass(frozen=True, slots=True)
class From:
    """A relation and what can be named of it."""

    node: Node
    items: tuple[Item, ...]

    def scope(self, outer: TableScope | None = None) -> TableScope:
        return TableScope(self.items, outer)


def plan(planner: Planner, source: tree.FromItem) -> From:
    """One table of a FROM, without joins."""
    if isinstance(source, tree.TableName):
        return _table(planner, source)
    if isinstance(source, tree.Subquery):
        return of_node(planner.inner().query(source.query), source.alias, source.columns, source)
    if isinstance(source, tree.TableFunction):
        node = windows.plan_function(planner, source)
        return of_node(node, source.alias, source.columns, source)
    if isinstance(source, tree.MatchRecognize):
        from streamkit_sql.plan import match

        return of_node(match.plan(planner, source), source.alias, source.columns, source)
    assert isinstance(source, tree.Unnest)
    raise NotSupported(
        "UNNEST stands behind the table whose column it takes.", source.place, "Write t CROSS JOIN UNNEST(..)."
    )


def of_node(node: Node, alias: str | None, columns: Sequence[str], at: tree.Node) -> From:
    """A relation as one table, its columns named anew where the alias has names for them."""
    if columns and len(columns) != len(node.columns):
        raise TypeProblem(f"the table has {len(node.columns)} columns, its alias names {len(columns)}.", at.place)
    names = columns or [column.name for column in node.columns]
    visible = tuple((name, reference(column)) for name, column in zip(names, node.columns, strict=True))
    return From(node, (Item(alias, visible),))


def _table(planner: Planner, source: tree.TableName) -> From:
    name = source.name.parts[-1]
    alias = source.alias or name
    view = planner.views.get(name) if len(source.name.parts) == 1 else None
    found = view or planner.catalog.find(source.name)
    if isinstance(found, View):
        node = planner.inner({} if view is None else _before(planner, name)).query(found.query)
        columns = source.columns or found.columns
        return of_node(node, alias, columns, source)
    columns_all: list[Column] = []
    visible = []
    leaves = {}
    for column in found.relation_columns(planner):
        columns_all.append(column)
        visible.append((column.name, reference(column)))
        for path, of in _leaves((column.name,), column.type):
            leaf = Column(".".join(path), of)
            columns_all.append(leaf)
            leaves[path] = reference(leaf)
    node = Scan(columns=tuple(columns_all), table=found.name, options=source.options, key=found.primary_key or None)
    names = source.columns or [each for each, _ in visible]
    if len(names) != len(visible):
        raise TypeProblem(f"{name!r} has {len(visible)} columns, its alias names {len(names)}.", source.place)
    renamed = tuple((to, bound) for to, (_, bound) in zip(names, visible, strict=True))
    return From(node, (Item(alias, renamed, leaves if not source.columns else {}),))


def _before(planner: Planner, name: str) -> dict[str, View]:
    """The views of WITH that stand before one: it can refer to those only."""
    views = {}
    for each, view in planner.views.items():
        if each == name:
            break
        views[each] = view
    return views


def _leaves(path: tuple[str, ...], of: SqlType) -> list[tuple[tuple[str, ...], SqlType]]:
    """The fields inside a row, at all depths."""
    if of.kind is not Kind.ROW:
        return []
    found = []
    for field in of.fields:
        inner = (*path, field.name)
        type_ = field.type.with_null(field.type.nullable or of.nullable)
        found += [(inner, type_), *_leaves(inner, type_)]
    return found


def filtered(
    planner: Planner, source: From, conditions: Sequence[tree.Expression], outer: TableScope | None = None
) -> From:
    """The rows for which all conditions hold. Decides a pending rank."""
    scope = source.scope(outer)
    pending = pending_of(source.node)
    rest = list(conditions)
    node = source.node
    if pending is not None:
        number = pending[1]
        sides = [(each, _side(planner, scope, each, number)) for each in rest]
        first, last, used = bounds_of(sides)
        rest = [each for index, each in enumerate(rest) if index not in used]
        node = decide(node, first, last, planner.ttl_ms)
    bound = [planner.bind(each, scope) for each in rest]
    for each, condition in zip(bound, rest, strict=True):
        if each.type.kind not in (Kind.BOOLEAN, Kind.NULL):
            raise TypeProblem(f"a condition is BOOLEAN; this is a {each.type}.", condition.place)
    return From(keep(node, both(bound)), source.items)


def _side(planner: Planner, scope: TableScope, condition: tree.Expression, number: str) -> str | None:
    if not isinstance(condition, tree.Binary):
        return None
    for side in ("left", "right"):
        operand = getattr(condition, side)
        if isinstance(operand, tree.Name) and planner.bind(operand, scope).columns == {number}:
            return side
    return None


def unnest(planner: Planner, left: From, source: tree.Unnest, *, outer: bool) -> From:
    """Each row with the elements of one of its collections."""
    collection = planner.bind(source.expression, left.scope())
    of = collection.type
    elements: list[tuple[str, SqlType]]
    if of.kind is Kind.MAP:
        assert of.key is not None
        assert of.element is not None
        elements = [("KEY", of.key), ("VALUE", of.element)]
    elif of.kind in (Kind.ARRAY, Kind.MULTISET):
        assert of.element is not None
        inner = of.element
        elements = [(each.name, each.type) for each in inner.fields] if inner.kind is Kind.ROW else [("EXPR$0", inner)]
    else:
        raise TypeProblem(f"UNNEST takes an array, a map or a multiset, not a {of}.", source.place)
    if source.with_ordinality:
        elements.append(("ORDINALITY", INTEGER.with_null(False)))
    names = source.columns or [name for name, _ in elements]
    if len(names) != len(elements):
        raise TypeProblem(f"UNNEST gives {len(elements)} columns, its alias names {len(names)}.", source.place)
    taken = {column.name for column in left.node.columns}
    added, visible = [], []
    for name, (_, type_) in zip(names, elements, strict=True):
        unique, number = name, 0
        while unique in taken:
            unique, number = f"{name}_{number}", number + 1
        taken.add(unique)
        column = Column(unique, type_.with_null(type_.nullable or outer))
        added.append(column)
        visible.append((name, reference(column)))
    node = Unnest(
        columns=(*left.node.columns, *added), changes=left.node.changes, window=left.node.window, input=left.node,
        collection=collection, added=tuple(added), with_ordinality=source.with_ordinality, outer=outer,
    )  # fmt: skip
    return From(node, (*left.items, Item(source.alias, tuple(visible))))


def refers_to(scope_items: Sequence[Item], node: tree.Expression) -> set[int]:
    """The indexes of the tables an expression names columns of. Names that are in none are left to whoever binds."""
    found: set[int] = set()
    for name in walk.names(node):
        parts = name.parts
        by_alias = [
            i for i, item in enumerate(scope_items) if len(parts) > 1 and item.alias == parts[0] and item.has(parts[1])
        ]
        found.update(by_alias or [i for i, item in enumerate(scope_items) if item.has(parts[0])])
    return found


def materialized(source: From) -> From:
    """The same with time attributes as mere timestamps."""
    node = source.node
    if not any(column.time for column in node.columns):
        return source
    return From(project(node, [(c.name, reference(c).materialized()) for c in node.columns]), source.items)
