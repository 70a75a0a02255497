"""OVER, interval joins and temporal joins against models that go through rows one by one, as Flink does."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit_sql.expressions.bound import Aggregate, Bound, Column, Partial
from streamkit_sql.plan.nodes import Changes, Frame, IntervalJoin, Over, OverCall, Scan, TemporalJoin
from streamkit_sql.runtime.duck import connect
from streamkit_sql.runtime.intervals import IntervalJoinOperator
from streamkit_sql.runtime.operator import END_MS, NO_WATERMARK_MS, Edge, Input, Operator, Tick
from streamkit_sql.runtime.over import OverOperator, windowed
from streamkit_sql.runtime.versions import TemporalJoinOperator
from streamkit_sql.types import BIGINT, quoted, timestamp

EPOCH = datetime.datetime(1970, 1, 1)  # noqa: DTZ001 - as DuckDB gives TIMESTAMP
TS = timestamp(3)


@dataclass(frozen=True)
class Row:
    number: int
    side: int
    time_ms: int
    key: int | None
    watermark_ms: int


def arrivals(rows: Iterable[tuple[int, int, int | None]], bound_ms: int) -> list[Row]:
    """Rows of (side, time, key) under the watermark before each: the greatest time so far, less a bound."""
    made: list[Row] = []
    watermark_ms = NO_WATERMARK_MS
    for number, (side, time_ms, key) in enumerate(rows):
        made.append(Row(number, side, time_ms, key, watermark_ms))
        watermark_ms = max(watermark_ms, time_ms - bound_ms)
    return made


def columns_of(side: int) -> tuple[Column, ...]:
    return (Column(f"k{side}", BIGINT), Column(f"v{side}", BIGINT), Column(f"ts{side}", TS, "event"))


def table(rows: Sequence[Row], side: int) -> pa.Table:
    at = pa.array([EPOCH + datetime.timedelta(milliseconds=row.time_ms) for row in rows], pa.timestamp("us"))
    return pa.table(
        {
            f"k{side}": pa.array([row.key for row in rows], pa.int64()),
            f"v{side}": pa.array([row.number for row in rows], pa.int64()),
            f"ts{side}": at,
            "$n": pa.array([row.number for row in rows], pa.int64()),
            "$wm": pa.array([row.watermark_ms for row in rows], pa.int64()),
            "$at": at,
        }
    )


def stream(side: int) -> tuple[Edge, Input]:
    edge = Edge(f"side_{side}")
    columns = columns_of(side)
    names = ", ".join(quoted(column.name) for column in columns)
    return edge, Input(f'SELECT {names}, "$n", "$wm", "$at" FROM {edge.name}', columns, Changes.APPEND, (edge,))


def reads(name: str, of: Any = BIGINT) -> Bound:
    return Bound(quoted(name), of, frozenset({name}), "event" if of is TS else None)


def scan(side: int) -> Scan:
    return Scan(columns=columns_of(side), table=f"t{side}")


@cache
def shared() -> duckdb.DuckDBPyConnection:
    return connect()


def run(
    make: Callable[[], Operator],
    rows: Sequence[Row],
    cuts: Sequence[int],
    bound_ms: int,
    path: Path | None = None,
    restart: int | None = None,
) -> list[tuple[Any, ...]]:
    """What the operator gives in all ticks; with `path` it is made anew from its file before tick `restart`."""
    database = shared() if path is None else connect(path)
    with suppress(duckdb.TransactionException):  # of an example that failed
        database.execute("ROLLBACK")
    database.execute("BEGIN")
    operator = make()
    operator.open(database)
    bounds = [0, *sorted({place % (len(rows) + 1) for place in cuts}), len(rows)]
    ticks = [list(rows[start:stop]) for start, stop in pairwise(bounds)]
    found: list[tuple[Any, ...]] = []
    watermark_ms = NO_WATERMARK_MS
    for number, tick in enumerate([*ticks, []]):
        if path is not None and number == restart:
            database.execute("COMMIT")
            database.close()
            database = connect(path)
            database.execute("BEGIN")
            operator = make()
            operator.open(database)
        before_ms = watermark_ms
        for side, input in enumerate(operator.inputs):
            own = [row for row in tick if row.side == side]
            input.edges[0].table = table(own, side)
            database.register(input.edges[0].name, input.edges[0].table)
        for row in tick:
            watermark_ms = max(watermark_ms, row.watermark_ms, row.time_ms - bound_ms)
        is_last = number == len(ticks)
        watermark_ms = END_MS if is_last else watermark_ms
        arrived_ms = END_MS if is_last else max([0, *(row.time_ms for row in tick)])
        out = operator.step(Tick(number + 1, watermark_ms, before_ms, arrived_ms, is_last))
        assert out is None or out.num_rows
        if out is not None:
            found += zip(*(column.to_pylist() for column in out.columns), strict=True)
    database.execute("ROLLBACK")
    if path is not None:
        database.close()
    return found


def rows_of(sides: int) -> st.SearchStrategy[list[tuple[int, int, int | None]]]:
    row = st.tuples(st.integers(0, sides - 1), st.integers(1, 60), st.sampled_from([1, 2, None]))
    return st.lists(row, max_size=25)


CUTS = st.lists(st.integers(0, 25), max_size=6)
BOUNDS = st.sampled_from([0, 5, 100])

# -- OVER ------------------------------------------------------------------------------------------------------------


def count() -> Aggregate:
    part = Partial("BIGINT", "count(*)", None, "CAST(sum({}) AS BIGINT)")
    return Aggregate("COUNT", BIGINT, (), "count(*)", (part,), "{0}")


def total(*, merges: bool = True) -> Aggregate:
    part = Partial("HUGEINT", 'sum("v0") FILTER ("v0" > 2)', None, "CAST(sum({}) AS HUGEINT)")
    whole = 'CAST(sum("v0") FILTER ("v0" > 2) AS BIGINT)'
    parts = (part,) if merges else ()
    return Aggregate("SUM", BIGINT, (reads("v0"),), whole, parts, "CAST({0} AS BIGINT)", frozenset({"v0"}))


def over_operator(calls: Sequence[OverCall]) -> Callable[[], OverOperator]:
    def make() -> OverOperator:
        _, input = stream(0)
        columns = (*columns_of(0), *(Column(call.name, BIGINT) for call in calls))
        node = Over(
            columns=columns, input=scan(0), partition=(reads("k0"),), time=reads("ts0", TS), time_kind="event",
            calls=tuple(calls),
        )  # fmt: skip
        return OverOperator("over_0", node, input)

    return make


@dataclass
class Life:
    """A partition of a bounded frame as `RowTimeRangeBoundedPrecedingFunction` keeps it."""

    rows: dict[int, list[Row]]
    timers: set[int]
    last_ms: int = 0
    cleanup_ms: int | None = None


def bounded_range(rows: Sequence[Row], frame_ms: int) -> list[tuple[Any, ...]]:
    """Flink's function, timer by timer: (number, count, sum)."""
    lives: dict[int | None, Life] = {}
    found: list[tuple[Any, ...]] = []

    def fire(life: Life, timer_ms: int) -> None:
        if life.cleanup_ms is not None and life.cleanup_ms <= timer_ms:
            life.rows, life.last_ms, life.cleanup_ms = {}, 0, None
            return
        if timer_ms in life.rows:
            seen = [row for at, those in life.rows.items() if timer_ms - frame_ms <= at <= timer_ms for row in those]
            sums = [row.number for row in seen if row.number > 2]
            found.extend((row.number, len(seen), sum(sums) if sums else None) for row in life.rows[timer_ms])
        life.last_ms = timer_ms

    def advance(watermark_ms: int) -> None:
        for life in lives.values():
            while due := sorted(each for each in life.timers if each <= watermark_ms):
                life.timers.discard(due[0])
                fire(life, due[0])

    before_ms = NO_WATERMARK_MS
    for row in rows:
        if row.watermark_ms > before_ms:
            advance(row.watermark_ms)
            before_ms = row.watermark_ms
        life = lives.setdefault(row.key, Life({}, set()))
        if row.time_ms > life.last_ms:
            life.rows.setdefault(row.time_ms, []).append(row)
            life.timers.add(row.time_ms)
            if life.cleanup_ms is None or life.cleanup_ms < row.time_ms + frame_ms + 1:
                life.cleanup_ms = row.time_ms + frame_ms * 3 // 2 + 1
                life.timers.add(life.cleanup_ms)
    advance(END_MS)
    return found


