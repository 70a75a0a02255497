"""Sessions: windows that rows make themselves, one after another until a gap.

    gap 10        0         10        20        30        40
    rows          a    b         c                   d
    sessions      [--------------------------)       [---------)
                  a: [0, 10)  b: [5, 15)  c: [15, 25) touches b's, which is enough;  d: [35, 45)

**Merging** (Flink's `MergingWindowProcessFunction`, `SessionWindowAssigner`): a row brings the window [t, t + gap); it
is merged with the sessions of its partition that are open and overlap or touch it. It is late if the merged window is
closed (`end - 1 <= $wm`), so a row behind the watermark still counts where it meets an open session, and it never
meets a closed one. In processing time a session closes when the clock reaches its end, so sessions that touch do not
merge.

**How it is done in bulk.** A row ahead of the watermark, `t > $wm + 1`, lies after every session that is closed when it
comes; so as long as a partition's rows are all of that kind, its sessions are the connected pieces of all its
intervals, in whatever order these came, and DuckDB finds them with window functions. Only partitions of a tick with a
row behind the watermark are gone through row by row (`_Judged`).
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

from streamkit_sql.errors import ValueProblem
from streamkit_sql.plan.nodes import NUMBER, WATERMARK, WindowAggregate, Windowed
from streamkit_sql.runtime.duck import table_of
from streamkit_sql.runtime.operator import Counts, Input, Tick
from streamkit_sql.runtime.partials import END, START, Partials
from streamkit_sql.types import quoted

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from streamkit_sql.runtime.session_rows import KeptRows

TIME: Final = '"$$time"'
CLOSED: Final = '"$$closed"'
"""0, or the number of a session that closed within the tick: what comes later does not meet it."""
_NEW: Final = '"$$new"'
_PIECE: Final = '"$$piece"'
_SUSPECT: Final = '"$$suspect"'
_DROPPED: Final = -1
_PLACES: Final = (CLOSED, START, END)


class Sessions:
    """`NAME_sessions` has a row per tick, session and key, with the session's interval as that tick alone knew it.
    They are put together when one of them has come to its end."""

    def __init__(
        self,
        name: str,
        node: WindowAggregate | Windowed,
        input: Input,
        counts: Counts,
        rows: KeptRows | None = None,
    ) -> None:
        """`rows` says what is kept of each where there is no aggregate."""
        assert node.time is not None
        assert node.spec.gap_ms > 0
        self._table = quoted(f"{name}_sessions")
        self._work = quoted(f"{name}_closing")
        self._suspects = quoted(f"{name}_suspects")
        self._verdicts = f"{name}_verdicts"
        self._node = node
        self._input = input
        self._counts = counts
        self._partials: Partials | KeptRows
        if isinstance(node, WindowAggregate):
            self._partials = Partials(node, input)
            time_kind: str = node.time_kind
            read = frozenset().union(*(bound.columns for _, bound in node.keys))
        else:
            assert rows is not None
            assert node.window is not None
            self._partials, time_kind, read = rows, node.window.time, frozenset()
        self._gap_ms = node.spec.gap_ms
        self._is_event = time_kind == "event"
        self._apart = ">" if self._is_event else ">="
        types = {column.name: column.type.duckdb for column in input.columns}
        self._partition = [quoted(column) for column in node.spec.partition]
        self._parts = [f'"$$s{index}"' for index in range(len(node.spec.partition))]
        self._types = [types[column] for column in node.spec.partition]
        self._is_one_per_session = self._partials.is_by_key and read <= set(node.spec.partition)
        self._least_end_ms: int | None = None
        self._rows = 0
        self._deleted = 0

    def open(self, database: duckdb.DuckDBPyConnection) -> None:
        self._database = database
        columns = [(place, "BIGINT") for place in _PLACES] + list(zip(self._parts, self._types, strict=True))
        texts = ", ".join(f"{name} {of}" for name, of in [*columns, *self._partials.columns])
        database.execute(f"CREATE TABLE IF NOT EXISTS {self._table} ({texts})")
        self._rows = self._one(f"SELECT count(*) FROM {self._table}")
        self._least_end_ms = self._one(f"SELECT min({END}) FROM {self._table}")

    def step(self, tick: Tick) -> pa.Table | None:
        if self._input.has_rows:
            self._take()
        limit_ms = tick.watermark_ms + 1 if self._is_event else tick.arrived_ms
        if self._least_end_ms is None or limit_ms < self._least_end_ms:
            return None
        return self._close(limit_ms)

    # -- rows come ---------------------------------------------------------------------------------------------------

    def _take(self) -> None:
        assert self._node.time is not None
        parts = "".join(f", {text} AS {name}" for text, name in zip(self._partition, self._parts, strict=True))
        timed = f"(SELECT *, epoch_ms({self._node.time.sql}) AS {TIME}{parts} FROM ({self._input.sql}))"
        asked = f"SELECT count(*), count({TIME}), min({TIME}), max({TIME}), max({WATERMARK} - {TIME}) FROM {timed}"
        rows, timed_rows, least_ms, greatest_ms, behind_ms = self._database.execute(asked).fetchall()[0]
        if not rows:
            return
        if timed_rows < rows:
            raise ValueProblem("RowTime field should not be null, please convert it to a non-null long value.")
        is_judged = self._is_event and behind_ms >= -1
        source = self._judged_rows(timed) if is_judged else f"(SELECT *, 0::BIGINT AS {CLOSED} FROM {timed})"
        self._rows += self._one(f"INSERT INTO {self._table} {self._intervals(source, greatest_ms - least_ms)}")
        if is_judged:
            self._database.unregister(self._verdicts)
        end_ms = least_ms + self._gap_ms
        self._least_end_ms = end_ms if self._least_end_ms is None else min(self._least_end_ms, end_ms)

    def _intervals(self, source: str, span_ms: int) -> str:
        """What is stored of a tick's rows. Accumulators have an interval without holes."""
        if self._partials.is_raw:
            places = [CLOSED, f"{TIME} AS {START}", f"{TIME} + {self._gap_ms} AS {END}", *self._parts]
            return self._partials.of_rows(places, source)
        places = [CLOSED, f"min({TIME}) AS {START}", f"max({TIME}) + {self._gap_ms} AS {END}", *self._parts]
        if span_ms < self._gap_ms:
            return self._partials.of_rows(places, source)
        over = f"(PARTITION BY {', '.join([*self._parts, CLOSED])} ORDER BY {TIME})"
        apart = f"coalesce({TIME} - lag({TIME}) OVER {over} {self._apart} {self._gap_ms}, true)"
        marked = f"(SELECT *, {apart} AS {_NEW} FROM {source})"
        numbered = f"(SELECT *, count(*) FILTER ({_NEW}) OVER {over} AS {_PIECE} FROM {marked})"
        return f"SELECT * EXCLUDE ({_PIECE}) FROM ({self._partials.of_rows([*places, _PIECE], numbered)})"

    def _connected(self, stored: str) -> str:
        """Stored rows, with `$$start` and `$$end` of the session their interval is part of."""
        over = f"PARTITION BY {', '.join([*self._parts, CLOSED])}"
        order = f"ORDER BY {START}, {END}"
        before = f"max({END}) OVER ({over} {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
        marked = f"(SELECT *, coalesce({START} {self._apart} {before}, true) AS {_NEW} FROM ({stored}))"
        # Equal intervals are peers: by RANGE, the default, all of them count the mark that one of them has.
        numbered = f"(SELECT *, count(*) FILTER ({_NEW}) OVER ({over} {order}) AS {_PIECE} FROM {marked})"
        if self._is_one_per_session:
            places = [CLOSED, f"min({START}) AS {START}", f"max({END}) AS {END}", *self._parts, _PIECE]
            return f"SELECT * EXCLUDE ({_PIECE}) FROM ({self._partials.compacted(places, numbered)})"
        within = f"OVER ({over}, {_PIECE})"
        whole = f"min({START}) {within} AS {START}, max({END}) {within} AS {END}"
        return f"SELECT * EXCLUDE ({_NEW}, {_PIECE}) REPLACE ({whole}) FROM {numbered}"

    # -- rows behind the watermark -----------------------------------------------------------------------------------

    def _same(self, left: str, right: str) -> str:
        pairs = [f"{left}.{part} IS NOT DISTINCT FROM {right}.{part}" for part in self._parts]
        return " AND ".join(pairs) or "true"

    def _judged_rows(self, timed: str) -> str:
        """The rows that are not late, with the number of the session that they went into if it closed within the
        tick. State that belongs to such a session is marked, too."""
        database = self._database
        names = ", ".join(self._parts)
        chosen = f"SELECT DISTINCT {names or '0 AS one'} FROM {timed} WHERE {TIME} <= {WATERMARK} + 1"
        numbered = f"SELECT *, row_number() OVER () AS {_SUSPECT} FROM ({chosen})"
        database.execute(f"CREATE OR REPLACE TEMP TABLE {self._suspects} AS {numbered}")
        joined = f"JOIN {self._suspects} AS s ON {self._same('r', 's')}"
        rows = database.execute(
            f"SELECT DISTINCT {_SUSPECT}, {NUMBER}, {TIME}, {WATERMARK} FROM {timed} AS r {joined} ORDER BY ALL"
        ).fetchall()
        found = database.execute(
            f"SELECT DISTINCT {_SUSPECT}, {START}, {END} FROM {self._table} AS r {joined} ORDER BY ALL"
        ).fetchall()
        state: dict[int, list[tuple[int, int]]] = {}
        for suspect, start_ms, end_ms in found:
            state.setdefault(suspect, []).append((start_ms, end_ms))
        verdicts: list[tuple[int, int, int, int]] = []
        closed: list[tuple[int, int, int, int]] = []
        count = 0
        for suspect, group in groupby(rows, key=lambda row: int(row[0])):
            judged = _Judged([row[1:] for row in group], _united(state.get(suspect, [])), self._gap_ms, count)
            count = judged.count
            verdicts += [(suspect, *verdict) for verdict in judged.verdicts]
            closed += [(suspect, *session) for session in judged.closed]
        if closed and state:
            self._mark(closed)
        self._register(verdicts, "$$suspect", "$$number", "$$when", "$$verdict")
        same = f'v."$$suspect" = s."$$suspect" AND "$$number" = {NUMBER} AND "$$when" = {TIME}'
        joined += f" LEFT JOIN {quoted(self._verdicts)} AS v ON {same}"
        told = f'SELECT r.*, coalesce("$$verdict", 0) AS {CLOSED} FROM {timed} AS r LEFT {joined}'
        if late_rows := self._one(f"SELECT count(*) FROM ({told}) WHERE {CLOSED} = {_DROPPED}"):
            self._counts.late_rows += late_rows
            late_names = [quoted(column.name) for column in self._input.columns]
            self._counts.keep_late(database, f"SELECT * FROM ({told}) WHERE {CLOSED} = {_DROPPED}", late_names)
        return f"(SELECT * FROM ({told}) WHERE {CLOSED} <> {_DROPPED})"

    def _mark(self, closed: list[tuple[int, int, int, int]]) -> None:
        """State that is part of a session that closed within the tick."""
        self._register(closed, "$$suspect", "$$from", "$$to", "$$session")
        same = f'{self._same("r", "c")} AND {START} >= "$$from" AND {END} <= "$$to" AND {CLOSED} = 0'
        sessions = f"SELECT * FROM {self._suspects} JOIN {quoted(self._verdicts)} USING ({_SUSPECT})"
        self._database.execute(
            f'UPDATE {self._table} AS r SET {CLOSED} = "$$session" FROM ({sessions}) AS c WHERE {same}'
        ).fetchall()

    def _register(self, rows: list[tuple[int, int, int, int]], *names: str) -> None:
        import pyarrow as pa

        columns = [pa.array([row[place] for row in rows], pa.int64()) for place in range(len(names))]
        self._database.register(self._verdicts, pa.table(columns, list(names)))

    # -- sessions close ----------------------------------------------------------------------------------------------

    def _close(self, limit_ms: int) -> pa.Table | None:
        database = self._database
        due = f"{END} <= {limit_ms} OR {CLOSED} <> 0"
        names = ", ".join(self._parts)
        chosen = f"SELECT DISTINCT {names or '0 AS one'} FROM {self._table} WHERE {due}"
        candidates = f"SELECT * FROM {self._table} AS r SEMI JOIN ({chosen}) AS s ON {self._same('r', 's')}"
        database.execute(f"CREATE OR REPLACE TEMP TABLE {self._work} AS {self._connected(candidates)}")
        # The condition of DELETE has no aliases of its own for columns: the table's name stands for them.
        delete = f"DELETE FROM {self._table} USING ({chosen}) AS s WHERE {self._same(self._table, 's')}"
        taken = self._one(delete)
        work = f"(SELECT * FROM {self._work} WHERE {END}"
        results = table_of(database, self._partials.results(f"{work} <= {limit_ms})"))
        left = self._partials.compacted([*_PLACES, *self._parts], f"{work} > {limit_ms})")
        kept = self._one(f"INSERT INTO {self._table} {left}")
        database.execute(f"DROP TABLE {self._work}")
        self._rows += kept - taken
        self._deleted += taken
        if self._deleted > self._rows:
            database.execute(f"CREATE OR REPLACE TABLE {self._table} AS SELECT * FROM {self._table}")
            self._deleted = 0
        self._least_end_ms = self._one(f"SELECT min({END}) FROM {self._table}")
        return results

    def _one(self, sql: str) -> int:
        value: int = self._database.execute(sql).fetchall()[0][0]
        return value


