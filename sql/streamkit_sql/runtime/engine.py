"""Runs a program tick by tick. It is synchronous and owns its DuckDB connection; whoever drives it keeps the thread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from streamkit_sql.expressions.bound import Column
from streamkit_sql.plan.nodes import Changes, Output, Scan
from streamkit_sql.runtime.duck import table_of
from streamkit_sql.runtime.operator import END_MS, NO_WATERMARK_MS, Edge, Tick
from streamkit_sql.runtime.program import Program
from streamkit_sql.types import quoted

if TYPE_CHECKING:
    import duckdb

_MICROSECONDS = pa.timestamp("us")


@dataclass(frozen=True, slots=True)
class Emitted:
    """Rows of a query's result: its columns, and `$w` last where it updates. Never empty."""

    output: Output
    rows: pa.Table


@dataclass(frozen=True, slots=True)
class Late:
    """Rows that an operator left out in a tick; `tables` are those its rows come from. See `Counts.late`."""

    tables: tuple[str, ...]
    rows: pa.Table


class Engine:
    """State is in the connection: its owner begins and commits transactions around ticks."""

    def __init__(self, program: Program, database: duckdb.DuckDBPyConnection) -> None:
        self.program = program
        self._database = database
        self._number = 0
        self._next_row = 0
        self._watermark_ms = NO_WATERMARK_MS
        self._arrived_ms = 0
        self._empty: dict[str, pa.Table] = {}
        self._known: set[str] = set()

    def open(self) -> None:
        """Finds the state of a run before, or makes an empty one."""
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS engine "
            '("number" BIGINT, next_row BIGINT, watermark_ms BIGINT, arrived_ms BIGINT)'
        )
        rows = self._database.execute("SELECT * FROM engine").fetchall()
        if rows:
            self._number, self._next_row, self._watermark_ms, self._arrived_ms = rows[0]
        for step in self.program.steps:
            step.operator.open(self._database)
        edges = [
            *((scan.edge, scan.paths.values(), Changes.APPEND) for scan in self.program.scans),
            *((edge, node.columns, node.changes) for node, edge in self.program.values),
            *((step.edge, step.node.columns, step.node.changes) for step in self.program.steps),
        ]
        for edge, columns, changes in edges:
            self._empty[edge.name] = _empty_table(self._database, columns, changes)
            self._give(edge, None)

    def save(self) -> None:
        """Writes its clocks into the transaction; operators' state is there already."""
        self._database.execute("DELETE FROM engine")
        self._database.execute(
            "INSERT INTO engine VALUES (?, ?, ?, ?)",
            [self._number, self._next_row, self._watermark_ms, self._arrived_ms],
        )

    @property
    def watermark_ms(self) -> int:
        return self._watermark_ms

    @property
    def is_ended(self) -> bool:
        return self._watermark_ms >= END_MS

    @property
    def late_rows(self) -> int:
        return sum(step.operator.counts.late_rows for step in self.program.steps)

    def take_late(self) -> list[Late]:
        """Those since it was asked last."""
        found = []
        for step in self.program.steps:
            if step.operator.counts.late:
                found.append(Late(tuple(sorted(_tables(step.node))), pa.concat_tables(step.operator.counts.late)))
                step.operator.counts.late.clear()
        return found

    def numbers(self, count: int) -> int:
        """The first of `count` places in the order of arrival."""
        first = self._next_row
        self._next_row += count
        return first

    def tick(
        self, rows: Mapping[Edge, pa.Table], *, watermark_ms: int, arrived_ms: int, is_last: bool = False
    ) -> list[Emitted]:
        """`rows` are scans' tables with the hidden columns. Clocks that are behind are taken as standing still."""
        before_ms = self._watermark_ms
        self._number += 1
        self._watermark_ms = max(before_ms, END_MS if is_last else watermark_ms)
        self._arrived_ms = max(self._arrived_ms, END_MS if is_last else arrived_ms)
        tick = Tick(self._number, self._watermark_ms, before_ms, self._arrived_ms, is_last)
        for scan in self.program.scans:
            self._give(scan.edge, rows.get(scan.edge))
        if self._number == 1:
            self._give_values(arrived_ms)
        for step in self.program.steps:
            out = step.operator.step(tick)
            self._give(
                step.edge, None if out is None or not out.num_rows else self._with_hidden(out, before_ms, arrived_ms)
            )
        emitted = self._results()
        if self._number == 1:
            for _, edge in self.program.values:
                self._give(edge, None)
        return emitted

    def _give_values(self, arrived_ms: int) -> None:
        """Rows that a query itself holds are there in the first tick."""
        at = f"make_timestamp({arrived_ms} * 1000)"
        hidden = f'(SELECT 0 AS "$n", {NO_WATERMARK_MS} AS "$wm", {at} AS "$at")'
        for node, edge in self.program.values:
            selects = []
            for row in node.rows:
                cells = [f"{cell.sql} AS {quoted(of.name)}" for cell, of in zip(row, node.columns, strict=True)]
                selects.append(f"SELECT {', '.join(cells) or '1 AS one'} FROM {hidden}")
            table = table_of(self._database, " UNION ALL ".join(selects))
            self._give(edge, self._with_hidden(table, NO_WATERMARK_MS, arrived_ms))

    def _with_hidden(self, table: pa.Table, watermark_ms: int, arrived_ms: int) -> pa.Table:
        count = table.num_rows
        first = self.numbers(count)
        at_us = min(arrived_ms, 253_402_300_799_999) * 1000
        table = table.append_column("$n", pa.array(range(first, first + count), pa.int64()))
        table = table.append_column("$wm", pa.repeat(pa.scalar(watermark_ms, pa.int64()), count))
        return table.append_column("$at", pa.repeat(pa.scalar(at_us, pa.int64()), count).cast(_MICROSECONDS))

    def _give(self, edge: Edge, table: pa.Table | None) -> None:
        """Every edge is a view at all times, of no rows where it gave none: texts may read several."""
        if table is None and edge.table is None and edge.name in self._known:
            return
        self._known.add(edge.name)
        table = None if table is None else _scannable(table)
        self._database.register(edge.name, self._empty[edge.name] if table is None else table)
        edge.table = table

    def _results(self) -> list[Emitted]:
        emitted = []
        for result in self.program.results:
            if not result.input.has_rows:
                continue
            cells = [quoted(column.name) for column in result.output.columns]
            if result.input.changes is Changes.UPDATES:
                cells.append('"$w"')
            order = "" if result.input.changes is Changes.UPDATES else ' ORDER BY "$n"'
            table = table_of(self._database, f"SELECT {', '.join(cells)} FROM ({result.input.sql}){order}")
            if table.num_rows:
                emitted.append(Emitted(result.output, table))
        return emitted