def ordered(rows: Sequence[Row], key: int | None) -> list[Row]:
    in_time = [row for row in rows if row.key == key and row.time_ms > row.watermark_ms]
    return sorted(in_time, key=lambda row: (row.time_ms, row.number))


@settings(max_examples=40, deadline=None)
@given(rows=rows_of(1), cuts=CUTS, bound_ms=BOUNDS, merges=st.booleans(), unit=st.sampled_from(["RANGE", "ROWS"]))
def test_unbounded_frames_and_what_has_no_frame_go_by_the_watermark_alone(
    rows: list[tuple[int, int, int | None]],
    cuts: list[int],
    bound_ms: int,
    merges: bool,
    unit: Literal["RANGE", "ROWS"],
) -> None:
    """Sums go on over ticks whether they are kept as accumulators or as rows; LAG and RANK share values among peers."""
    made = arrivals(rows, bound_ms)
    calls = [
        OverCall("s", total(merges=merges), None, Frame(unit, None)),
        OverCall("number", None, "row_number()", Frame("ROWS", None)),
        OverCall("rank", None, "rank()", Frame("ROWS", None)),
        OverCall("before", None, 'lag("v0", 2)', Frame("ROWS", None)),
    ]
    expected = []
    for key in {row.key for row in made}:
        own = ordered(made, key)
        for place, row in enumerate(own):
            last = max(index for index, each in enumerate(own) if each.time_ms == row.time_ms)
            seen = own[: (last if unit == "RANGE" else place) + 1]
            sums = [each.number for each in seen if each.number > 2]
            before = own[last - 2].number if last >= 2 else None
            expected.append((row.number, sum(sums) if sums else None, place + 1, last + 1, before))
    given_out = run(over_operator(calls), made, cuts, bound_ms)
    assert Counter((row[1], *row[3:]) for row in given_out) == Counter(expected)
    assert [row[2] for row in run(over_operator(calls), made, [], bound_ms)] == sorted(row[2] for row in given_out)


