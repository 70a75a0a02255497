"""OVER: each row with aggregates over the rows before it in its partition, by time.

Rows wait until the watermark has reached their time, then come out in the order of time and arrival. What is kept of
rows that are out is what later rows look back at: those within a bounded frame, as many as LAG goes back, or (UNBOUNDED
PRECEDING, where aggregates merge) one row of accumulators per partition. Aggregates that do not merge keep all rows.

**Late.** With an unbounded frame a row is late if the watermark has reached its time when it comes
(`AbstractRowTimeUnboundedPrecedingOver`). With a bounded one it is late if a row of its partition with this time or a
later one is out already: a row behind the watermark is taken as long as its partition has not gone further
(`RowTimeRangeBoundedPrecedingFunction`); so it is in a sort by time (`RowTimeSortOperator`). A bounded RANGE drops its
partition by a timer, one and a half frames after a row, and begins anew then, even behind the watermark; timers that
were overtaken count as rows that are out. `_Timers` keeps them as Flink does.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from streamkit_sql.errors import NotSupported
from streamkit_sql.expressions.bound import Aggregate
from streamkit_sql.plan.nodes import ARRIVED, NUMBER, WATERMARK, Changes, Frame, Over, OverCall
from streamkit_sql.runtime.changes import StateTable, same
from streamkit_sql.runtime.duck import table_of
from streamkit_sql.runtime.operator import END_MS, NO_WATERMARK_MS, Counts, Input, Tick
from streamkit_sql.runtime.partials import filled
from streamkit_sql.types import Kind, quoted

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_TIME: Final = '"$$t"'
_BEFORE: Final = '"$$wm"'
_PLACE: Final = '"$$i"'
"""Tells rows apart that have one `$n`, as an array's elements do; in the order of arrival."""
_IS_OUT: Final = '"$$o"'
_LIFE: Final = '"$$g"'
"""Rows of a partition before and after it was forgotten differ in it."""
_NAME: Final = re.compile(r"[A-Za-z_]\w*")
_NUMBERS: Final = ("row_number()", "rank()", "dense_rank()")
_FILTER: Final = re.compile(r"\s*FILTER\s*\(", re.IGNORECASE)
_AGGREGATES: Final = frozenset(
    [
        "sum",
        "count",
        "min",
        "max",
        "avg",
        "arg_min",
        "arg_max",
        "any_value",
        "first",
        "last",
        "list",
        "array_agg",
        "string_agg",
        "bool_and",
        "bool_or",
        "bit_and",
        "bit_or",
        "bit_xor",
        "product",
        "fsum",
        "stddev_pop",
        "stddev_samp",
        "var_pop",
        "var_samp",
        "quantile_cont",
        "quantile_disc",
        "median",
        "mode",
        "approx_count_distinct",
        "histogram",
        "map_from_entries",
        "entropy",
        "kurtosis",
        "skewness",
        "row_number",
        "lag",
        "rank",
        "dense_rank",
    ]
)


def _end_of(text: str, start: int) -> int:
    """Behind the bracket that closes the one at `start`."""
    depth, place = 0, start
    while place < len(text):
        char = text[place]
        if char in "'\"":
            place = text.index(char, place + 1)
        elif char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
            if not depth:
                return place + 1
        place += 1
    raise AssertionError(text)


def windowed(text: str, window: str) -> str:
    """The text with each of its aggregates over a window."""
    parts: list[str] = []
    place = 0
    while place < len(text):
        if text[place] in "'\"":
            stop = text.index(text[place], place + 1) + 1
        elif (name := _NAME.match(text, place)) is None:
            stop = place + 1
        elif name[0].lower() in _AGGREGATES and text[name.end() : name.end() + 1] == "(":
            stop = _end_of(text, name.end())
            if condition := _FILTER.match(text, stop):
                stop = _end_of(text, condition.end() - 1)
            parts += [text[place:stop], f" OVER {window}"]
            place = stop
            continue
        else:
            stop = name.end()
        parts.append(text[place:stop])
        place = stop
    return "".join(parts)


def _arguments(text: str) -> list[str]:
    """Of a call, as texts."""
    inner = text[text.index("(") + 1 : -1]
    found, place, start = [], 0, 0
    while place < len(inner):
        if inner[place] == "(":
            place = _end_of(inner, place)
            continue
        if inner[place] in "'\"":
            place = inner.index(inner[place], place + 1)
        elif inner[place] == ",":
            found.append(inner[start:place].strip())
            start = place + 1
        place += 1
    return [*found, inner[start:].strip()]


