"""Queries to relations: the forms that are not SELECT, and what all of planning shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from streamkit_sql.errors import NOWHERE, NotSupported, Place, SqlError, TypeProblem
from streamkit_sql.expressions import aggregates, binder, coercion
from streamkit_sql.expressions.bound import Aggregate, Bound, Column, Scope
from streamkit_sql.expressions.casts import cast
from streamkit_sql.language import tree
from streamkit_sql.plan import select
from streamkit_sql.plan.catalog import Catalog, View
from streamkit_sql.plan.maps import project
from streamkit_sql.plan.nodes import Changes, Node, Ordering, Rank, SetDifference, Union, Values, WindowFilterToEnd
from streamkit_sql.plan.scopes import Item, TableScope, reference
from streamkit_sql.types import SqlType

TTL_OPTION = "table.exec.state.ttl"
NESTED_MAX = 64
"""Queries inside queries, views included: more is a view that refers to itself, or not written by a person."""


@dataclass(slots=True)
class Planner:
    """Plans the queries of one statement. `is_bounded` tells that all its sources end: then an ORDER BY over all is
    possible."""

    catalog: Catalog
    views: Mapping[str, View] = field(default_factory=dict)  # of WITH
    depth: int = 0
    is_bounded: bool = False

    def bind(self, expression: tree.Expression, scope: Scope) -> Bound:
        return binder.bind(expression, scope, self.catalog.settings, self.catalog.functions)

    def bind_aggregate(self, call: tree.Call, scope: Scope, *, has_keys: bool = True) -> Aggregate:
        """Without keys the group is there without rows, too: what is never NULL otherwise may be so."""
        settings, functions = self.catalog.settings, self.catalog.functions
        return aggregates.bind_aggregate(call, scope, settings, functions, has_keys=has_keys)

    def is_aggregate(self, name: str) -> bool:
        known = self.catalog.functions.get(name)
        return aggregates.is_aggregate(name) if known is None or callable(known) else known.is_aggregate

    def inner(self, views: Mapping[str, View] | None = None) -> Planner:
        """For a query inside; NotSupported where they never end."""
        if self.depth >= NESTED_MAX:
            raise NotSupported(f"queries are nested deeper than {NESTED_MAX}.")
        return replace(self, views=self.views if views is None else views, depth=self.depth + 1)

    @property
    def ttl_ms(self) -> int | None:
        text = self.catalog.settings.options.get(TTL_OPTION)
        return (duration_ms(text) or None) if text is not None else None

    # -- queries -----------------------------------------------------------------------------------------------------

    def query(self, query: tree.Query, outer: TableScope | None = None) -> Node:
        """The relation of a query; its columns are named as the query's."""
        if isinstance(query, tree.Select):
            return select.plan(self, query, outer)
        if isinstance(query, tree.With):
            views = dict(self.views)
            for name, columns, each in query.views:
                views[name] = View(each, columns)
            return self.inner(views).query(query.query, outer)
        if isinstance(query, tree.SetOperation):
            return self._set_operation(query)
        if isinstance(query, tree.Values):
            return self._values(query)
        return self._ordered(query)

    def _set_operation(self, query: tree.SetOperation) -> Node:
        left, right = self.inner().query(query.left), self.inner().query(query.right)
        if len(left.columns) != len(right.columns):
            counts = f"{len(left.columns)} and {len(right.columns)}"
            raise TypeProblem(f"both sides of {query.kind} need as many columns; they have {counts}.", query.place)
        types: list[SqlType] = []
        for a, b in zip(left.columns, right.columns, strict=True):
            common = coercion.common_type([a.type, b.type])
            if common is None:
                text = f"{query.kind} of {a.name!r}, a {a.type}, and {b.name!r}, a {b.type}: there is no common type."
                raise TypeProblem(text, query.place)
            types.append(common)
        names = [column.name for column in left.columns]
        left, right = self._as(left, names, types), self._as(right, names, types)
        columns = tuple(
            Column(name, of, a.time if a.time == b.time else None)
            for name, of, a, b in zip(names, types, left.columns, right.columns, strict=True)
        )
        if query.kind == "UNION":
            updates = Changes.UPDATES in (left.changes, right.changes)
            changes = Changes.UPDATES if updates else Changes.APPEND
            # What belongs to a window on both sides belongs to it in the union.
            window = left.window if left.window == right.window else None
            union = Union(columns=columns, changes=changes, window=window, inputs=(left, right))
            return union if query.all else select.distinct(self, union)
        plain = tuple(replace(column, time=None) for column in columns)
        key = None if query.all else tuple(names)
        return SetDifference(
            columns=plain, changes=Changes.UPDATES, key=key, left=left, right=right, kind=query.kind, all=query.all,
            ttl_ms=self.ttl_ms,
        )  # fmt: skip

    def _as(self, node: Node, names: list[str], types: list[SqlType]) -> Node:
        """The relation with these names and types."""
        if [column.name for column in node.columns] == names and all(
            column.type.same_as(of) for column, of in zip(node.columns, types, strict=True)
        ):
            return node
        projections = []
        for column, name, of in zip(node.columns, names, types, strict=True):
            bound = reference(column)
            projections.append((name, bound if column.type.same_as(of) else self.cast(bound, of)))
        return project(node, projections)

    def cast(self, bound: Bound, of: SqlType) -> Bound:
        return cast(bound, of, self.catalog.settings)

    def _values(self, query: tree.Values) -> Node:
        scope = TableScope(())
        rows = []
        for row in query.rows:
            cells = row[0].values if len(row) == 1 and isinstance(row[0], tree.RowValue) else row
            rows.append([self.bind(cell, scope) for cell in cells])
        if len({len(row) for row in rows}) != 1:
            raise TypeProblem("the rows of VALUES need as many columns each.", query.place)
        types = []
        for index, cells_of in enumerate(zip(*rows, strict=True)):
            common = coercion.common_type([cell.type for cell in cells_of])
            if common is None:
                raise TypeProblem(f"column {index + 1} of VALUES has no common type.", query.place)
            types.append(common)
        cast_rows = tuple(
            tuple(cell if cell.type.same_as(of) else self.cast(cell, of) for cell, of in zip(row, types, strict=True))
            for row in rows
        )
        columns = tuple(Column(f"EXPR${index}", of) for index, of in enumerate(types))
        return Values(columns=columns, rows=cast_rows)

    def _ordered(self, query: tree.Ordered) -> Node:
        """ORDER BY with LIMIT is a rank over all; without, it is for bounded input only."""
        if isinstance(query.query, tree.Select):
            node, ordering = select.plan_ordered(self, query.query, query.order)
        else:
            node = self.inner().query(query.query)
            item = Item(None, tuple((column.name, reference(column)) for column in node.columns))
            ordering = tuple(order_of(self, each, TableScope((item,))) for each in query.order)
        hidden = [column.name for column in node.columns if column.name.startswith("$order")]
        visible = [(column.name, reference(column)) for column in node.columns if column.name not in hidden]
        offset = _count(query.offset, "OFFSET") or 0
        limit = _count(query.limit, "LIMIT")
        if limit is None and self.is_bounded:
            result: Node = WindowFilterToEnd(
                columns=node.columns, changes=node.changes, input=node, ordering=ordering, offset=offset
            )
        elif limit is None:
            if offset or not ordering or ordering[0].expression.time is None or ordering[0].descending:
                hint = "Add a LIMIT, or order by the time attribute first, ascending."
                raise NotSupported("ORDER BY over a stream that does not end is never done.", query.place, hint)
            result = select.sort_by_time(node, ordering)
        else:
            if limit == 0:
                raise NotSupported("LIMIT 0 gives nothing.", query.place)
            result = Rank(
                columns=node.columns, changes=Changes.UPDATES if ordering else node.changes, key=node.key, input=node,
                partition=(), ordering=ordering, first=offset + 1, last=offset + limit, number=None, ttl_ms=self.ttl_ms,
            )  # fmt: skip
        return project(result, visible) if hidden else result


