"""Flink's older windows in GROUP BY: TUMBLE(ts, INTERVAL ..), HOP, SESSION, with TUMBLE_START and its like.

They are put as window table functions: the source gets windows, GROUP BY their columns, and the auxiliary functions
become these columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from streamkit_sql.errors import NOWHERE, NotSupported, SyntaxProblem, TypeProblem
from streamkit_sql.expressions.bound import Bound, Column
from streamkit_sql.language import tree
from streamkit_sql.plan.nodes import Windowed, WindowOf, WindowSpec
from streamkit_sql.plan.scopes import Item, reference
from streamkit_sql.plan.sources import From
from streamkit_sql.plan.windows import checked, in_zone, wall_clock
from streamkit_sql.types import quoted, timestamp

if TYPE_CHECKING:
    from streamkit_sql.plan.planner import Planner
    from streamkit_sql.plan.select import SelectScope

_FUNCTIONS = ("TUMBLE", "HOP", "SESSION")
_ALIAS = "$window"
_PARTS = {"START": "$start", "END": "$end", "ROWTIME": "$time", "PROCTIME": "$time"}


@dataclass(frozen=True, slots=True)
class Legacy:
    """A source with the windows of one GROUP BY function."""

    source: From
    call: tree.Call

    def select_of(self, select: tree.Select) -> tree.Select:
        elements = []
        for element in select.group_by or ():
            rest = tuple(each for each in element.expressions if each != self.call)
            if element.kind == "PLAIN" and len(rest) < len(element.expressions):
                ends = tuple(tree.Name((_ALIAS, part), place=element.place) for part in ("$start", "$end", "$time"))
                elements.append(replace(element, expressions=(*rest, *ends)))
            else:
                elements.append(element)
        return replace(select, group_by=tuple(elements))

    def widened(self, scope: SelectScope) -> SelectScope:
        """So that the functions, as they were written, are known to whoever binds what is selected."""
        found = list(scope.done)
        for part, name in _PARTS.items():
            written = replace(self.call, name=f"{self.call.name}_{part}")
            column = next((b for each, b in scope.done if each == tree.Name((_ALIAS, name))), None)
            if column is not None:
                found.append((written, column))
        scope.done = found
        return scope


def find(planner: Planner, source: From, group_by: Sequence[tree.GroupingElement] | None) -> Legacy | None:
    """None where GROUP BY has no such function."""
    for element in group_by or ():
        for expression in element.expressions:
            if isinstance(expression, tree.Call) and expression.name in _FUNCTIONS and element.kind == "PLAIN":
                return Legacy(_windowed(planner, source, expression, group_by or ()), expression)
    return None


def _windowed(planner: Planner, source: From, call: tree.Call, group_by: Sequence[tree.GroupingElement]) -> From:
    time = planner.bind(call.arguments[0], source.scope())
    if time.time is None:
        raise TypeProblem(f"{call.name} takes a time attribute.", call.place)
    spans = [_ms(each) for each in call.arguments[1:]]
    needed = 2 if call.name == "HOP" else 1
    if len(spans) != needed:
        raise SyntaxProblem(f"{call.name} in GROUP BY takes a time attribute and {needed} intervals.", call.place)
    if call.name == "TUMBLE":
        spec = WindowSpec("TUMBLE", size_ms=spans[0])
    elif call.name == "HOP":
        spec = checked(WindowSpec("HOP", step_ms=spans[0], size_ms=spans[1]), call.place)
    else:
        spec = WindowSpec("SESSION", gap_ms=spans[0], partition=_others(planner, source, call, group_by))
    spec = in_zone(spec, time, planner)
    of = timestamp(3, nullable=False)
    added = (Column("$start", of), Column("$end", of), Column("$time", time.type, time.time))
    node = Windowed(
        columns=(*source.node.columns, *added), window=WindowOf("$start", "$end", "$time", time.time, spec),
        input=source.node, time=wall_clock(time, spec), spec=spec,
    )  # fmt: skip
    item = Item(_ALIAS, tuple((column.name, reference(column)) for column in added))
    return From(node, (*source.items, item))


def _others(
    planner: Planner, source: From, call: tree.Call, group_by: Sequence[tree.GroupingElement]
) -> tuple[str, ...]:
    """What else is grouped by: each of its values has sessions of its own."""
    names = []
    for each in (each for element in group_by for each in element.expressions if each != call):
        bound = planner.bind(each, source.scope())
        name = next((column.name for column in source.node.columns if quoted(column.name) == bound.sql), None)
        if name is None:
            hint = "Compute it in a subquery and group by its column."
            raise NotSupported("SESSION beside an expression in GROUP BY.", each.place, hint)
        names.append(name)
    return tuple(names)


def _ms(node: tree.Expression | Bound) -> int:
    if isinstance(node, tree.IntervalLiteral) and node.milliseconds is not None and node.milliseconds > 0:
        return node.milliseconds
    place = node.place if isinstance(node, tree.Node) else NOWHERE
    raise TypeProblem("a window takes intervals of days or less.", place)