def _lag_rows(call: OverCall) -> int | None:
    """How far a LAG looks back; None where that is not written as a number."""
    assert call.function is not None
    arguments = _arguments(call.function)
    if len(arguments) < 2:
        return 1
    digits = re.search(r"\d+", arguments[1])
    return int(digits[0]) if digits else None


class _Sums:
    """Accumulators per partition, of calls over everything so far that merge."""

    def __init__(self, name: str, calls: Sequence[tuple[OverCall, Aggregate | None]], keys: Sequence[tuple[str, str]]):
        self._keys = [key for key, _ in keys]
        self._parts: list[tuple[str, str, str, str]] = []  # name, type, of rows, merge
        self._finals: dict[str, str] = {}
        peers = f"(PARTITION BY {', '.join([*self._keys, _TIME])})"
        for index, (call, aggregate) in enumerate(calls):
            names = []
            texts = (
                [("BIGINT", "count(*)", "CAST(sum({}) AS BIGINT)")]
                if aggregate is None
                else [(part.type, part.of_rows, part.merge) for part in aggregate.partials]
            )
            for place, (of, text, merge) in enumerate(texts):
                names.append(f'"$$a{index}_{place}"')
                self._parts.append((names[-1], of, text, merge))
            self._finals[call.name] = names[0] if aggregate is None else filled(aggregate.final, names)
            if call.function in ("rank()", "dense_rank()"):
                # Flink computes both with RANGE and knows no peers in them: rows of one time get the last's number.
                self._finals[call.name] = f"max({names[0]}) OVER {peers}"
        self._table = StateTable(name, [*keys, *((part, of) for part, of, _, _ in self._parts)])

    def open(self, database: duckdb.DuckDBPyConnection) -> None:
        self._database = database
        self._table.open(database)

    def apply(self, ready: str, ordered: str, unit: str) -> str:
        """A SELECT of `$$i` and the calls' values over the rows that come out, which are then counted in."""
        parts = [part for part, _, _, _ in self._parts]
        keys = self._keys
        own = ", ".join([*keys, _TIME, NUMBER, _PLACE, *(f"{text} AS {part}" for part, _, text, _ in self._parts)])
        rows = f"SELECT {own} FROM {ready} GROUP BY {', '.join([*keys, _TIME, NUMBER, _PLACE])}"
        matched = same("b", "r", keys)
        base = (
            f"SELECT {', '.join([*(f'b.{key}' for key in keys), *['NULL'] * 3, *(f'b.{each}' for each in parts)])}"
            f" FROM {self._table.sql} AS b WHERE EXISTS (SELECT 1 FROM {ready} AS r WHERE {matched})"
        )
        by = f"PARTITION BY {', '.join(keys)} " if keys else ""
        order = _TIME if unit == "RANGE" else ordered
        window = f"({by}ORDER BY {order} {unit} BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
        merged = [f"{windowed(filled(merge, [part]), window)} AS {part}" for part, _, _, merge in self._parts]
        running = quoted(self._table.sql.strip('"') + "_running")
        self._database.execute(
            f"CREATE OR REPLACE TEMP TABLE {running} AS"
            f" SELECT {', '.join([*keys, _TIME, NUMBER, _PLACE, *merged])} FROM ({rows} UNION ALL {base})"
        )
        self._table.remove(f"EXISTS (SELECT 1 FROM {running} AS r WHERE {same(self._table.sql, 'r', keys)})")
        last = f"row_number() OVER ({by}ORDER BY {_TIME} DESC, {NUMBER} DESC, {_PLACE} DESC) = 1"
        self._table.add(f"SELECT {', '.join([*keys, *parts])} FROM {running} WHERE {_PLACE} IS NOT NULL QUALIFY {last}")
        cells = [f"{final} AS {quoted(name)}" for name, final in self._finals.items()]
        return f"SELECT {', '.join([_PLACE, *cells])} FROM {running} WHERE {_PLACE} IS NOT NULL"


