"""Operators of windows against a model that goes through rows one by one, as Flink does."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit_sql.errors import NotSupported, ValueProblem
from streamkit_sql.expressions.bound import Aggregate, Bound, Column, Partial
from streamkit_sql.plan.nodes import (
    Changes,
    JoinKind,
    Ordering,
    Scan,
    WindowAggregate,
    Windowed,
    WindowJoin,
    WindowOf,
    WindowRank,
    WindowSpec,
)
from streamkit_sql.runtime import windows as windows_module
from streamkit_sql.runtime.at_close import WindowJoinOperator, WindowRankOperator
from streamkit_sql.runtime.duck import connect
from streamkit_sql.runtime.operator import END_MS, NO_WATERMARK_MS, Edge, Input, Operator, Tick
from streamkit_sql.runtime.windows import WindowAggregateOperator, windowed_sql
from streamkit_sql.types import BIGINT, STRING, quoted, timestamp

EPOCH = datetime.datetime(1970, 1, 1)  # noqa: DTZ001 - as DuckDB gives TIMESTAMP
TS = timestamp(3)


def reads(name: str, of: Any = BIGINT) -> Bound:
    return Bound(quoted(name), of, frozenset({name}))


def count() -> Aggregate:
    return Aggregate(
        "COUNT", BIGINT, (), "count(*)", (Partial("BIGINT", "count(*)", 'sum("$w")', "sum({})"),), "CAST({0} AS BIGINT)"
    )


def total(name: str) -> Aggregate:
    part = Partial("HUGEINT", f'sum("{name}")', None, "sum({})")
    return Aggregate(
        "SUM",
        BIGINT,
        (reads(name),),
        f'CAST(sum("{name}") AS BIGINT)',
        (part,),
        "CAST({0} AS BIGINT)",
        frozenset({name}),
    )


def least(name: str) -> Aggregate:
    part = Partial("BIGINT", f'min("{name}")', None, "min({})")
    return Aggregate("MIN", BIGINT, (reads(name),), f'min("{name}")', (part,), "{0}", frozenset({name}))


def average(name: str) -> Aggregate:
    """Of BIGINT: two accumulators, truncated."""
    parts = (
        Partial("HUGEINT", f'sum("{name}")', None, "sum({})"),
        Partial("BIGINT", f'count("{name}")', None, "sum({})"),
    )
    whole = f'CAST(sum("{name}") // count("{name}") AS BIGINT)'
    return Aggregate("AVG", BIGINT, (reads(name),), whole, parts, "CAST({0} // {1} AS BIGINT)", frozenset({name}))


def distinct(name: str) -> Aggregate:
    text = f'count(DISTINCT "{name}")'
    return Aggregate("COUNT", BIGINT, (reads(name),), text, columns=frozenset({name}), distinct_of=reads(name))


def listed(name: str) -> Aggregate:
    """Cannot be merged: it depends on the order of arrival."""
    text = f'string_agg(CAST("{name}" AS VARCHAR), \',\' ORDER BY "$n")'
    return Aggregate("LISTAGG", STRING, (reads(name),), text, columns=frozenset({name}))


AGGREGATES: dict[str, tuple[Callable[[], Aggregate], Callable[[list[Row]], Any]]] = {}


@dataclass(frozen=True)
class Row:
    number: int
    time_ms: int
    key: int | None
    value: int
    watermark_ms: int


AGGREGATES.update(
    rows=(count, len),
    total=(lambda: total("v"), lambda rows: sum(row.value for row in rows)),
    least=(lambda: least("v"), lambda rows: min(row.value for row in rows)),
    average=(lambda: average("v"), lambda rows: int(sum(row.value for row in rows) / len(rows))),
    different=(lambda: distinct("v"), lambda rows: len({row.value for row in rows})),
    listed=(lambda: listed("v"), lambda rows: ",".join(str(row.value) for row in sorted(rows, key=lambda r: r.number))),
)
MERGEABLE = ("rows", "total", "least", "average")
COLUMNS = (Column("k", BIGINT), Column("v", BIGINT), Column("ts", TS, "event"))
TIME = Bound('"ts"', TS, frozenset({"ts"}), "event")


def at(ms: int) -> datetime.datetime:
    return EPOCH + datetime.timedelta(milliseconds=ms)


def table(rows: Sequence[Row]) -> pa.Table:
    return pa.table(
        {
            "k": pa.array([row.key for row in rows], pa.int64()),
            "v": pa.array([row.value for row in rows], pa.int64()),
            "ts": pa.array([at(row.time_ms) for row in rows], pa.timestamp("us")),
            "$n": pa.array([row.number for row in rows], pa.int64()),
            "$wm": pa.array([row.watermark_ms for row in rows], pa.int64()),
            "$at": pa.array([at(row.time_ms) for row in rows], pa.timestamp("us")),
        }
    )


def arrivals(rows: Iterable[tuple[int, int | None, int]], bound_ms: int) -> list[Row]:
    """Rows of (time, key, value) with the watermark each comes under: the greatest time before it, less a bound."""
    made = []
    watermark_ms = NO_WATERMARK_MS
    for number, (time_ms, key, value) in enumerate(rows):
        made.append(Row(number, time_ms, key, value, watermark_ms))
        watermark_ms = max(watermark_ms, time_ms - bound_ms)
    return made


def cut(rows: Sequence[Row], places: Sequence[int]) -> list[list[Row]]:
    bounds = [0, *sorted({place % (len(rows) + 1) for place in places}), len(rows)]
    return [list(rows[start:stop]) for start, stop in pairwise(bounds)]


@cache
def _shared() -> duckdb.DuckDBPyConnection:
    return connect()


class Driver:
    """Gives ticks to an operator, as an engine does."""

    def __init__(self, operator: Operator, edges: Sequence[Edge], bound_ms: int, path: Path | None = None) -> None:
        self.operator = operator
        self.edges = edges
        self.bound_ms = bound_ms
        self.database = _shared() if path is None else connect(path)
        if path is None:
            with suppress(duckdb.TransactionException):  # of an example that failed
                self.database.execute("ROLLBACK")
        self.database.execute("BEGIN")
        self.watermark_ms = NO_WATERMARK_MS
        self.arrived_ms = NO_WATERMARK_MS
        self.rows: list[tuple[Any, ...]] = []
        operator.open(self.database)

    def tick(self, *sides: Sequence[Row], last: bool = False) -> list[tuple[Any, ...]]:
        before = self.watermark_ms
        for edge, rows in zip(self.edges, sides, strict=True):
            edge.table = table(rows) if rows else None
            if rows:
                self.database.register(edge.name, edge.table)
            for row in rows:
                self.watermark_ms = max(self.watermark_ms, row.time_ms - self.bound_ms, row.watermark_ms)
                self.arrived_ms = max(self.arrived_ms, row.time_ms)
        if last:
            self.watermark_ms = self.arrived_ms = END_MS
        out = self.operator.step(Tick(1, self.watermark_ms, before, self.arrived_ms, last))
        assert out is None or out.num_rows
        found = [] if out is None else list(zip(*(column.to_pylist() for column in out.columns), strict=True))
        self.rows += found
        return found

    def close(self) -> None:
        self.database.execute("ROLLBACK")

    def restarted(self, operator: Operator, path: Path) -> Driver:
        self.database.execute("COMMIT")
        self.database.close()
        again = Driver(operator, self.edges, self.bound_ms, path)
        again.watermark_ms, again.arrived_ms, again.rows = self.watermark_ms, self.arrived_ms, self.rows
        return again


def stream(name: str = "ticks", columns: tuple[Column, ...] = COLUMNS) -> tuple[Edge, Input]:
    edge = Edge(name)
    cells = ", ".join(quoted(column.name) for column in columns)
    return edge, Input(f'SELECT {cells}, "$n", "$wm", "$at" FROM {name}', columns, Changes.APPEND, (edge,))


def scan(columns: tuple[Column, ...] = COLUMNS) -> Scan:
    return Scan(columns=columns, table="t")


def aggregate_node(
    spec: WindowSpec,
    names: Sequence[str] = MERGEABLE,
    *,
    time: Literal["event", "processing"] = "event",
    keys: Sequence[str] = ("k",),
    sets: tuple[tuple[int, ...], ...] | None = None,
) -> WindowAggregate:
    ids = (("ids", tuple(range(len(keys)))),) if sets is not None else ()
    columns = (
        Column("ws", TS),
        Column("we", TS),
        *(Column(key, BIGINT) for key in keys),
        *(Column(name, BIGINT) for name in names),
        *(Column(name, BIGINT) for name, _ in ids),
    )
    return WindowAggregate(
        columns=columns,
        input=scan(),
        time=TIME if time == "event" else Bound('"$at"', TS, frozenset(), "processing"),
        time_kind=time,
        spec=spec,
        keys=tuple((key, reads(key)) for key in keys),
        aggregates=tuple((name, AGGREGATES[name][0]()) for name in names),
        outputs=(("ws", "start"), ("we", "end")),
        grouping_sets=sets,
        grouping_ids=ids,
    )


# -- the model -------------------------------------------------------------------------------------------------------


def windows_of(time_ms: int, spec: WindowSpec) -> list[tuple[int, int]]:
    """All [start, end) that hold an instant, by looking at each candidate."""
    if spec.kind == "TUMBLE":
        start = (time_ms - spec.offset_ms) // spec.size_ms * spec.size_ms + spec.offset_ms
        return [(start, start + spec.size_ms)]
    if spec.kind == "HOP":
        start = (time_ms - spec.offset_ms) // spec.step_ms * spec.step_ms + spec.offset_ms
        found = []
        while start + spec.size_ms > time_ms:
            found.append((start, start + spec.size_ms))
            start -= spec.step_ms
        return found
    start = (time_ms - spec.offset_ms) // spec.size_ms * spec.size_ms + spec.offset_ms
    ends = range(start + spec.step_ms, start + spec.size_ms + 1, spec.step_ms)
    return [(start, end) for end in ends if end > time_ms]


@dataclass
class Model:
    """Windows and their rows."""

    windows: dict[tuple[int, int, Any], list[Row]] = field(default_factory=dict)
    late: int = 0

    def put(self, start: int, end: int, key: Any, row: Row) -> None:
        self.windows.setdefault((end, start, key), []).append(row)


def sliced(rows: Sequence[Row], spec: WindowSpec) -> Model:
    model = Model()
    for row in rows:
        windows = windows_of(row.time_ms, spec)
        opened = [window for window in windows if window[1] - 1 > row.watermark_ms]
        model.late += bool(windows) and not opened
        for start, end in opened:
            model.put(start, end, row.key, row)
    return model


def sessions(rows: Sequence[Row], spec: WindowSpec) -> Model:
    model = Model()
    opened: dict[Any, list[tuple[int, int, list[Row]]]] = {}
    partitioned = bool(spec.partition)

    def fire(part: Any, watermark_ms: int) -> None:
        for start, end, members in opened.get(part, []):
            if end - 1 <= watermark_ms:
                for member in members:
                    model.put(start, end, member.key, member)
        opened[part] = [each for each in opened.get(part, []) if each[1] - 1 > watermark_ms]

    for row in rows:
        part = row.key if partitioned else 0
        fire(part, row.watermark_ms)
        start, end, members = row.time_ms, row.time_ms + spec.gap_ms, [row]
        rest = []
        for each in opened[part]:
            if each[0] <= end and start <= each[1]:
                start, end, members = min(start, each[0]), max(end, each[1]), members + each[2]
            else:
                rest.append(each)
        if end - 1 <= row.watermark_ms:
            model.late += 1
        else:
            opened[part] = [*rest, (start, end, members)]
    for part in list(opened):
        fire(part, END_MS)
    return model


def nulls_first(key: Any) -> tuple[bool, Any]:
    return (key is not None, key)


def expected(model: Model, names: Sequence[str]) -> list[tuple[Any, ...]]:
    ordered = sorted(model.windows.items(), key=lambda item: (item[0][0], item[0][1], nulls_first(item[0][2])))
    return [(at(s), at(e), k, *(AGGREGATES[name][1](rows) for name in names)) for (e, s, k), rows in ordered]


KEYS = st.one_of(st.none(), st.integers(0, 3))
EVENTS = st.lists(st.tuples(st.integers(-60, 90), KEYS, st.integers(-5, 5)), max_size=40)
CUTS = st.lists(st.integers(0, 100), max_size=8)
NAMES = st.sampled_from(
    [MERGEABLE, (*MERGEABLE, "different"), ("rows", "listed"), ("different", "listed", "total"), ()]
)
SPECS = st.one_of(
    st.builds(
        lambda size, offset: WindowSpec("TUMBLE", size, offset_ms=offset % size), st.integers(1, 20), st.integers(0, 19)
    ),
    st.builds(
        lambda size, offset: WindowSpec("TUMBLE", size, offset_ms=-(offset % size)),
        st.integers(1, 20),
        st.integers(0, 19),
    ),
    st.builds(WindowSpec, st.just("HOP"), st.integers(1, 20), st.integers(1, 20), st.integers(-30, 30)),
    st.builds(
        lambda n, step, offset: WindowSpec("HOP", n * step, step, offset),
        st.integers(1, 6),
        st.integers(1, 9),
        st.integers(-8, 8),
    ),
    st.builds(
        lambda n, step, offset: WindowSpec("CUMULATE", n * step, step, offset),
        st.integers(1, 6),
        st.integers(1, 9),
        st.integers(-8, 8),
    ),
)


def run(operator: Operator, edge: Edge, ticks: Sequence[Sequence[Row]], bound_ms: int) -> list[tuple[Any, ...]]:
    driver = Driver(operator, (edge,), bound_ms)
    for rows in ticks:
        driver.tick(rows)
    driver.tick((), last=True)
    driver.close()
    return driver.rows


@settings(max_examples=20, deadline=None)
@given(EVENTS, SPECS, CUTS, NAMES, st.integers(0, 30), st.booleans())
def test_windows_of_slices_have_the_rows_that_came_while_they_were_open(
    events: list[tuple[int, int | None, int]],
    spec: WindowSpec,
    cuts: list[int],
    names: tuple[str, ...],
    bound_ms: int,
    compacts: bool,
) -> None:
    """TUMBLE, HOP and CUMULATE: the same rows in the same order for any disorder, offset and size of ticks."""
    rows = arrivals(events, bound_ms)
    model = sliced(rows, spec)
    edge, source = stream()
    operator = WindowAggregateOperator("w", aggregate_node(spec, names), source)
    with pytest.MonkeyPatch.context() as patch:
        if compacts:
            patch.setattr(windows_module, "COMPACTED_ROWS_MIN", 3)
            patch.setattr(windows_module, "FOLDED_ROWS_MIN", 3)
            patch.setattr(windows_module, "EXPANDED_ROWS_MAX", 10)
        found = run(operator, edge, cut(rows, cuts), bound_ms)
    assert found == expected(model, names)
    assert operator.counts.late_rows == model.late


@settings(max_examples=25, deadline=None)
@given(EVENTS, st.integers(1, 15), CUTS, NAMES, st.integers(0, 30), st.booleans())
def test_sessions_merge_as_if_rows_came_one_by_one(
    events: list[tuple[int, int | None, int]],
    gap_ms: int,
    cuts: list[int],
    names: tuple[str, ...],
    bound_ms: int,
    partitioned: bool,
) -> None:
    """Also where a late row meets an open session, or misses one that has closed within the same tick."""
    spec = WindowSpec("SESSION", gap_ms=gap_ms, partition=("k",) if partitioned else ())
    rows = arrivals(events, bound_ms)
    model = sessions(rows, spec)
    edge, source = stream()
    operator = WindowAggregateOperator("w", aggregate_node(spec, names), source)
    assert run(operator, edge, cut(rows, cuts), bound_ms) == expected(model, names)
    assert operator.counts.late_rows == model.late


# -- time lines ------------------------------------------------------------------------------------------------------


def closed(spec: WindowSpec, events: Sequence[tuple[int, int | None, int]], bound_ms: int, **more: Any) -> Any:
    """The windows of rows in one tick, as (start, end, rows), and how many rows were late."""
    edge, source = stream()
    node = aggregate_node(spec, ("rows",), keys=(), **more)
    operator = WindowAggregateOperator("w", node, source)
    rows = run(operator, edge, [arrivals(events, bound_ms)], bound_ms)
    return [(ms(start), ms(end), count) for start, end, count in rows], operator.counts.late_rows


def ms(instant: datetime.datetime) -> int:
    return (instant - EPOCH) // datetime.timedelta(milliseconds=1)


def test_a_late_row_of_a_hop_counts_for_the_windows_that_are_open() -> None:
    """
    time       0    5    10   15   20
    windows   -5[--------)
                0[--------)             the watermark is at 12: both closed
                     5[--------)        open
    came                       x (12)
    then               x (8)            counts in [5, 15) alone; at 2 it is late
    """
    rows, late = closed(WindowSpec("HOP", 10, 5), [(12, 1, 0), (8, 1, 0), (2, 1, 0)], 0)
    assert rows == [(5, 15, 2), (10, 20, 1)]
    assert late == 1


def test_a_late_row_of_a_cumulate_counts_from_the_next_window_on() -> None:
    """
    time      0    5    10   15
    windows   [----)                    closed at 6
              [---------)               open
              [--------------)          open
    came            x (6)
    then       x (1)
    """
    rows, late = closed(WindowSpec("CUMULATE", 15, 5), [(6, 1, 0), (1, 1, 0)], 0)
    assert rows == [(0, 10, 2), (0, 15, 2)]
    assert late == 0


def test_a_cumulate_goes_on_giving_windows_in_which_nothing_came() -> None:
    """
    time      0    5    10   15
    came       x
    windows   [----) [----|----) [----|----|----)   one row each
    """
    assert closed(WindowSpec("CUMULATE", 15, 5), [(1, 1, 0)], 0)[0] == [(0, 5, 1), (0, 10, 1), (0, 15, 1)]


def test_windows_before_1970_begin_at_whole_steps() -> None:
    """
    time    -20       -10        0
    came           x (-11)  x (-1)
    windows  [---------)[---------)
    """
    assert closed(WindowSpec("TUMBLE", 10), [(-11, 1, 0), (-1, 1, 0)], 50)[0] == [(-20, -10, 1), (-10, 0, 1)]


def test_sessions_that_touch_are_one() -> None:
    """
    time      0         10        20        30
    came      x         x                        gap 10: [0, 10) and [10, 20)
    session   [-------------------)
    """
    assert closed(WindowSpec("SESSION", gap_ms=10), [(0, 1, 0), (10, 1, 0)], 5)[0] == [(0, 20, 2)]
    assert closed(WindowSpec("SESSION", gap_ms=10), [(0, 1, 0), (11, 1, 0)], 5)[0] == [(0, 10, 1), (11, 21, 1)]


def test_a_row_behind_the_watermark_joins_an_open_session_and_misses_a_closed_one() -> None:
    """
    time      0         10        20        30        40
    came      a (0)                    b (25)              the watermark is at 25: a's session [0, 10) is closed
    then              c (15)    [15, 25) touches b's [25, 35), which is open: they are one
    then       d (3)            [3, 13) meets nothing that is open, and is late
    """
    rows, late = closed(WindowSpec("SESSION", gap_ms=10), [(0, 1, 0), (25, 1, 0), (15, 1, 0), (3, 1, 0)], 0)
    assert rows == [(0, 10, 1), (15, 35, 2)]
    assert late == 1


def test_sessions_of_processing_time_that_touch_are_two() -> None:
    """The clock has closed the first when the second row comes."""
    spec = WindowSpec("SESSION", gap_ms=10)
    assert closed(spec, [(0, 1, 0), (9, 1, 0), (19, 1, 0)], 0, time="processing")[0] == [(0, 19, 2), (19, 29, 1)]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 60), max_size=30), CUTS, SPECS)
def test_windows_of_processing_time_lose_no_row(times: list[int], cuts: list[int], spec: WindowSpec) -> None:
    """Arrival only goes forward, and several rows may come in a window's last millisecond."""
    rows = [Row(number, time_ms, 1, 0, END_MS) for number, time_ms in enumerate(sorted(times))]
    edge, source = stream()
    operator = WindowAggregateOperator("w", aggregate_node(spec, ("rows",), time="processing"), source)
    model = sliced([replace(row, watermark_ms=NO_WATERMARK_MS) for row in rows], spec)
    assert run(operator, edge, cut(rows, cuts), 0) == expected(model, ("rows",))
    assert operator.counts.late_rows == 0


