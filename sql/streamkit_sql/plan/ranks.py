"""ROW_NUMBER() with a filter on it: top-N and deduplication.

A SELECT with ROW_NUMBER gives a relation over a `PendingRank`; the filter of the query around it says which rows are
meant, and makes it a Rank, or a WindowRank where the partition has a window's start and end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from streamkit_sql.errors import NotSupported
from streamkit_sql.expressions.bound import ARRIVAL_ORDER, Bound
from streamkit_sql.language import tree
from streamkit_sql.plan.nodes import Changes, Frame, Map, Node, Ordering, Over, OverCall, PendingRank, Rank, WindowRank
from streamkit_sql.plan.scopes import reference
from streamkit_sql.types import BIGINT, quoted

ENDLESS = 2**62


def pending_of(node: Node) -> tuple[PendingRank, str] | None:
    """The pending rank under filterless projections, and what its number is called on top."""
    if isinstance(node, PendingRank):
        return node, node.number
    if not isinstance(node, Map) or node.condition is not None:
        return None
    found = pending_of(node.input)
    if found is None:
        return None
    pending, number = found
    names = [name for name, bound in node.projections if bound.sql == quoted(number)]
    return (pending, names[0]) if names else None


def bounds_of(conditions: Sequence[tuple[tree.Expression, str | None]]) -> tuple[int, int, list[int]]:
    """First and last rank that the conditions on the number leave, and the indexes of those conditions.

    Each condition comes with the side the number is on, or None where it is not about the number.
    """
    first, last, used = 1, ENDLESS, []
    for index, (condition, side) in enumerate(conditions):
        if side is None:
            continue
        assert isinstance(condition, tree.Binary)
        other = condition.right if side == "left" else condition.left
        if not isinstance(other, tree.Literal_) or type(other.value) is not int:
            continue
        operator = condition.operator if side == "left" else _FLIPPED.get(condition.operator, "")
        value = other.value
        if operator == "=":
            first, last = max(first, value), min(last, value)
        elif operator in ("<", "<="):
            last = min(last, value - (operator == "<"))
        elif operator in (">", ">="):
            first = max(first, value + (operator == ">"))
        else:
            continue
        used.append(index)
    return first, last, used


_FLIPPED = {"=": "=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def _by_arrival(ordering: tuple[Ordering, ...]) -> tuple[Ordering, ...]:
    """Of rows of one instant the newest is the last: what came first is before what came after, in either direction."""
    if len(ordering) != 1 or ordering[0].expression.time is None:
        return ordering
    arrival = Ordering(Bound(ARRIVAL_ORDER, BIGINT.with_null(False)), ordering[0].descending, False)
    return (arrival,) if ordering[0].expression.time == "processing" else (*ordering, arrival)


def decide(node: Node, first: int, last: int, ttl_ms: int | None) -> Node:
    """The relation with its pending rank decided."""
    if isinstance(node, Map):
        decided = decide(node.input, first, last, ttl_ms)
        passed = {bound.sql: name for name, bound in node.projections}
        kept = None
        if decided.key is not None and all(quoted(each) in passed for each in decided.key):
            kept = tuple(passed[quoted(each)] for each in decided.key)
        return replace(node, input=decided, changes=decided.changes, key=kept)
    assert isinstance(node, PendingRank)
    time = node.ordering[0].expression
    if (first, last) == (1, ENDLESS) and len(node.ordering) == 1 and time.time and not node.ordering[0].descending:
        call = OverCall(node.number, None, "row_number()", Frame("ROWS", None))
        return Over(
            columns=node.columns, window=node.window, input=node.input, partition=node.partition, time=time,
            time_kind=time.time, calls=(call,),
        )  # fmt: skip
    if last == ENDLESS:
        hint = "Write a condition like rownum <= 10 in the query around it."
        raise NotSupported("ROW_NUMBER needs a last rank.", node.place, hint)
    window = node.window
    if window is not None and window.start is not None and window.end is not None:
        own = {quoted(each) for each in (window.start, window.end, window.time_column) if each is not None}
        if {quoted(window.start), quoted(window.end)} <= {each.sql for each in node.partition}:
            by_name = {column.name: column for column in node.input.columns}
            return WindowRank(
                columns=node.columns, window=window, input=node.input,
                end=reference(by_name[window.end]), start=reference(by_name[window.start]), time_kind=window.time,
                partition=tuple(each for each in node.partition if each.sql not in own),
                ordering=_by_arrival(node.ordering), first=first, last=last, number=node.number,
            )  # fmt: skip
    partition_names = [
        column.name for each in node.partition for column in node.input.columns if quoted(column.name) == each.sql
    ]
    # Of each partition one row, or one a rank: which it is, is the key.
    key: tuple[str, ...] | None = None
    if len(partition_names) == len(node.partition):
        key = (*partition_names, *(() if first == last else (node.number,)))
    return Rank(
        columns=tuple(replace(column, time=None) for column in node.columns), changes=Changes.UPDATES, key=key,
        input=node.input, partition=node.partition, ordering=_by_arrival(node.ordering), first=first, last=last,
        number=node.number, ttl_ms=ttl_ms,
    )  # fmt: skip