class _Timers:
    """When partitions are forgotten: for each (by its hash) the newest timers, and the place of the row its life began
    with. A timer is a pair: its time, and the watermark that lets it go off, which is later where it was set behind the
    watermark, for timers go off when the watermark moves."""

    def __init__(self, name: str, frame_ms: int) -> None:
        self.frame_ms = frame_ms
        self._table = StateTable(name, [("key", "UBIGINT"), ("life", "BIGINT"), ("timers", "BIGINT[][]")])
        self._lives: dict[int, tuple[int, list[list[int]]]] = {}
        self._changed: set[int] = set()
        self._looked = 1_000

    def open(self, database: duckdb.DuckDBPyConnection) -> None:
        self._database = database
        self._table.open(database)
        rows = database.execute(f"SELECT * FROM {self._table.sql}").fetchall()
        self._lives = {key: (life, list(timers)) for key, life, timers in rows}

    def life(self, key: int, place: int, now_ms: int) -> int:
        """The partition's life at the time of a row, that row's own place if it begins one."""
        known = self._lives.get(key)
        if known is None:
            return place
        if known[1][-1][1] <= now_ms:
            del self._lives[key]
            self._changed.add(key)
            return place
        return known[0]

    def passed_ms(self, key: int, now_ms: int) -> int:
        """The newest timer that is through but did not forget the partition; 0 for none."""
        known = self._lives.get(key)
        return 0 if known is None else max((at for at, off in known[1] if off <= now_ms), default=0)

    def add(self, key: int, life: int, time_ms: int, now_ms: int) -> None:
        """A row was taken."""
        known = self._lives.get(key)
        if known is not None and known[1][-1][0] >= time_ms + self.frame_ms + 1:
            return
        timers = [] if known is None else known[1][-3:]  # timers are more than half a frame apart, the last within two
        timer_ms = time_ms + self.frame_ms * 3 // 2 + 1
        timers.append([timer_ms, max(timer_ms, now_ms + 1)])
        self._lives[key] = (life, timers)
        self._changed.add(key)

    def save(self, clock_ms: int) -> None:
        if len(self._lives) > self._looked:
            for key in [key for key, (_, timers) in self._lives.items() if timers[-1][1] <= clock_ms]:
                del self._lives[key]
                self._changed.add(key)
            self._looked = 2 * len(self._lives) + 1_000
        if not self._changed:
            return
        import pyarrow as pa

        keys = sorted(self._changed)
        lives = [self._lives.get(key) for key in keys]
        changed = pa.table(
            {
                "key": pa.array(keys, pa.uint64()),
                "life": pa.array([None if each is None else each[0] for each in lives], pa.int64()),
                "timers": pa.array(
                    [None if each is None else each[1] for each in lives], pa.list_(pa.list_(pa.int64()))
                ),
            }
        )
        self._database.register("over_timers", changed)
        self._table.remove("key IN (SELECT key FROM over_timers)")
        self._table.add("SELECT key, life, timers FROM over_timers WHERE life IS NOT NULL")
        self._database.unregister("over_timers")
        self._changed.clear()