@settings(max_examples=30, deadline=None)
@given(rows=rows_of(1), cuts=CUTS, preceding=st.integers(0, 3))
def test_a_frame_of_rows_looks_back_over_ticks(
    rows: list[tuple[int, int, int | None]], cuts: list[int], preceding: int
) -> None:
    """Rows that are out are kept as long as a frame reaches them."""
    made = arrivals(rows, 100)
    expected = []
    for key in {row.key for row in made}:
        own = ordered(made, key)
        expected += [(row.number, len(own[max(0, place - preceding) : place + 1])) for place, row in enumerate(own)]
    calls = [OverCall("n", count(), None, Frame("ROWS", preceding))]
    assert Counter((row[1], row[3]) for row in run(over_operator(calls), made, cuts, 100)) == Counter(expected)


def test_windowed_puts_the_window_behind_each_aggregate_and_its_filter() -> None:
    """Texts in quotes and brackets inside the arguments are left alone."""
    text = 'CAST(coalesce(sum(CAST("a(" AS BIGINT)) FILTER ("b" = \')\'), 0) // count(*) AS BIGINT)'
    assert windowed(text, "w") == (
        'CAST(coalesce(sum(CAST("a(" AS BIGINT)) FILTER ("b" = \')\') OVER w, 0) // count(*) OVER w AS BIGINT)'
    )


# -- interval joins --------------------------------------------------------------------------------------------------


