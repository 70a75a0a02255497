"""MATCH_RECOGNIZE: patterns over the rows of a partition in the order of time.

`Match.program` is a `plan.match.Program`. Rows wait until the watermark has reached their time; late ones are left out
and counted. What is found is what Flink's CEP library finds (`NFA`, `NFACompiler`), which is not what the SQL standard
says: a greedy variable does not give rows back, `?` tries both ways, and of several matches the one that began first is
given out as soon as no match that began before can still come.

State: rows that wait or are part of a partial match, and the partial matches of each partition, in the order of Flink's
heap, for of those that began with one row the first in it wins.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from streamkit_sql.errors import NotSupported, ValueProblem
from streamkit_sql.plan import match as plans
from streamkit_sql.plan.nodes import ARRIVED, NUMBER, WATERMARK, Changes, Match
from streamkit_sql.runtime.at_close import ordering_sql
from streamkit_sql.runtime.changes import StateTable
from streamkit_sql.runtime.duck import table_of
from streamkit_sql.runtime.operator import END_MS, Counts, Input, Tick
from streamkit_sql.types import quoted

if TYPE_CHECKING:
    import duckdb

_TIME: Final = '"$$t"'
_AT: Final = '"$$at"'
_PLACE: Final = '"$$i"'
_KEY: Final = '"$$p"'
_NEVER: Final = 2**62

# -- the machine -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _State:
    """One of the machine's. Taking a row leads to `take`; `proceed` leads on without one: always, or (greedy) only if
    the row cannot be taken."""

    variable: int
    take: int = -1
    proceed: int = -1
    greedy: bool = False


FINAL: Final = 0


def machine(variables: Sequence[plans.Variable]) -> tuple[list[_State], int]:
    """The states, of which the first is final, and where it starts; as `NFACompiler` makes them, back to front. Rows
    follow one another directly everywhere, so no state ignores any."""
    states = [_State(-1)]

    def single(variable: int, sink: int, proceed: int | None) -> int:
        states.append(
            _State(
                variable, sink, -1 if proceed is None else proceed, proceed is not None and variables[variable].greedy
            )
        )
        return len(states) - 1

    last = FINAL
    for index in range(len(variables) - 1, -1, -1):
        each = variables[index]
        is_optional = each.minimum == 0
        least = max(each.minimum, 1)
        after = last
        if each.maximum is None:
            states.append(_State(index, len(states), after, each.greedy))
            sink = len(states) - 1
            for _ in range(least - 1):
                sink = single(index, sink, None)
        else:
            sink = after
            if each.greedy:
                # Seen of Flink 2.3: even behind the last row it may take, what it could take goes to no other variable.
                states.append(_State(index, -1, after, greedy=True))
                sink = len(states) - 1
            for _ in range(each.maximum - least):
                sink = single(index, sink, after)
            for _ in range(least - 1):
                sink = single(index, sink, None)
        last = single(index, sink, after if is_optional else None)
    return states, last


@dataclass(slots=True, eq=False)
class Partial:
    """`path` links (path before, variable, row), None before the first; `start` is the place of the first row in its
    partition's order."""

    state: int
    path: Any = None
    start: int = _NEVER
    start_ms: int = 0


class Heap:
    """Java's `PriorityQueue` by `start`: which of equals is first follows from how it moves them."""

    __slots__ = ("items",)

    def __init__(self, items: Iterable[Partial] = ()) -> None:
        self.items = list(items)

    def add(self, item: Partial) -> None:
        items, place = self.items, len(self.items)
        items.append(item)
        while place:
            parent = (place - 1) >> 1
            if item.start >= items[parent].start:
                break
            items[place] = items[parent]
            place = parent
        items[place] = item

    def poll(self) -> Partial:
        first = self.items[0]
        last = self.items.pop()
        if self.items:
            self._down(0, last)
        return first

    def remove(self, condition: Callable[[Partial], bool]) -> None:
        left = [each for each in self.items if not condition(each)]
        if len(left) < len(self.items):
            self.items = left
            for place in range((len(left) >> 1) - 1, -1, -1):
                self._down(place, left[place])

    def _down(self, place: int, item: Partial) -> None:
        items, count = self.items, len(self.items)
        half = count >> 1
        while place < half:
            child = 2 * place + 1
            if child + 1 < count and items[child].start > items[child + 1].start:
                child += 1
            if item.start <= items[child].start:
                break
            items[place] = items[child]
            place = child
        items[place] = item


