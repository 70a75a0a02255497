"""Going through trees."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, get_args

from streamkit_sql.language import tree

_QUERIES = get_args(tree.Query)


def expressions(node: Any) -> Iterator[Any]:
    """A node and the nodes inside it, outermost first; queries inside it are given, but not gone into."""
    if isinstance(node, tuple):
        for each in node:
            yield from expressions(each)
    elif isinstance(node, tree.Node):
        yield node
        if not isinstance(node, _QUERIES):
            for each in dataclasses.fields(node):
                if each.name != "place":
                    yield from expressions(getattr(node, each.name))


def conjuncts(condition: tree.Expression | None) -> list[tree.Expression]:
    """What AND holds together."""
    if condition is None:
        return []
    if isinstance(condition, tree.Binary) and condition.operator == "AND":
        return [*conjuncts(condition.left), *conjuncts(condition.right)]
    if isinstance(condition, tree.Between) and not condition.negated and not condition.symmetric:
        place = condition.place
        return [
            tree.Binary(">=", condition.operand, condition.low, place=place),
            tree.Binary("<=", condition.operand, condition.high, place=place),
        ]
    return [condition]


def has_query(node: Any) -> bool:
    return any(isinstance(each, _QUERIES) for each in expressions(node))


def names(node: Any) -> Iterator[tree.Name]:
    for each in expressions(node):
        if isinstance(each, tree.Name):
            yield each
