"""Operators whose results change, against the query over all rows that are there: DuckDB itself is the model."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit_sql.expressions.bound import Aggregate, Bound, Column, Partial
from streamkit_sql.plan.nodes import (
    Changes,
    GroupAggregate,
    JoinKind,
    LookupJoin,
    Ordering,
    Rank,
    RegularJoin,
    Scan,
    SetDifference,
    WindowFilterToEnd,
)
from streamkit_sql.runtime import changes as changes_module
from streamkit_sql.runtime.differences import SetDifferenceOperator
from streamkit_sql.runtime.duck import connect
from streamkit_sql.runtime.ends import EndOperator
from streamkit_sql.runtime.groups import GroupAggregateOperator
from streamkit_sql.runtime.joins import RegularJoinOperator
from streamkit_sql.runtime.lookups import LookupJoinOperator
from streamkit_sql.runtime.operator import END_MS, NO_WATERMARK_MS, Edge, Input, Operator, Tick
from streamkit_sql.runtime.ranks import RankOperator
from streamkit_sql.types import BIGINT, STRING, quoted

EPOCH = datetime.datetime.fromisoformat("1970-01-01")
Row = tuple[Any, ...]


@dataclass(frozen=True)
class Change:
    """Of input `side`: a row of (k, v, s) that comes or goes."""

    side: int
    row: Row
    weight: int = 1


@dataclass
class Bag:
    """Rows in the order in which they came; the oldest of its equals goes."""

    rows: list[tuple[Row, int]] = field(default_factory=list)

    def take(self, change: Change, number: int) -> None:
        if change.weight > 0:
            self.rows.append((change.row, number))
        else:
            del self.rows[[row for row, _ in self.rows].index(change.row)]


# -- running an operator -----------------------------------------------------------------------------------------------

KEYS = st.sampled_from([None, 1, 2, 3])
VALUES = st.sampled_from([None, -4, 0, 1, 2, 3, 9])
TEXTS = st.sampled_from([None, "", "a", "b"])
Rows = st.SearchStrategy[Row]
ROWS = st.tuples(KEYS, VALUES, TEXTS)
# Rows that differ in one column differ in the other: which of two went does not depend on what is read of them.
TWINS = ROWS.map(lambda row: (row[0], row[1], None if row[1] is None else f"t{row[1]}"))


@st.composite
def stories(draw: st.DrawFn, *, updates: tuple[bool, ...] = (True,), rows: Rows = ROWS) -> list[list[Change]]:
    """Ticks of changes in which only goes what is there."""
    bags = [Bag() for _ in updates]
    ticks: list[list[Change]] = [[]]
    for number in range(draw(st.integers(0, 24))):
        if draw(st.integers(0, 3)) == 0:
            ticks.append([])
        side = draw(st.integers(0, len(updates) - 1))
        bag = bags[side]
        if updates[side] and bag.rows and draw(st.integers(0, 2)) == 0:
            change = Change(side, draw(st.sampled_from([row for row, _ in bag.rows])), -1)
        else:
            change = Change(side, draw(rows))
        bag.take(change, number)
        ticks[-1].append(change)
    return ticks


def columns(side: int) -> tuple[Column, ...]:
    suffix = "" if side == 0 else str(side)
    return (Column(f"k{suffix}", BIGINT), Column(f"v{suffix}", BIGINT), Column(f"s{suffix}", STRING))


def source(side: int, *, updates: bool) -> tuple[Edge, Input]:
    edge = Edge(f"in_{side}")
    names = ", ".join(quoted(column.name) for column in columns(side))
    weight = ', "$w"' if updates else ""
    sql = f'SELECT {names}, "$n", "$wm", "$at"{weight} FROM {edge.name}'
    return edge, Input(sql, columns(side), Changes.UPDATES if updates else Changes.APPEND, (edge,))


def table(side: int, rows: Sequence[tuple[Row, int, int]]) -> pa.Table:
    """Of (row, number, weight)."""
    types = (pa.int64(), pa.int64(), pa.string())
    data: dict[str, Any] = {
        column.name: pa.array([row[place] for row, _, _ in rows], of)
        for place, (column, of) in enumerate(zip(columns(side), types, strict=True))
    }
    data["$n"] = pa.array([number for _, number, _ in rows], pa.int64())
    data["$wm"] = pa.array([NO_WATERMARK_MS] * len(rows), pa.int64())
    data["$at"] = pa.array([EPOCH] * len(rows), pa.timestamp("us"))
    data["$w"] = pa.array([weight for _, _, weight in rows], pa.int32())
    return pa.table(data)


Make = Callable[[Sequence[Input]], Operator]


@dataclass
class Run:
    """An operator over one input or more, and what it gave."""

    make: Make
    updates: tuple[bool, ...]
    path: Path | None = None
    outputs: list[pa.Table | None] = field(default_factory=list)
    now_ms: int = 0
    number: int = 0
    tick_number: int = 0

    def __post_init__(self) -> None:
        self._open()

    def _open(self) -> None:
        self.database = connect(self.path)
        pairs = [source(side, updates=updates) for side, updates in enumerate(self.updates)]
        self.edges = [edge for edge, _ in pairs]
        for side, edge in enumerate(self.edges):
            self.database.register(edge.name, table(side, []))
        self.operator = self.make([each for _, each in pairs])
        self.operator.open(self.database)
        self.database.execute("BEGIN")

    def commit(self) -> None:
        self.database.execute("COMMIT")
        self.database.execute("BEGIN")

    def restart(self) -> None:
        """After a commit, from the file alone."""
        assert self.path is not None
        self.database.execute("COMMIT")
        self.database.close()
        self._open()

    def tick(self, changes: Sequence[Change], *, is_last: bool = False) -> list[tuple[Row, int]]:
        """What came out, with weights (1 where there are none)."""
        numbered = list(enumerate(changes, self.number))
        self.number += len(changes)
        for side, edge in enumerate(self.edges):
            rows = [(change.row, number, change.weight) for number, change in numbered if change.side == side]
            edge.table = table(side, rows)
            self.database.register(edge.name, edge.table)
        self.tick_number += 1
        clock = END_MS if is_last else self.now_ms
        out = self.operator.step(Tick(self.tick_number, NO_WATERMARK_MS, NO_WATERMARK_MS, clock, is_last))
        self.outputs.append(out)
        return [] if out is None else weighted(out)


def weighted(out: pa.Table) -> list[tuple[Row, int]]:
    assert out.num_rows, "no rows are None"
    rows = list(zip(*(column.to_pylist() for column in out.columns), strict=True))
    if out.column_names[-1] != "$w":
        return [(row, 1) for row in rows]
    return [(row[:-1], row[-1]) for row in rows]


Model = Callable[[duckdb.DuckDBPyConnection], Sequence[Row]]


def asked(sql: str) -> Model:
    """The query over the tables t0 and t1 of what is there: k, v, s (k1, v1, s1) and n, the order of arrival."""
    return lambda database: database.execute(sql).fetchall()


def check(make: Make, updates: tuple[bool, ...], model: Model, ticks: list[list[Change]], restart_at: int = -1) -> None:
    """After each tick all that was given is what the query over all rows gives; what a tick gives is net, and at no
    point has a row gone that was not there."""
    reference = connect()
    bags = [Bag() for _ in updates]
    there: Counter[Row] = Counter()
    number = 0
    with TemporaryDirectory() as folder:
        run = Run(make, updates, Path(folder, "state.duckdb") if restart_at >= 0 else None)
        for index, changes in enumerate(ticks):
            if index == restart_at:
                run.restart()
            for change in changes:
                bags[change.side].take(change, number)
                number += 1
            out = run.tick(changes)
            weights: dict[Row, set[int]] = {}
            for row, weight in out:
                assert weight in (-1, 1)
                there[row] += weight
                assert there[row] >= 0, f"{row} went and was not there"
                weights.setdefault(row, set()).add(weight)
            assert all(len(each) == 1 for each in weights.values()), "a row went and came in one tick"
            for side, bag in enumerate(bags):
                reference.register(f"r{side}", table(side, [(row, n, 1) for row, n in bag.rows]))
                names = ", ".join(column.name for column in columns(side))
                reference.execute(f'CREATE OR REPLACE TEMP VIEW t{side} AS SELECT {names}, "$n" AS n FROM r{side}')
            assert +there == Counter(tuple(row) for row in model(reference)), f"after tick {index}"
        run.database.close()


# -- aggregates --------------------------------------------------------------------------------------------------------


def reads(name: str, of: Any = BIGINT) -> Bound:
    return Bound(quoted(name), of, frozenset({name}))


def aggregate(
    name: str, whole: str, *partials: Partial, final: str = "{0}", of: Any = BIGINT, **more: Any
) -> Aggregate:
    read = frozenset(each for each in ("v", "s") if f'"{each}"' in whole)
    return Aggregate(name, of, (), whole, tuple(partials), final if partials else "", read, **more)


COUNT = aggregate("COUNT", "count(*)", Partial("BIGINT", "count(*)", 'sum("$w")', "sum({})"))
SUM = aggregate(
    "SUM",
    'CAST(sum("v") AS BIGINT)',
    Partial("HUGEINT", 'sum("v")', 'sum("v" * "$w")', "sum({})"),
    Partial("BIGINT", 'count("v")', 'sum("$w") FILTER ("v" IS NOT NULL)', "sum({})"),
    final="CASE WHEN {1} > 0 THEN CAST({0} AS BIGINT) END",
)
MIN = aggregate("MIN", 'min("v")', Partial("BIGINT", 'min("v")', None, "min({})"))
GREATEST_TEXT = aggregate("MAX", 'max("s")', Partial("VARCHAR", 'max("s")', None, "max({})"), of=STRING)
ANY_OF = aggregate("EVERY", 'bit_or("v")', Partial("BIGINT", 'bit_or("v")', None, "bit_or({})"))
DISTINCT = aggregate("COUNT", 'count(DISTINCT "v")', distinct_of=reads("v"))
DISTINCT_SOME = aggregate("COUNT", 'count(DISTINCT "v") FILTER (WHERE ("s" = \'a\'))', distinct_of=reads("v"))
DISTINCT_SUM = aggregate("SUM", 'CAST(sum(DISTINCT "v") AS BIGINT)', distinct_of=reads("v"))
LISTED = aggregate("LISTAGG", 'string_agg("s", \',\' ORDER BY "$n")', of=STRING)
FIRST = aggregate("FIRST_VALUE", 'arg_min("v", "$n")')
LISTED_DISTINCT = aggregate("ARRAY_AGG", 'list(DISTINCT "v" ORDER BY "v")', distinct_of=reads("v"), of=STRING)
AGGREGATES = {
    "rows": COUNT,
    "total": SUM,
    "least": MIN,
    "greatest": GREATEST_TEXT,
    "bits": ANY_OF,
    "different": DISTINCT,
    "different_some": DISTINCT_SOME,
    "different_total": DISTINCT_SUM,
    "listed": LISTED,
    "first": FIRST,
}
SCAN = Scan(columns=columns(0), table="t")


def grouped(names: Sequence[str], *, keys: Sequence[str] = ("k",), **more: Any) -> GroupAggregate:
    of = {"k": BIGINT, "v": BIGINT, "s": STRING}
    calls = tuple((name, AGGREGATES[name]) for name in names)
    out = [*(Column(f"${key}", of[key]) for key in keys), *(Column(name, each.type) for name, each in calls)]
    bounds = tuple((f"${key}", reads(key, of[key])) for key in keys)
    ids = [Column(name, BIGINT) for name, _ in more.get("grouping_ids", ())]
    return GroupAggregate(
        columns=(*out, *ids), changes=Changes.UPDATES, input=SCAN, keys=bounds, aggregates=calls, **more
    )


def group_maker(node: GroupAggregate) -> Make:
    return lambda inputs: GroupAggregateOperator("groups_0", node, inputs[0])


def texts(names: Sequence[str]) -> str:
    return ", ".join(AGGREGATES[name].whole.replace('"$n"', "n") for name in names)


UNORDERED = sorted(set(AGGREGATES) - {"listed", "first"})
SUBSETS = st.lists(st.sampled_from(sorted(AGGREGATES)), min_size=1, max_size=4, unique=True)


@settings(max_examples=20, deadline=None)
@given(data=st.data(), names=SUBSETS, updates=st.booleans(), keys=st.sampled_from([("k",), ("s", "k")]))
def test_groups_are_what_group_by_over_all_rows_gives(
    data: st.DataObject, names: list[str], updates: bool, keys: tuple[str, ...]
) -> None:
    """Whatever way each aggregate has of keeping state, and wherever the input is cut or the run started again."""
    ticks = data.draw(stories(updates=(updates,), rows=TWINS if updates else ROWS))
    restart_at = data.draw(st.sampled_from([-1, -1, len(ticks) // 2]))
    model = asked(f"SELECT {', '.join(keys)}, {texts(names)} FROM t0 GROUP BY {', '.join(keys)}")
    check(group_maker(grouped(names, keys=keys)), (updates,), model, ticks, restart_at)


@settings(max_examples=10, deadline=None)
@given(data=st.data(), names=SUBSETS, updates=st.booleans())
def test_a_group_without_keys_is_there_from_its_first_row_on(
    data: st.DataObject, names: list[str], updates: bool
) -> None:
    """It stays when all rows have gone, and counts 0 then."""
    rows = ROWS.map(lambda row: (row[1], row[1], None if row[1] is None else f"t{row[1]}"))
    ticks = data.draw(stories(updates=(updates,), rows=rows))
    has_come = [bool(changes) for changes in ticks]
    seen = iter([any(has_come[: index + 1]) for index in range(len(ticks))])

    def model(database: duckdb.DuckDBPyConnection) -> Sequence[Row]:
        rows = database.execute(f"SELECT {texts(names)} FROM t0").fetchall()
        return rows if next(seen) else []

    check(group_maker(grouped(names, keys=())), (updates,), model, ticks)


@settings(max_examples=8, deadline=None)
@given(data=st.data(), updates=st.booleans())
def test_distinct_gives_each_row_once(data: st.DataObject, updates: bool) -> None:
    """A group without aggregates."""
    ticks = data.draw(stories(updates=(updates,)))
    check(group_maker(grouped([], keys=("k", "s"))), (updates,), asked("SELECT DISTINCT k, s FROM t0"), ticks)


@settings(max_examples=10, deadline=None)
@given(data=st.data(), names=st.lists(st.sampled_from(UNORDERED), max_size=3, unique=True), updates=st.booleans())
def test_each_grouping_set_has_its_groups(data: st.DataObject, names: list[str], updates: bool) -> None:
    """A key that is NULL and one that is not in the set are told apart."""
    ticks = data.draw(stories(updates=(updates,)))
    sets = ((0, 1), (1,), (0,), ())
    node = grouped(names, keys=("k", "s"), grouping_sets=sets, grouping_ids=(("g", (0, 1)), ("h", (1,))))
    parts = []
    for each, g, h in (("k, s", 0, 0), ("s", 2, 0), ("k", 1, 1), ("", 3, 1)):
        chosen = [name if name in each.split(", ") else "NULL" for name in ("k", "s")]
        group = f"GROUP BY {each}" if each else "HAVING count(*) > 0"
        parts.append(f"SELECT {', '.join([*chosen, *filter(None, [texts(names)]), str(g), str(h)])} FROM t0 {group}")
    check(group_maker(node), (updates,), asked(" UNION ALL ".join(parts)), ticks)


# -- ranks -------------------------------------------------------------------------------------------------------------


def rank_node(first: int, last: int, *, numbered: bool, partitioned: bool, descending: bool) -> Rank:
    out = columns(0) + ((Column("place", BIGINT),) if numbered else ())
    return Rank(
        columns=out, changes=Changes.UPDATES, input=SCAN, partition=(reads("k"),) if partitioned else (),
        ordering=(Ordering(reads("v"), descending, nulls_first=not descending),), first=first, last=last,
        number="place" if numbered else None,
    )  # fmt: skip


@settings(max_examples=12, deadline=None)
@given(
    data=st.data(),
    updates=st.booleans(),
    bounds=st.sampled_from([(1, 1), (1, 3), (2, 3)]),
    numbered=st.booleans(),
    partitioned=st.booleans(),
    descending=st.booleans(),
)
def test_the_first_rows_are_those_of_all_rows_and_ties_stand_as_they_came(
    data: st.DataObject, updates: bool, bounds: tuple[int, int], numbered: bool, partitioned: bool, descending: bool
) -> None:
    """Top-N of each partition, with and without the number, also from the second on."""
    ticks = data.draw(stories(updates=(updates,)))
    node = rank_node(*bounds, numbered=numbered, partitioned=partitioned, descending=descending)
    order = "v DESC NULLS LAST" if descending else "v NULLS FIRST"
    partition = "PARTITION BY k" if partitioned else ""
    ranked = f"SELECT k, v, s, row_number() OVER ({partition} ORDER BY {order}, n) AS place FROM t0"
    model = asked(
        f"SELECT k, v, s{', place' if numbered else ''} FROM ({ranked}) WHERE place BETWEEN {bounds[0]} AND {bounds[1]}"
    )
    restart_at = data.draw(st.sampled_from([-1, -1, len(ticks) // 2]))
    check(lambda inputs: RankOperator("ranks_0", node, inputs[0]), (updates,), model, ticks, restart_at)


def test_a_partition_never_keeps_more_rows_than_can_matter() -> None:
    """Over an input that only grows, the state of a top-3 is three rows a partition."""
    node = rank_node(1, 3, numbered=True, partitioned=True, descending=True)
    run = Run(lambda inputs: RankOperator("ranks_0", node, inputs[0]), (False,))
    for value in range(20):
        run.tick([Change(0, (key, value, "a")) for key in (1, 2, None)])
        most = run.database.execute("SELECT max(c) FROM (SELECT count(*) AS c FROM ranks_0_rows GROUP BY k)").fetchall()
        assert most[0][0] <= 3


def test_keeping_the_first_row_by_arrival_only_adds_rows() -> None:
    """Its output has no weights: what was given stays."""
    node = replace(
        rank_node(1, 1, numbered=False, partitioned=True, descending=False),
        changes=Changes.APPEND,
        ordering=(Ordering(Bound('"$at"', BIGINT), descending=False, nulls_first=True),),
    )
    node = replace(node, ordering=(Ordering(Bound('epoch_ms("$at")', BIGINT), descending=False, nulls_first=True),))
    run = Run(lambda inputs: RankOperator("ranks_0", node, inputs[0]), (False,))
    assert run.tick([Change(0, (1, 5, "a")), Change(0, (1, 4, "a")), Change(0, (2, 3, "b"))]) == [
        ((1, 5, "a"), 1),
        ((2, 3, "b"), 1),
    ]
    assert run.tick([Change(0, (1, 0, "a")), Change(0, (3, 0, "b"))]) == [((3, 0, "b"), 1)]
    assert run.outputs[-1] is not None
    assert run.outputs[-1].column_names == ["k", "v", "s"]


# -- joins -------------------------------------------------------------------------------------------------------------

KINDS: tuple[JoinKind, ...] = ("INNER", "LEFT", "RIGHT", "FULL", "SEMI", "ANTI")


def join_node(kind: JoinKind, updates: tuple[bool, ...], *, keyed: bool, residual: bool, **more: Any) -> RegularJoin:
    out = columns(0) + (() if kind in ("SEMI", "ANTI") else columns(1))
    is_append = not any(updates) and kind in ("INNER", "SEMI")
    condition = Bound('("v" <= "v1")', BIGINT, frozenset({"v", "v1"}))
    return RegularJoin(
        columns=out, changes=Changes.APPEND if is_append else Changes.UPDATES, left=SCAN,
        right=Scan(columns=columns(1), table="u"), kind=kind, left_keys=(reads("k"),) if keyed else (),
        right_keys=(reads("k1"),) if keyed else (), residual=condition if residual else None, **more,
    )  # fmt: skip


def join_maker(node: RegularJoin) -> Make:
    return lambda inputs: RegularJoinOperator("joins_0", node, inputs[0], inputs[1])


@settings(max_examples=20, deadline=None)
@given(
    data=st.data(),
    kind=st.sampled_from(KINDS),
    updates=st.tuples(st.booleans(), st.booleans()),
    keyed=st.booleans(),
    residual=st.booleans(),
)
def test_joined_rows_are_those_of_all_rows(
    data: st.DataObject, kind: JoinKind, updates: tuple[bool, bool], keyed: bool, residual: bool
) -> None:
    """All kinds, either side changing, with further conditions, without keys; NULL keys match nothing."""
    ticks = data.draw(stories(updates=updates))
    on = " AND ".join(["k = k1"] * keyed + ["v <= v1"] * residual) or "true"
    exists = f"EXISTS (SELECT 1 FROM t1 WHERE {on})"
    if kind in ("SEMI", "ANTI"):
        model = asked(f"SELECT k, v, s FROM t0 WHERE {'' if kind == 'SEMI' else 'NOT '}{exists}")
    else:
        model = asked(f"SELECT k, v, s, k1, v1, s1 FROM t0 {kind} JOIN t1 ON {on}")
    restart_at = data.draw(st.sampled_from([-1, -1, -1, len(ticks) // 2]))
    check(join_maker(join_node(kind, updates, keyed=keyed, residual=residual)), updates, model, ticks, restart_at)


# -- set operations ----------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(
    data=st.data(), kind=st.sampled_from(["INTERSECT", "EXCEPT"]), is_all=st.booleans(),
    updates=st.tuples(st.booleans(), st.booleans()),
)  # fmt: skip
def test_set_operations_count_rows_on_both_sides(
    data: st.DataObject, kind: Any, is_all: bool, updates: tuple[bool, bool]
) -> None:
    """With and without ALL; NULL is equal to NULL."""
    ticks = data.draw(stories(updates=updates))
    node = SetDifference(
        columns=columns(0), changes=Changes.UPDATES, left=SCAN, right=Scan(columns=columns(1), table="u"), kind=kind,
        all=is_all,
    )  # fmt: skip
    model = asked(f"SELECT k, v, s FROM t0 {kind}{' ALL' if is_all else ''} SELECT k1, v1, s1 FROM t1")
    check(lambda inputs: SetDifferenceOperator("set_0", node, *inputs), updates, model, ticks)


# -- lookups and ends --------------------------------------------------------------------------------------------------


class Reference:
    """A reference table that can be changed."""

    def __init__(self, *rows: tuple[int | None, str]) -> None:
        self.set(*rows)

    def set(self, *rows: tuple[int | None, str]) -> None:
        self.table = pa.table(
            {"id": pa.array([each[0] for each in rows], pa.int64()), "title": pa.array([each[1] for each in rows])}
        )

    def lookup(self, table: str, names: tuple[str, ...]) -> pa.Table:
        assert table == "titles"
        return self.table.select(list(names))


def lookup_node(kind: Any, changes: Changes = Changes.APPEND) -> LookupJoin:
    added = (Column("id0", BIGINT), Column("title0", STRING))
    return LookupJoin(
        columns=(Column("k", BIGINT), Column("title0", STRING)), changes=changes, left=SCAN, table="titles",
        table_columns=added, table_names=("id", "title"), kind=kind, left_keys=(reads("k"),),
        right_keys=(reads("id0"),),
        residual=Bound("(\"title0\" <> 'no')", BIGINT, frozenset({"title0"})),
    )  # fmt: skip


def test_a_lookup_takes_the_table_as_it_is_when_the_row_comes() -> None:
    """In the order of arrival, then of the table; NULL keys match nothing; LEFT pads."""
    reference = Reference((1, "x"), (None, "null"), (1, "y"), (2, "no"))
    run = Run(lambda inputs: LookupJoinOperator("lookups_0", lookup_node("LEFT"), inputs[0], reference), (False,))
    rows = [Change(0, (key, 0, "")) for key in (2, 1, None)]
    assert run.tick(rows) == [((2, None), 1), ((1, "x"), 1), ((1, "y"), 1), ((None, None), 1)]
    reference.set((2, "z"))
    assert run.tick(rows) == [((2, "z"), 1), ((1, None), 1), ((None, None), 1)]
    inner = Run(lambda inputs: LookupJoinOperator("lookups_0", lookup_node("INNER"), inputs[0], reference), (False,))
    assert inner.tick(rows) == [((2, "z"), 1)]
    assert inner.tick([]) == []


def test_a_lookup_of_changing_rows_gives_net_changes() -> None:
    """Rows that differ only in what is not read of them take each other back."""
    reference = Reference((1, "x"))
    node = lookup_node("INNER", Changes.UPDATES)
    run = Run(lambda inputs: LookupJoinOperator("lookups_0", node, inputs[0], reference), (True,))
    assert run.tick([Change(0, (1, 0, "")), Change(0, (1, 1, ""))]) == [((1, "x"), 1)] * 2
    assert run.tick([Change(0, (1, 0, ""), -1), Change(0, (1, 2, ""))]) == []
    assert run.tick([Change(0, (1, 1, ""), -1)]) == [((1, "x"), -1)]


@settings(max_examples=10, deadline=None)
@given(data=st.data(), updates=st.booleans(), limit=st.sampled_from([None, 0, 2]), offset=st.sampled_from([0, 1]))
def test_the_end_gives_the_rows_in_order(data: st.DataObject, updates: bool, limit: int | None, offset: int) -> None:
    """Nothing before it; equal rows as they came."""
    ticks = data.draw(stories(updates=(updates,)))
    changes = Changes.UPDATES if updates else Changes.APPEND
    ordering = (Ordering(reads("v"), descending=True, nulls_first=False),)
    node = WindowFilterToEnd(
        columns=columns(0), changes=changes, input=SCAN, ordering=ordering, limit=limit, offset=offset
    )
    run = Run(lambda inputs: EndOperator("ends_0", node, inputs[0]), (updates,))
    bag = Bag()
    number = 0
    for each in ticks:
        for change in each:
            bag.take(change, number)
            number += 1
        assert run.tick(each) == []
    ordered = sorted(bag.rows, key=lambda each: (each[0][1] is None, -(each[0][1] or 0), each[1]))
    stop = None if limit is None else offset + limit
    assert run.tick([], is_last=True) == [(row, 1) for row, _ in ordered[offset:stop]]


# -- time to live, garbage, repeatability ------------------------------------------------------------------------------


def test_a_group_that_nothing_touched_for_its_time_to_live_begins_anew() -> None:
    """
    ms      0        60          100                160
            k=1      k=2         k=1 is forgotten   k=2 is forgotten
    """
    node = grouped(["rows", "different", "different_total", "listed"], ttl_ms=100)
    run = Run(group_maker(node), (True,))
    assert run.tick([Change(0, (1, 5, "a"))]) == [((1, 1, 1, 5, "a"), 1)]
    run.now_ms = 60
    assert run.tick([Change(0, (2, 5, "b"))]) == [((2, 1, 1, 5, "b"), 1)]
    run.now_ms = 100
    # No retraction: whoever reads this replaces by key, as Flink's readers do.
    assert run.tick([Change(0, (1, 5, "c")), Change(0, (2, 6, "d"))]) == [
        ((1, 1, 1, 5, "c"), 1),
        ((2, 1, 1, 5, "b"), -1),
        ((2, 2, 2, 11, "b,d"), 1),
    ]
    run.now_ms = 500
    assert run.tick([Change(0, (2, 6, "d"), -1)]) == [], "a row that goes from a forgotten group changes nothing"
    for name in ("groups", "counted1", "values0", "rows"):
        assert run.database.execute(f"SELECT count(*) FROM groups_0_{name}").fetchall() == [(0,)]


def test_time_does_not_jump_for_a_time_to_live_when_input_ends() -> None:
    """The last tick's clock is the end of time, which is nobody's processing time."""
    run = Run(group_maker(grouped(["rows"], ttl_ms=100)), (False,))
    run.tick([Change(0, (1, 5, "a"))])
    assert run.tick([Change(0, (1, 5, "a"))], is_last=True) == [((1, 1), -1), ((1, 2), 1)]


def test_rows_of_a_join_are_forgotten_each_side_by_its_own_time() -> None:
    """Pairs that were given stay; what comes later finds only what is still remembered."""
    node = join_node("INNER", (False, False), keyed=True, residual=False, left_ttl_ms=100, right_ttl_ms=1_000)
    run = Run(join_maker(node), (False, False))
    left, right = (1, 5, "l"), (1, 6, "r")
    assert run.tick([Change(0, left), Change(1, right)]) == [((*left, *right), 1)]
    run.now_ms = 100
    assert run.tick([Change(1, right)]) == []
    assert run.tick([Change(0, left)]) == [((*left, *right), 1)] * 2


def test_forgotten_rows_of_set_operations_and_ranks_count_no_more() -> None:
    """INTERSECT waits no longer than that for the other side; a partition begins anew."""
    node = SetDifference(
        columns=columns(0), changes=Changes.UPDATES, left=SCAN, right=Scan(columns=columns(1), table="u"),
        kind="INTERSECT", all=False, ttl_ms=100,
    )  # fmt: skip
    run = Run(lambda inputs: SetDifferenceOperator("set_0", node, *inputs), (False, False))
    run.tick([Change(0, (1, 1, "a"))])
    run.now_ms = 100
    assert run.tick([Change(1, (1, 1, "a"))]) == []
    assert run.tick([Change(0, (1, 1, "a"))]) == [((1, 1, "a"), 1)]
    first = replace(rank_node(1, 1, numbered=False, partitioned=True, descending=True), ttl_ms=100)
    run = Run(lambda inputs: RankOperator("ranks_0", first, inputs[0]), (False,))
    run.tick([Change(0, (1, 9, "a"))])
    run.now_ms = 100
    assert run.tick([Change(0, (1, 2, "b"))]) == [((1, 2, "b"), 1)]


MAKERS: dict[str, tuple[Make, tuple[bool, ...]]] = {
    "groups": (group_maker(grouped(["rows", "total", "different", "least", "listed"])), (True,)),
    "ranks": (
        lambda inputs: RankOperator(
            "ranks_0", rank_node(1, 2, numbered=True, partitioned=True, descending=True), inputs[0]
        ),
        (True,),
    ),
    "joins": (join_maker(join_node("FULL", (True, True), keyed=True, residual=True)), (True, True)),
}


@settings(max_examples=12, deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(MAKERS)))
def test_the_same_story_gives_the_same_rows_in_the_same_order(data: st.DataObject, name: str) -> None:
    """Also where one of the runs was started again in its middle."""
    make, updates = MAKERS[name]
    ticks = data.draw(stories(updates=updates))
    restart_at = data.draw(st.integers(0, len(ticks) - 1))
    with TemporaryDirectory() as folder:
        plain, restarted = Run(make, updates), Run(make, updates, Path(folder, "state.duckdb"))
        for index, changes in enumerate(ticks):
            if index == restart_at:
                restarted.restart()
            plain.tick(changes)
            restarted.tick(changes)
        restarted.database.close()
        assert plain.outputs == restarted.outputs


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_what_came_and_went_leaves_no_garbage(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """State tables do not grow by rows that are deleted again, however many there were."""
    monkeypatch.setattr(changes_module, "GARBAGE_ROWS_MIN", 500)
    make, updates = MAKERS[name]
    run = Run(make, updates)
    rows = [Change(side, (key, key, "a")) for key in range(200) for side in range(len(updates))]
    for _ in range(12):
        run.tick(rows)
        run.tick([replace(change, weight=-1) for change in rows])
        run.commit()
    tables = run.database.execute("SELECT table_name FROM duckdb_tables() WHERE NOT temporary").fetchall()
    assert tables
    for (table_name,) in tables:
        assert run.database.execute(f"SELECT count(*) FROM {table_name}").fetchall() == [(0,)]
        # The next row's id, once it is committed, is the number of rows stored, deleted ones included.
        run.database.execute(f"INSERT INTO {table_name} DEFAULT VALUES")
        run.commit()
        assert run.database.execute(f"SELECT max(rowid) FROM {table_name}").fetchall()[0][0] <= 1_000
