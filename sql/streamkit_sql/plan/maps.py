"""Filters and projections over a relation, and what of its properties they keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from streamkit_sql.expressions.bound import Bound, Column, combine
from streamkit_sql.plan.nodes import Map, Node, WindowOf
from streamkit_sql.plan.scopes import reference
from streamkit_sql.types import BOOLEAN, quoted


def project(node: Node, projections: Sequence[tuple[str, Bound]], condition: Bound | None = None) -> Map:
    """A column that is only passed on stays a time attribute, and part of the key and the window."""
    passed: dict[str, str] = {}
    for name, bound in projections:
        for column in bound.columns:
            if bound.sql == quoted(column):
                passed.setdefault(column, name)
    key = node.key
    if key is not None:
        key = tuple(passed[each] for each in key) if all(each in passed for each in key) else None
    return Map(
        columns=tuple(Column(name, bound.type, bound.time) for name, bound in projections),
        changes=node.changes,
        key=key,
        window=_window(node.window, passed),
        input=node,
        projections=tuple(projections),
        condition=condition,
    )


def _window(window: WindowOf | None, passed: dict[str, str]) -> WindowOf | None:
    if window is None:
        return None
    return replace(
        window,
        start=passed.get(window.start or ""),
        end=passed.get(window.end or ""),
        time_column=passed.get(window.time_column or ""),
    )


def keep(node: Node, condition: Bound | None) -> Node:
    """The rows for which the condition is true."""
    if condition is None:
        return node
    return project(node, [(column.name, reference(column)) for column in node.columns], condition)


def both(conditions: Sequence[Bound]) -> Bound | None:
    """All of them at once."""
    if not conditions:
        return None
    if len(conditions) == 1:
        return conditions[0]
    return combine("(" + " AND ".join(each.sql for each in conditions) + ")", BOOLEAN, *conditions)


def rename(node: Node, taken: set[str]) -> tuple[Node, dict[str, Column]]:
    """The relation with names that are not taken, and its columns by the names they had."""
    renamed: dict[str, Column] = {}
    used = set(taken)
    for column in node.columns:
        name, number = column.name, 0
        while name in used:
            name, number = f"{column.name}_{number}", number + 1
        used.add(name)
        renamed[column.name] = replace(column, name=name)
    if all(old == column.name for old, column in renamed.items()):
        return node, renamed
    return project(node, [(renamed[each.name].name, reference(each)) for each in node.columns]), renamed
