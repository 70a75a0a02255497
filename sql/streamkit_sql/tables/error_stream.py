"""Rows that no query counted: those that could not be read, and those that came too late.

They are kept in the application's state, in the transaction of the rows around them, and can be read as a table: by the
script itself (`INSERT INTO t SELECT .. FROM error_stream`), and as a live table. Only the newest are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from streamkit_sql.expressions.bound import Column
from streamkit_sql.language import tree
from streamkit_sql.limits import ERROR_AGE_MS_MAX, ERROR_ROW_CHARACTERS_MAX, ERROR_ROWS_MAX
from streamkit_sql.runtime.duck import table_of
from streamkit_sql.runtime.operator import END_MS, NO_WATERMARK_MS
from streamkit_sql.runtime.results import to_arrow
from streamkit_sql.tables.definition import TableDefinition
from streamkit_sql.tables.source import SourceBatch
from streamkit_sql.types import BIGINT, BOOLEAN, STRING, quoted, timestamp_ltz

if TYPE_CHECKING:
    import duckdb

    from streamkit_sql.runtime.driver import BadRow, SplitState
    from streamkit_sql.runtime.engine import Late

ERROR_STREAM: Final = "error_stream"
WATERMARKS: Final = "streamkit_watermarks"
SPLIT: Final = "errors"
_TIME: Final = timestamp_ltz(3)
ERROR_COLUMNS: Final = (
    Column("error_time", _TIME),
    Column("error_name", STRING),
    Column("message", STRING),
    Column("table_name", STRING),
    Column("shard", STRING),
    Column("sequence_number", STRING),
    Column("row", STRING),
    Column("watermark", _TIME),
)
"""`error_name` is `malformed` or `late`. `row` is the text of what came, bytes that are no text replaced; of a late row
the columns that its query reads, as JSON. `table_name` of a late row are the tables that its operator reads."""
WATERMARK_COLUMNS: Final = (
    Column("table_name", STRING),
    Column("shard", STRING),
    Column("watermark", _TIME),
    Column("is_idle", BOOLEAN),
    Column("holds_back", BOOLEAN),
    Column("last_arrival", _TIME),
    Column("rows_taken", BIGINT),
)
"""`holds_back`: no window can close before more comes from this one. `rows_taken` and `last_arrival` are of this run;
`watermark` is NULL before the first row."""


def system_tables() -> list[TableDefinition]:
    """What an application has beside what its script declares."""
    return [
        _definition(ERROR_STREAM, ERROR_COLUMNS, "streamkit-errors"),
        _definition(WATERMARKS, WATERMARK_COLUMNS, "live"),
    ]


def _definition(name: str, columns: Sequence[Column], connector: str) -> TableDefinition:
    physical = tuple(tree.PhysicalColumn(each.name, each.type) for each in columns)
    options = MappingProxyType({"connector": connector})
    return TableDefinition(name=name, columns=physical, connector=connector, format=None, options=options)


class ErrorLog:
    """The rows in the state's table `error_log`, numbered. Calls belong to the open transaction."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._last_ms = 0
        self._first = 0
        self.next = 0
        """The number of the next row."""

    def open(self, database: duckdb.DuckDBPyConnection) -> None:
        self._database = database
        texts = ", ".join(f"{quoted(column.name)} {column.type.duckdb}" for column in ERROR_COLUMNS)
        database.execute(f'CREATE TABLE IF NOT EXISTS error_log ("$n" BIGINT, {texts})')
        asked = 'SELECT min("$n"), max("$n"), epoch_ms(max(error_time)) FROM error_log'
        first, last, last_ms = database.execute(asked).fetchall()[0]
        if last is not None:
            self._first, self.next, self._last_ms = first, last + 1, last_ms

    def add_bad(self, rows: Sequence[BadRow]) -> None:
        texts = [_text(each.row) for each in rows]
        self._add(
            ["malformed"] * len(rows),
            [each.reason for each in rows],
            [each.table for each in rows],
            [each.split for each in rows],
            [each.sequence_number for each in rows],
            pa.array(texts, pa.string()),
            [each.watermark_ms for each in rows],
        )

    def add_late(self, late: Late) -> None:
        count = late.rows.num_rows
        message = "the watermark had passed the end of its window or its time when it came"
        marks = late.rows["wm"].to_pylist()
        self._add(
            ["late"] * count, [message] * count, [", ".join(late.tables)] * count, [None] * count, [None] * count,
            late.rows["row"], marks,
        )  # fmt: skip

    def _add(
        self,
        names: list[str],
        messages: list[str],
        tables: list[str],
        splits: Sequence[str | None],
        numbers: Sequence[str | None],
        rows: pa.Array | pa.ChunkedArray,
        marks: Sequence[int],
    ) -> None:
        count = len(names)
        if not count:
            return
        self._last_ms = max(self._now_ms(), self._last_ms)
        columns = [
            pa.array(range(self.next, self.next + count), pa.int64()),
            pa.array([self._last_ms * 1000] * count, pa.timestamp("us")),
            *(pa.array(each, pa.string()) for each in (names, messages, tables, splits, numbers)),
            rows,
            instants(marks),
        ]
        self._database.register("error_rows", pa.table(columns, ["$n", *(each.name for each in ERROR_COLUMNS)]))
        self._database.execute("INSERT INTO error_log SELECT * FROM error_rows")
        self._database.unregister("error_rows")
        self.next += count

    def trim(self) -> None:
        """Drops what is too old or too much."""
        oldest_ms = self._now_ms() - ERROR_AGE_MS_MAX
        if self.next - self._first > ERROR_ROWS_MAX + ERROR_ROWS_MAX // 10 or self._is_older(oldest_ms):
            keep = self.next - ERROR_ROWS_MAX
            self._database.execute(f'DELETE FROM error_log WHERE "$n" < {keep} OR epoch_ms(error_time) < {oldest_ms}')
            found = self._database.execute('SELECT min("$n") FROM error_log').fetchall()[0][0]
            self._first = self.next if found is None else found

    def _is_older(self, oldest_ms: int) -> bool:
        if self._first == self.next:
            return False
        asked = f'SELECT epoch_ms(min(error_time)) FROM error_log WHERE "$n" = {self._first}'
        found = self._database.execute(asked).fetchall()[0][0]
        return found is not None and found < oldest_ms

    def after(self, number: int, rows_max: int) -> pa.Table:
        """Rows from this number on."""
        return table_of(
            self._database, f'SELECT * FROM error_log WHERE "$n" >= {number} ORDER BY "$n" LIMIT {rows_max}'
        )

    @staticmethod
    def read(database: duckdb.DuckDBPyConnection) -> pa.Table:
        names = ", ".join(quoted(column.name) for column in ERROR_COLUMNS)
        return to_arrow(table_of(database, f'SELECT {names} FROM error_log ORDER BY "$n"'), ERROR_COLUMNS)


