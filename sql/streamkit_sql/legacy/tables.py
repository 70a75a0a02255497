"""FROM of SQL-1_0 in Flink's: streams, queries in brackets, the functions that make tables, joins.

A join of streams joins what is in their windows when a row comes ("JOIN clause"): a row of the one side meets the rows
of the other that are in that one's window, and a side without a window has its current row only. That is Flink's
interval join with the two windows as bounds of the difference. A reference table is looked up per row.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal

from streamkit_sql.errors import NotSupported, SyntaxProblem, UnknownName
from streamkit_sql.language import tree
from streamkit_sql.legacy import functions
from streamkit_sql.legacy.functions import binary, call, interval_of, number
from streamkit_sql.legacy.parser import WindowedTable
from streamkit_sql.legacy.scopes import ROWTIME, Column, Relation, Scope, Source, near
from streamkit_sql.limits import LEGACY_ITEMS_MAX, LEGACY_ITEMS_WINDOW_S_MAX
from streamkit_sql.types import BIGINT, timestamp_ltz

if TYPE_CHECKING:
    from streamkit_sql.legacy.queries import SelectTranslator

START, END, TIME = (tree.Name((name,)) for name in ("window_start", "window_end", "window_time"))
ROWTIME_TYPE: Final = timestamp_ltz(3, nullable=False)


def rowtime_column(*, hidden: bool = True) -> Column:
    return Column(ROWTIME, ROWTIME, ROWTIME_TYPE, "processing", hidden)


def plain(query: SelectTranslator, item: tree.FromItem, *, qualified: bool) -> tuple[tree.FromItem, list[Source]]:
    """One table, or a tree of joins."""
    if isinstance(item, WindowedTable):
        return _stream(query, item, qualified=qualified)
    if isinstance(item, tree.Subquery):
        if item.lateral:
            raise NotSupported("LATERAL is not supported", item.place)
        inner, relation = query.queries.query(_named(item.query, item.columns), with_rowtime=True)
        relation = _renamed(relation, item.columns, item)
        source = Source(item.alias, relation, item.alias if qualified else None)
        return tree.Subquery(inner, item.alias, place=item.place), [source]
    if isinstance(item, tree.TableFunction):
        inner, relation = _function(query, item)
        relation = _renamed(relation, item.columns, item)
        source = Source(item.alias, relation, item.alias if qualified else None)
        return tree.Subquery(inner, item.alias, place=item.place), [source]
    if isinstance(item, tree.Join):
        return _join(query, item)
    raise NotSupported("this form of a table is not supported", item.place)


def _stream(query: SelectTranslator, item: WindowedTable, *, qualified: bool) -> tuple[tree.FromItem, list[Source]]:
    if item.columns:
        raise NotSupported("columns named anew by a stream's alias", item.place, "Name them in a query in brackets.")
    if item.over is not None and not qualified:
        raise SyntaxProblem("a stream has a window where it is joined", item.place, "Write the window behind a call.")
    relation = query.queries.relation(item.name)
    name = item.name.parts[-1]
    alias = item.alias or name
    shown = alias if qualified and alias != name else None
    table = tree.TableName(item.name, shown, place=item.place)
    return table, [Source(alias, relation, alias if qualified else None)]


def _named(query: tree.Query, names: tuple[str, ...]) -> tree.Query:
    """The query with its alias's names for its columns, where it is plain which are which."""
    if not isinstance(query, tree.Select) or len(query.items) != len(names):
        return query
    if any(isinstance(item.expression, tree.Star) for item in query.items):
        return query
    items = tuple(replace(item, alias=name) for item, name in zip(query.items, names, strict=True))
    return replace(query, items=items)


def _renamed(relation: Relation, names: tuple[str, ...], at: tree.Node) -> Relation:
    """`AS t (a, b)`: the script's names are new, the translation's stay."""
    if not names:
        return relation
    if len(names) != len(relation.visible):
        text = f"the query has {len(relation.visible)} columns, its alias names {len(names)}"
        raise SyntaxProblem(text, at.place)
    columns = [replace(column, name=name) for name, column in zip(names, relation.visible, strict=True)]
    return Relation((*columns, *(column for column in relation.columns if column.hidden)))


# -- windows ---------------------------------------------------------------------------------------------------------


def tumbling(item: tree.FromItem, time: tree.Name, size: tree.IntervalLiteral) -> tree.TableFunction:
    """The rows of a table with the windows they are in."""
    table: tree.Name | tree.Query
    if isinstance(item, tree.TableName):
        table = item.name
    else:
        assert isinstance(item, tree.Subquery)
        table = item.query
    arguments = (
        (None, tree.TableArgument(table)), (None, tree.Descriptor((time.parts[-1],))), (None, size)
    )  # fmt: skip
    return tree.TableFunction("TUMBLE", arguments)


def by_window(*others: tree.Expression, with_time: bool) -> tuple[tree.GroupingElement, ...]:
    keys = (START, END, *((TIME,) if with_time else ()), *others)
    return tuple(tree.GroupingElement("PLAIN", (key,)) for key in keys)


