"""Plans as text, for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, get_args

from streamkit_sql.expressions.bound import Aggregate, Bound
from streamkit_sql.plan.nodes import Changes, Map, Node, Ordering, Output, Scan, WindowSpec
from streamkit_sql.plan.prune import prune

_NODES = get_args(Node)
_COMMON = ("columns", "changes", "key", "window")


def explain(outputs: Sequence[Output]) -> str:
    """A tree for each query, what is read last; and what would not run on Flink."""
    lines: list[str] = []
    foreign: set[str] = set()
    for output in outputs:
        lines.append(f"-> {output.target or 'result'}")
        _add(prune(output.query, [column.name for column in output.columns]), 1, lines, foreign)
    if foreign:
        lines.append(f"Not portable to Flink: {', '.join(sorted(foreign))}.")
    return "\n".join(lines)


def _add(node: Any, depth: int, lines: list[str], foreign: set[str]) -> None:
    details = []
    inputs = []
    for each in fields(node):
        value = getattr(node, each.name)
        if each.name in _COMMON or value is None or value == ():
            continue
        if isinstance(value, _NODES):
            inputs.append(value)
        elif isinstance(value, tuple) and value and isinstance(value[0], _NODES):
            inputs += value
        elif not (isinstance(node, Map) and each.name == "projections"):
            details.append(f"{each.name}={_text(value, foreign)}")
        else:
            details.append(", ".join(_projection(name, bound, foreign) for name, bound in value))
    kind = "" if node.changes is Changes.APPEND else " (updates)"
    if isinstance(node, Scan):
        details.append(", ".join(column.name for column in node.columns))
    lines.append(f"{'   ' * depth}{type(node).__name__}{kind}: {'; '.join(details)}")
    for each in inputs:
        _add(each, depth + 1, lines, foreign)


def _projection(name: str, bound: Bound, foreign: set[str]) -> str:
    foreign |= bound.foreign
    return name if bound.sql == f'"{name}"' else f"{bound.sql} AS {name}"


def _text(value: Any, foreign: set[str]) -> str:
    if isinstance(value, Bound):
        foreign |= value.foreign
        return value.sql
    if isinstance(value, Aggregate):
        foreign |= value.foreign
        return value.whole
    if isinstance(value, Ordering):
        return f"{value.expression.sql} {'DESC' if value.descending else 'ASC'}"
    if isinstance(value, WindowSpec):
        spans = [(each.name, getattr(value, each.name)) for each in fields(value)[1:]]
        return f"{value.kind}({', '.join(f'{name}={span}' for name, span in spans if span)})"
    if isinstance(value, tuple):
        return f"[{', '.join(_text(each, foreign) for each in value)}]"
    return str(value)


_PARTS = {
    "GroupAggregate": "GROUP BY without a window",
    "Rank": "ORDER BY with LIMIT or ROW_NUMBER() without a window",
    "RegularJoin": "join without a bound in time",
    "SetDifference": "INTERSECT or EXCEPT",
}


def updating_part(node: Any) -> str:
    """What of a query that updates makes it so, in SQL's words."""
    inputs: list[Any] = []
    for each in fields(node):
        value = getattr(node, each.name)
        inputs += value if isinstance(value, tuple) else [value]
    for each in inputs:
        if isinstance(each, _NODES) and each.changes is Changes.UPDATES:
            return updating_part(each)
    return _PARTS.get(type(node).__name__, type(node).__name__)
