"""What a tick costs the operators of SQL: thousand rows per second and CPU microseconds per row, medians of three.

    python -m tests.bench.sql_operators [--rows 2000000] [--tick 20000] [WORD ...]

Rows are typed Arrow ticks, as they come out of the parser: reading JSON is not in the figures. One thread, everything
in one open transaction in memory. `close` is the CPU time of the steps in which a window closed, the
median and the greatest.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from streamkit_sql.expressions.bound import Aggregate, Bound, Column, Partial
from streamkit_sql.plan.nodes import (
    Changes,
    Ordering,
    Scan,
    WindowAggregate,
    Windowed,
    WindowJoin,
    WindowOf,
    WindowRank,
    WindowSpec,
)
from streamkit_sql.runtime.at_close import WindowJoinOperator, WindowRankOperator
from streamkit_sql.runtime.duck import connect
from streamkit_sql.runtime.operator import Edge, Input, Operator, Tick
from streamkit_sql.runtime.windows import WindowAggregateOperator, windowed_sql
from streamkit_sql.types import BIGINT, timestamp

RUNS = 3
ROWS_PER_SECOND = 25_000  # of event time: a window of 10 s has 250,000 rows
BOUND_MS = 2_000
TS = timestamp(3)
COLUMNS = (Column("k", BIGINT), Column("v", BIGINT), Column("ts", TS, "event"))
TIME = Bound('"ts"', TS, frozenset({"ts"}), "event")
KEY = Bound('"k"', BIGINT, frozenset({"k"}))
VALUE = Bound('"v"', BIGINT, frozenset({"v"}))
COUNT = Aggregate("COUNT", BIGINT, (), "count(*)", (Partial("BIGINT", "count(*)", None, "sum({})"),), "{0}::BIGINT")
SUM = Aggregate(
    "SUM", BIGINT, (VALUE,), 'sum("v")', (Partial("HUGEINT", 'sum("v")', None, "sum({})"),), "{0}::BIGINT",
    frozenset({"v"}),
)  # fmt: skip
DISTINCT = Aggregate(
    "COUNT", BIGINT, (VALUE,), 'count(DISTINCT "v")', columns=frozenset({"v"}), distinct_of=VALUE
)  # fmt: skip
SCAN = Scan(columns=COLUMNS, table="t")


def ticks(rows: int, size: int, keys: int) -> list[tuple[pa.Table, int]]:
    """Tables and the watermark after each; rows are out of order within the watermark's bound."""
    random = np.random.default_rng(1)
    made = []
    watermark = 1_700_000_000_000
    for start in range(0, rows, size):
        number = np.arange(start, start + size)
        event = 1_700_000_000_000 + number * 1_000 // ROWS_PER_SECOND - random.integers(0, BOUND_MS, size)
        after = np.maximum(np.maximum.accumulate(event) - BOUND_MS, watermark)
        before = np.concatenate([[watermark], after[:-1]])
        watermark = int(after[-1])
        instants = pa.array(event * 1_000, pa.timestamp("us"))
        columns = {"k": random.integers(0, keys, size), "v": random.integers(0, 1_000, size), "ts": instants}
        made.append((pa.table(columns | {"$n": number, "$wm": before, "$at": instants}), watermark))
    return made


def stream(name: str) -> tuple[Edge, Input]:
    edge = Edge(name)
    return edge, Input(f'SELECT "k", "v", "ts", "$n", "$wm", "$at" FROM {name}', COLUMNS, Changes.APPEND, (edge,))


def aggregate(spec: WindowSpec, aggregates: Sequence[tuple[str, Aggregate]]) -> tuple[Operator, list[Edge]]:
    edge, source = stream("ticks")
    names = [*(name for name, _ in aggregates), "k"]
    columns = (*(Column(name, BIGINT) for name in names), Column("ws", TS), Column("we", TS))
    node = WindowAggregate(
        columns=columns, input=SCAN, time=TIME, time_kind="event", spec=spec, keys=(("k", KEY),),
        aggregates=tuple(aggregates), outputs=(("ws", "start"), ("we", "end")),
    )  # fmt: skip
    return WindowAggregateOperator("bench", node, source), [edge]


def tumbled(side: str) -> tuple[Edge, Input, Bound]:
    """A stream whose columns end in `side`, with its windows of 10 s."""
    edge, source = stream(f"ticks{side}")
    window = WindowOf("ws", "we", None, "event", spec := WindowSpec("TUMBLE", 10_000))
    node = Windowed(columns=COLUMNS, input=SCAN, window=window, time=TIME, spec=spec)
    names = ", ".join(f'"{name}" AS "{name}{side}"' for name in ("k", "v", "ts", "we"))
    columns = tuple(Column(f"{name}{side}", of) for name, of in (("k", BIGINT), ("v", BIGINT), ("ts", TS), ("we", TS)))
    sql = f'SELECT {names}, "$n", "$wm", "$at" FROM ({windowed_sql(source.sql, node)})'
    return edge, Input(sql, columns, Changes.APPEND, (edge,)), Bound(f'"we{side}"', TS, frozenset({f"we{side}"}))