# -- functions that make tables --------------------------------------------------------------------------------------


def _function(query: SelectTranslator, item: tree.TableFunction) -> tuple[tree.Query, Relation]:
    if item.name in functions.REFUSED:
        raise NotSupported(f"{item.name} is not supported", item.place, functions.REFUSED[item.name])
    if item.name == "TOP_K_ITEMS_TUMBLING":
        return _top_items(query, item)
    if item.name == "COUNT_DISTINCT_ITEMS_TUMBLING":
        return _distinct_items(query, item)
    raise NotSupported(f"the table function {item.name} is not supported", item.place)


def _top_items(query: SelectTranslator, item: tree.TableFunction) -> tuple[tree.Query, Relation]:
    """The k most frequent values per window, exactly where the original counts approximately; of values that are as
    frequent the lowest come first."""
    table, column, bounds = _cursor(
        query, item, (("K", LEGACY_ITEMS_MAX), ("a window's seconds", LEGACY_ITEMS_WINDOW_S_MAX))
    )
    most, seconds = bounds
    name, count, rank = "ITEM", "ITEM_COUNT", "ITEM_RANK"
    value = tree.Name((column.sql,))
    counted = tree.Select(
        (
            tree.SelectItem(functions.cast(value, functions.LOG_FIELD), name),
            tree.SelectItem(call("COUNT", tree.Star()), count),
            tree.SelectItem(START),
            tree.SelectItem(END),
            tree.SelectItem(TIME, ROWTIME),
        ),
        tumbling(table, tree.Name((ROWTIME,)), interval_of(seconds * 1_000)),
        group_by=by_window(value, with_time=True),
    )
    order = (tree.OrderItem(tree.Name((count,)), descending=True), tree.OrderItem(tree.Name((name,))))
    number_ = tree.Call("ROW_NUMBER", over=tree.WindowSpec((START, END), order))
    kept = tuple(tree.SelectItem(tree.Name((each,))) for each in (name, count, ROWTIME))
    ranked = tree.Select((*kept, tree.SelectItem(number_, rank)), tree.Subquery(counted))
    found = tree.Select(kept, tree.Subquery(ranked), binary(tree.Name((rank,)), "<=", number(most)))
    columns = (Column(name, name, functions.LOG_FIELD), Column(count, count, BIGINT), rowtime_column())
    return found, Relation(columns)


def _distinct_items(query: SelectTranslator, item: tree.TableFunction) -> tuple[tree.Query, Relation]:
    """How many values there are per window: exactly, where the original estimates from 10,000 on."""
    table, column, bounds = _cursor(query, item, (("a window's seconds", LEGACY_ITEMS_WINDOW_S_MAX),))
    name = "NUMBER_OF_DISTINCT_ITEMS"
    distinct = tree.Call("COUNT", (tree.Name((column.sql,)),), distinct=True)
    found = tree.Select(
        (tree.SelectItem(distinct, name), tree.SelectItem(TIME, ROWTIME)),
        tumbling(table, tree.Name((ROWTIME,)), interval_of(bounds[0] * 1_000)),
        group_by=by_window(with_time=True),
    )
    return found, Relation((Column(name, name, BIGINT), rowtime_column()))


def _cursor(
    query: SelectTranslator, item: tree.TableFunction, wanted: tuple[tuple[str, int], ...]
) -> tuple[tree.FromItem, Column, list[int]]:
    """The table, the column and the numbers of `f(CURSOR(query), 'column', n, ..)`."""
    values = [value for _, value in item.arguments]
    if len(values) != 2 + len(wanted):
        raise SyntaxProblem(f"{item.name} takes {2 + len(wanted)} arguments, not {len(values)}", item.place)
    given, named = values[0], values[1]
    if not isinstance(given, tree.TableArgument) or isinstance(given.table, tree.Name):
        raise SyntaxProblem(f"{item.name} takes a query first", item.place, "Write CURSOR(SELECT STREAM * FROM t).")
    inner, relation = query.queries.query(given.table, with_rowtime=True)
    if not isinstance(named, tree.Literal_) or not isinstance(named.value, str):
        raise SyntaxProblem(f"{item.name} takes a column's name in ''", item.place)
    column = relation.find(named.value) or relation.find(named.value.strip('"')) or relation.find(named.value.upper())
    if column is None:
        known = [each.name for each in relation.visible]
        raise UnknownName(f"there is no column {named.value!r} here", named.place, near(named.value, known))
    numbers = []
    for (what, most), value in zip(wanted, values[2:], strict=True):
        found = value.value if isinstance(value, tree.Literal_) else None
        if type(found) is not int or not 1 <= found <= most:
            raise SyntaxProblem(f"{what} is a whole number from 1 to {most:,}", item.place)
        numbers.append(found)
    return _simplest(inner), column, numbers


def _simplest(query: tree.Query) -> tree.FromItem:
    """The table itself where the query is only its columns by their names."""
    if isinstance(query, tree.Select) and isinstance(query.source, tree.TableName) and query.group_by is None:
        names = all(isinstance(item.expression, tree.Name) and item.alias is None for item in query.items)
        if names and query.where is None and not query.windows:
            return query.source
    return tree.Subquery(query)


