"""Windows by the clock of a zone: the operator under it has its watermarks and its time of arrival on that clock.

Windows of a TIMESTAMP_LTZ start and end on the session's wall clock, as do their rows' times; a watermark is an
instant. Put on the same clock, it says which windows are closed. Where an hour comes twice, in autumn, the windows
within it stay open until it has gone by again; an hour that is left out in spring is over when it would have begun
(Flink's `TimeWindowUtil.toEpochMillsForTimer`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from streamkit_sql.plan.nodes import WATERMARK
from streamkit_sql.runtime.operator import Counts, Input, Operator, Tick
from streamkit_sql.types import text_literal

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_HOUR_MS: Final = 3_600_000
_FIRST_MS: Final = -62_135_596_800_000  # the year 1
_LAST_MS: Final = 253_402_300_799_999  # the end of 9999; what is beyond is no time but the end or the beginning


def clock_sql(ms: str, zone: str) -> str:
    """Epoch milliseconds, on the zone's clock; never goes back where they do not."""

    held = f"least(greatest({ms}, {_FIRST_MS}), {_LAST_MS})"  # DuckDB may compute branches that are not taken

    def shown(of: str) -> str:
        return f"epoch_ms(timezone({text_literal(zone)}, timezone('UTC', make_timestamp(({of}) * 1000))))"

    now = shown(held)
    before = f"({now} - ({now} % {_HOUR_MS} + {_HOUR_MS}) % {_HOUR_MS} - 1)"
    repeats = f"{shown(f'{held} + {_HOUR_MS}')} = {now}"
    clock = f"CASE WHEN {repeats} THEN {before} ELSE {now} END"
    return f"CASE WHEN {ms} BETWEEN {_FIRST_MS} AND {_LAST_MS} THEN {clock} ELSE {ms} END"


class InZone:
    """An operator whose clocks are those of a zone. It is the operator that `make` makes of inputs."""

    def __init__(self, zone: str, make: Callable[..., Operator], inputs: Sequence[Input]) -> None:
        shown = f"SELECT * REPLACE ({clock_sql(WATERMARK, zone)} AS {WATERMARK})"
        self._inner = make(*(replace(each, sql=f"{shown} FROM ({each.sql})") for each in inputs))
        self._zone = zone
        self.name = self._inner.name
        self.inputs: Sequence[Input] = self._inner.inputs
        self.counts: Counts = self._inner.counts

    def open(self, database: duckdb.DuckDBPyConnection) -> None:
        self._database = database
        self._inner.open(database)

    def step(self, tick: Tick) -> pa.Table | None:
        clocks = (tick.watermark_ms, tick.watermark_before_ms, tick.arrived_ms)
        cells = ", ".join(clock_sql(f"{each}::BIGINT", self._zone) for each in clocks)
        watermark_ms, before_ms, arrived_ms = self._database.execute(f"SELECT {cells}").fetchall()[0]
        own = replace(tick, watermark_ms=watermark_ms, watermark_before_ms=before_ms, arrived_ms=arrived_ms)
        return self._inner.step(own)