def rank() -> tuple[Operator, list[Edge]]:
    edge, source, end = tumbled("0")
    value = Bound('"v0"', BIGINT, frozenset({"v0"}))
    node = WindowRank(
        columns=source.columns, input=SCAN, end=end, time_kind="event", partition=(), start=None,
        ordering=(Ordering(value, descending=True, nulls_first=False),), first=1, last=10, number=None,
    )  # fmt: skip
    return WindowRankOperator("bench", node, source), [edge]


def join() -> tuple[Operator, list[Edge]]:
    (left, left_input, left_end), (right, right_input, right_end) = tumbled("0"), tumbled("1")
    keys = [Bound(f'"k{side}"', BIGINT, frozenset({f"k{side}"})) for side in "01"]
    node = WindowJoin(
        columns=(*left_input.columns, *right_input.columns), left=SCAN, right=SCAN, kind="INNER", left_end=left_end,
        right_end=right_end, time_kind="event", left_keys=(left_end, keys[0]), right_keys=(right_end, keys[1]),
        residual=None,
    )  # fmt: skip
    return WindowJoinOperator("bench", node, left_input, right_input), [left, right]


TUMBLE = WindowSpec("TUMBLE", 10_000)
PAIR = (("n", COUNT), ("s", SUM))
CASES: dict[str, tuple[Callable[[], tuple[Operator, list[Edge]]], Sequence[int]]] = {
    "tumble 10 s count+sum": (lambda: aggregate(TUMBLE, PAIR), (1_000, 100_000, 1_000_000)),
    "hop 10 s / 2 s count+sum": (
        lambda: aggregate(WindowSpec("HOP", 10_000, 2_000), PAIR),
        (1_000, 100_000, 1_000_000),
    ),
    "hop 60 s / 0.1 s count+sum": (lambda: aggregate(WindowSpec("HOP", 60_000, 100), PAIR), (1_000,)),
    "cumulate 60 s / 1 s count+sum": (
        lambda: aggregate(WindowSpec("CUMULATE", 60_000, 1_000), PAIR),
        (1_000, 100_000),
    ),
    "tumble 10 s count distinct": (lambda: aggregate(TUMBLE, (("n", COUNT), ("d", DISTINCT))), (1_000, 100_000)),
    "session 1 s count+sum": (
        lambda: aggregate(WindowSpec("SESSION", gap_ms=1_000, partition=("k",)), PAIR),
        (1_000, 100_000, 1_000_000),
    ),
    "tumble 10 s top 10": (rank, (1_000,)),
    "tumble 10 s join": (join, (100_000,)),
}


def run(case: str, keys: int, rows: int, size: int) -> tuple[float, float, list[float], int]:
    """Seconds, CPU seconds, CPU seconds of each step that gave rows, rows given."""
    operator, edges = CASES[case][0]()
    made = ticks(rows, size, keys)
    database = connect()
    database.execute("BEGIN")
    operator.open(database)
    closes: list[float] = []
    given = 0
    before = -(2**62)
    wall, cpu = time.perf_counter(), time.process_time()
    for number, (table, watermark) in enumerate(made):
        for edge in edges:
            edge.table = table
            database.register(edge.name, table)
        began = time.process_time()
        out = operator.step(Tick(number, watermark, before, watermark))
        if out is not None:
            closes.append(time.process_time() - began)
            given += out.num_rows
        before = watermark
    return time.perf_counter() - wall, time.process_time() - cpu, closes, given


def measure(case: str, keys: int, rows: int, size: int) -> None:
    runs = [run(case, keys, rows, size) for _ in range(RUNS)]
    wall = statistics.median(each[0] for each in runs)
    cpu = statistics.median(each[1] for each in runs)
    closes = [close * 1_000 for each in runs for close in each[2]] or [0.0]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1_024
    print(
        f"{case:30} {keys:>9,} keys {rows / wall / 1_000:8,.0f} k rows/s {cpu / rows * 1e6:7.3f} us/row"
        f"   close {statistics.median(closes):6.1f} ms, most {max(closes):6.1f}"
        f"   {runs[0][3]:>9,} rows   peak {peak} MB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--tick", type=int, default=20_000)
    parser.add_argument("--one", nargs=2, metavar=("CASE", "KEYS"), help=argparse.SUPPRESS)
    parser.add_argument("words", nargs="*")
    given = parser.parse_args()
    if given.one:
        measure(given.one[0], int(given.one[1]), given.rows, given.tick)
        return
    for case, (_, key_counts) in CASES.items():
        if given.words and not any(word in case for word in given.words):
            continue
        for keys in key_counts:
            # A process each, so that the peak of memory is this case's.
            sizes = ["--rows", str(given.rows), "--tick", str(given.tick)]
            command = [sys.executable, "-m", "tests.bench.sql_operators", *sizes, "--one", case, str(keys)]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