# -- joins -----------------------------------------------------------------------------------------------------------


def _join(query: SelectTranslator, item: tree.Join) -> tuple[tree.FromItem, list[Source]]:
    if item.using or item.natural:
        raise NotSupported("USING and NATURAL are not supported", item.place, "Write ON.")
    left, left_sources = plain(query, item.left, qualified=True)
    right, right_sources = plain(query, item.right, qualified=True)
    sources = [*left_sources, *right_sources]
    query.scope = Scope(tuple(sources))
    kind: Literal["INNER", "LEFT", "RIGHT", "FULL"] = "INNER" if item.kind == "CROSS" else item.kind
    condition = None if item.condition is None else query.expression(item.condition)
    if any(source.relation.is_reference for source in right_sources):
        return _lookup(query, item, kind, left, right, condition), sources
    if all(source.relation.is_reference for source in left_sources):
        if kind != "INNER":
            hint = "Put the stream on the left, and write LEFT JOIN."
            raise NotSupported(f"a {kind} join of a reference table with a stream", item.place, hint)
        return _lookup(query, item, kind, right, left, condition), sources
    streams = [[each for each in side if not each.relation.is_reference] for side in (left_sources, right_sources)]
    if len(streams[0]) != 1:
        hint = "Join two of them in a pump of their own."
        raise NotSupported("a join of more than two streams", item.place, hint)
    bounds = _bounds(query, item, streams[0][0], streams[1][0])
    both = bounds if condition is None else binary(binary(condition, "AND", bounds.left), "AND", bounds.right)
    return tree.Join(kind, left, right, both, place=item.place), sources


def _lookup(
    query: SelectTranslator, item: tree.Join, kind: Literal["INNER", "LEFT", "RIGHT", "FULL"], stream: tree.FromItem,
    table: tree.FromItem, condition: tree.Expression | None,
) -> tree.Join:  # fmt: skip
    if kind not in ("INNER", "LEFT"):
        hint = "A row of the table alone would never be done; write LEFT JOIN from the stream."
        raise NotSupported(f"a {kind} join with a reference table", item.place, hint)
    if not isinstance(table, tree.TableName):
        raise NotSupported("a join of reference tables", item.place, "Join the stream with each of them.")
    if condition is None:
        # A lookup has its keys in ON: a comma's are in WHERE, which is the same for an inner join.
        if query.where is None:
            raise NotSupported("a CROSS JOIN with a reference table", item.place, "Join it on equal keys.")
        condition, query.where = query.expression(query.where), None
    assert query.scope is not None
    time = next(source for source in query.scope.sources if not source.relation.is_reference)
    column = time.relation.find(ROWTIME)
    assert column is not None
    return tree.Join(kind, stream, replace(table, as_of=time.name(column)), condition, place=item.place)


def _bounds(query: SelectTranslator, item: tree.Join, left: Source, right: Source) -> tree.Binary:
    """`right's ROWTIME >= left's - right's window AND <= left's + left's window`."""
    sizes = [_window_ms(query, side) for side in (item.left, item.right)]
    if sizes == [None, None]:
        hint = "Write t OVER (RANGE INTERVAL '1' MINUTE PRECEDING) AS x for one of them."
        raise SyntaxProblem("streams are joined over windows", item.place, hint)
    times = []
    for source in (left, right):
        column = source.relation.find(ROWTIME)
        assert column is not None
        times.append(source.name(column))
    low = times[0] if not sizes[1] else binary(times[0], "-", interval_of(sizes[1]))
    high = times[0] if not sizes[0] else binary(times[0], "+", interval_of(sizes[0]))
    return binary(binary(times[1], ">=", low), "AND", binary(times[1], "<=", high))


def _window_ms(query: SelectTranslator, item: tree.FromItem) -> int | None:
    """Of the stream in one side of a join."""
    if isinstance(item, tree.Join):
        left = _window_ms(query, item.left)
        return left if left is not None else _window_ms(query, item.right)
    if not isinstance(item, WindowedTable) or item.over is None:
        return None
    spec = item.over
    if isinstance(spec, tree.Name):
        named = dict(query.select.windows)
        found = named.get(spec.parts[-1])
        if found is None:
            raise UnknownName(f"there is no WINDOW {spec.parts[-1]!r}", spec.place, near(spec.parts[-1], named))
        spec = found
    if spec.partition or (spec.stop is not None and not spec.stop.current):
        raise NotSupported(
            "this window of a stream that is joined", spec.place, "RANGE INTERVAL .. PRECEDING there is."
        )
    offset = None if spec.start is None or spec.start.following else spec.start.offset
    if spec.unit != "RANGE" or not isinstance(offset, tree.IntervalLiteral):
        hint = "Flink joins by time: write RANGE INTERVAL .. PRECEDING."
        raise NotSupported("a window of rows of a stream that is joined", spec.place, hint)
    return functions.positive_ms(offset)
