"""GROUP BY over all that came: one row of state a group, and the change of the groups a tick touches.

Each aggregate has its state in one of four ways, the first that fits:

| way | for | state |
|---|---|---|
| merged | what can be merged and, where rows go, taken back | its accumulators |
| counted | COUNT(DISTINCT x) | a number, and a table of (group, value, how often) |
| of values | MIN and MAX where rows go, other DISTINCT ones | its result, and a table of (group, values, how often) |
| of rows | the rest: what depends on each row or on their order | its result, and the group's rows |

The last two are computed anew for the groups a tick touches. The group's row holds what was last given, so that its
retraction is what was given, and a group whose result is the same gives nothing.

Grouping sets are taken apart as Flink's `Expand` does: a row counts once for each set, with the set's number as a key.

**Time to live** is of a group: with the group all its values and rows are forgotten. (Flink keeps a time for each
distinct value, too.) A row that goes from a forgotten group changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from streamkit_sql.expressions.bound import ARRIVAL_ORDER, Aggregate
from streamkit_sql.plan.nodes import NUMBER, WEIGHT, Changes, GroupAggregate
from streamkit_sql.runtime.changes import PLACE, Lifetime, StateTable, oldest, same
from streamkit_sql.runtime.duck import table_of
from streamkit_sql.runtime.operator import Counts, Input, Tick
from streamkit_sql.runtime.partials import filled
from streamkit_sql.types import quoted

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_COUNT: Final = '"$$count"'
_SET: Final = '"$$set"'
_ROW: Final = '"$$row"'
_VALUE: Final = '"$$v"'
_FIRST: Final = '"$$n"'
_COUNTED: Final = re.compile(
    r"(?:CAST\()?count\(DISTINCT (?P<value>.*?)\)(?: FILTER \(WHERE (?P<filter>.*)\))?(?: AS BIGINT\))?", re.S | re.I
)
_BY_VALUE: Final = ("MIN", "MAX")
_PAIRS: Final = {
    "sum({})": "coalesce({0} + {1}, {0}, {1})",
    "min({})": "least({0}, {1})",
    "max({})": "greatest({0}, {1})",
}
"""Merging two accumulators without an aggregate."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """A column of a group's row: an accumulator, or a result."""

    name: str
    type: str
    of_delta: str  # an aggregate over the tick's rows; empty where the change is computed apart
    merge: str  # empty: the new one takes the old one's place


def _old(name: str) -> str:
    return quoted("$$was" + name.strip('"'))


class _Values:
    """Distinct values (or rows of columns) of each group and how often they are there; over rows that only come,
    that they are there."""

    def __init__(
        self, name: str, keys: Sequence[tuple[str, str]], values: Sequence[tuple[str, str]], updates: bool
    ) -> None:
        self.keys = [key for key, _ in keys]
        self.values = [value for value, _ in values]
        self.updates = updates
        count = [(_COUNT, "BIGINT")] if updates else []
        self.table = StateTable(name, [*keys, *values, *count])
        self.changed = quoted(f"{name}_changed")

    def take(self, database: duckdb.DuckDBPyConnection, source: str) -> None:
        """`source` has keys, values and `$w`. `changed` has the values that were not there before (`$w` 1) or are not
        there any more (-1)."""
        names = [*self.keys, *self.values]
        grouped = ", ".join(names)
        if not self.updates:
            new = f"SELECT DISTINCT {grouped} FROM {source}"
            missing = f"({new}) AS d ANTI JOIN {self.table.sql} AS s ON {same('d', 's', names)}"
            select = f"SELECT {grouped}, 1::BIGINT AS {WEIGHT} FROM {missing}"
            database.execute(f"CREATE OR REPLACE TEMP TABLE {self.changed} AS {select}")
            self.table.add(f"SELECT {grouped} FROM {self.changed}")
            return
        weight = f"CAST(sum({WEIGHT}) AS BIGINT) AS {WEIGHT}"
        sums = f"SELECT {grouped}, {weight} FROM {source} GROUP BY {grouped} HAVING sum({WEIGHT}) <> 0"
        now = f"greatest(coalesce(s.{_COUNT}, 0) + d.{WEIGHT}, 0)"
        moved = f"sign({now}) - sign(coalesce(s.{_COUNT}, 0))"
        cells = [
            *(f"d.{name}" for name in names),
            f"s.rowid AS {_ROW}",
            f"{now} AS {_COUNT}",
            f"CAST({moved} AS BIGINT) AS {WEIGHT}",
        ]
        joined = f"({sums}) AS d LEFT JOIN {self.table.sql} AS s ON {same('d', 's', names)}"
        database.execute(f"CREATE OR REPLACE TEMP TABLE {self.changed} AS SELECT {', '.join(cells)} FROM {joined}")
        known = f"SELECT {_ROW} FROM {self.changed} WHERE {_ROW} IS NOT NULL"
        self.table.replace(known, f"SELECT {grouped}, {_COUNT} FROM {self.changed} WHERE {_COUNT} > 0")


