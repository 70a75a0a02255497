"""Windows that are cut out of time alone: TUMBLE, HOP and CUMULATE, and aggregates per window.

Time is cut into slices: a window of TUMBLE is one, those of HOP and CUMULATE are made of several (Flink's
`SliceAssigners`). Rows are aggregated per slice and merged per window when it closes, so a row costs the same however
many windows it is in.

    HOP, size 10 s, step 5 s              CUMULATE, size 15 s, step 5 s
    0    5    10   15   20                0    5    10   15
    |  a |  b |  c |  d |   slices        |  a |  b |  c |   slices
    [---------)                           [----)
         [---------)                      [---------)
              [---------)                 [--------------)

**Late.** A row counts for those of its windows that were open when it came (`end - 1 > $wm`); it is late, left out and
counted, if none was. This is the rule of Flink's `AbstractSliceSyncStateWindowAggProcessor`. So what is stored of a row
says for which window it counts first: in CUMULATE and TUMBLE the slice it is put into, in HOP a column of its own.

**Processing time.** A window closes when the clock has reached its end, not a millisecond before: Flink delays its
timers by 1 ms for that (`ProcessingTimeServiceUtil`), so rows of the window's last millisecond are always in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streamkit_sql.errors import NotSupported, ValueProblem
from streamkit_sql.plan.nodes import WATERMARK, Changes, WindowAggregate, Windowed
from streamkit_sql.runtime.duck import table_of
from streamkit_sql.runtime.operator import NO_WATERMARK_MS, Counts, Input, Tick
from streamkit_sql.runtime.partials import END, START, Partials, instant_of, instant_sql
from streamkit_sql.runtime.sessions import Sessions
from streamkit_sql.runtime.slices import Slices
from streamkit_sql.types import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import duckdb
    import pyarrow as pa

TIME: Final = '"$$time"'
SLICE: Final = '"$$slice"'
FIRST: Final = '"$$first"'
LAST: Final = '"$$last"'
_BEFORE: Final = '"$$before"'
_NEXT: Final = f"({_BEFORE} + 1)"

COMPACTED_ROWS_MIN: Final = 1_000_000
"""Stored rows below which compacting them costs more than merging them once, at the close."""
FOLDED_ROWS_MIN: Final = 100_000
"""The same for CUMULATE, where each close reads what all before it have read."""
EXPANDED_ROWS_MAX: Final = 2_000_000
"""Stored rows times windows that one statement makes, where many windows close at once."""


def windowed_sql(input_sql: str, node: Windowed) -> str:
    """Each row once per window it is in, with the window's three columns.

    Nothing is late here: Flink's function assigns windows whatever the watermark is, and what reads them decides. A row
    without a time is left out (`AlignedWindowTableFunctionOperator`: "null timestamp would be dropped").
    """
    assert node.spec.kind != "SESSION"
    assert node.window is not None
    slices = Slices.of(node.spec)
    timed = f"SELECT *, epoch_ms({node.time.sql}) AS {TIME} FROM ({input_sql}) WHERE {node.time.sql} IS NOT NULL"
    sliced = f"SELECT *, {slices.slice_sql(TIME)} AS {SLICE} FROM ({timed})"
    if slices.is_single:
        ends = f"SELECT *, {SLICE} AS {END} FROM ({sliced})"
    else:
        windows = f"range({slices.first_sql(SLICE)}, {slices.last_sql(SLICE)} + 1, {slices.step_ms})"
        ends = f"SELECT *, unnest({windows}) AS {END} FROM ({sliced})"
    texts = (
        (node.window.start, instant_sql(slices.start_sql(END))),
        (node.window.end, instant_sql(END)),
        (node.window.time_column, instant_of(f"({END} - 1)", node.spec.zone)),
    )
    added = [f"{text} AS {quoted(name)}" for name, text in texts if name is not None]
    return f"SELECT * EXCLUDE ({TIME}, {SLICE}, {END}), {', '.join(added)} FROM ({ends})"


class Panes:
    """State of aggregates over windows of slices, and over rows that already have a window.

    `NAME_panes` has a row per tick, slice and key; `NAME_clock` the time up to which windows were closed. Rows of
    closed windows stay until they are half of the table; then it is written anew, since deleting does not give back
    memory inside a transaction.
    """

    def __init__(self, name: str, node: WindowAggregate, input: Input, counts: Counts) -> None:
        self._table = quoted(f"{name}_panes")
        self._clock = quoted(f"{name}_clock")
        self._node = node
        self._input = input
        self._counts = counts
        self._partials = Partials(node, input)
        self._is_event = node.time_kind == "event"
        if node.is_cascade:
            assert node.end is not None
            self._slices = Slices.attached(node.spec)
            self._times_sql = f"epoch_ms({node.end.sql}) AS {TIME}"
        else:
            assert node.time is not None
            self._slices = Slices.of(node.spec)
            self._times_sql = f"epoch_ms({node.time.sql}) AS {TIME}"
        self._has_start = node.is_cascade and node.start is not None
        if node.is_cascade and node.start is not None:
            self._times_sql += f", epoch_ms({node.start.sql}) AS {START}"
        self._has_first = node.spec.kind == "HOP" and not node.is_cascade
        self._places = [SLICE, *([FIRST] if self._has_first else []), *([START] if self._has_start else [])]
        self._closed_ms = NO_WATERMARK_MS
        self._next_end_ms: int | None = None
        self._rows = 0
        self._rows_compacted = 0
        self._folds = node.spec.kind == "CUMULATE" and not node.is_cascade

    def open(self, database: duckdb.DuckDBPyConnection) -> None:
        self._database = database
        columns = [*((place, "BIGINT") for place in self._places), *self._partials.columns]
        texts = ", ".join(f"{name} {of}" for name, of in columns)
        database.execute(f"CREATE TABLE IF NOT EXISTS {self._table} ({texts})")
        database.execute(f"CREATE TABLE IF NOT EXISTS {self._clock} (closed_ms BIGINT)")
        if not self._one(f"SELECT count(*) FROM {self._clock}"):
            database.execute(f"INSERT INTO {self._clock} VALUES ({NO_WATERMARK_MS})")
        self._closed_ms = self._one(f"SELECT max(closed_ms) FROM {self._clock}")
        self._rows = self._one(f"SELECT count(*) FROM {self._table}")
        self._next_end_ms = self._first_open_end()

    def step(self, tick: Tick) -> pa.Table | None:
        if self._input.has_rows:
            self._take()
        limit_ms = tick.watermark_ms + 1 if self._is_event else tick.arrived_ms
        if self._next_end_ms is None or limit_ms < self._next_end_ms:
            return None
        return self._close(limit_ms)

    # -- rows come ---------------------------------------------------------------------------------------------------

    def _take(self) -> None:
        watermark = WATERMARK if self._is_event else f"({self._closed_ms - 1})::BIGINT"
        timed = f"(SELECT *, {self._times_sql} FROM ({self._input.sql}))"
        asked = f"SELECT count(*), count({TIME}), min({TIME}), max({TIME}), max({watermark} - {TIME}) FROM {timed}"
        rows, timed_rows, least_ms, greatest_ms, behind_ms = self._database.execute(asked).fetchall()[0]
        if not rows:
            return
        if timed_rows < rows:
            raise ValueProblem("RowTime field should not be null, please convert it to a non-null long value.")
        slices = self._slices
        # A slice ends after every time in it: it is open where its rows are ahead of the watermark.
        closes_ms = -1 if slices.is_attached else 0
        if behind_ms >= closes_ms:
            source = self._open_rows(timed, watermark)
        elif slices.slice_of(least_ms) == slices.slice_of(greatest_ms):
            end_ms = slices.slice_of(least_ms)
            if slices.first_of(end_ms) > slices.last_of(end_ms):
                return
            source = (
                f"(SELECT *, {end_ms}::BIGINT AS {SLICE}, {slices.first_of(end_ms)}::BIGINT AS {FIRST} FROM {timed})"
            )
        else:
            source = f"(SELECT *, {slices.slice_sql(TIME)} AS {SLICE} FROM {timed})"
            if self._has_first:
                source = f"(SELECT *, {slices.first_sql(SLICE)} AS {FIRST} FROM {source})"
                if slices.has_gaps:
                    source = f"(SELECT * FROM {source} WHERE {FIRST} <= {slices.last_sql(SLICE)})"
        self._rows += self._one(f"INSERT INTO {self._table} {self._partials.of_rows(self._places, source)}")
        first_ms = max(slices.first_of(slices.slice_of(least_ms)), self._closed_ms + 1)
        self._next_end_ms = first_ms if self._next_end_ms is None else min(self._next_end_ms, first_ms)
        fewest = FOLDED_ROWS_MIN if self._folds else COMPACTED_ROWS_MIN
        if self._rows >= fewest + 3 * self._rows_compacted:
            self._rewrite(compact=True)

    def _open_rows(self, timed: str, watermark: str) -> str:
        """The rows that are not late, with their slices and the first window they count for."""
        slices = self._slices
        source = f"(SELECT *, {watermark} AS {_BEFORE}, {slices.slice_sql(TIME)} AS {SLICE} FROM {timed})"
        source = f"(SELECT *, {slices.last_sql(SLICE)} AS {LAST}, {slices.first_sql(SLICE)} AS {FIRST} FROM {source})"
        if slices.has_gaps:
            source = f"(SELECT * FROM {source} WHERE {FIRST} <= {LAST})"
        late = f"{LAST} - 1 <= {_BEFORE}"
        if late_rows := self._one(f"SELECT count(*) FROM {source} WHERE {late}"):
            self._counts.late_rows += late_rows
            names = [quoted(column.name) for column in self._input.columns]
            self._counts.keep_late(self._database, f"SELECT * FROM {source} WHERE {late}", names)
        first = FIRST if slices.is_single else f"greatest({FIRST}, {slices.next_end_sql(_NEXT)})"
        moved = first if self._folds else SLICE
        return f"(SELECT * REPLACE ({first} AS {FIRST}, {moved} AS {SLICE}) FROM {source} WHERE NOT ({late}))"

    # -- windows close -----------------------------------------------------------------------------------------------

    def _close(self, limit_ms: int) -> pa.Table | None:
        ends = self._ends(limit_ms)
        tables = [self._merged(chunk) for chunk in self._chunks(ends)]
        self._closed_ms = limit_ms
        self._database.execute(f"UPDATE {self._clock} SET closed_ms = {limit_ms}")
        dead = self._one(f"SELECT count(*) FROM {self._table} WHERE {self._slices.last_sql(SLICE)} <= {limit_ms}")
        if dead * 2 >= self._rows:
            self._rewrite(compact=False)
        self._next_end_ms = self._first_open_end()
        if not tables:
            return None
        import pyarrow as pa

        return tables[0] if len(tables) == 1 else pa.concat_tables(tables)

    def _ends(self, limit_ms: int) -> list[int]:
        """Of the windows that close now and have rows."""
        first = FIRST if self._has_first else SLICE
        slices = self._slices
        found: set[int] = set()
        for end_ms, first_ms in self._database.execute(
            f"SELECT DISTINCT {SLICE}, {first} FROM {self._table}"
        ).fetchall():
            begin_ms = first_ms if first_ms > self._closed_ms else max(first_ms, slices.next_end(self._closed_ms))
            found.update(range(begin_ms, min(slices.last_of(end_ms), limit_ms) + 1, slices.step_ms))
        return sorted(found)

    def _chunks(self, ends: list[int]) -> Iterator[list[int]]:
        size = max(1, EXPANDED_ROWS_MAX // max(1, self._rows)) if not self._slices.is_single else max(1, len(ends))
        for index in range(0, len(ends), size):
            yield ends[index : index + size]

    def _merged(self, ends: list[int]) -> pa.Table:
        slices = self._slices
        low_ms, high_ms = ends[0], ends[-1]
        first = FIRST if self._has_first else SLICE
        last = slices.last_sql(SLICE)
        rows = f"SELECT * FROM {self._table} WHERE {first} <= {high_ms} AND {last} >= {low_ms}"
        if len(ends) == 1 and not self._has_start:
            end = f"{low_ms}::BIGINT"
            return table_of(self._database, self._partials.results(f"({rows})", end, slices.start_sql(end)))
        if slices.is_single:
            rows = f"SELECT *, {SLICE} AS {END} FROM ({rows})"
        else:
            windows = f"range(greatest({first}, {low_ms}), least({last}, {high_ms}) + 1, {slices.step_ms})"
            rows = f"SELECT *, unnest({windows}) AS {END} FROM ({rows})"
        if not self._has_start:
            rows = f"SELECT *, {slices.start_sql(END)} AS {START} FROM ({rows})"
        return table_of(self._database, self._partials.results(f"({rows})"))

    def _rewrite(self, *, compact: bool) -> None:
        """The table without what no window needs any more."""
        slices = self._slices
        live = f"(SELECT * FROM {self._table} WHERE {slices.last_sql(SLICE)} > {self._closed_ms})"
        if compact:
            open_ms = slices.next_end(self._closed_ms) if not slices.is_single else self._closed_ms + 1
            if self._folds:
                live = f"(SELECT * REPLACE (greatest({SLICE}, {open_ms}) AS {SLICE}) FROM {live})"
            elif self._has_first:
                live = f"(SELECT * REPLACE (greatest({FIRST}, {open_ms}) AS {FIRST}) FROM {live})"
            live = f"({self._partials.compacted(self._places, live)})"
        self._database.execute(f"CREATE OR REPLACE TABLE {self._table} AS SELECT * FROM {live}")
        self._rows = self._one(f"SELECT count(*) FROM {self._table}")
        if compact or self._rows < self._rows_compacted:
            self._rows_compacted = self._rows

    def _first_open_end(self) -> int | None:
        slices = self._slices
        first = FIRST if self._has_first else SLICE
        if not slices.is_single:
            first = f"greatest({first}, {slices.next_end(self._closed_ms)})"
        found: int | None = self._one(
            f"SELECT min({first}) FROM {self._table} WHERE {slices.last_sql(SLICE)} > {self._closed_ms}"
        )
        return found

    def _one(self, sql: str) -> int:
        value: int = self._database.execute(sql).fetchall()[0][0]
        return value


class WindowAggregateOperator:
    """One row per window and group when the window closes, ordered by the window's end, its start and the keys: the
    same rows in the same order however the input is cut into ticks."""

    def __init__(self, name: str, node: WindowAggregate, input: Input) -> None:
        if input.changes is Changes.UPDATES:
            raise NotSupported("a window's aggregate over a relation whose rows change is not supported.")
        self.name = name
        self.inputs: Sequence[Input] = (input,)
        self.counts = Counts()
        is_session = node.spec.kind == "SESSION" and not node.is_cascade
        state = Sessions if is_session else Panes
        self._state: Sessions | Panes = state(name, node, input, self.counts)

    def open(self, database: duckdb.DuckDBPyConnection) -> None:
        self._state.open(database)

    def step(self, tick: Tick) -> pa.Table | None:
        rows = self._state.step(tick)
        return rows if rows is not None and rows.num_rows else None
