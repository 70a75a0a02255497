"""Window table functions: what they are written as, and taking them out from under an aggregate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from streamkit_sql.errors import NotSupported, Place, SyntaxProblem, TypeProblem, UnknownName
from streamkit_sql.expressions.bound import Bound, Column
from streamkit_sql.language import tree
from streamkit_sql.plan.maps import project
from streamkit_sql.plan.nodes import Changes, Map, Node, Windowed, WindowOf, WindowSpec
from streamkit_sql.plan.scopes import TableScope, reference
from streamkit_sql.types import Kind, quoted, timestamp

if TYPE_CHECKING:
    from streamkit_sql.plan.planner import Planner

FUNCTIONS = ("TUMBLE", "HOP", "CUMULATE", "SESSION")
_PARAMETERS = {
    "TUMBLE": ("DATA", "TIMECOL", "SIZE", "OFFSET"),
    "HOP": ("DATA", "TIMECOL", "SLIDE", "SIZE", "OFFSET"),
    "CUMULATE": ("DATA", "TIMECOL", "STEP", "SIZE", "OFFSET"),
    "SESSION": ("DATA", "TIMECOL", "GAP"),
}
TIME = "$t"
"""The time attribute, where a projection between a window and its aggregate has left it out."""


def plan_function(planner: Planner, source: tree.TableFunction) -> Node:
    """The rows of a table with their windows."""
    kind = source.name
    if kind not in FUNCTIONS:
        raise NotSupported(
            f"the table function {kind} is not supported.", source.place, f"There are: {', '.join(FUNCTIONS)}."
        )
    arguments = _arguments(source)
    data, descriptor = arguments["DATA"], arguments["TIMECOL"]
    if not isinstance(data, tree.TableArgument):
        raise SyntaxProblem(f"{kind} takes a table first.", source.place, "Write TABLE t.")
    if not isinstance(descriptor, tree.Descriptor) or len(descriptor.columns) != 1:
        raise SyntaxProblem(f"{kind} takes one time column.", source.place, "Write DESCRIPTOR(ts).")
    from streamkit_sql.plan import sources

    if isinstance(data.table, tree.Name):
        origin = sources.plan(planner, tree.TableName(data.table, place=data.place))
    else:
        origin = sources.plan(planner, tree.Subquery(data.table, place=data.place))
    scope = origin.scope()
    visible = scope.star((), source)
    time = scope.resolve(tree.Name(descriptor.columns, place=descriptor.place))
    if time.time is None:
        hint = "Declare it with WATERMARK FOR, or AS PROCTIME()."
        raise TypeProblem(f"{descriptor.columns[0]!r} is no time attribute.", descriptor.place, hint)
    if origin.node.changes is Changes.UPDATES:
        raise NotSupported(f"{kind} over a relation whose rows change.", source.place)
    spec = _spec(kind, arguments, tuple(_partition(planner, scope, data)), source.place)
    spec = in_zone(spec, time, planner)
    names = _window_names({name for name, _ in visible}, source.place)
    of = timestamp(3, nullable=False)
    added = (
        Column(names[0], of),
        Column(names[1], of),
        Column(names[2], time.type.with_null(False), time.time),
    )
    # The windowed time column itself is a mere timestamp behind the function in Flink's batch, an attribute in its
    # streams: the latter is what we have.
    columns = tuple(Column(name, bound.type, bound.time) for name, bound in visible)
    inner = project(origin.node, list(visible)) if _differs(origin.node, columns) else origin.node
    return Windowed(
        columns=(*columns, *added),
        window=WindowOf(*names, time=time.time, spec=spec),
        input=inner,
        time=wall_clock(reference(inner.column(_name_of(time, visible))), spec),
        spec=spec,
    )


def in_zone(spec: WindowSpec, time: Bound, planner: Planner) -> WindowSpec:
    """An instant is windowed by the session's clock."""
    return replace(spec, zone=planner.catalog.settings.zone) if time.type.kind is Kind.TIMESTAMP_LTZ else spec


def wall_clock(time: Bound, spec: WindowSpec) -> Bound:
    """The time attribute as the windows' clock shows it."""
    from streamkit_sql.expressions.bound import Settings
    from streamkit_sql.expressions.casts import local

    return replace(time, sql=local(time.sql, Settings(zone=spec.zone)))


def _differs(node: Node, columns: tuple[Column, ...]) -> bool:
    return [column.name for column in node.columns] != [column.name for column in columns]


def _name_of(bound: Bound, visible: list[tuple[str, Bound]]) -> str:
    return next(name for name, each in visible if each.sql == bound.sql)


