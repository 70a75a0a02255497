"""Leaves out of a plan the columns nobody reads, so that they are neither decoded, nor copied, nor kept as state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import singledispatch
from typing import Any

from streamkit_sql.expressions.bound import Aggregate, Bound, Column
from streamkit_sql.plan.nodes import (
    GroupAggregate,
    IntervalJoin,
    LookupJoin,
    Map,
    Match,
    Node,
    Over,
    Rank,
    RegularJoin,
    Scan,
    SetDifference,
    TemporalJoin,
    Union,
    Unnest,
    Values,
    WindowAggregate,
    Windowed,
    WindowFilterToEnd,
    WindowJoin,
    WindowRank,
)
from streamkit_sql.types import quoted


def prune(node: Node, needed: Iterable[str] | None = None) -> Node:
    """The relation with only the needed columns, in their order; all of them where `needed` is None."""
    names = {column.name for column in node.columns} if needed is None else set(needed)
    if not names and node.columns and not isinstance(node, _WITHOUT_COLUMNS):
        names = {node.columns[0].name}  # state is a table, and a table has a column
    pruned: Node = _prune(node, names)
    return pruned


_WITHOUT_COLUMNS = (Scan, Map, Unnest, Windowed, Union, Values)


def _reads(*parts: Any) -> set[str]:
    """The columns that expressions read."""
    found: set[str] = set()
    for part in parts:
        if isinstance(part, Bound | Aggregate):
            found |= part.columns
        elif isinstance(part, tuple | list):
            found |= _reads(*part)
        elif part is not None and not isinstance(part, str | int):
            found |= _reads(part.expression)  # an Ordering
    return found


def _kept(node: Any, needed: set[str]) -> tuple[Column, ...]:
    return tuple(column for column in node.columns if column.name in needed)


def _key(node: Any, columns: tuple[Column, ...]) -> tuple[str, ...] | None:
    names = {column.name for column in columns}
    return node.key if node.key is not None and set(node.key) <= names else None


@singledispatch
def _prune(node: Any, needed: set[str]) -> Any:
    raise AssertionError(type(node))


@_prune.register
def _(node: Scan, needed: set[str]) -> Node:
    columns = _kept(node, needed)
    return replace(node, columns=columns, key=_key(node, columns))


@_prune.register
def _(node: Values, needed: set[str]) -> Node:
    return node


@_prune.register
def _(node: Map, needed: set[str]) -> Node:
    projections = tuple(each for each in node.projections if each[0] in needed)
    inner = prune(node.input, _reads([bound for _, bound in projections], node.condition))
    columns = _kept(node, needed)
    return replace(node, columns=columns, key=_key(node, columns), input=inner, projections=projections)


@_prune.register
def _(node: Unnest, needed: set[str]) -> Node:
    own = {column.name for column in node.added}
    inner = prune(node.input, (needed - own) | _reads(node.collection))
    return replace(node, columns=(*inner.columns, *node.added), input=inner)


@_prune.register
def _(node: Windowed, needed: set[str]) -> Node:
    inner_names = {column.name for column in node.input.columns}
    inner = prune(node.input, (needed & inner_names) | _reads(node.time) | set(node.spec.partition))
    own = tuple(column for column in node.columns if column.name not in inner_names)
    return replace(node, columns=(*inner.columns, *own), input=inner)


@_prune.register
def _(node: WindowAggregate, needed: set[str]) -> Node:
    aggregates = tuple(each for each in node.aggregates if each[0] in needed)
    dropped = {name for name, _ in node.aggregates} - {name for name, _ in aggregates}
    read = _reads([b for _, b in node.keys], [a for _, a in aggregates], node.time, node.start, node.end)
    partition = set(node.spec.partition) & {column.name for column in node.input.columns}
    columns = tuple(column for column in node.columns if column.name not in dropped)
    return replace(node, columns=columns, input=prune(node.input, read | partition), aggregates=aggregates)


@_prune.register
def _(node: GroupAggregate, needed: set[str]) -> Node:
    aggregates = tuple(each for each in node.aggregates if each[0] in needed)
    dropped = {name for name, _ in node.aggregates} - {name for name, _ in aggregates}
    read = _reads([b for _, b in node.keys], [a for _, a in aggregates])
    columns = tuple(column for column in node.columns if column.name not in dropped)
    return replace(node, columns=columns, input=prune(node.input, read), aggregates=aggregates)


@_prune.register
def _(node: WindowRank, needed: set[str]) -> Any:
    read = needed | _reads(node.end, node.start, node.partition, node.ordering)
    return _ranked(node, needed, read)


@_prune.register
def _(node: Rank, needed: set[str]) -> Any:
    return _ranked(node, needed, needed | _reads(node.partition, node.ordering))


def _ranked(node: Any, needed: set[str], read: set[str]) -> Any:
    number = node.number if node.number in needed else None
    inner = prune(node.input, read & {column.name for column in node.input.columns})
    by_name = {column.name: column for column in node.columns}
    columns = tuple(by_name[column.name] for column in inner.columns)
    if number is not None:
        columns = (*columns, by_name[number])
    return replace(node, columns=columns, key=_key(node, columns), input=inner, number=number)


def _sides(node: Any, needed: set[str], *reads: Any) -> Any:
    """A join's two inputs; each has what is needed of it, and what conditions read."""
    read = needed | _reads(*reads, node.left_keys, node.right_keys, node.residual)
    left = prune(node.left, read & {column.name for column in node.left.columns})
    right = prune(node.right, read & {column.name for column in node.right.columns})
    kept = {column.name for column in (*left.columns, *right.columns)}
    columns = tuple(column for column in node.columns if column.name in kept)
    return replace(node, columns=columns, key=_key(node, columns), left=left, right=right)