def interval_operator(kind: Any, lower_ms: int, upper_ms: int) -> Callable[[], IntervalJoinOperator]:
    def make() -> IntervalJoinOperator:
        node = IntervalJoin(
            columns=(*columns_of(0), *columns_of(1)), left=scan(0), right=scan(1), kind=kind, left_keys=(reads("k0"),),
            right_keys=(reads("k1"),), left_time=reads("ts0", TS), right_time=reads("ts1", TS), time_kind="event",
            lower_ms=lower_ms, upper_ms=upper_ms,
            residual=Bound('("v0" + "v1") % 5 <> 0', BIGINT, frozenset({"v0", "v1"})),
        )  # fmt: skip
        return IntervalJoinOperator("intervals_0", node, stream(0)[1], stream(1)[1])

    return make


def interval_model(
    rows: Sequence[Row], kind: str, lower_ms: int, upper_ms: int
) -> Counter[tuple[int | None, int | None]]:
    """Each row meets those that wait when it comes."""
    found: Counter[tuple[int | None, int | None]] = Counter()
    reach = (upper_ms, -lower_ms)
    waiting: tuple[list[Row], list[Row]] = ([], [])
    met: set[tuple[int, int]] = set()
    for row in rows:
        for other in waiting[1 - row.side]:
            left, right = (row, other) if row.side == 0 else (other, row)
            is_there = row.watermark_ms <= other.time_ms + reach[other.side]
            is_near = left.time_ms + lower_ms <= right.time_ms <= left.time_ms + upper_ms
            if is_there and is_near and None is not row.key == other.key and (row.number + other.number) % 5:
                found[left.number, right.number] += 1
                met |= {(0, left.number), (1, right.number)}
        if row.watermark_ms < row.time_ms + reach[row.side]:
            waiting[row.side].append(row)
    for row in rows:
        if (row.side, row.number) not in met and kind in (("LEFT", "FULL"), ("RIGHT", "FULL"))[row.side]:
            found[(row.number, None) if row.side == 0 else (None, row.number)] += 1
    return found


@settings(max_examples=60, deadline=None)
@given(
    rows=rows_of(2), cuts=CUTS, bound_ms=BOUNDS, kind=st.sampled_from(["INNER", "LEFT", "RIGHT", "FULL"]),
    interval=st.sampled_from([(0, 0), (0, 10), (-10, 0), (-5, 5), (3, 12)]),
)  # fmt: skip
def test_rows_of_near_times_meet_once_and_those_alone_come_out_when_their_time_is_over(
    rows: list[tuple[int, int, int | None]], cuts: list[int], bound_ms: int, kind: str, interval: tuple[int, int]
) -> None:
    """Pairs and rows without a partner are the same for every way of cutting rows into ticks."""
    made = arrivals(rows, bound_ms)
    given_out = run(interval_operator(kind, *interval), made, cuts, bound_ms)
    assert Counter((row[1], row[4]) for row in given_out) == interval_model(made, kind, *interval)


# -- temporal joins --------------------------------------------------------------------------------------------------


def temporal_operator(kind: Any, time: Literal["event", "processing"]) -> Callable[[], TemporalJoinOperator]:
    def make() -> TemporalJoinOperator:
        node = TemporalJoin(
            columns=(*columns_of(0), *columns_of(1)), left=scan(0), right=scan(1), kind=kind, left_keys=(reads("k0"),),
            right_keys=(reads("k1"),), left_time=reads("ts0", TS), right_time=reads("ts1", TS), time_kind=time,
            residual=Bound('"v1" <> 3', BIGINT, frozenset({"v1"})),
        )  # fmt: skip
        return TemporalJoinOperator("versions_0", node, stream(0)[1], stream(1)[1])

    return make


