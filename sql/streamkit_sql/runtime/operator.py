"""The port of operators, and what an operator gets: a tick, its inputs' texts, a database for its state.

An operator's input is not a table but a text (`Input.sql`): a SELECT over what other operators gave in this tick, with
filters and projections folded in, which DuckDB runs as part of the operator's own statement. So rows of a stream that a
query filters away are never copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from streamkit_sql.expressions.bound import Column
from streamkit_sql.limits import ERROR_ROW_CHARACTERS_MAX, LATE_ROWS_PER_TICK_MAX
from streamkit_sql.plan.nodes import Changes
from streamkit_sql.runtime.duck import table_of

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

NO_WATERMARK_MS = -(2**62)
"""Before the first row: nothing is closed, nothing late."""
END_MS = 2**62
"""After the last row of a bounded input: everything is closed."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A step of a query: some rows of its sources, and how far its clocks are after them.

    `watermark_ms` (event time, epoch ms) and `arrived_ms` (processing time) never go back. A window [start, end) is
    closed when the watermark is at least end - 1, as in Flink; in processing time, when `arrived_ms` is at least
    end - 1. A row is late for a window if `$wm >= end - 1`; late rows are counted and left out, as Flink does.
    """

    number: int
    watermark_ms: int
    watermark_before_ms: int
    arrived_ms: int
    is_last: bool = False

    def clock_ms(self, time: str) -> int:
        """Of "event" or "processing" time."""
        return self.watermark_ms if time == "event" else self.arrived_ms


class Edge:
    """What one operator or source gave in this tick; registered in DuckDB as a view called `name`."""

    __slots__ = ("name", "table")

    def __init__(self, name: str) -> None:
        self.name = name
        self.table: pa.Table | None = None


@dataclass(frozen=True, slots=True)
class Input:
    """`sql` is a SELECT that gives the columns of the relation and the hidden ones (`$n`, `$wm`, `$at`, and `$w` where
    `changes` is UPDATES), in no order."""

    sql: str
    columns: tuple[Column, ...]
    changes: Changes
    edges: tuple[Edge, ...]

    @property
    def has_rows(self) -> bool:
        """False where there is nothing to run `sql` for in this tick."""
        return any(edge.table is not None and edge.table.num_rows for edge in self.edges)


@dataclass(slots=True)
class Counts:
    """What an operator reports; they only grow."""

    late_rows: int = 0
    late: list[pa.Table] = field(default_factory=list)
    """Late rows of this tick: `row`, their text, and `wm`, the watermark before them. Whoever steps takes them out."""

    def keep_late(self, database: duckdb.DuckDBPyConnection, source: str, names: Sequence[str]) -> None:
        """`source` is a SELECT of late rows with `$wm`; `names` are the (quoted) columns that tell what they were."""
        cells = ", ".join(f"{name} := {name}" for name in names)
        text = f"left(to_json(struct_pack({cells}))::VARCHAR, {ERROR_ROW_CHARACTERS_MAX})" if cells else "NULL::VARCHAR"
        asked = f'SELECT {text} AS "row", "$wm" AS wm FROM ({source}) LIMIT {LATE_ROWS_PER_TICK_MAX}'
        self.late.append(table_of(database, asked))


class Operator(Protocol):
    """Steps run one after another in one thread. All state is in tables of `database` whose names begin with the
    operator's `name`, so that a checkpoint is a commit and a restart finds it; what is kept beside is found again in
    `open`. DuckDB's traps: use fetchall, never fetchone; `count(DISTINCT)`'s exported state merges wrong."""

    name: str
    inputs: Sequence[Input]
    counts: Counts

    def open(self, database: duckdb.DuckDBPyConnection) -> None:
        """Makes its state's tables where there are none."""
        ...

    def step(self, tick: Tick) -> pa.Table | None:
        """Takes in the inputs' rows, then gives what that, and the clocks, make of them: the relation's columns, in its
        order, and `$w` last where it updates. None for no rows. Called in every tick, also in those without rows."""
        ...