def _window_names(taken: set[str], place: Place) -> tuple[str, str, str]:
    names = ("window_start", "window_end", "window_time")
    clash = sorted(taken & set(names))
    if clash:
        raise NotSupported(
            f"the table has a column {clash[0]!r} already.", place, "Give it another name in a subquery."
        )
    return names


def _arguments(source: tree.TableFunction) -> dict[str, tree.Argument]:
    parameters = _PARAMETERS[source.name]
    found: dict[str, tree.Argument] = {}
    for index, (name, value) in enumerate(source.arguments):
        if name is None and index >= len(parameters):
            raise SyntaxProblem(f"{source.name} takes {', '.join(parameters)}.", source.place)
        key = parameters[index] if name is None else name.upper()
        if key not in parameters:
            raise UnknownName(
                f"{source.name} has no argument {name!r}.", source.place, f"It takes {', '.join(parameters)}."
            )
        found[key] = value
    missing = [each for each in parameters if each not in found and each != "OFFSET"]
    if missing:
        raise SyntaxProblem(
            f"{source.name} lacks {', '.join(missing)}.", source.place, f"It takes {', '.join(parameters)}."
        )
    return found


def _partition(planner: Planner, scope: TableScope, data: tree.TableArgument) -> list[str]:
    names = []
    for each in data.partition:
        bound = planner.bind(each, scope)
        column = next((name for name, other in scope.star((), each) if other.sql == bound.sql), None)
        if column is None:
            raise NotSupported("PARTITION BY of a session takes columns.", each.place)
        names.append(column)
    return names


def _interval(arguments: dict[str, tree.Argument], key: str, place: Place) -> int:
    value = arguments.get(key)
    if value is None:
        return 0
    sign = 1
    if isinstance(value, tree.Unary) and value.operator == "-":
        sign, value = -1, value.operand
    if not isinstance(value, tree.IntervalLiteral) or value.milliseconds is None:
        raise TypeProblem(f"{key} takes an interval of days or less.", place, "Write INTERVAL '10' SECOND.")
    ms = sign * value.milliseconds
    if ms <= 0 and key != "OFFSET":
        raise TypeProblem(f"{key} must be more than nothing.", place)
    return ms


def _spec(kind: str, arguments: dict[str, tree.Argument], partition: tuple[str, ...], place: Place) -> WindowSpec:
    if kind == "SESSION":
        return WindowSpec("SESSION", gap_ms=_interval(arguments, "GAP", place), partition=partition)
    if partition:
        raise NotSupported(f"{kind} with PARTITION BY.", place, "Put the columns into GROUP BY.")
    size, offset = _interval(arguments, "SIZE", place), _interval(arguments, "OFFSET", place)
    if kind == "TUMBLE":
        return WindowSpec("TUMBLE", size_ms=size, offset_ms=offset)
    step = _interval(arguments, "SLIDE" if kind == "HOP" else "STEP", place)
    return checked(WindowSpec(kind, size_ms=size, step_ms=step, offset_ms=offset), place)  # type: ignore[arg-type]


def checked(spec: WindowSpec, place: Place) -> WindowSpec:
    """Flink's rule for windows made of slices."""
    if spec.kind in ("HOP", "CUMULATE") and spec.size_ms % spec.step_ms:
        what = "slide" if spec.kind == "HOP" else "step"
        raise NotSupported(f"{spec.kind} whose size is no multiple of its {what}.", place, "Flink refuses it as well.")
    return spec


# -- under an aggregate ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unwindowed:
    """A relation without its windows, and the time attribute's column in it."""

    node: Node
    time: Bound
    spec: WindowSpec


def without_windows(node: Node) -> Unwindowed | None:
    """The relation under a window function, with the projections and filters above it; None where these need the
    windows themselves: then rows are aggregated per window as they are."""
    if isinstance(node, Windowed):
        return Unwindowed(node.input, node.time, node.spec)
    if not isinstance(node, Map):
        return None
    inner = without_windows(node.input)
    if inner is None:
        return None
    window = node.input.window
    assert window is not None
    own = {name for name in (window.start, window.end, window.time_column) if name is not None}
    plain = {quoted(name) for name in own}
    if node.condition is not None and node.condition.columns & own:
        return None
    kept = [(name, bound) for name, bound in node.projections if bound.sql not in plain]
    if any(bound.columns & own for _, bound in kept):
        return None
    passed = next((name for name, bound in kept if bound.sql == inner.time.sql), None)
    if passed is None:
        passed = TIME
        kept.append((TIME, inner.time))
    above = project(inner.node, kept, node.condition)
    return Unwindowed(above, reference(above.column(passed)), inner.spec)


def is_time(bound: Bound) -> bool:
    return bound.type.kind in (Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ) and bound.time is not None