def temporal_model(rows: Sequence[Row], kind: str) -> Counter[tuple[int, int | None]]:
    """`TemporalRowTimeJoinOperator` per key: versions by their time, rows that wait, one timer."""
    found: Counter[tuple[int, int | None]] = Counter()
    versions: dict[int | None, dict[int, Row]] = {}
    waiting: dict[int | None, list[Row]] = {}
    timers: dict[int | None, int] = {}

    def advance(watermark_ms: int) -> None:
        for key in [key for key, timer in timers.items() if timer <= watermark_ms]:
            del timers[key]
            of = versions.setdefault(key, {})
            for row in [row for row in waiting.get(key, []) if row.time_ms <= watermark_ms]:
                waiting[key].remove(row)
                valid = max((at for at in of if at <= row.time_ms), default=None)
                version = None if valid is None or key is None else of[valid].number
                version = None if version == 3 else version
                if version is not None or kind == "LEFT":
                    found[row.number, version] += 1
            kept = max((at for at in of if at <= watermark_ms), default=None)
            for at in [at for at in of if kept is not None and at < kept]:
                del of[at]
            if waiting.get(key):
                timers[key] = min(row.time_ms for row in waiting[key])

    before_ms = NO_WATERMARK_MS
    for row in rows:
        if row.watermark_ms > before_ms:
            advance(row.watermark_ms)
            before_ms = row.watermark_ms
        if row.side == 0:
            waiting.setdefault(row.key, []).append(row)
        else:
            versions.setdefault(row.key, {})[row.time_ms] = row
        timers[row.key] = min(timers.get(row.key, row.time_ms), row.time_ms)
    advance(END_MS)
    return found


@settings(max_examples=80, deadline=None)
@given(rows=rows_of(2), cuts=CUTS, bound_ms=BOUNDS, kind=st.sampled_from(["INNER", "LEFT"]))
def test_a_row_has_the_version_that_was_there_when_the_watermark_reached_its_time(
    rows: list[tuple[int, int, int | None]], cuts: list[int], bound_ms: int, kind: str
) -> None:
    """Versions that come later, or are forgotten by then, change nothing. Rows that are late themselves are not
    compared: Flink keeps an old version for them until a timer cleans up, we until the watermark passes the next."""
    made = arrivals(rows, bound_ms)
    given_out = run(temporal_operator(kind, "event"), made, cuts, bound_ms)
    late = {row.number for row in made if row.side == 0 and row.time_ms <= row.watermark_ms}
    expected = Counter({pair: count for pair, count in temporal_model(made, kind).items() if pair[0] not in late})
    assert Counter((row[1], row[4]) for row in given_out if row[1] not in late) == expected


@settings(max_examples=30, deadline=None)
@given(rows=rows_of(2), cuts=CUTS)
def test_by_processing_time_a_row_has_the_newest_version_at_its_arrival(
    rows: list[tuple[int, int, int | None]], cuts: list[int]
) -> None:
    """Only what came before it counts, whatever its time."""
    made = arrivals(rows, 0)
    expected = []
    for row in made:
        if row.side == 0:
            before = [each.number for each in made[: row.number] if each.side == 1 and None is not each.key == row.key]
            newest = before[-1] if before else None
            expected.append((row.number, None if newest == 3 else newest))
    given_out = run(temporal_operator("LEFT", "processing"), made, cuts, 0)
    assert sorted((row[1], row[4]) for row in given_out) == sorted(expected) or Counter(
        (row[1], row[4]) for row in given_out
    ) == Counter(expected)


# -- restarts --------------------------------------------------------------------------------------------------------

FRAME = Frame("RANGE", 10)
OPERATORS: dict[str, tuple[int, Callable[[], Operator]]] = {
    "range": (1, over_operator([OverCall("s", total(), None, FRAME)])),
    "unbounded": (
        1,
        over_operator(
            [
                OverCall("s", total(), None, Frame("RANGE", None)),
                OverCall("b", None, 'lag("v0")', Frame("ROWS", None)),
            ]
        ),
    ),
    "sort": (1, over_operator([])),
    "interval": (2, interval_operator("FULL", -5, 10)),
    "temporal": (2, temporal_operator("LEFT", "event")),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_goes_on_from_its_file_as_if_nothing_had_happened(name: str, tmp_path: Path) -> None:
    """All state is in the database, so a restart between any two ticks changes no row."""
    sides, make = OPERATORS[name]
    times = [(number * 7) % 50 + number for number in range(40)]
    made = arrivals([(number % sides, time, number % 3) for number, time in enumerate(times)], 6)
    cuts = list(range(0, 40, 8))
    expected = run(make, made, cuts, 6)
    for restart in (1, 3, 5):
        assert run(make, made, cuts, 6, tmp_path / f"state_{restart}", restart) == expected