@_prune.register
def _(node: WindowJoin, needed: set[str]) -> Any:
    return _sides(node, needed, node.left_end, node.right_end)


@_prune.register
def _(node: RegularJoin, needed: set[str]) -> Any:
    keys = (*(node.left.key or ()), *(node.right.key or ()))
    return _sides(node, needed | set(keys))


@_prune.register
def _(node: IntervalJoin, needed: set[str]) -> Any:
    return _sides(node, needed, node.left_time, node.right_time)


@_prune.register
def _(node: TemporalJoin, needed: set[str]) -> Any:
    return _sides(node, needed, node.left_time, node.right_time)


@_prune.register
def _(node: LookupJoin, needed: set[str]) -> Node:
    read = needed | _reads(node.left_keys, node.right_keys, node.residual)
    left = prune(node.left, read & {column.name for column in node.left.columns})
    pairs = [
        (column, name) for column, name in zip(node.table_columns, node.table_names, strict=True) if column.name in read
    ]
    kept = {column.name for column in left.columns} | {column.name for column, _ in pairs}
    return replace(
        node,
        columns=tuple(column for column in node.columns if column.name in kept),
        left=left,
        table_columns=tuple(column for column, _ in pairs),
        table_names=tuple(name for _, name in pairs),
    )


@_prune.register
def _(node: Over, needed: set[str]) -> Node:
    calls = tuple(each for each in node.calls if each.name in needed)
    own = {each.name for each in node.calls}
    arguments = [each.aggregate for each in calls if each.aggregate is not None]
    read = (needed - own) | _reads(node.partition, node.time, arguments)
    texts = " ".join(each.function for each in calls if each.function is not None)
    read |= {column.name for column in node.input.columns if quoted(column.name) in texts}
    inner = prune(node.input, read)
    mine = tuple(column for column in node.columns if column.name in {each.name for each in calls})
    return replace(node, columns=(*inner.columns, *mine), input=inner, calls=calls)


@_prune.register
def _(node: Match, needed: set[str]) -> Node:
    return replace(node, input=prune(node.input))


@_prune.register
def _(node: Union, needed: set[str]) -> Node:
    # An input may have columns it cannot leave out: a projection brings all to the same ones.
    from streamkit_sql.plan.maps import project
    from streamkit_sql.plan.scopes import reference

    columns = _kept(node, needed)
    inputs = []
    for each in node.inputs:
        inner = prune(each, {column.name for column in columns})
        if [column.name for column in inner.columns] != [column.name for column in columns]:
            inner = project(inner, [(column.name, reference(inner.column(column.name))) for column in columns])
        inputs.append(inner)
    return replace(node, columns=columns, inputs=tuple(inputs))


@_prune.register
def _(node: SetDifference, needed: set[str]) -> Node:
    return replace(node, left=prune(node.left), right=prune(node.right))


@_prune.register
def _(node: WindowFilterToEnd, needed: set[str]) -> Node:
    inner = prune(node.input, needed | _reads(node.ordering))
    return replace(node, columns=inner.columns, input=inner)