@dataclass(slots=True)
class Partition:
    """Partial matches of one partition, complete ones that wait for those that began before, and how many rows it has
    taken in."""

    partials: Heap
    complete: Heap = field(default_factory=Heap)
    taken: int = 0
    orders: dict[int, int] = field(default_factory=dict)
    """Rows of partial matches to their places in the order."""

    @property
    def is_idle(self) -> bool:
        return len(self.partials.items) == 1 and not self.complete.items


def rows_of(path: Any) -> list[tuple[int, int]]:
    """(variable, row) in the order they were taken."""
    found = []
    while path is not None:
        path, variable, row = path
        found.append((variable, row))
    found.reverse()
    return found


class Matcher:
    """Runs the machine. `takes(variable, path, row)` says whether a variable takes a row after those of a path."""

    def __init__(self, program: plans.Program, takes: Callable[[int, Any, int], bool]) -> None:
        self._states, self._start = machine(program.variables)
        self._takes = takes
        self._within_ms = program.within_ms
        self._after = program.after
        self._after_variable = program.after_variable
        self._after_name = "" if program.after_variable is None else program.variables[program.after_variable].name

    def partition(self) -> Partition:
        return Partition(Heap([Partial(self._start)]))

    def advance(self, partition: Partition, now_ms: int) -> list[Any]:
        """Forgets what WITHIN forbids; the paths of matches that this sets free."""
        within_ms = self._within_ms
        if within_ms is None:
            return []
        partials = Heap()
        for each in partition.partials.items:
            if each.start == _NEVER or now_ms - each.start_ms < within_ms:
                partials.add(each)
        found = self._given_out(partition, Heap(), partials)
        partition.partials = partials
        return found

    def take(self, partition: Partition, row: int, time_ms: int) -> list[Any]:
        """The paths of the matches that this row gives out."""
        order = partition.taken
        partition.taken += 1
        partition.orders[row] = order
        partials, complete = Heap(), Heap()
        for each in partition.partials.items:
            for new in self._next(each, row, order, time_ms):
                (complete if new.state == FINAL else partials).add(new)
        found = self._given_out(partition, complete, partials)
        partition.partials = partials
        return found

    def _next(self, partial: Partial, row: int, order: int, time_ms: int) -> list[Partial]:
        states = self._states
        known: dict[int, bool] = {}

        def takes(variable: int) -> bool:
            answer = known.get(variable)
            if answer is None:
                answer = known[variable] = self._takes(variable, partial.path, row)
            return answer

        found: list[Partial] = []
        is_start = partial.start == _NEVER
        start, start_ms = (order, time_ms) if is_start else (partial.start, partial.start_ms)
        stack = [partial.state]
        edges = []
        while stack:
            place = stack.pop()
            state = states[place]
            if place == FINAL:
                continue
            if takes(state.variable):
                if state.take >= 0:
                    edges.append(state)
                if state.greedy:
                    continue
            if state.proceed >= 0:
                stack.append(state.proceed)
        for state in edges:
            path = (partial.path, state.variable, row)
            found.append(Partial(state.take, path, start, start_ms))
            if state.take != FINAL and self._ends(state.take, takes):
                found.append(Partial(FINAL, path, start, start_ms))
        if is_start:
            found.append(Partial(partial.state))
        return found

    def _ends(self, place: int, takes: Callable[[int], bool]) -> bool:
        """Whether a state leads to the end without a further row."""
        stack = [place]
        while stack:
            state = self._states[stack.pop()]
            if state.proceed < 0 or (state.greedy and takes(state.variable)):
                continue
            if state.proceed == FINAL:
                return True
            stack.append(state.proceed)
        return False

    def _given_out(self, partition: Partition, new: Heap, partials: Heap) -> list[Any]:
        complete = partition.complete
        for each in new.items:
            complete.add(each)
        found = []
        while complete.items and (not partials.items or complete.items[0].start <= partials.items[0].start):
            match = complete.poll()
            limit = self._limit(partition, match)
            partials.remove(lambda each, limit=limit: each.start < limit)  # type: ignore[misc]
            complete.remove(lambda each, limit=limit: each.start < limit)  # type: ignore[misc]
            found.append(match.path)
        return found

    def _limit(self, partition: Partition, match: Partial) -> int:
        """What began before this place is dropped after a match."""
        if self._after == "TO NEXT ROW":
            return match.start + 1
        rows = rows_of(match.path)
        if self._after == "PAST LAST ROW":
            return partition.orders[rows[-1][1]] + 1
        chosen = [row for variable, row in rows if variable == self._after_variable]
        if not chosen:
            raise ValueProblem(f"could not skip to {self._after_name}: the match has no row of it.")
        place = partition.orders[chosen[0] if self._after == "TO FIRST" else chosen[-1]]
        if place == match.start:
            raise ValueProblem(f"could not skip to {self._after_name}: it is the first row of the match.")
        return place