def _united(intervals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Intervals in order, those that overlap or touch made one."""
    united: list[tuple[int, int]] = []
    for start_ms, end_ms in sorted(intervals):
        if united and start_ms <= united[-1][1]:
            united[-1] = (united[-1][0], max(united[-1][1], end_ms))
        else:
            united.append((start_ms, end_ms))
    return united


class _Judged:
    """What becomes of one partition's rows, one after another.

    `rows` are (number, time, watermark) in order. `verdicts` are (number, time, session): 0 for a session that is open
    still, -1 for a late row. `closed` are (start, end, session) of sessions that closed meanwhile.
    """

    __slots__ = ("_members", "_open", "closed", "count", "verdicts")

    def __init__(
        self, rows: list[tuple[int, int, int]], sessions: list[tuple[int, int]], gap_ms: int, count: int
    ) -> None:
        self.count = count
        self.closed: list[tuple[int, int, int]] = []
        self.verdicts: list[tuple[int, int, int]] = []
        self._open: list[tuple[int, int, list[int]]] = [(start_ms, end_ms, []) for start_ms, end_ms in sessions]
        for number, time_ms, watermark_ms in rows:
            self._retire(watermark_ms)
            start_ms, end_ms = time_ms, time_ms + gap_ms
            members: list[int] = []
            apart = []
            for each in self._open:
                if each[0] <= end_ms and each[1] >= start_ms:
                    start_ms, end_ms = min(start_ms, each[0]), max(end_ms, each[1])
                    members += each[2]
                else:
                    apart.append(each)
            if end_ms - 1 <= watermark_ms:
                self.verdicts.append((number, time_ms, _DROPPED))
                continue
            members.append(len(self.verdicts))
            self.verdicts.append((number, time_ms, 0))
            self._open = [*apart, (start_ms, end_ms, members)]

    def _retire(self, watermark_ms: int) -> None:
        if all(each[1] - 1 > watermark_ms for each in self._open):
            return
        for start_ms, end_ms, members in self._open:
            if end_ms - 1 <= watermark_ms:
                self.count += 1
                self.closed.append((start_ms, end_ms, self.count))
                for place in members:
                    number, time_ms, _ = self.verdicts[place]
                    self.verdicts[place] = (number, time_ms, self.count)
        self._open = [each for each in self._open if each[1] - 1 > watermark_ms]
