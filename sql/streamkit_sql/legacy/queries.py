"""SELECT of SQL-1_0 in Flink's.

GROUP BY over ROWTIME is a tumbling window of processing time, as wide as the key's steps. A key that floors another
time beside it stays a key: then a late row makes a second row of its group in the next window, as it did there. Where
only APPROXIMATE_ARRIVAL_TIME is floored, the window goes by it. A window OVER gives one row per row in both; ROWS n
PRECEDING is the row and n before it, as the standard has it (the guide speaks of "two rows" where it writes 2).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from streamkit_sql.errors import NotSupported, SyntaxProblem, TypeProblem, UnknownName
from streamkit_sql.language import tree
from streamkit_sql.legacy import functions, tables
from streamkit_sql.legacy.functions import AGGREGATES, UNITS_MS, call, cast, interval_of, moment
from streamkit_sql.legacy.scopes import ROWTIME, Column, Found, Relation, Scope, Source, inner_name
from streamkit_sql.limits import INTERVAL_MS_DIGITS_MAX
from streamkit_sql.types import BIGINT, SqlType

_EXPRESSIONS_WITH_QUERIES: Final = (tree.ScalarQuery, tree.Exists, tree.InQuery)


@dataclass(frozen=True, slots=True)
class Item:
    """Something selected: its translation, and what is known of it."""

    name: str
    expression: tree.Expression
    type: SqlType | None = None
    column: Column | None = None  # that it is, if it is one with a time


@dataclass(frozen=True, slots=True)
class Floor:
    """A time attribute, or STEP or FLOOR of one; of itself it is one of a millisecond."""

    node: tree.Expression
    found: Found
    size_ms: int


class Queries:
    """Translates queries. `relation` gives what a stream's name stands for, and raises UnknownName."""

    def __init__(self, relation: Callable[[tree.Name], Relation]) -> None:
        self.relation = relation
        self.uses_arrival = False
        """Whether a window goes by APPROXIMATE_ARRIVAL_TIME, which then needs a watermark."""

    def query(
        self, query: tree.Query, targets: Sequence[tuple[str, SqlType]] = (), *, with_rowtime: bool = False
    ) -> tuple[tree.Query, Relation]:
        """`targets` are the columns that the query's are made to be, by their place. `with_rowtime`: the translation
        has ROWTIME as its last column, if it does not select it."""
        if isinstance(query, tree.Select):
            return SelectTranslator(self, query).translated(targets, with_rowtime=with_rowtime)
        if isinstance(query, tree.SetOperation):
            if query.kind != "UNION" or not query.all:
                raise NotSupported(f"{query.kind} of streams", query.place, "UNION ALL there is.")
            left, relation = self.query(query.left, targets, with_rowtime=with_rowtime)
            right, other = self.query(query.right, targets, with_rowtime=with_rowtime)
            if len(relation.columns) != len(other.columns):
                counts = f"{len(relation.columns)} and {len(other.columns)}"
                raise TypeProblem(f"both sides of UNION ALL need as many columns; they have {counts}", query.place)
            return tree.SetOperation("UNION", True, left, right, place=query.place), relation
        if isinstance(query, tree.Ordered):
            self._require_no_order(query)
            return self.query(query.query, targets, with_rowtime=with_rowtime)
        raise NotSupported("WITH and VALUES are not supported", query.place, "Put the query in brackets in FROM.")

    @staticmethod
    def _require_no_order(query: tree.Ordered) -> None:
        """A stream is in the order of ROWTIME."""
        if query.limit is not None or query.offset is not None:
            raise NotSupported("LIMIT of a stream", query.place)
        first = query.order[0]
        is_rowtime = isinstance(first.expression, tree.Name) and first.expression.parts[-1] == ROWTIME
        if len(query.order) > 1 or first.descending or not is_rowtime:
            hint = "Rows are in the order of ROWTIME; rank them with TOP_K_ITEMS_TUMBLING, or sort what is written."
            raise NotSupported("ORDER BY of what is not ROWTIME alone", first.expression.place, hint)