# -- expressions -----------------------------------------------------------------------------------------------------

_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": lambda a, b: a == b,
    "<>": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def wrapped(value: int, bits: int) -> int:
    """A whole number cut to as many bits, with its sign, as Java does."""
    half = 1 << (bits - 1)
    return (value + half) % (1 << bits) - half


@dataclass(slots=True)
class _Context:
    """The rows of a match; `row` is the one that is asked for, -1 in measures."""

    rows: list[tuple[int, int]]
    row: int = -1
    end_ms: int = 0
    lists: dict[int, list[int]] = field(default_factory=dict)

    def of(self, variable: int, variables: int) -> list[int]:
        found = self.lists.get(variable)
        if found is None:
            if variable == plans.ANY:
                found = [row for index in range(variables) for row in self.of(index, variables)]
            else:
                found = [row for each, row in self.rows if each == variable]
            self.lists[variable] = found
        return found


class Evaluator:
    """Values of expressions over a match. `values` are the atoms of each row, `empty` those of no row."""

    def __init__(self, program: plans.Program) -> None:
        self._variables = len(program.variables)
        self.values: dict[int, tuple[Any, ...]] = {}
        self.empty: tuple[Any, ...] = (None,) * len(program.atoms)
        self.database: duckdb.DuckDBPyConnection | None = None
        self.time_types: dict[str, Any] = {}

    def value(self, node: plans.Expression, context: _Context) -> Any:
        match node:
            case plans.Atom(index, where):
                return self._atom(index, where, context)
            case plans.Constant(value):
                return value
            case plans.Logic():
                return self._logic(node, context)
            case plans.Not(operand):
                value = self.value(operand, context)
                return None if value is None else not value
            case plans.Compare(operator, left, right):
                a, b = self.value(left, context), self.value(right, context)
                return None if a is None or b is None else _COMPARE[operator](a, b)
            case plans.Arithmetic(operator, left, right, bits):
                a, b = self.value(left, context), self.value(right, context)
                if a is None or b is None:
                    return None
                value = a + b if operator == "+" else a - b if operator == "-" else a * b
                return wrapped(value, bits) if bits else value
            case plans.Test(operand, what, negated):
                value = self.value(operand, context)
                return (value is {"NULL": None, "TRUE": True, "FALSE": False}[what]) != negated
            case plans.Total():
                return self._total(node, context)
            case plans.MatchTime(kind):
                last = max(row for _, row in context.rows) if context.rows else -1
                return self.values[last][-2 if kind == "event" else -1]
            case plans.Computed(bound, parts):
                cells = ", ".join(f"?::{of.duckdb} AS {quoted(name)}" for name, of, _ in parts)
                source = f" FROM (SELECT {cells})" if parts else ""
                return self._ask(f"SELECT {bound.sql}{source}", [self.value(part, context) for _, _, part in parts])

    def _ask(self, sql: str, parameters: list[Any]) -> Any:
        assert self.database is not None
        return self.database.execute(sql, parameters).fetchall()[0][0]

    def _atom(self, index: int, where: plans.Where, context: _Context) -> Any:
        if where.is_current and context.row >= 0:
            return self.values[context.row][index]
        rows = context.of(where.variable, self._variables)
        if len(rows) <= where.offset:
            return self.empty[index]
        return self.values[rows[where.offset if where.first else -1 - where.offset]][index]

    def _logic(self, node: plans.Logic, context: _Context) -> Any:
        decides = node.operator == "OR"
        left = self.value(node.left, context)
        if left is decides:
            return decides
        right = self.value(node.right, context)
        if right is decides:
            return decides
        return None if left is None or right is None else not decides

    def _total(self, node: plans.Total, context: _Context) -> Any:
        rows = context.of(node.variable, self._variables)
        if node.fast is None:
            return self._aggregate(node, rows)
        values = [value for row in rows if (value := self.values[row][node.atom]) is not None]
        if node.fast == "COUNT":
            return len(values)
        if not values:
            return None
        if node.fast in ("MIN", "MAX"):
            return min(values) if node.fast == "MIN" else max(values)
        total = values[0]
        for value in values[1:]:
            total += value
        if node.fast == "SUM":
            return wrapped(total, node.bits) if node.bits else total
        if not node.bits:
            return total / len(values)
        total = wrapped(total, 64)
        quotient = abs(total) // len(values)
        return quotient if total >= 0 else -quotient

    def _aggregate(self, node: plans.Total, rows: list[int]) -> Any:
        cells = [f"unnest(?::{of.duckdb}[]) AS {quoted(name)}" for name, of, _ in node.atoms]
        cells.append(f"unnest(?::BIGINT[]) AS {NUMBER}")
        lists: list[Any] = [[self.values[row][index] for row in rows] for _, _, index in node.atoms]
        return self._ask(
            f"SELECT {node.aggregate.whole} FROM (SELECT {', '.join(cells)})", [*lists, list(range(len(rows)))]
        )


