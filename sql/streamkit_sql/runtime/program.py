"""Plans to operators: one operator for each relation that has state, everything else folded into their texts.

Equal parts of the plans of one program, such as an aggregate that two joined subqueries share, become one operator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any

from streamkit_sql.expressions.bound import Column
from streamkit_sql.plan.nodes import (
    ARRIVED,
    NUMBER,
    WATERMARK,
    WEIGHT,
    Changes,
    GroupAggregate,
    IntervalJoin,
    LookupJoin,
    Map,
    Match,
    Node,
    Output,
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
from streamkit_sql.plan.prune import prune
from streamkit_sql.runtime.operator import Edge, Input, Operator
from streamkit_sql.types import quoted

_OPERATORS: Mapping[type, tuple[str, str]] = {
    WindowAggregate: ("windows", "WindowAggregateOperator"),
    Windowed: ("session_rows", "SessionRowsOperator"),
    WindowRank: ("at_close", "WindowRankOperator"),
    WindowJoin: ("at_close", "WindowJoinOperator"),
    GroupAggregate: ("groups", "GroupAggregateOperator"),
    Rank: ("ranks", "RankOperator"),
    RegularJoin: ("joins", "RegularJoinOperator"),
    SetDifference: ("differences", "SetDifferenceOperator"),
    IntervalJoin: ("intervals", "IntervalJoinOperator"),
    TemporalJoin: ("versions", "TemporalJoinOperator"),
    LookupJoin: ("lookups", "LookupJoinOperator"),
    Over: ("over", "OverOperator"),
    Match: ("match", "MatchOperator"),
    WindowFilterToEnd: ("ends", "EndOperator"),
}


@dataclass(frozen=True, slots=True)
class ScanEdge:
    """What is to be read of a table: `paths` are columns, or fields inside them as `column.field`."""

    table: str
    options: tuple[tuple[str, str], ...]
    edge: Edge
    paths: dict[str, Column]


@dataclass(frozen=True, slots=True)
class Step:
    operator: Operator
    node: Node
    edge: Edge


@dataclass(frozen=True, slots=True)
class Result:
    """What a query gives in each tick: `input.sql` has its columns, in `columns`' order, and `$w` where it updates."""

    output: Output
    input: Input