class SelectTranslator:
    """One SELECT. `where` is what of its condition no join has taken."""

    def __init__(self, queries: Queries, select: tree.Select) -> None:
        self.queries = queries
        self.select = select
        self.where = select.where
        self.scope: Scope | None = None
        self._window: Floor | None = None
        self._is_inside_aggregate = False
        self._is_flat = False  # a join has become one table, with one ROWTIME

    def translated(self, targets: Sequence[tuple[str, SqlType]], *, with_rowtime: bool) -> tuple[tree.Query, Relation]:
        select = self.select
        assert select.source is not None
        is_join = isinstance(select.source, tree.Join)
        source, sources = tables.plain(self, select.source, qualified=is_join)
        self.scope = Scope(tuple(sources))
        items = self._expanded()
        keys = self._keys(items)
        where: tree.Expression | None = None
        group_by: tuple[tree.GroupingElement, ...] | None = None
        if keys is not None:
            if is_join:
                source = self._flattened(source)
            elif self.where is not None:
                where = self.expression(self.where)
            group_by, source = self._grouped(keys, source, with_rowtime=with_rowtime)
        elif self.where is not None:
            where = self.expression(self.where)
        found = [self._item(name, each) for name, each in items]
        having = None if select.having is None else self.expression(select.having)
        windows = self._named_windows()
        made, columns = self._selected(found, targets, with_rowtime=with_rowtime)
        made_select = tree.Select(tuple(made), source, where, group_by, having, windows=windows, place=select.place)
        return made_select, Relation(tuple(columns))

    # -- what is selected --------------------------------------------------------------------------------------------

    def _expanded(self) -> list[tuple[str | None, tree.Expression]]:
        """The items with their names, `*` as the columns it stands for."""
        assert self.scope is not None
        items: list[tuple[str | None, tree.Expression]] = []
        for item in self.select.items:
            expression = item.expression
            if isinstance(expression, tree.Star):
                for source, column in self.scope.star(expression.qualifier, expression):
                    parts = (column.name,) if source.alias is None else (source.alias, column.name)
                    items.append((column.name, tree.Name(parts, place=expression.place)))
            else:
                name = item.alias
                if name is None and isinstance(expression, tree.Name):
                    name = expression.parts[-1]
                items.append((name, expression))
        return items

    def _item(self, name: str | None, node: tree.Expression) -> Item:
        shown = name or ""
        bare = node
        if isinstance(bare, tree.Name):
            if self._is_rowtime_of_join(bare):
                return Item(shown, call("PROCTIME"), tables.ROWTIME_TYPE, tables.rowtime_column())
            found = self._found(bare)
            if found is not None and found.column.time is not None and not found.rest:
                return self._time_item(shown, bare, found)
            if found is not None:
                return Item(shown, found.name, None if found.rest else found.column.type)
        expression = self.expression(node)
        of = expression.type if isinstance(expression, tree.Cast) else None
        if isinstance(expression, tree.Call) and expression.name == "COUNT":
            of = BIGINT
        return Item(shown, expression, of)

    def _time_item(self, name: str, node: tree.Name, found: Found) -> Item:
        """A time attribute that stays one."""
        if self._window is None:
            return Item(name, found.name, found.column.type, found.column)
        if found.column is self._window.found.column and self._window.size_ms == 1:
            return Item(name, tables.TIME, found.column.type, found.column)
        return Item(name, self.expression(node), functions.MOMENT)

    def _selected(
        self, items: Sequence[Item], targets: Sequence[tuple[str, SqlType]], *, with_rowtime: bool
    ) -> tuple[list[tree.SelectItem], list[Column]]:
        if targets and len(targets) != len(items):
            text = f"the query gives {len(items)} columns, the stream takes {len(targets)}"
            raise TypeProblem(text, self.select.place, f"These: {', '.join(name for name, _ in targets)}.")
        made: list[tree.SelectItem] = []
        columns: list[Column] = []
        for index, item in enumerate(items):
            if targets:
                name, of = targets[index]
                made.append(_as(_coerced(item, of), name))
                columns.append(Column(name, name, of))
                continue
            shown = item.name or f"EXPR${index}"
            name = inner_name(shown, [column.sql for column in columns])
            time = item.column.time if item.column is not None else None
            made.append(_as(item.expression, name))
            columns.append(Column(shown, name, item.type, time))
        if with_rowtime and not any(column.name == ROWTIME for column in columns):
            made.append(_as(self._rowtime(), ROWTIME))
            columns.append(tables.rowtime_column())
        return made, columns

    def _rowtime(self) -> tree.Expression:
        """Of the rows of this query: a window's is its end, a join's that of the later row: when it is made."""
        assert self.scope is not None
        if self._window is not None:
            return tables.TIME if self._window.found.column.time == "processing" else call("PROCTIME")
        streams = self._streams()
        column = streams[0].relation.find(ROWTIME) if len(streams) == 1 else None
        return call("PROCTIME") if column is None or column.time is None else streams[0].name(column)

    def _streams(self) -> list[Source]:
        assert self.scope is not None
        return [source for source in self.scope.sources if not source.relation.is_reference]

    # -- GROUP BY ----------------------------------------------------------------------------------------------------

    def _keys(self, items: Sequence[tuple[str | None, tree.Expression]]) -> list[tree.Expression] | None:
        """What is grouped by; of DISTINCT it is what is selected."""
        select = self.select
        has_aggregate = any(_has_aggregate(each) for _, each in items)
        if select.distinct:
            if select.group_by is not None or has_aggregate:
                raise NotSupported("DISTINCT of groups", select.place, "Group in a query in brackets.")
            return [each for _, each in items]
        if select.group_by is None:
            if has_aggregate or select.having is not None:
                hint = "Add GROUP BY STEP(ROWTIME BY INTERVAL '1' MINUTE), or write the window behind the call."
                raise SyntaxProblem("an aggregate of a stream that never ends", select.place, hint)
            return None
        for element in select.group_by:
            if element.kind != "PLAIN":
                raise NotSupported(f"{element.kind} is not supported", element.place)
        return [each for element in select.group_by for each in element.expressions]

    def _grouped(
        self, keys: Sequence[tree.Expression], source: tree.FromItem, *, with_rowtime: bool
    ) -> tuple[tuple[tree.GroupingElement, ...], tree.FromItem]:
        """GROUP BY and the windowed table."""
        floors = [(key, self._floor(key)) for key in keys]
        window = self._chosen(floors)
        others = []
        for key, floor in floors:
            if floor is not None and floor.found.column is window.found.column:
                if floor.size_ms % window.size_ms:
                    hint = "Group by one of them, and by the other in a second pump."
                    raise NotSupported("windows of which none is a multiple of the other", key.place, hint)
                continue  # it follows from the window's start
            others.append(self.expression(_unwrapped(key)))
        self._window = window
        if window.found.column.time == "event":
            self.queries.uses_arrival = True
        bare_time = window.size_ms == 1 or (with_rowtime and window.found.column.time == "processing")
        size = interval_of(window.size_ms)
        return tables.by_window(*others, with_time=bare_time), tables.tumbling(source, window.found.name, size)

    def _chosen(self, floors: Sequence[tuple[tree.Expression, Floor | None]]) -> Floor:
        """The narrowest window of processing time, else of arrival."""
        for time in ("processing", "event"):
            found = [floor for _, floor in floors if floor is not None and floor.found.column.time == time]
            if found:
                return min(found, key=lambda floor: floor.size_ms)
        place = self.select.group_by[0].place if self.select.group_by else self.select.place
        for key, _ in floors:
            if isinstance(key, tree.Call) and key.name == "MONOTONIC":
                hint = "Group by STEP(ROWTIME BY ..) as well: Flink's windows are of time."
                raise NotSupported("MONOTONIC of what is not ROWTIME or APPROXIMATE_ARRIVAL_TIME", key.place, hint)
        what = "DISTINCT" if self.select.distinct else "GROUP BY"
        hint = "Add STEP(ROWTIME BY INTERVAL '1' MINUTE) to it."
        raise SyntaxProblem(f"{what} of a stream without ROWTIME never gives a row", place, hint)

    def _floor(self, node: tree.Expression) -> Floor | None:
        """What a key or a selected expression is of a time attribute; None where it is something else."""
        node = _unwrapped(node)
        operand, size = node, 1
        if isinstance(node, tree.Call) and node.name == "STEP" and isinstance(node.arguments[1], tree.IntervalLiteral):
            operand, size = _unwrapped(node.arguments[0]), node.arguments[1].milliseconds or 0
        elif isinstance(node, tree.Call) and node.name == "FLOOR" and node.words:
            operand, size = _unwrapped(node.arguments[0]), UNITS_MS.get(node.words[0], 0)
        if not isinstance(operand, tree.Name) or self._is_rowtime_of_join(operand):
            return None
        found = self._found(operand)
        if found is None or found.column.time is None or found.rest:
            return None
        if size <= 0:
            raise NotSupported("a window that is no number of days, hours, minutes or seconds", node.place)
        return Floor(node, found, size)

    def _of_window(self, floor: Floor, node: tree.Expression) -> tree.Expression:
        """A floor of the window's time, from the window's start."""
        assert self._window is not None
        if floor.size_ms == self._window.size_ms:
            return tables.START
        if floor.size_ms % self._window.size_ms or floor.node is not _unwrapped(node):
            raise TypeProblem(f"{floor.found.column.name} in these steps is not grouped by", node.place)
        assert isinstance(floor.node, tree.Call)
        arguments = (tables.START, *floor.node.arguments[1:])
        inner = replace(floor.node, arguments=arguments)
        return functions.step(inner, arguments) if inner.name == "STEP" else inner

    def _flattened(self, source: tree.FromItem) -> tree.FromItem:
        """A join as a table with one time: what a window function takes. Its columns get names of their own."""
        assert self.scope is not None
        where = None if self.where is None else self.expression(self.where)
        self.where = None
        items = [_as(self._rowtime(), ROWTIME)]
        taken = [ROWTIME]
        sources = []
        time = tables.rowtime_column()
        for each in self.scope.sources:
            columns = []
            for column in each.relation.columns:
                if column.name == ROWTIME and column.hidden:
                    columns.append(time)
                    continue
                name = inner_name(column.sql, taken)
                taken.append(name)
                items.append(_as(each.name(column), name))
                columns.append(replace(column, sql=name))
            sources.append(Source(each.alias, replace(each.relation, columns=tuple(columns)), None))
        self.scope = Scope(tuple(sources))
        self._is_flat = True
        return tree.Subquery(tree.Select(tuple(items), source, where))

    # -- windows behind calls ----------------------------------------------------------------------------------------

    def _named_windows(self) -> tuple[tuple[str, tree.WindowSpec], ...]:
        """Those that calls name; the others are of joins."""
        used = {
            each.over.parts[-1]
            for item in self.select.items
            for each in _calls(item.expression)
            if isinstance(each.over, tree.Name)
        }
        known = dict(self.select.windows)
        for name in used - known.keys():
            raise UnknownName(f"there is no WINDOW {name!r}", self.select.place)
        return tuple((name, self._spec(spec)) for name, spec in self.select.windows if name in used)

    def _spec(self, spec: tree.WindowSpec) -> tree.WindowSpec:
        """A sliding window goes by ROWTIME and ends at the row, which goes without saying there."""
        streams = self._streams()
        column = streams[0].relation.find(ROWTIME) if len(streams) == 1 else None
        if column is None or column.time is None:
            raise NotSupported("a sliding window over a join", spec.place, "Join in a pump of its own.")
        for item in spec.order:
            floor = self._floor(item.expression)
            if floor is None or floor.size_ms != 1 or item.descending or len(spec.order) > 1:
                raise NotSupported("a sliding window in an order that is not ROWTIME", item.place)
        time = tree.OrderItem(streams[0].name(column))
        stop = spec.stop or (tree.FrameBound(None, current=True) if spec.start is not None else None)
        partition = tuple(self.expression(each) for each in spec.partition)
        start = spec.start
        if start is not None and isinstance(start.offset, tree.IntervalLiteral):
            start = replace(start, offset=self._interval(start.offset))
        return replace(spec, partition=partition, order=(time,), start=start, stop=stop)

    # -- expressions -------------------------------------------------------------------------------------------------

    def expression(self, node: tree.Expression) -> tree.Expression:
        """The expression in Flink's language; times are TIMESTAMP(3) in UTC."""
        if isinstance(node, _EXPRESSIONS_WITH_QUERIES):
            raise NotSupported("a query inside an expression", node.place, "Join the other stream over a window.")
        if self._window is not None and not self._is_inside_aggregate:
            floor = self._floor(node)
            if floor is not None and floor.found.column is self._window.found.column:
                return self._of_window(floor, node)
        if isinstance(node, tree.Name):
            return self._name(node)
        if isinstance(node, tree.Call):
            return self._call(node)
        if isinstance(node, tree.IntervalLiteral):
            return self._interval(node)
        if isinstance(node, tree.Cast):
            return cast(self.expression(node.operand), node.type)
        rebuilt: tree.Expression = _rebuilt(node, self.expression)
        return rebuilt

    @staticmethod
    def _interval(node: tree.IntervalLiteral) -> tree.IntervalLiteral:
        """As it is written, unless it has more digits than Flink takes."""
        digits = len(re.split(r"\D", node.text.lstrip("-"))[0])
        if node.milliseconds is None or digits <= INTERVAL_MS_DIGITS_MAX:
            return node
        return interval_of(node.milliseconds, node.place)

    def _name(self, node: tree.Name) -> tree.Expression:
        if self._is_rowtime_of_join(node):
            return moment(call("PROCTIME"))
        found = self._found(node)
        if found is None:
            return moment(tree.Call("CURRENT_ROW_TIMESTAMP", place=node.place))
        if found.column.time is not None and not found.rest:
            return moment(found.name)
        return found.name

    def _call(self, node: tree.Call) -> tree.Expression:
        if node.name == "MONOTONIC" and len(node.arguments) == 1:
            return self.expression(node.arguments[0])
        is_aggregate = node.name in AGGREGATES
        if node.over is not None and not is_aggregate:
            raise NotSupported(f"{node.name} over a window", node.place, functions.REFUSED.get(node.name, ""))
        was_inside = self._is_inside_aggregate
        self._is_inside_aggregate = was_inside or is_aggregate
        arguments = tuple(each if isinstance(each, tree.Star) else self.expression(each) for each in node.arguments)
        only = None if node.filter is None else self.expression(node.filter)
        self._is_inside_aggregate = was_inside
        made = functions.translated(node, arguments)
        if made is not None:
            return made
        over = self._spec(node.over) if isinstance(node.over, tree.WindowSpec) else node.over
        return replace(node, arguments=arguments, filter=only, over=over)

    def _found(self, name: tree.Name) -> Found | None:
        """None for CURRENT_ROW_TIMESTAMP, which is written as a name."""
        assert self.scope is not None
        if name.parts == ("CURRENT_ROW_TIMESTAMP",) and not self.scope.knows(name.parts[0]):
            return None
        if self._is_flat and name.parts == (ROWTIME,):
            name = replace(name, parts=(str(self._streams()[0].alias), ROWTIME))
        return self.scope.resolve(name)

    def _is_rowtime_of_join(self, name: tree.Name) -> bool:
        return name.parts == (ROWTIME,) and not self._is_flat and len(self._streams()) > 1