class ErrorSource:
    """See `streamkit_sql.tables.source.TableSource`: it ends when all the other tables have."""

    def __init__(self, log: ErrorLog) -> None:
        self._log = log
        self.others_ended: Callable[[], bool] = lambda: False

    @property
    def is_bounded(self) -> bool:
        return self.others_ended()

    async def splits(self) -> Sequence[str]:
        return [SPLIT]

    async def read(self, split: str, position: str | None, rows_max: int, bytes_max: int) -> SourceBatch | None:
        start = int(position or 0)
        if start >= self._log.next:
            return None
        rows = self._log.after(start, rows_max)
        if not rows.num_rows:
            return None
        arrived = rows["error_time"].combine_chunks().cast(pa.int64()).to_numpy() // 1000
        after = rows["$n"][-1].as_py() + 1
        return SourceBatch(SPLIT, rows.drop_columns(["$n"]), np.ascontiguousarray(arrived), str(after))


def watermarks_table(states: Sequence[SplitState]) -> pa.Table:
    """As `streamkit_watermarks` shows them."""
    columns: list[pa.Array] = [
        pa.array([each.table for each in states], pa.string()),
        pa.array([each.split for each in states], pa.string()),
        instants([each.watermark_ms for each in states]),
        pa.array([each.is_idle for each in states], pa.bool_()),
        pa.array([each.holds_back for each in states], pa.bool_()),
        instants([each.arrived_ms for each in states]),
        pa.array([each.rows_taken for each in states], pa.int64()),
    ]
    return to_arrow(pa.table(columns, [each.name for each in WATERMARK_COLUMNS]), WATERMARK_COLUMNS)


def instants(values_ms: Sequence[int]) -> pa.Array:
    """Times; NULL for what is before all times or after them."""
    known = [value * 1000 if NO_WATERMARK_MS < value < END_MS else None for value in values_ms]
    return pa.array([None if each is None or abs(each) >= 2**63 else each for each in known], pa.timestamp("us"))


def _text(row: bytes | str | None) -> str | None:
    if row is None:
        return None
    text = row if isinstance(row, str) else row[: 4 * ERROR_ROW_CHARACTERS_MAX].decode(errors="replace")
    return text[:ERROR_ROW_CHARACTERS_MAX]