# -- the operator ----------------------------------------------------------------------------------------------------


class MatchOperator:
    """One row per match: partitions in the order of their keys' texts, each one's matches as they are found."""

    def __init__(self, name: str, node: Match, input: Input) -> None:
        if input.changes is Changes.UPDATES:
            raise NotSupported("MATCH_RECOGNIZE over a relation whose rows change is not supported.")
        self.name = name
        self.inputs: Sequence[Input] = (input,)
        self.counts = Counts()
        self._input = input
        self._node = node
        self._program: plans.Program = node.program
        self._is_event = node.time_kind == "event"
        self._columns = [(quoted(column.name), column.type.duckdb) for column in input.columns]
        hidden = [(NUMBER, "BIGINT"), (_PLACE, "BIGINT"), (_TIME, "BIGINT"), (_AT, "TIMESTAMP"), (_KEY, "VARCHAR")]
        self._rows = StateTable(f"{name}_rows", [*self._columns, *hidden, ('"$$o"', "BOOLEAN")])
        self._saved = StateTable(f"{name}_partials", [(_KEY, "VARCHAR"), ('"$$s"', "VARCHAR")])
        self._new = quoted(f"{name}_new")
        self._evaluator = Evaluator(self._program)
        self._matcher = Matcher(self._program, self._takes)
        self._alone = [self._alone_atom(variable.condition) for variable in self._program.variables]
        self._partitions: dict[str, Partition] = {}
        self._next = 0
        self._least_ms: int | None = None

    @staticmethod
    def _alone_atom(condition: plans.Expression | None) -> int | None:
        """The atom that a condition is, if it looks at its row alone."""
        if isinstance(condition, plans.Atom) and condition.where.is_current:
            return condition.index
        return None

    def _takes(self, variable: int, path: Any, row: int) -> bool:
        alone = self._alone[variable]
        if alone is not None:
            return self._evaluator.values[row][alone] is True
        condition = self._program.variables[variable].condition
        if condition is None:
            return True
        # Totals and rows counted from the first see the row as one more of its variable.
        context = _Context([*rows_of(path), (variable, row)], row)
        return self._evaluator.value(condition, context) is True

    # -- state -------------------------------------------------------------------------------------------------------

    def open(self, database: duckdb.DuckDBPyConnection) -> None:
        self._database = database
        self._evaluator.database = database
        self._rows.open(database)
        self._saved.open(database)
        self._next = self._rows.one(f"SELECT coalesce(max({_PLACE}) + 1, 0) FROM {self._rows.sql}")
        nulls = ", ".join(f"NULL::{of} AS {name}" for name, of in self._columns) or "1 AS one"
        empty = f"SELECT {self._atoms(is_empty=True)} FROM (SELECT {nulls})"
        self._evaluator.empty = database.execute(empty).fetchall()[0]
        columns = ", ".join(f"NULL::{column.type.duckdb} AS {quoted(column.name)}" for column in self._node.columns)
        self._schema = table_of(database, f"SELECT {columns} LIMIT 0").schema
        self._read('"$$o"')
        for key, text in database.execute(f'SELECT {_KEY}, "$$s" FROM {self._saved.sql}').fetchall():
            self._partitions[key] = self._restored(json.loads(text))
        self._look()

    def _look(self) -> None:
        asked = f'SELECT min({_TIME}) FROM {self._rows.sql} WHERE NOT "$$o"'
        self._least_ms = self._database.execute(asked).fetchall()[0][0]

    def _atoms(self, *, is_empty: bool = False) -> str:
        texts = [bound.sql for bound in self._program.atoms]
        texts += [quoted(name) for name in self._node.partition]
        times = ["NULL", "NULL"] if is_empty else [f"make_timestamp({_TIME} * 1000)", _AT]
        return ", ".join(f'{text} AS "$$a{index}"' for index, text in enumerate([*texts, *times]))

    def _read(self, condition: str, order: str = "") -> list[tuple[str, int, int]]:
        """Keeps the values of those rows; their (partition, place, time)."""
        asked = f"SELECT {_KEY}, {_PLACE}, {_TIME}, {self._atoms()} FROM {self._rows.sql} WHERE {condition}{order}"
        table = table_of(self._database, asked)
        keys, places, times, *values = (column.to_pylist() for column in table.columns)
        self._evaluator.values.update(zip(places, zip(*values, strict=True), strict=True))
        return list(zip(keys, places, times, strict=True))

    def _saved_text(self, partition: Partition) -> str:
        def saved(partials: Heap) -> list[Any]:
            return [[each.state, each.start, each.start_ms, rows_of(each.path)] for each in partials.items]

        orders = list(partition.orders.items())
        return json.dumps([partition.taken, orders, saved(partition.partials), saved(partition.complete)])

    def _restored(self, saved: list[Any]) -> Partition:
        def heap(items: list[Any]) -> Heap:
            found = []
            for state, start, start_ms, rows in items:
                path: Any = None
                for variable, row in rows:
                    path = (path, variable, row)
                found.append(Partial(state, path, start, start_ms))
            return Heap(found)

        taken, orders, partials, complete = saved
        return Partition(heap(partials), heap(complete), taken, dict(orders))

    # -- a tick ------------------------------------------------------------------------------------------------------

    def step(self, tick: Tick) -> pa.Table | None:
        if self._input.has_rows:
            self._take()
        limit_ms = tick.watermark_ms if self._is_event else END_MS
        clock_ms = tick.clock_ms(self._node.time_kind)
        found: list[tuple[str, int, Any]] = []
        changed: set[str] = set()
        if self._least_ms is not None and self._least_ms <= limit_ms:
            order = ", ".join(
                [_TIME if self._is_event else NUMBER, *ordering_sql(self._program.ordering), NUMBER, _PLACE]
            )
            due = self._read(f'NOT "$$o" AND {_TIME} <= {limit_ms}', f" ORDER BY {_KEY}, {order}")
            found, changed = self._run(due)
        for key, partition in self._partitions.items():
            if partition.complete.items and (freed := self._matcher.advance(partition, clock_ms)):
                found += [(key, row, path) for path in freed for row in (path[2],)]
                changed.add(key)
        rows = self._measured(found)
        if changed:
            self._save(changed, limit_ms)
        return rows

    def _take(self) -> None:
        time = f"epoch_ms({self._node.time.sql})" if self._is_event else f"epoch_ms({ARRIVED})"
        keys = [quoted(name) for name in self._node.partition]
        key = " || ".join(f"coalesce(length({k}::VARCHAR) || ':' || {k}::VARCHAR, '-')" for k in keys) or "''"
        place = f"{self._next} + row_number() OVER (ORDER BY {NUMBER}) - 1 AS {_PLACE}"
        names = [name for name, _ in self._columns]
        cells = [
            *names,
            NUMBER,
            place,
            f"{time} AS {_TIME}",
            f"{ARRIVED} AS {_AT}",
            f"{key} AS {_KEY}",
            'false AS "$$o"',
        ]
        late = f"{time} <= {WATERMARK}" if self._is_event else "false"
        source = f'SELECT {", ".join(cells)}, {late} AS "$$late", {WATERMARK} FROM ({self._input.sql})'
        self._database.execute(f"CREATE OR REPLACE TEMP TABLE {self._new} AS {source}")
        count = self._rows.one(f"SELECT count(*) FROM {self._new}")
        self._next += count
        taken = f'SELECT * EXCLUDE ("$$late", {WATERMARK}) FROM {self._new} WHERE NOT "$$late"'
        added = self._rows.add(taken) if count else 0
        if added < count:
            self.counts.late_rows += count - added
            self.counts.keep_late(self._database, f'SELECT * FROM {self._new} WHERE "$$late"', names)
        if added:
            self._look()

    def _run(self, due: Sequence[tuple[str, int, int]]) -> tuple[list[tuple[str, int, Any]], set[str]]:
        found: list[tuple[str, int, Any]] = []
        changed: set[str] = set()
        matcher = self._matcher
        partition, key_before, time_before = Partition(Heap()), None, None
        for key, row, time_ms in due:
            if key != key_before:
                known = self._partitions.get(key)
                if known is None:
                    known = self._partitions[key] = matcher.partition()
                partition, key_before, time_before = known, key, None
                changed.add(key)
            if time_ms != time_before:
                found += [(key, path[2], path) for path in matcher.advance(partition, time_ms)]
                time_before = time_ms
            found += [(key, row, path) for path in matcher.take(partition, row, time_ms)]
        return found, changed

    def _measured(self, found: Sequence[tuple[str, int, Any]]) -> pa.Table | None:
        if not found:
            return None
        evaluator = self._evaluator
        first = len(self._program.atoms)
        columns: list[list[Any]] = [[] for _ in self._node.columns]
        keys = len(self._node.partition)
        for _, _, path in found:
            rows = rows_of(path)
            context = _Context(rows)
            for index in range(keys):
                columns[index].append(evaluator.values[rows[0][1]][first + index])
            for index, (_, expression) in enumerate(self._program.measures):
                columns[keys + index].append(evaluator.value(expression, context))
        arrays = [pa.array(values, field.type) for values, field in zip(columns, self._schema, strict=True)]
        return pa.Table.from_arrays(arrays, schema=self._schema)

    def _save(self, changed: set[str], limit_ms: int) -> None:
        """Writes what changed, and forgets rows that no partial match has."""
        used: set[int] = set()
        states = []
        for key in changed:
            partition = self._partitions[key]
            if partition.is_idle:
                partition.orders.clear()
                del self._partitions[key]
                continue
            own = {
                row
                for heap in (partition.partials, partition.complete)
                for each in heap.items
                for _, row in rows_of(each.path)
            }
            partition.orders = {row: order for row, order in partition.orders.items() if row in own}
            states.append((key, self._saved_text(partition)))
        for partition in self._partitions.values():
            used.update(partition.orders)
        listed = pa.table({"p": pa.array(sorted(changed), pa.string())})
        self._database.register("match_changed", listed)
        self._saved.remove(f"{_KEY} IN (SELECT p FROM match_changed)")
        kept = pa.table(
            {"p": pa.array([k for k, _ in states], pa.string()), "s": pa.array([s for _, s in states], pa.string())}
        )
        self._database.register("match_changed", kept)
        if states:
            self._saved.add("SELECT p, s FROM match_changed")
        self._database.register("match_changed", pa.table({"i": pa.array(sorted(used), pa.int64())}))
        names = ", ".join([*(name for name, _ in self._columns), NUMBER, _PLACE, _TIME, _AT, _KEY])
        marked = f'SELECT {names}, ("$$o" OR {_TIME} <= {limit_ms}) AS "$$o" FROM {self._rows.sql}'
        kept_rows = f'SELECT * FROM ({marked}) WHERE NOT "$$o" OR {_PLACE} IN (SELECT i FROM match_changed)'
        self._database.execute(f"CREATE OR REPLACE TABLE {self._rows.sql} AS {kept_rows}")
        self._rows.rows = self._rows.one(f"SELECT count(*) FROM {self._rows.sql}")
        self._database.unregister("match_changed")
        values = self._evaluator.values
        self._evaluator.values = {row: values[row] for row in used}
        self._look()