# -- trees -----------------------------------------------------------------------------------------------------------


def _as(expression: tree.Expression, name: str) -> tree.SelectItem:
    """`expression AS name`, without the name where it has it."""
    is_called_so = isinstance(expression, tree.Name) and expression.parts[-1] == name
    return tree.SelectItem(expression, None if is_called_so else name)


def _coerced(item: Item, of: SqlType) -> tree.Expression:
    if item.column is None and item.type is not None and item.type.same_as(of):
        return item.expression
    if item.column is not None and of.is_timestamp:
        return tree.Cast(item.expression, of.with_null())
    if item.column is not None:
        return cast(moment(item.expression), of)
    return cast(item.expression, of, item.type)


def _unwrapped(node: tree.Expression) -> tree.Expression:
    """What MONOTONIC says something about."""
    while isinstance(node, tree.Call) and node.name == "MONOTONIC" and len(node.arguments) == 1:
        node = node.arguments[0]
    return node


def _calls(node: Any) -> Iterator[tree.Call]:
    if isinstance(node, tuple):
        for each in node:
            yield from _calls(each)
    elif isinstance(node, tree.Node):
        if isinstance(node, tree.Call):
            yield node
        for each in fields(node):
            if each.name != "place":
                yield from _calls(getattr(node, each.name))


def _has_aggregate(node: tree.Expression) -> bool:
    return any(each.name in AGGREGATES and each.over is None for each in _calls(node))


def _rebuilt(node: Any, of: Callable[[tree.Expression], tree.Expression]) -> Any:
    """The node with the expressions inside it replaced."""

    def part(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(part(each) for each in value)
        return of(value) if isinstance(value, tree.Node) else value  # type: ignore[arg-type]

    changed = {each.name: part(getattr(node, each.name)) for each in fields(node) if each.name != "place"}
    return replace(node, **changed)