def test_a_window_closes_when_the_watermark_reaches_its_last_millisecond() -> None:
    """At end - 1, in the very tick; with processing time at the end itself."""
    edge, source = stream()
    event = Driver(
        WindowAggregateOperator("w", aggregate_node(WindowSpec("TUMBLE", 10), ("rows",)), source), (edge,), 0
    )
    assert event.tick(arrivals([(3, 1, 0), (8, 1, 0)], 0)) == []
    assert event.tick([Row(2, 9, 1, 0, 8)]) == [(at(0), at(10), 1, 3)]
    event.close()
    node = aggregate_node(WindowSpec("TUMBLE", 10), ("rows",), time="processing")
    clock = Driver(WindowAggregateOperator("w", node, source), (edge,), 0)
    assert clock.tick([Row(0, 9, 1, 0, 0)]) == []
    assert clock.tick([Row(1, 9, 1, 0, 0)]) == []
    assert clock.tick([Row(2, 10, 1, 0, 0)]) == [(at(0), at(10), 1, 2)]
    clock.close()


@pytest.mark.parametrize("year", [1, 9999])
def test_windows_are_right_at_both_ends_of_the_calendar(year: int) -> None:
    """The years 1 to 9999 are Flink's."""
    noon = ms(EPOCH.replace(year=year, month=6, day=15, hour=12))
    day_ms = 86_400_000
    rows, _ = closed(WindowSpec("CUMULATE", day_ms, day_ms // 2), [(noon, 1, 0)], 0)
    assert rows == [(noon - day_ms // 2, noon + day_ms // 2, 1)]


def test_a_row_in_86_400_windows_is_stored_once() -> None:
    """HOP of a day by a second: rows cost by slices, not by windows."""
    edge, source = stream()
    day_ms = 86_400_000
    driver = Driver(
        WindowAggregateOperator("w", aggregate_node(WindowSpec("HOP", day_ms, 1_000), ("rows",)), source), (edge,), 0
    )
    driver.tick(arrivals([(index, 1, 0) for index in range(1_000)], 0))
    assert driver.database.execute('SELECT count(*) FROM "w_panes"').fetchall() == [(1,)]
    assert driver.rows == [(at(1_000 - day_ms), at(1_000), 1, 1_000)]
    driver.close()


@pytest.mark.parametrize("kind", ["TUMBLE", "SESSION"])
def test_a_row_without_a_time_stops_the_query(kind: Literal["TUMBLE", "SESSION"]) -> None:
    """As it does in Flink."""
    edge, source = stream()
    spec = WindowSpec(kind, 10, gap_ms=10)
    driver = Driver(WindowAggregateOperator("w", aggregate_node(spec), source), (edge,), 0)
    edge.table = table([Row(0, 0, 1, 1, 0)]).set_column(2, "ts", pa.nulls(1, pa.timestamp("us")))
    driver.database.register(edge.name, edge.table)
    with pytest.raises(ValueProblem, match="should not be null"):
        driver.operator.step(Tick(1, 0, 0, 0))
    driver.close()


def test_rows_that_change_are_refused_by_name() -> None:
    """Their weights would be lost."""
    _, source = stream()
    changing = replace(source, changes=Changes.UPDATES)
    with pytest.raises(NotSupported):
        WindowAggregateOperator("w", aggregate_node(WindowSpec("TUMBLE", 10)), changing)
    with pytest.raises(NotSupported):
        WindowRankOperator("w", rank_node(1, 1), changing)
    with pytest.raises(NotSupported):
        join_operator("INNER", None)[0].__class__("w", join_node("INNER", None), changing, source)


SETS = ((0, 1), (0,), (1,), ())


@pytest.mark.parametrize("names", [MERGEABLE, (*MERGEABLE, "different"), ("listed", "rows")])
@pytest.mark.parametrize("spec", [WindowSpec("HOP", 20, 10), WindowSpec("SESSION", gap_ms=5)])
def test_grouping_sets_are_groups_beside_each_other(names: tuple[str, ...], spec: WindowSpec) -> None:
    """A key that is NULL by itself is not one that is left out."""
    edge, source = stream()
    events = [(index * 3 % 41, (None, 1, 2)[index % 3], index % 4) for index in range(60)]
    rows = arrivals(events, 50)
    node = aggregate_node(spec, names, keys=("k", "v"), sets=SETS)
    found = run(WindowAggregateOperator("w", node, source), edge, cut(rows, (7, 30)), 50)
    wanted = []
    for chosen in SETS:
        keyed: dict[Any, list[Row]] = {}
        base = sliced(rows, spec) if spec.kind == "HOP" else sessions(rows, spec)
        for (end, start, _), members in base.windows.items():
            for row in members:
                key = tuple((row.key, row.value)[i] if i in chosen else None for i in range(2))
                keyed.setdefault((at(start), at(end), *key), []).append(row)
        ids = sum(0 if i in chosen else 2 >> i for i in range(2))
        wanted += [(*key, *(AGGREGATES[name][1](members) for name in names), ids) for key, members in keyed.items()]
    assert sorted(found, key=repr) == sorted(wanted, key=repr)
    assert [row[1] for row in found] == sorted(row[1] for row in found)


# -- rows that have a window already ---------------------------------------------------------------------------------

HOP = WindowSpec("HOP", 10, 5)
WINDOWED = (*COLUMNS, Column("ws", TS), Column("we", TS))


def windowed_stream(name: str = "ticks", side: str = "", spec: WindowSpec = HOP) -> tuple[Edge, Input]:
    edge, source = stream(name)
    node = Windowed(
        columns=WINDOWED, input=scan(), window=WindowOf("ws", "we", None, "event", spec), time=TIME, spec=spec
    )
    columns = tuple(Column(column.name + side, column.type, column.time) for column in WINDOWED)
    cells = ", ".join(f'"{column.name}" AS "{column.name}{side}"' for column in WINDOWED)
    return edge, Input(
        f'SELECT {cells}, "$n", "$wm", "$at" FROM ({windowed_sql(source.sql, node)})', columns, Changes.APPEND, (edge,)
    )


@settings(max_examples=15, deadline=None)
@given(EVENTS, SPECS)
def test_a_window_function_gives_each_row_once_per_window(
    events: list[tuple[int, int | None, int]], spec: WindowSpec
) -> None:
    """Late or not: what reads the windows decides about that."""
    rows = arrivals(events, 0)
    edge, source = windowed_stream(spec=spec)
    database = _shared()
    database.register(edge.name, table(rows))
    found = database.execute(f'SELECT "$n", ws, we FROM ({source.sql})').fetchall()
    database.unregister(edge.name)
    assert sorted(found) == sorted((r.number, at(s), at(e)) for r in rows for s, e in windows_of(r.time_ms, spec))


def test_a_window_function_leaves_out_a_row_without_a_time() -> None:
    """Flink's function does, its aggregates do not."""
    edge, source = windowed_stream()
    database = _shared()
    rows = table([Row(0, 0, 1, 1, 0), Row(1, 0, 1, 1, 0)])
    database.register(edge.name, rows.set_column(2, "ts", pa.array([None, at(0)], pa.timestamp("us"))))
    assert database.execute(f'SELECT DISTINCT "$n" FROM ({source.sql})').fetchall() == [(1,)]
    database.unregister(edge.name)


@settings(max_examples=15, deadline=None)
@given(EVENTS, CUTS, st.integers(0, 30), st.booleans())
def test_aggregates_of_aggregates_have_the_same_windows(
    events: list[tuple[int, int | None, int]], cuts: list[int], bound_ms: int, with_start: bool
) -> None:
    """A row of a closed window is late, whatever other windows it is in."""
    rows = arrivals(events, bound_ms)
    edge, source = windowed_stream()
    plain = aggregate_node(HOP, ("rows", "different"))
    end, start = Bound('"we"', TS, frozenset({"we"})), Bound('"ws"', TS, frozenset({"ws"}))
    node = replace(plain, input=scan(WINDOWED), time=None, end=end, start=start if with_start else None)
    operator = WindowAggregateOperator("w", node, source)
    model = Model()
    for row in rows:
        for first, last in windows_of(row.time_ms, HOP):
            if last - 1 <= row.watermark_ms:
                model.late += 1
            else:
                model.put(first, last, row.key, row)
    assert run(operator, edge, cut(rows, cuts), bound_ms) == expected(model, ("rows", "different"))
    assert operator.counts.late_rows == model.late


def rank_node(first: int, last: int) -> WindowRank:
    return WindowRank(
        columns=(*WINDOWED, Column("place", BIGINT)),
        input=scan(WINDOWED),
        end=Bound('"we"', TS, frozenset({"we"})),
        time_kind="event",
        partition=(reads("k"),),
        start=None,
        ordering=(Ordering(reads("v"), descending=True, nulls_first=False),),
        first=first,
        last=last,
        number="place",
    )


@settings(max_examples=15, deadline=None)
@given(EVENTS, CUTS, st.integers(0, 30), st.integers(1, 3), st.integers(0, 2))
def test_ranks_of_a_window_are_those_of_all_its_rows_by_arrival(
    events: list[tuple[int, int | None, int]], cuts: list[int], bound_ms: int, first: int, more: int
) -> None:
    """The greatest values first; of equal ones who came first."""
    rows = arrivals(events, bound_ms)
    edge, source = windowed_stream()
    operator = WindowRankOperator("w", rank_node(first, first + more), source)
    model = Model()
    for row in rows:
        for start, end in windows_of(row.time_ms, HOP):
            if end - 1 > row.watermark_ms:
                model.put(start, end, row.key, row)
            else:
                model.late += 1
    wanted = []
    for (end, start, key), members in sorted(model.windows.items(), key=lambda i: (i[0][0], nulls_first(i[0][2]))):
        ordered = sorted(members, key=lambda row: (-row.value, row.number))
        for place, row in enumerate(ordered[first - 1 : first + more], start=first):
            wanted.append((key, row.value, at(row.time_ms), at(start), at(end), place))
    assert run(operator, edge, cut(rows, cuts), bound_ms) == wanted
    assert operator.counts.late_rows == model.late


def join_node(kind: JoinKind, residual: Bound | None) -> WindowJoin:
    left = tuple(Column(f"{column.name}0", column.type) for column in WINDOWED)
    right = tuple(Column(f"{column.name}1", column.type) for column in WINDOWED)
    ends = [Bound(f'"we{side}"', TS, frozenset({f"we{side}"})) for side in "01"]
    return WindowJoin(
        columns=left if kind in ("SEMI", "ANTI") else (*left, *right),
        left=scan(left),
        right=scan(right),
        kind=kind,
        left_end=ends[0],
        right_end=ends[1],
        time_kind="event",
        left_keys=(ends[0], reads("k0")),
        right_keys=(ends[1], reads("k1")),
        residual=residual,
    )


LESS = Bound('("v0" < "v1")', BIGINT, frozenset({"v0", "v1"}))


def join_operator(kind: JoinKind, residual: Bound | None) -> tuple[WindowJoinOperator, list[Edge]]:
    (left, left_input), (right, right_input) = windowed_stream("lefts", "0"), windowed_stream("rights", "1")
    return WindowJoinOperator("w", join_node(kind, residual), left_input, right_input), [left, right]


def joined(left: Model, right: Model, kind: JoinKind, *, less: bool) -> list[tuple[Any, ...]]:
    def cells(end: int, start: int, row: Row) -> tuple[Any, ...]:
        return (row.key, row.value, at(row.time_ms), at(start), at(end))

    nothing = (None,) * 5
    lefts = [(end, start, row) for (end, start, _), rows in left.windows.items() for row in rows]
    rights = [(end, start, row) for (end, start, _), rows in right.windows.items() for row in rows]
    found: list[tuple[Any, ...]] = []
    met: set[int] = set()
    for end, start, row in lefts:
        partners = [
            place
            for place, (other_end, _, other) in enumerate(rights)
            if end == other_end
            and row.key is not None
            and row.key == other.key
            and (not less or row.value < other.value)
        ]
        met.update(partners)
        mine = cells(end, start, row)
        if kind in ("SEMI", "ANTI"):
            found += [mine] if bool(partners) == (kind == "SEMI") else []
            continue
        found += [(*mine, *cells(*rights[place])) for place in partners]
        if not partners and kind in ("LEFT", "FULL"):
            found.append((*mine, *nothing))
    if kind in ("RIGHT", "FULL"):
        found += [(*nothing, *cells(*each)) for place, each in enumerate(rights) if place not in met]
    return found


KINDS: tuple[JoinKind, ...] = ("INNER", "LEFT", "RIGHT", "FULL", "SEMI", "ANTI")


@pytest.mark.parametrize("less", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None)
@given(left=EVENTS, right=EVENTS, cuts=CUTS, bound_ms=st.integers(0, 30))
def test_joins_of_windows_are_those_of_all_their_rows(
    kind: JoinKind,
    less: bool,
    left: list[tuple[int, int | None, int]],
    right: list[tuple[int, int | None, int]],
    cuts: list[int],
    bound_ms: int,
) -> None:
    """NULL keys meet nothing; a side without a partner is told when the window closes."""
    sides = [("l", *event) for event in left] + [("r", *event) for event in right]
    sides.sort(key=lambda each: (each[1] // 10, each[0]))
    all_rows = arrivals([each[1:] for each in sides], bound_ms)
    models = {"l": Model(), "r": Model()}
    for (side, *_), row in zip(sides, all_rows, strict=True):
        for start, end in windows_of(row.time_ms, HOP):
            if end - 1 > row.watermark_ms:
                models[side].put(start, end, row.key, row)
    operator, edges = join_operator(kind, LESS if less else None)
    driver = Driver(operator, edges, bound_ms)
    names = [side for side, *_ in sides]
    for rows in cut(all_rows, cuts):
        driver.tick(*([row for row in rows if names[row.number] == side] for side in "lr"))
    driver.tick((), (), last=True)
    driver.close()
    assert sorted(driver.rows, key=repr) == sorted(joined(models["l"], models["r"], kind, less=less), key=repr)
    ends = [row[4] or row[9] for row in driver.rows]
    assert ends == sorted(ends)


# -- restarts --------------------------------------------------------------------------------------------------------


def operators() -> dict[str, Callable[[], tuple[Operator, Edge]]]:
    def aggregated(spec: WindowSpec, names: Sequence[str] = MERGEABLE) -> tuple[Operator, Edge]:
        edge, source = stream()
        return WindowAggregateOperator("w", aggregate_node(spec, names), source), edge

    def ranked() -> tuple[Operator, Edge]:
        edge, source = windowed_stream()
        return WindowRankOperator("w", rank_node(1, 2), source), edge

    return {
        "hop": lambda: aggregated(WindowSpec("HOP", 20, 5)),
        "cumulate": lambda: aggregated(WindowSpec("CUMULATE", 20, 5), ("rows", "different")),
        "session": lambda: aggregated(WindowSpec("SESSION", gap_ms=4, partition=("k",)), ("listed",)),
        "rank": ranked,
    }


@pytest.mark.parametrize("name", operators())
def test_a_new_operator_over_the_same_file_goes_on(name: str, tmp_path: Path) -> None:
    """Committed after some tick, opened again: the rows are those of a run in one go."""
    events = [((index * 7 + index * index) % 23 + index, index % 3, index) for index in range(60)]
    rows = arrivals(events, 6)
    ticks = cut(rows, range(4, 60, 5))
    make = operators()[name]
    operator, edge = make()
    whole = run(operator, edge, ticks, 6)
    for stop in (3, 8):
        path = tmp_path / f"{name}{stop}.db"
        operator, edge = make()
        driver = Driver(operator, (edge,), 6, path)
        for number, tick in enumerate(ticks):
            if number == stop:
                operator, edge = make()
                driver.edges = (edge,)
                driver = driver.restarted(operator, path)
            driver.tick(tick)
        driver.tick((), last=True)
        driver.database.close()
        assert driver.rows == whole