class _Rows:
    """The rows of each group, in the order in which they came; what goes takes away the oldest of its equals."""

    def __init__(
        self, name: str, keys: Sequence[tuple[str, str]], values: Sequence[tuple[str, str]], updates: bool
    ) -> None:
        self.names = [name for name, _ in (*keys, *values)]
        self.updates = updates
        self.table = StateTable(name, [*keys, *values, (NUMBER, "BIGINT"), (PLACE, "BIGINT")])
        self._next = 0

    def open(self, database: duckdb.DuckDBPyConnection) -> None:
        self.table.open(database)
        self._next = self.table.one(f"SELECT coalesce(max({PLACE}) + 1, 0) FROM {self.table.sql}")

    def take(self, source: str) -> None:
        names = ", ".join(self.names)
        where = f" WHERE {WEIGHT} > 0" if self.updates else ""
        place = f"{self._next} + row_number() OVER () - 1"
        self._next += self.table.add(f"SELECT {names}, {NUMBER}, {place} FROM {source}{where}")
        if self.updates:
            self.table.remove_rows(oldest(self.table.sql, source, self.names))


class GroupAggregateOperator:
    """Changes are in the order in which the groups' first rows of the tick came, a group's old row before its new one.
    Without keys the group stays when it has had a row, with COUNT 0 when all have gone."""

    def __init__(self, name: str, node: GroupAggregate, input: Input) -> None:
        self.name = name
        self.inputs: Sequence[Input] = (input,)
        self.counts = Counts()
        self._node = node
        self._input = input
        self._updates = input.changes is Changes.UPDATES
        self._lifetime = Lifetime(node.ttl_ms)
        self._is_global = not node.keys and node.grouping_sets is None
        keys = [(f'"$$k{index}"', bound.type.duckdb) for index, (_, bound) in enumerate(node.keys)]
        self._keys = [*keys, *([] if node.grouping_sets is None else [(_SET, "INTEGER")])]
        self._stored: list[_Stored] = []
        self._finals: list[str] = []  # texts over the stored columns
        self._counted: list[tuple[_Stored, _Values, str]] = []  # with the text of the value
        self._of_values: dict[frozenset[str], tuple[_Values, list[tuple[_Stored, Aggregate]]]] = {}
        self._of_rows: list[tuple[_Stored, Aggregate]] = []
        self._rows: _Rows | None = None
        for index, (_, aggregate) in enumerate(node.aggregates):
            self._add(index, aggregate)
        if self._of_rows:
            read = frozenset().union(*(aggregate.columns for _, aggregate in self._of_rows))
            self._rows = _Rows(f"{name}_rows", self._keys, self._columns(read), self._updates)
        stored = [(each.name, each.type) for each in self._stored]
        self._groups = StateTable(f"{name}_groups", [*self._keys, (_COUNT, "BIGINT"), *stored, *self._lifetime.columns])
        self._source = quoted(f"{name}_source")
        self._delta = quoted(f"{name}_delta")
        self._changed = quoted(f"{name}_changed")

    def _columns(self, read: Iterable[str]) -> list[tuple[str, str]]:
        wanted = set(read)
        return [(quoted(each.name), each.type.duckdb) for each in self._input.columns if each.name in wanted]

    def _add(self, index: int, aggregate: Aggregate) -> None:
        if aggregate.is_mergeable and (aggregate.is_retractable or not self._updates):
            names = []
            for place, part in enumerate(aggregate.partials):
                of_delta = part.of_changes if self._updates else part.of_rows
                assert of_delta is not None
                names.append(f'"$$a{index}_{place}"')
                self._stored.append(_Stored(names[-1], part.type, of_delta, part.merge))
            self._finals.append(filled(aggregate.final, names))
            return
        name = f'"$$a{index}_0"'
        value = _counted_value(aggregate)
        if value is not None:
            assert aggregate.distinct_of is not None
            stored = _Stored(name, "BIGINT", "", "sum({})")
            values = self._values(f"{self.name}_counted{index}", [(_VALUE, aggregate.distinct_of.type.duckdb)])
            self._counted.append((stored, values, value))
            self._finals.append(f"coalesce({name}, 0)")
        else:
            stored = _Stored(name, aggregate.type.duckdb, "", "")
            is_set = aggregate.distinct_of is not None or aggregate.name in _BY_VALUE
            if is_set and ARRIVAL_ORDER not in aggregate.whole:
                read = aggregate.columns
                if read not in self._of_values:
                    number = len(self._of_values)
                    self._of_values[read] = (self._values(f"{self.name}_values{number}", self._columns(read)), [])
                self._of_values[read][1].append((stored, aggregate))
            else:
                self._of_rows.append((stored, aggregate))
            self._finals.append(name)
        self._stored.append(stored)

    def _values(self, name: str, values: Sequence[tuple[str, str]]) -> _Values:
        return _Values(name, self._keys, values, self._updates)

    @property
    def _value_tables(self) -> list[_Values]:
        return [*(each for _, each, _ in self._counted), *(each for each, _ in self._of_values.values())]

    def open(self, database: duckdb.DuckDBPyConnection) -> None:
        self._database = database
        self._groups.open(database)
        for values in self._value_tables:
            values.table.open(database)
        if self._rows is not None:
            self._rows.open(database)

    def step(self, tick: Tick) -> pa.Table | None:
        if self._lifetime.is_due(tick, self._groups):
            self._forget()
        if not self._input.has_rows:
            return None
        source = self._read()
        self._make(self._delta, self._of_tick(source))
        joins = [self._count(source, *each) for each in self._counted]
        joins += [self._recompute(source, values, of) for values, of in self._of_values.values()]
        if self._rows is not None:
            self._rows.take(source)
            joins.append(self._whole(self._rows.table.sql, self._of_rows))
        self._make(self._changed, self._change(joins))
        rows = table_of(self._database, self._result())
        self._store()
        return rows if rows.num_rows else None

    def _make(self, table: str, select: str) -> None:
        self._database.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS {select}")

    def _forget(self) -> None:
        keys = [key for key, _ in self._keys]
        gone = f"(SELECT * FROM {self._groups.sql} WHERE {self._lifetime.forgotten}) AS g"
        tables = [each.table for each in self._value_tables] + ([] if self._rows is None else [self._rows.table])
        for table in tables:
            table.remove_rows(f"SELECT s.rowid FROM {table.sql} AS s SEMI JOIN {gone} ON {same('s', 'g', keys)}")
        self._groups.remove(self._lifetime.forgotten)

    # -- the tick's rows ---------------------------------------------------------------------------------------------

    def _read(self) -> str:
        """The rows with their keys; in a table where they are read more than once."""
        node = self._node
        cells = [
            f"CAST({bound.sql} AS {of}) AS {key}" for (key, of), (_, bound) in zip(self._keys, node.keys, strict=False)
        ]
        rows = f"(SELECT *, {', '.join(cells)} FROM ({self._input.sql}))" if cells else f"({self._input.sql})"
        if node.grouping_sets is not None:
            chosen = []
            for index in range(len(node.keys)):
                sets = [str(number) for number, each in enumerate(node.grouping_sets) if index in each]
                is_in = f"{_SET} IN ({', '.join(sets)})" if sets else "false"
                chosen.append(f'CASE WHEN {is_in} THEN "$$k{index}" END AS "$$k{index}"')
            numbers = f"(SELECT unnest(range({len(node.grouping_sets)}))::INTEGER AS {_SET})"
            replaced = f" REPLACE ({', '.join(chosen)})" if chosen else ""
            rows = f"(SELECT *{replaced} FROM {rows}, {numbers})"
        if not (self._counted or self._of_values or self._rows):
            return rows
        self._make(self._source, f"SELECT * FROM {rows}")
        return self._source

    def _of_tick(self, source: str) -> str:
        """Per group: how many rows it gained, its first place, and the change of merged accumulators."""
        keys = [key for key, _ in self._keys]
        count = f"CAST(sum({WEIGHT}) AS BIGINT)" if self._updates else "count(*)"
        cells = [*keys, f"{count} AS {_COUNT}", f"min({NUMBER}) AS {_FIRST}"]
        cells += [f"CAST({each.of_delta} AS {each.type}) AS {each.name}" for each in self._stored if each.of_delta]
        group = f" GROUP BY {', '.join(keys)}" if keys else " HAVING count(*) > 0"
        return f"SELECT {', '.join(cells)} FROM {source}{group}"

    def _count(self, source: str, stored: _Stored, values: _Values, value: str) -> str:
        """Changes of the number of values, per group."""
        keys = ", ".join([*values.keys, ""])
        weight = WEIGHT if self._updates else f"1 AS {WEIGHT}"
        chosen = f"(SELECT {keys}{value} AS {_VALUE}, {weight} FROM {source} WHERE {value} IS NOT NULL)"
        values.take(self._database, chosen)
        group = f" GROUP BY {', '.join(values.keys)}" if values.keys else ""
        return f"SELECT {keys}CAST(sum({WEIGHT}) AS BIGINT) AS {stored.name} FROM {values.changed}{group}"

    def _recompute(self, source: str, values: _Values, of: Sequence[tuple[_Stored, Aggregate]]) -> str:
        names = ", ".join([*values.keys, *values.values, WEIGHT if self._updates else f"1 AS {WEIGHT}"])
        values.take(self._database, f"(SELECT {names} FROM {source})")
        return self._whole(values.table.sql, of)

    def _whole(self, table: str, of: Sequence[tuple[_Stored, Aggregate]]) -> str:
        """Results over all that is kept of the groups this tick touches."""
        keys = [key for key, _ in self._keys]
        cells = [*keys, *(f"{aggregate.whole} AS {stored.name}" for stored, aggregate in of)]
        touched = f"{table} AS s SEMI JOIN {self._delta} AS d ON {same('s', 'd', keys)}"
        # Without keys nothing may be left to group: an aggregate of no rows is what COUNT 0 stands beside.
        group = f" GROUP BY {', '.join(keys)}" if keys else ""
        return f"SELECT {', '.join(cells)} FROM (SELECT s.* FROM {touched}){group}"

    # -- the groups --------------------------------------------------------------------------------------------------

    def _change(self, joins: Sequence[str]) -> str:
        """Touched groups: where their row is, stored columns and results, old ones (`$$was..`) and new."""
        keys = [key for key, _ in self._keys]
        deltas = [_Stored(_COUNT, "BIGINT", "-", "sum({})"), *self._stored]
        own = [f"d.{name}" for name in [*keys, _FIRST]]
        own += [f"d.{each.name}" for each in deltas if each.of_delta]
        source = f"{self._delta} AS d"
        for index, join in enumerate(joins):
            source += f" LEFT JOIN ({join}) AS j{index} ON {same('d', f'j{index}', keys)}"
        own += [each.name for each in deltas if not each.of_delta]
        source = f"(SELECT {', '.join(own)} FROM {source}) AS d"
        cells = [*(f"d.{name}" for name in [*keys, _FIRST]), f"s.rowid AS {_ROW}"]
        for each in deltas:
            pair = "{1}" if not each.merge else _PAIRS.get(each.merge, "")
            if not pair:
                pair = f"(SELECT {filled(each.merge, ['m'])} FROM (SELECT unnest([{{0}}, {{1}}]) AS m))"
            merged = filled(pair, [f"s.{each.name}", f"d.{each.name}"])
            cells += [f"CAST({merged} AS {each.type}) AS {each.name}", f"s.{each.name} AS {_old(each.name)}"]
        joined = f"{source} LEFT JOIN {self._groups.sql} AS s ON {same('d', 's', keys)}"
        results = ["*"]
        for index, final in enumerate(self._finals):
            was = final
            for each in self._stored:
                was = was.replace(each.name, _old(each.name))
            results += [f'{final} AS "$$f{index}"', f'{was} AS "$$o{index}"']
        return f"SELECT {', '.join(results)} FROM (SELECT {', '.join(cells)} FROM {joined})"

    @property
    def _is_there(self) -> str:
        return "true" if self._is_global else f"{_COUNT} > 0"

    def _result(self) -> str:
        node = self._node
        cells = {name: f'"$$k{index}"' for index, (name, _) in enumerate(node.keys)}
        cells |= {name: self._grouping(indexes) for name, indexes in node.grouping_ids}
        numbers = {name: index for index, (name, _) in enumerate(node.aggregates)}
        sides = []
        for letter, weight, condition in (("o", -1, f"{_ROW} IS NOT NULL"), ("f", 1, self._is_there)):
            own = cells | {name: f'"$${letter}{index}"' for name, index in numbers.items()}
            chosen = [
                f"CAST({own[column.name]} AS {column.type.duckdb}) AS {quoted(column.name)}" for column in node.columns
            ]
            order = [f"{_FIRST}", *([_SET] if node.grouping_sets is not None else [])]
            hidden = [
                f"{weight}::INTEGER AS {WEIGHT}",
                *(f'{name} AS "$$by{place}"' for place, name in enumerate(order)),
            ]
            sides.append(
                f"SELECT {', '.join([*chosen, *hidden])} FROM {self._changed} WHERE {condition} AND ({self._differs})"
            )
        names = ", ".join([*(quoted(column.name) for column in node.columns), WEIGHT])
        by = ", ".join(f'"$$by{place}"' for place in range(len(order)))
        return f"SELECT {names} FROM ({' UNION ALL '.join(sides)}) ORDER BY {by}, {WEIGHT}"

    @property
    def _differs(self) -> str:
        conditions = [f'"$$f{index}" IS DISTINCT FROM "$$o{index}"' for index in range(len(self._finals))]
        return " OR ".join([f"{_ROW} IS NULL", f"NOT ({self._is_there})", *conditions])

    def _grouping(self, indexes: Sequence[int]) -> str:
        """GROUPING's bits, the first argument's the highest; 1 where the key is not in the set."""
        if self._node.grouping_sets is None:
            return "0"
        whens = []
        for number, each in enumerate(self._node.grouping_sets):
            bits = 0
            for index in indexes:
                bits = bits * 2 + (index not in each)
            whens.append(f"WHEN {number} THEN {bits}")
        return f"CASE {_SET} {' '.join(whens)} END"

    def _store(self) -> None:
        keys = [key for key, _ in self._keys]
        cells = ", ".join([*keys, _COUNT, *(each.name for each in self._stored), *self._lifetime.cells])
        known = f"SELECT {_ROW} FROM {self._changed} WHERE {_ROW} IS NOT NULL"
        self._groups.replace(known, f"SELECT {cells} FROM {self._changed} WHERE {self._is_there}")


def _counted_value(aggregate: Aggregate) -> str | None:
    """The text of what is counted, NULL where it is not, if the aggregate is a plain COUNT(DISTINCT x)."""
    if aggregate.name != "COUNT" or aggregate.distinct_of is None:
        return None
    found = _COUNTED.fullmatch(aggregate.whole)
    if found is None or found["value"] != aggregate.distinct_of.sql:
        return None
    return found["value"] if found["filter"] is None else f"(CASE WHEN {found['filter']} THEN {found['value']} END)"