def order_of(planner: Planner, item: tree.OrderItem, scope: Scope) -> Ordering:
    """Flink takes NULL for the lowest value: first when ascending, last when descending."""
    nulls_first = item.nulls_first if item.nulls_first is not None else not item.descending
    return Ordering(planner.bind(item.expression, scope), item.descending, nulls_first)


def _count(expression: tree.Expression | None, what: str) -> int | None:
    if expression is None:
        return None
    if isinstance(expression, tree.Literal_) and type(expression.value) is int and expression.value >= 0:
        return expression.value
    raise NotSupported(f"{what} takes a whole number.", expression.place)


_UNITS_MS = {
    "ms": 1, "milli": 1, "millis": 1, "millisecond": 1, "milliseconds": 1,
    "s": 1_000, "sec": 1_000, "secs": 1_000, "second": 1_000, "seconds": 1_000,
    "m": 60_000, "min": 60_000, "mins": 60_000, "minute": 60_000, "minutes": 60_000,
    "h": 3_600_000, "hour": 3_600_000, "hours": 3_600_000,
    "d": 86_400_000, "day": 86_400_000, "days": 86_400_000,
}  # fmt: skip


def duration_ms(text: str, place: Place = NOWHERE) -> int:
    """A duration as Flink's options write it: `10 s`, `1h`, `500 ms`, `0`; a bare number is ms."""
    cleaned = text.strip().lower()
    digits = cleaned[: len(cleaned) - len(cleaned.lstrip("0123456789"))]
    unit = cleaned[len(digits) :].strip() or "ms"
    if not digits or unit not in _UNITS_MS:
        raise SqlError(f"{text!r} is no duration.", place, "Write it as '10 s', '5 min', '1 h' or '1 d'.")
    return int(digits) * _UNITS_MS[unit]
