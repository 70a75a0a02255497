"""What a tick costs SQL's updating operators: thousand rows per second of CPU, over typed Arrow ticks.

    python -m tests.bench.sql_updates [--rows 2000000] [--tick 20000] [WORD ...]

One thread, state in memory, a commit every 50 ticks as a query does about every second. `last` is the median CPU time
of the last fifth of the ticks: it shows whether state or garbage grows. `bytes` is DuckDB's memory at the end.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from streamkit_sql.expressions.bound import Aggregate, Bound, Column, Partial
from streamkit_sql.plan.nodes import Changes, GroupAggregate, JoinKind, Ordering, Rank, RegularJoin, Scan
from streamkit_sql.runtime.duck import connect
from streamkit_sql.runtime.groups import GroupAggregateOperator
from streamkit_sql.runtime.joins import RegularJoinOperator
from streamkit_sql.runtime.operator import Edge, Input, Operator, Tick
from streamkit_sql.runtime.ranks import RankOperator
from streamkit_sql.types import BIGINT, quoted

COMMIT_TICKS = 50
COUNT = Aggregate(
    "COUNT", BIGINT, (), "count(*)", (Partial("BIGINT", "count(*)", 'sum("$w")', "sum({})"),), "{0}"
)  # fmt: skip
Made = tuple[Operator, list[Edge]]


def reads(name: str) -> Bound:
    return Bound(quoted(name), BIGINT, frozenset({name}))


def total(name: str) -> Aggregate:
    part = Partial("HUGEINT", f'sum("{name}")', f'sum("{name}" * "$w")', "sum({})")
    return Aggregate("SUM", BIGINT, (reads(name),), f'sum("{name}")', (part,), "CAST({0} AS BIGINT)", frozenset({name}))


DISTINCT = Aggregate(
    "COUNT", BIGINT, (reads("v"),), 'count(DISTINCT "v")', columns=frozenset({"v"}), distinct_of=reads("v")
)  # fmt: skip


def stream(side: str, *, updates: bool) -> tuple[Edge, Input, Scan]:
    edge = Edge(f"ticks{side}")
    columns = (Column(f"k{side}", BIGINT), Column(f"v{side}", BIGINT))
    weight = ', "$w"' if updates else ""
    sql = f'SELECT "k" AS "k{side}", "v" AS "v{side}", "$n", "$wm", "$at"{weight} FROM {edge.name}'
    changes = Changes.UPDATES if updates else Changes.APPEND
    return edge, Input(sql, columns, changes, (edge,)), Scan(columns=columns, table="t")


def group(*aggregates: Aggregate, updates: bool = False) -> Made:
    edge, source, scan = stream("", updates=updates)
    calls = tuple((f"a{place}", each) for place, each in enumerate(aggregates))
    columns = (Column("key", BIGINT), *(Column(name, BIGINT) for name, _ in calls))
    node = GroupAggregate(
        columns=columns, changes=Changes.UPDATES, input=scan, keys=(("key", reads("k")),), aggregates=calls
    )  # fmt: skip
    return GroupAggregateOperator("bench", node, source), [edge]


def join(kind: JoinKind) -> Made:
    (left, left_input, left_scan), (right, right_input, right_scan) = (stream(side, updates=False) for side in "01")
    changes = Changes.APPEND if kind == "INNER" else Changes.UPDATES
    node = RegularJoin(
        columns=(*left_input.columns, *right_input.columns), changes=changes, left=left_scan, right=right_scan,
        kind=kind, left_keys=(reads("k0"),), right_keys=(reads("k1"),), residual=None,
    )  # fmt: skip
    return RegularJoinOperator("bench", node, left_input, right_input), [left, right]


def rank(last: int, *, updates: bool = False) -> Made:
    edge, source, scan = stream("", updates=updates)
    node = Rank(
        columns=(*source.columns, Column("place", BIGINT)), changes=Changes.UPDATES, input=scan,
        partition=(reads("k"),), ordering=(Ordering(reads("v"), descending=True, nulls_first=False),), first=1,
        last=last, number="place",
    )  # fmt: skip
    return RankOperator("bench", node, source), [edge]


CASES: dict[str, tuple[Callable[[], Made], bool]] = {
    "group count+sum": (lambda: group(COUNT, total("v")), False),
    "group count+sum of changes": (lambda: group(COUNT, total("v"), updates=True), True),
    "group count distinct": (lambda: group(DISTINCT), False),
    "top 1": (lambda: rank(1), False),
    "top 10": (lambda: rank(10), False),
    "join inner": (lambda: join("INNER"), False),
    "join left": (lambda: join("LEFT"), False),
}
"""How it is made, and whether rows go: each tick takes half of the last one's back."""


def ticks(rows: int, size: int, keys: int, sides: int, *, updates: bool) -> list[list[pa.Table]]:
    random = np.random.default_rng(1)
    made: list[list[pa.Table]] = []
    for start in range(0, rows, size):
        tables = []
        for side in range(sides):
            count = size // sides
            k, v = random.integers(0, keys, count), random.integers(0, 1_000, count)
            w = np.ones(count, np.int32)
            if updates and made:
                half = count // 2
                before = made[-1][side]
                k[:half], v[:half], w[:half] = before["k"].to_numpy()[-half:], before["v"].to_numpy()[-half:], -1
            number = np.arange(start + side * count, start + (side + 1) * count)
            clock = pa.array(number, pa.timestamp("us"))
            tables.append(pa.table({"k": k, "v": v, "$n": number, "$wm": number, "$at": clock, "$w": w}))
        made.append(tables)
    return made


def measure(case: str, keys: int, rows: int, size: int) -> None:
    make, updates = CASES[case]
    operator, edges = make()
    made = ticks(rows, size, keys, len(edges), updates=updates)
    database = connect(memory_bytes_max=2 << 30)
    for edge, table in zip(edges, made[0], strict=True):
        database.register(edge.name, table)
    operator.open(database)
    database.execute("BEGIN")
    costs = []
    given = 0
    for number, tables in enumerate(made):
        for edge, table in zip(edges, tables, strict=True):
            edge.table = table
            database.register(edge.name, table)
        began = time.process_time()
        out = operator.step(Tick(number, number, number, number))
        if number % COMMIT_TICKS == COMMIT_TICKS - 1:
            database.execute("COMMIT")
            database.execute("BEGIN")
        costs.append(time.process_time() - began)
        given += 0 if out is None else out.num_rows
    held = database.execute("SELECT sum(memory_usage_bytes)::BIGINT FROM duckdb_memory()").fetchall()[0][0]
    last = statistics.median(costs[-max(1, len(costs) // 5) :]) * 1_000
    speed = rows / sum(costs) / 1_000
    print(
        f"{case:28} {keys:>9,} keys {speed:8,.0f} k rows/s   last {last:7.1f} ms a tick   {given:>9,} rows"
        f"   {held / 1e6:7.1f} MB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--tick", type=int, default=20_000)
    parser.add_argument("words", nargs="*")
    given = parser.parse_args()
    for case in CASES:
        if not given.words or any(word in case for word in given.words):
            for keys in (1_000, 100_000):
                if not case.startswith("join") or keys > 1_000:
                    measure(case, keys, given.rows, given.tick)


if __name__ == "__main__":
    main()
