"""OVER: aggregates over the rows before each, and the ranks of ROW_NUMBER."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from streamkit_sql.errors import NotSupported, TypeProblem, UnknownName
from streamkit_sql.expressions.bound import Bound, Column
from streamkit_sql.language import tree
from streamkit_sql.plan.nodes import Changes, Frame, Node, Ordering, Over, OverCall, PendingRank
from streamkit_sql.plan.scopes import reference
from streamkit_sql.types import BIGINT, SqlType

if TYPE_CHECKING:
    from streamkit_sql.plan.planner import Planner
    from streamkit_sql.plan.select import SelectScope

_RANKS = ("ROW_NUMBER", "RANK", "DENSE_RANK")
_SHIFTS = ("LAG", "LEAD")


def plan(
    planner: Planner, node: Node, scope: SelectScope, select: tree.Select, calls: Sequence[tree.Call]
) -> tuple[Node, str | None]:
    """The relation with a column for each call, which the scope then knows; and the number's name of a rank."""
    ranks = [call for call in calls if call.name in _RANKS]
    specs = [_resolved(select, call) for call in calls]
    if ranks and len(calls) == 1 and not _is_by_time(planner, scope, specs[0]):
        return _rank(planner, node, scope, ranks[0], specs[0])
    if ranks and len(calls) == 1 and ranks[0].name == "ROW_NUMBER" and _is_filtered_later(specs[0]):
        return _rank(planner, node, scope, ranks[0], specs[0])
    if node.changes is Changes.UPDATES:
        raise NotSupported("OVER a relation whose rows change.", calls[0].place)
    first = specs[0]
    if any((each.partition, each.order) != (first.partition, first.order) for each in specs):
        raise NotSupported("OVER windows in one SELECT must have the same PARTITION BY and ORDER BY.", calls[-1].place)
    partition = tuple(planner.bind(each, scope) for each in first.partition)
    time = _time(planner, scope, first, calls[0])
    bound = []
    for index, (call, spec) in enumerate(zip(calls, specs, strict=True)):
        bound.append(_call(planner, scope, f"$over{index}", call, spec))
    columns = [*node.columns, *(Column(each.name, of) for each, of in bound)]
    over = Over(
        columns=tuple(columns), window=node.window, input=node, partition=partition, time=time,
        time_kind=time.time or "event", calls=tuple(each for each, _ in bound),
    )  # fmt: skip
    for call, (each, _) in zip(calls, bound, strict=True):
        scope.done.append((call, reference(over.column(each.name))))
    return over, None


def _is_filtered_later(spec: tree.WindowSpec) -> bool:
    """A rank by time may be a deduplication: whoever reads it decides. That is so for all ranks."""
    return spec is not None


def _resolved(select: tree.Select, call: tree.Call) -> tree.WindowSpec:
    over = call.over
    assert over is not None
    named = dict(select.windows)
    if isinstance(over, tree.Name):
        if over.parts[-1] not in named:
            raise UnknownName(f"there is no WINDOW {over.parts[-1]!r}.", over.place)
        return named[over.parts[-1]]
    if over.base is not None:
        base = named.get(over.base)
        if base is None:
            raise UnknownName(f"there is no WINDOW {over.base!r}.", over.place)
        return replace(
            over, partition=over.partition or base.partition, order=over.order or base.order,
            unit=over.unit or base.unit,
            start=over.start or base.start, stop=over.stop or base.stop, base=None,
        )  # fmt: skip
    return over


def _is_by_time(planner: Planner, scope: SelectScope, spec: tree.WindowSpec) -> bool:
    return len(spec.order) == 1 and planner.bind(spec.order[0].expression, scope).time is not None


def _rank(
    planner: Planner, node: Node, scope: SelectScope, call: tree.Call, spec: tree.WindowSpec
) -> tuple[Node, str | None]:
    if call.name != "ROW_NUMBER":
        raise NotSupported(f"{call.name} over a stream.", call.place, "ROW_NUMBER() there is.")
    number = "$number"
    column = Column(number, BIGINT.with_null(False))
    ordering = []
    for item in spec.order:
        nulls_first = item.nulls_first if item.nulls_first is not None else not item.descending
        ordering.append(Ordering(planner.bind(item.expression, scope), item.descending, nulls_first))
    if not ordering:
        raise TypeProblem("ROW_NUMBER needs an ORDER BY.", call.place)
    pending = PendingRank(
        columns=(*node.columns, column), changes=Changes.UPDATES, window=node.window, input=node,
        partition=tuple(planner.bind(each, scope) for each in spec.partition), ordering=tuple(ordering), number=number,
        place=call.place,
    )  # fmt: skip
    scope.done.append((call, reference(column)))
    return pending, number


def _time(planner: Planner, scope: SelectScope, spec: tree.WindowSpec, call: tree.Call) -> Bound:
    if not spec.order:
        raise NotSupported("OVER needs an ORDER BY over a stream.", call.place, "Order by the time attribute.")
    time = planner.bind(spec.order[0].expression, scope)
    if time.time is None or spec.order[0].descending or len(spec.order) > 1:
        hint = "Order by the time attribute alone, ascending."
        raise NotSupported("OVER goes by time over a stream.", spec.order[0].place, hint)
    return time


def _call(
    planner: Planner, scope: SelectScope, name: str, call: tree.Call, spec: tree.WindowSpec
) -> tuple[OverCall, SqlType]:
    if call.name in _SHIFTS:
        if call.name == "LEAD":
            raise NotSupported("LEAD looks at rows that have not come.", call.place)
        arguments = [planner.bind(each, scope) for each in call.arguments]
        texts = ", ".join(each.sql for each in arguments)
        has_default = len(arguments) == 3
        # Flink gives the default for a value that is NULL, too.
        of = arguments[0].type.with_null(not has_default or arguments[2].type.nullable)
        return OverCall(name, None, f"lag({texts})", Frame("ROWS", None)), of
    if call.name in _RANKS:
        return OverCall(name, None, f"{call.name.lower()}()", Frame("ROWS", None)), BIGINT.with_null(False)
    aggregate = planner.bind_aggregate(replace(call, over=None), scope)
    return OverCall(name, aggregate, None, _frame(spec)), aggregate.type


def _frame(spec: tree.WindowSpec) -> Frame:
    stop = spec.stop
    if stop is not None and not stop.current:
        raise NotSupported("OVER ends at the current row over a stream.", stop.place)
    unit = spec.unit or "RANGE"
    start = spec.start
    if start is None or (start.offset is None and not start.current):
        return Frame(unit, None)
    if start.following:
        raise NotSupported("FOLLOWING looks at rows that have not come.", start.place)
    if start.current:
        return Frame(unit, 0)
    offset = start.offset
    if unit == "RANGE" and isinstance(offset, tree.IntervalLiteral) and offset.milliseconds is not None:
        return Frame("RANGE", offset.milliseconds)
    if unit == "ROWS" and isinstance(offset, tree.Literal_) and type(offset.value) is int:
        return Frame("ROWS", offset.value)
    raise TypeProblem("RANGE takes an interval, ROWS a number.", start.place)