def _tables(node: Any) -> set[str]:
    """What a relation is made of."""
    if isinstance(node, Scan):
        return {node.table}
    inner = [getattr(node, each) for each in ("input", "left", "right") if hasattr(node, each)]
    return set().union(*(_tables(each) for each in [*inner, *getattr(node, "inputs", ())]))


def _scannable(table: pa.Table) -> pa.Table:
    """DuckDB refuses rows and lists of rows that are cut out of longer arrays: these are copied."""
    for index, column in enumerate(table.columns):
        if pa.types.is_nested(column.type) and any(chunk.offset for chunk in column.chunks):
            copied = column.take(pa.array(range(len(column)), pa.int64()))
            table = table.set_column(index, table.field(index), copied)
    return table


def _empty_table(database: duckdb.DuckDBPyConnection, columns: Iterable[Column], changes: Changes) -> pa.Table:
    cells = [f"NULL::{column.type.duckdb} AS {quoted(column.name)}" for column in columns]
    cells += ['NULL::BIGINT AS "$n"', 'NULL::BIGINT AS "$wm"', 'NULL::TIMESTAMP AS "$at"']
    if changes is Changes.UPDATES:
        cells.append('NULL::INTEGER AS "$w"')
    return table_of(database, f"SELECT {', '.join(cells)} WHERE false")