@dataclass(slots=True)
class Program:
    """The operators of some queries, inputs before what reads them."""

    scans: list[ScanEdge] = field(default_factory=list)
    values: list[tuple[Values, Edge]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    _inputs: dict[Node, Input] = field(default_factory=dict)

    @property
    def signature(self) -> str:
        """Equal where state of one program is state of the other."""
        return "\n".join(f"{step.operator.name} {step.node!r}" for step in self.steps)


def compile_outputs(outputs: Sequence[Output], context: Any = None) -> Program:
    """`context` is handed to lookups: where reference tables are found."""
    program = Program()
    for output in outputs:
        node = prune(output.query, [column.name for column in output.columns])
        program.results.append(Result(output, _input(program, node, context)))
    return program


def _hidden(changes: Changes) -> list[str]:
    return [NUMBER, WATERMARK, ARRIVED, *([WEIGHT] if changes is Changes.UPDATES else [])]


def _input(program: Program, node: Node, context: Any) -> Input:
    found = program._inputs.get(node)
    if found is None:
        found = program._inputs[node] = _make(program, node, context)
    return found


def _make(program: Program, node: Node, context: Any) -> Input:
    if isinstance(node, Scan):
        return _scan(program, node)
    if isinstance(node, Map):
        inner = _input(program, node.input, context)
        cells = [f"{bound.sql} AS {quoted(name)}" for name, bound in node.projections]
        where = "" if node.condition is None else f" WHERE {node.condition.sql}"
        sql = f"SELECT {', '.join([*cells, *_hidden(node.changes)])} FROM ({inner.sql}){where}"
        return Input(sql, node.columns, node.changes, inner.edges)
    if isinstance(node, Unnest):
        return _unnest(program, node, context)
    if isinstance(node, Windowed) and node.spec.kind != "SESSION":
        windows: Any = import_module("streamkit_sql.runtime.windows")
        inner = _input(program, node.input, context)
        return Input(windows.windowed_sql(inner.sql, node), node.columns, node.changes, inner.edges)
    if isinstance(node, Union):
        return _union(node, [_input(program, each, context) for each in node.inputs])
    if isinstance(node, Values):
        edge = Edge(f"values_{len(program.values)}")
        program.values.append((node, edge))
        return _of_edge(node, edge)
    return _step(program, node, context)


def _scan(program: Program, node: Scan) -> Input:
    for scan in program.scans:
        if (scan.table, scan.options) == (node.table, node.options):
            break
    else:
        scan = ScanEdge(node.table, node.options, Edge(f"scan_{len(program.scans)}"), {})
        program.scans.append(scan)
    scan.paths.update({column.name: column for column in node.columns})
    cells = [quoted(column.name) for column in node.columns]
    sql = f"SELECT {', '.join([*cells, *_hidden(node.changes)])} FROM {scan.edge.name}"
    return Input(sql, node.columns, node.changes, (scan.edge,))


def _unnest(program: Program, node: Unnest, context: Any) -> Input:
    """Elements are numbered from 1. A map gives keys and values, a multiset each element as often as it is in it."""
    from streamkit_sql.types import Kind

    inner = _input(program, node.input, context)
    of = node.collection.type
    text = node.collection.sql
    if of.kind is Kind.MAP:
        text = f"map_entries({text})"
        fields = ["key", "value"]
    elif of.kind is Kind.MULTISET:
        text = f"flatten(list_transform(map_entries({text}), lambda e: list_resize([e.key], e.value, e.key)))"
        fields = []
    else:
        fields = [field.name for field in of.element.fields] if of.element and of.element.kind is Kind.ROW else []
        if fields:
            text = f"list_filter({text}, lambda e: e IS NOT NULL)"  # Flink leaves out rows that are NULL
    elements = len(node.added) - node.with_ordinality
    passed = [quoted(column.name) for column in node.input.columns]
    cells = [
        f"struct_extract(\"$e\", '{fields[index]}') AS {quoted(column.name)}"
        if fields
        else f'"$e" AS {quoted(column.name)}'
        for index, column in enumerate(node.added[:elements])
    ]
    if node.with_ordinality:
        cells.append(f'CAST("$o" AS INTEGER) AS {quoted(node.added[-1].name)}')
    hidden = _hidden(node.changes)
    empty = f"CASE WHEN len({text}) > 0 THEN {text} ELSE [NULL] END" if node.outer else text
    inside = f'SELECT *, unnest({empty}) AS "$e", generate_subscripts({empty}, 1) AS "$o" FROM ({inner.sql})'
    sql = f"SELECT {', '.join([*passed, *cells, *hidden])} FROM ({inside})"
    return Input(sql, node.columns, node.changes, inner.edges)


def _union(node: Union, inputs: Sequence[Input]) -> Input:
    parts = []
    for each in inputs:
        cells = [quoted(column.name) for column in node.columns] + [NUMBER, WATERMARK, ARRIVED]
        if node.changes is Changes.UPDATES:
            cells.append(WEIGHT if each.changes is Changes.UPDATES else f"1 AS {WEIGHT}")
        parts.append(f"SELECT {', '.join(cells)} FROM ({each.sql})")
    edges = tuple(dict.fromkeys(edge for each in inputs for edge in each.edges))
    return Input(" UNION ALL ".join(parts), node.columns, node.changes, edges)


def _of_edge(node: Node, edge: Edge) -> Input:
    cells = [*(quoted(column.name) for column in node.columns), *_hidden(node.changes)]
    return Input(f"SELECT {', '.join(cells)} FROM {edge.name}", node.columns, node.changes, (edge,))


def _zone(node: Node) -> str:
    """The clock that windows close by which the node's operator goes by."""
    if isinstance(node, WindowAggregate | Windowed):
        return node.spec.zone
    if isinstance(node, WindowRank | WindowJoin):
        sides = [getattr(node, each) for each in ("input", "left") if hasattr(node, each)]
        return next((side.window.spec.zone for side in sides if side.window is not None), "UTC")
    return "UTC"


def _step(program: Program, node: Node, context: Any) -> Input:
    module, name = _OPERATORS[type(node)]
    make: Callable[..., Operator] = getattr(import_module(f"streamkit_sql.runtime.{module}"), name)
    sides: list[Node] = [getattr(node, each) for each in ("input", "left", "right") if hasattr(node, each)]
    inputs = [_once(program, each, _input(program, each, context)) for each in sides]
    own = f"{module}_{len(program.steps)}"
    extra = [context] if isinstance(node, LookupJoin) else []
    zone = _zone(node)
    if zone != "UTC":
        zones: Any = import_module("streamkit_sql.runtime.zones")
        operator: Operator = zones.InZone(zone, partial(make, own, node), inputs)
    else:
        operator = make(own, node, *inputs, *extra)
    edge = Edge(f"out_{own}")
    program.steps.append(Step(operator, node, edge))
    return _of_edge(node, edge)


def _once(program: Program, node: Node, input: Input) -> Input:
    """What a user's function makes is made once in a tick, however often an operator reads its input."""
    from streamkit_sql.runtime import once

    if not once.calls_python(input.sql):
        return input
    operator = once.OnceOperator(f"once_{len(program.steps)}", input)
    program.steps.append(Step(operator, node, Edge(f"out_{operator.name}")))
    program._inputs[node] = operator.kept
    return operator.kept