class OverOperator:
    """Rows in the order of their time, then of arrival; by processing time in that of arrival, at once (with a bounded
    RANGE when its millisecond is over, for its rows share a value)."""

    def __init__(self, name: str, node: Over, input: Input) -> None:
        if input.changes is Changes.UPDATES:
            raise NotSupported("OVER a relation whose rows change is not supported.")
        self.name = name
        self.inputs: Sequence[Input] = (input,)
        self.counts = Counts()
        self._input = input
        self._node = node
        self._is_event = node.time_kind == "event"
        self._keys = [f'"$$k{index}"' for index in range(len(node.partition))]
        own = {call.name for call in node.calls}
        read = {column.name for column in node.columns} - own
        for call in node.calls:
            read |= call.aggregate.columns if call.aggregate is not None else set()
            if call.function is not None and "(" in call.function and not call.function.endswith("()"):
                read |= {column.name for column in input.columns if quoted(column.name) in call.function}
        self._columns = [column for column in input.columns if column.name in read]
        self._names = [quoted(column.name) for column in self._columns]
        keys = [(key, bound.type.duckdb) for key, bound in zip(self._keys, node.partition, strict=True)]
        self._table = StateTable(
            f"{name}_rows",
            [
                *((quoted(column.name), column.type.duckdb) for column in self._columns),
                *keys,
                *[
                    (NUMBER, "BIGINT"),
                    (_PLACE, "BIGINT"),
                    (_TIME, "BIGINT"),
                    (_BEFORE, "BIGINT"),
                    (_IS_OUT, "BOOLEAN"),
                    (_LIFE, "BIGINT"),
                ],
            ],
        )
        summed = [call for call in node.calls if self._is_summed(call)]
        self._looking = [call for call in node.calls if not self._is_summed(call)]
        self._sums = [
            _Sums(f"{name}_{unit.lower()}_sums", [(call, call.aggregate) for call in calls], keys)
            for unit in ("RANGE", "ROWS")
            if (calls := [call for call in summed if self._frame(call).unit == unit])
        ]
        self._units = [u for u in ("RANGE", "ROWS") if any(self._frame(call).unit == u for call in summed)]
        self._is_bounded = all(call.function is None and call.frame.preceding is not None for call in node.calls)
        frames = [call.frame for call in node.calls]
        by_range = bool(frames) and all(frame.unit == "RANGE" for frame in frames)
        self._timers = None
        if self._is_bounded and self._is_event and by_range:
            self._timers = _Timers(f"{name}_timers", max(frame.preceding or 0 for frame in frames))
        self._new = quoted(f"{name}_new")
        self._ready = quoted(f"{name}_ready")
        self._next = 0
        self._least_ms: int | None = None

    def _frame(self, call: OverCall) -> Frame:
        if call.function is not None:
            # LAG has no frame of its own: Flink computes it with RANGE, so rows of one time share a value.
            return Frame("ROWS" if call.function in _NUMBERS else "RANGE", None)
        if not self._is_event and call.frame.preceding is None:
            return Frame("ROWS", None)  # `ProcTimeUnboundedPrecedingFunction` goes row by row
        return call.frame

    def _is_summed(self, call: OverCall) -> bool:
        if call.function is not None:
            return call.function in _NUMBERS
        assert call.aggregate is not None
        return call.frame.preceding is None and call.aggregate.is_mergeable

    def open(self, database: duckdb.DuckDBPyConnection) -> None:
        self._database = database
        self._table.open(database)
        for sums in self._sums:
            sums.open(database)
        if self._timers is not None:
            self._timers.open(database)
        self._next = self._table.one(f"SELECT coalesce(max({_PLACE}) + 1, 0) FROM {self._table.sql}")
        self._look()

    def _look(self) -> None:
        asked = f"SELECT min({_TIME}) FROM {self._table.sql} WHERE NOT {_IS_OUT}"
        self._least_ms = self._database.execute(asked).fetchall()[0][0]

    def step(self, tick: Tick) -> pa.Table | None:
        if self._input.has_rows:
            self._take()
        limit_ms = tick.watermark_ms
        if not self._is_event:
            shares = any(
                self._frame(call).unit == "RANGE" and call.frame.preceding is not None for call in self._looking
            )
            limit_ms = tick.arrived_ms - 1 if shares and not tick.is_last else END_MS
        if self._least_ms is None or self._least_ms > limit_ms:
            return None
        rows = self._come_out(limit_ms)
        self._forget(tick.clock_ms(self._node.time_kind))
        if self._timers is not None:
            self._timers.save(tick.watermark_ms)
        self._look()
        return rows if rows.num_rows else None

    # -- taking in ---------------------------------------------------------------------------------------------------

    def _take(self) -> None:
        node = self._node
        time = f"epoch_ms({node.time.sql})" if self._is_event else f"epoch_ms({ARRIVED})"
        keys = [f"{bound.sql} AS {key}" for key, bound in zip(self._keys, node.partition, strict=True)]
        before = WATERMARK if self._is_event else str(NO_WATERMARK_MS)
        place = f"{self._next} + row_number() OVER (ORDER BY {NUMBER}) - 1 AS {_PLACE}"
        cells = [
            *self._names,
            *keys,
            NUMBER,
            place,
            f"{time} AS {_TIME}",
            f"{before} AS {_BEFORE}",
            f"false AS {_IS_OUT}",
            f"0::BIGINT AS {_LIFE}",
        ]
        self._database.execute(
            f"CREATE OR REPLACE TEMP TABLE {self._new} AS SELECT {', '.join(cells)} FROM ({self._input.sql})"
        )
        late = f"{_TIME} <= {_BEFORE}"
        asked = f"SELECT count(*), count(*) FILTER ({late}), min({_TIME}) FROM {self._new}"
        count, late_rows, least_ms = self._database.execute(asked).fetchall()[0]
        if not count:
            return
        self._next += count
        if self._timers is not None:
            added = self._table.add(self._lively(self._timers, late))
        elif late_rows or (self._is_bounded and node.calls and least_ms <= 0):
            taken = self._late_that_count(late) if self._is_bounded else []
            listed = f" OR {_PLACE} IN ({', '.join(map(str, taken))})" if taken else ""
            floor = f" AND {_TIME} > 0" if self._is_bounded and node.calls and self._is_event else ""
            added = self._table.add(f"SELECT * FROM {self._new} WHERE (NOT ({late}){listed}){floor}")
        else:
            added = self._table.add(f"SELECT * FROM {self._new}")
        if added < count:
            self.counts.late_rows += count - added
            kept = f"SELECT {_PLACE} FROM {self._table.sql}"
            late_rows_sql = f'SELECT *, {_BEFORE} AS "$wm" FROM {self._new} WHERE {_PLACE} NOT IN ({kept})'
            self.counts.keep_late(self._database, late_rows_sql, self._names)
        if added:
            self._least_ms = least_ms if self._least_ms is None else min(self._least_ms, least_ms)

    def _accepted(self, late: str) -> dict[str, list[tuple[int, int, int, int]]]:
        """Rows that are kept of partitions with late rows: (time, watermark, place, life)."""
        columns = ", ".join([*self._keys, _TIME, _BEFORE, _PLACE, _LIFE])
        among = f"SELECT 1 FROM {self._new} AS l WHERE l.{_TIME} <= l.{_BEFORE} AND {same('l', 'r', self._keys)}"
        asked = f"SELECT {columns} FROM {self._table.sql} AS r WHERE EXISTS ({among})"
        found: dict[str, list[tuple[int, int, int, int]]] = defaultdict(list)
        for *key, time_ms, before_ms, place, life in self._database.execute(asked).fetchall():
            found[repr(key)].append((time_ms, before_ms, place, life))
        return found

    def _lively(self, timers: _Timers, late: str) -> str:
        """A SELECT of the rows that count, each with its partition's life: row by row, as timers go."""
        import pyarrow as pa

        hashed = f"hash({', '.join(self._keys)})" if self._keys else "0::UBIGINT"
        asked = f"SELECT {hashed} AS h, {_TIME} AS t, {_BEFORE} AS w, {_PLACE} AS i FROM {self._new} ORDER BY {_PLACE}"
        keys, times, befores, places = (each.to_pylist() for each in table_of(self._database, asked).columns)
        late_keys = {key for key, time_ms, before_ms in zip(keys, times, befores, strict=True) if time_ms <= before_ms}
        accepted: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
        if late_keys:
            self._database.register("over_late", pa.table({"h": pa.array(sorted(late_keys), pa.uint64())}))
            rows = f"SELECT {hashed} AS h, {_TIME}, {_BEFORE}, {_LIFE} FROM {self._table.sql}"
            kept = self._database.execute(f"SELECT * FROM ({rows}) WHERE h IN (SELECT h FROM over_late)").fetchall()
            self._database.unregister("over_late")
            for key, time_ms, before_ms, life in kept:
                accepted[key].append((time_ms, before_ms, life))
        lives: list[int] = []
        for key, time_ms, before_ms, place in zip(keys, times, befores, places, strict=True):
            life = timers.life(key, place, before_ms)
            if key in late_keys:
                if time_ms <= before_ms:
                    out = [
                        each
                        for each, at_ms, of in accepted[key]
                        if of == life and each <= before_ms and (each > at_ms or before_ms > at_ms)
                    ]
                    if time_ms <= max(max(out, default=0), timers.passed_ms(key, before_ms)):
                        lives.append(-1)
                        continue
                accepted[key].append((time_ms, before_ms, life))
            if time_ms <= 0:  # Flink's "last" is 0 before there is one
                lives.append(-1)
                continue
            timers.add(key, life, time_ms, before_ms)
            lives.append(life)
        self._database.register(
            "over_lives", pa.table({"i": pa.array(places, pa.int64()), "g": pa.array(lives, pa.int64())})
        )
        # Read before the next tick's takes its place: `add` runs it at once.
        return (
            f"SELECT n.* REPLACE (v.g AS {_LIFE}) FROM {self._new} AS n JOIN over_lives AS v ON v.i = n.{_PLACE}"
            " WHERE v.g >= 0"
        )

    def _late_that_count(self, late: str) -> list[int]:
        """Places of rows that came behind the watermark, but before their partition had gone further."""
        columns = ", ".join([*self._keys, _TIME, _BEFORE, _PLACE])
        found = self._database.execute(f"SELECT {columns} FROM {self._new} WHERE {late} ORDER BY {_PLACE}").fetchall()
        accepted = self._accepted(late)
        among = f"SELECT 1 FROM {self._new} AS l WHERE l.{_TIME} <= l.{_BEFORE} AND {same('l', 'r', self._keys)}"
        asked = f"SELECT {columns} FROM (SELECT * FROM {self._new} WHERE NOT ({late})) AS r WHERE EXISTS ({among})"
        for *key, time_ms, before_ms, place in self._database.execute(asked).fetchall():
            accepted[repr(key)].append((time_ms, before_ms, place, 0))
        floor_ms = 0 if self._node.calls else NO_WATERMARK_MS
        taken: list[int] = []
        for *key, time_ms, before_ms, place in found:
            others = accepted[repr(key)]
            out = [
                each
                for each, at_ms, where, _ in others
                if where < place and each <= before_ms and (each > at_ms or before_ms > at_ms)
            ]
            if time_ms > max(out, default=floor_ms):
                taken.append(place)
                others.append((time_ms, before_ms, place, 0))
        return taken

    @property
    def _lifetime_ms(self) -> int | None:
        """How long after its time a row can matter, where partitions are forgotten."""
        return None if self._timers is None else self._timers.frame_ms * 3 // 2 + 1

    # -- coming out --------------------------------------------------------------------------------------------------

    def _come_out(self, limit_ms: int) -> pa.Table:
        ordered = f"{_TIME} NULLS FIRST, {NUMBER}, {_PLACE}" if self._is_event else f"{NUMBER} NULLS FIRST, {_PLACE}"
        due = f"NOT {_IS_OUT} AND {_TIME} <= {limit_ms}"
        if not self._node.calls:
            cells = [f"r.{quoted(column.name)}" for column in self._node.columns]
            source = f"{self._table.sql} AS r WHERE {due}"
            return table_of(self._database, f"SELECT {', '.join(cells)} FROM {source} ORDER BY {_order('r', ordered)}")
        self._database.execute(
            f"CREATE OR REPLACE TEMP TABLE {self._ready} AS SELECT * FROM {self._table.sql} WHERE {due}"
        )
        joined = [f"{self._ready} AS r"]
        owner: dict[str, str] = {}
        for index, (sums, unit) in enumerate(zip(self._sums, self._units, strict=True)):
            joined.append(
                f"JOIN ({sums.apply(self._ready, ordered, unit)}) AS s{index} ON s{index}.{_PLACE} = r.{_PLACE}"
            )
            owner |= dict.fromkeys(sums._finals, f"s{index}")
        if self._looking:
            joined.append(f"JOIN ({self._looked_back(limit_ms, ordered)}) AS h ON h.{_PLACE} = r.{_PLACE}")
            owner |= dict.fromkeys((call.name for call in self._looking), "h")
        cells = [f"{owner.get(column.name, 'r')}.{quoted(column.name)}" for column in self._node.columns]
        sql = f"SELECT {', '.join(cells)} FROM {' '.join(joined)} ORDER BY {_order('r', ordered)}"
        return table_of(self._database, sql)

    def _looked_back(self, limit_ms: int, ordered: str) -> str:
        """A SELECT of `$$i` and the calls' values over what comes out and what is kept of before."""
        by = f"PARTITION BY {', '.join([*self._keys, _LIFE])} "
        inner: list[str] = []
        outer: list[str] = []
        for call in self._looking:
            name = quoted(call.name)
            frame = self._frame(call)
            if call.function is not None:
                text = windowed(call.function, f"({by}ORDER BY {ordered})")
                if (default := self._default(call)) is not None:
                    text = f"coalesce({text}, {default})"
                inner.append(f"{text} AS {name}")
                last = f"(PARTITION BY {', '.join([*self._keys, _TIME])} ORDER BY {ordered}"
                last += " ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)"
                outer.append(f"last_value({name}) OVER {last} AS {name}" if self._is_event else name)
                continue
            assert call.aggregate is not None
            start = "UNBOUNDED PRECEDING" if frame.preceding is None else f"{frame.preceding} PRECEDING"
            order = _TIME if frame.unit == "RANGE" else ordered
            window = f"({by}ORDER BY {order} {frame.unit} BETWEEN {start} AND CURRENT ROW)"
            inner.append(f"{windowed(call.aggregate.whole, window)} AS {name}")
            outer.append(name)
        hidden = [*self._keys, _PLACE, _TIME, NUMBER, _IS_OUT]
        rows = f"SELECT {', '.join([*hidden, *inner])} FROM {self._table.sql} WHERE {_IS_OUT} OR {_TIME} <= {limit_ms}"
        valued = f"SELECT {', '.join([_PLACE, _IS_OUT, *outer])} FROM ({rows})"
        return f"SELECT * FROM ({valued}) WHERE NOT {_IS_OUT}"

    def _default(self, call: OverCall) -> str | None:
        """What a LAG with a default gives for a value that is NULL. Flink's type for it is NOT NULL, and its generated
        code reads such a NULL as its placeholder: -1, false or an empty text."""
        assert call.function is not None
        arguments = _arguments(call.function)
        if len(arguments) < 3 or arguments[2].upper().startswith(("NULL", "CAST(NULL")):
            return None
        of = next(column.type for column in self._node.columns if column.name == call.name)
        if of.is_integer or of.is_approximate:
            return f"-1::{of.duckdb}"
        if of.is_text:
            return "''"
        return "false" if of.kind is Kind.BOOLEAN else None

    def _forget(self, clock_ms: int) -> None:
        """Marks what came out, and leaves of it what later rows look back at."""
        kept = self._kept_condition(clock_ms)
        names = ", ".join([*self._names, *self._keys, NUMBER, _PLACE, _TIME, _BEFORE])
        limit = f"{_TIME} <= {clock_ms}" if self._is_event else f"{_PLACE} IN (SELECT {_PLACE} FROM {self._ready})"
        if not self._node.calls:
            limit = f"{_TIME} <= {clock_ms}"
        marked = f"SELECT {names}, ({_IS_OUT} OR {limit}) AS {_IS_OUT}, {_LIFE} FROM {self._table.sql}"
        self._database.execute(f"CREATE OR REPLACE TABLE {self._table.sql} AS SELECT * FROM ({marked}) {kept}")
        self._table.rows = self._table.one(f"SELECT count(*) FROM {self._table.sql}")

    def _kept_condition(self, clock_ms: int) -> str:
        frames = [self._frame(call) for call in self._looking if call.function is None]
        if any(frame.preceding is None for frame in frames):
            return ""
        lags = [_lag_rows(call) for call in self._looking if call.function is not None]
        if any(each is None for each in lags):
            return ""
        by = f"PARTITION BY {', '.join([*self._keys, _LIFE, _IS_OUT])} "
        conditions = [f"NOT {_IS_OUT}"]
        counts = [frame.preceding or 0 for frame in frames if frame.unit == "ROWS"] + [each or 0 for each in lags]
        if self._is_bounded and self._is_event:
            counts.append(1)  # tells how far the partition has gone
        newest = f"row_number() OVER ({by}ORDER BY {_TIME} DESC, {NUMBER} DESC, {_PLACE} DESC)"
        ranges = [frame.preceding or 0 for frame in frames if frame.unit == "RANGE"]
        lifetime_ms = self._lifetime_ms
        alive = "" if lifetime_ms is None else f" AND {_TIME} > {clock_ms - lifetime_ms}"
        if counts:
            conditions.append(f"({newest} <= {max(counts)}{alive})")
        if ranges:
            conditions.append(f"({_TIME} >= max({_TIME}) OVER ({by.strip()}) - {max(ranges)}{alive})")
        return f"{'QUALIFY' if counts or ranges else 'WHERE'} {' OR '.join(conditions)}"


def _order(alias: str, ordered: str) -> str:
    return ", ".join(f"{alias}.{each}" for each in ordered.split(", "))
