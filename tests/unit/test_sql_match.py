"""MATCH_RECOGNIZE against answers of Flink 2.3, which were asked of it over the rows of `ROWS`."""

from __future__ import annotations

import asyncio
import datetime
import json
import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit_sql.errors import NotSupported, SqlError, ValueProblem
from streamkit_sql.plan.match import Variable
from streamkit_sql.plan.nodes import Match, Node
from streamkit_sql.queries import run_bounded
from streamkit_sql.runtime.duck import connect
from streamkit_sql.runtime.match import FINAL, Heap, MatchOperator, Partial, machine, wrapped
from streamkit_sql.runtime.operator import END_MS, NO_WATERMARK_MS, Edge, Input, Tick
from streamkit_sql.session import Session

ROWS = [
    (1, 5, 0),
    (2, None, 1000),
    (3, 7, 1000),
    (4, 8, 2000),
    (5, 9, 2000),
    (6, 1, 5000),
    (7, 2, 6000),
    (8, 3, 7000),
    (9, 4, 9000),
    (10, 4, 11000),
]
"""Number, value, and time in ms."""
AT = datetime.datetime(2026, 1, 1)  # noqa: DTZ001 - as Flink's TIMESTAMP

# ruff: noqa: E501 - patterns stand as they were asked
# (watermark's delay in ms, what follows PARTITION BY, Flink's rows without the partition)
ANSWERS: list[tuple[int, str, list[tuple[Any, ...]]]] = [
    (
        0,
        "ORDER BY ts MEASURES A.i AS x, B.i AS y PATTERN (A B) DEFINE A AS A.q > 0, B AS B.q > 0",
        [(4, 6), (6, 7), (7, 8), (8, 9), (9, 10)],
    ),
    (
        0,
        "ORDER BY ts MEASURES A.i AS x, LAST(B.i) AS y PATTERN (A B+?) DEFINE A AS A.q > 0",
        [(1, 2), (4, 6), (6, 7), (7, 8), (8, 9), (9, 10)],
    ),
    (
        0,
        "ORDER BY ts MEASURES A.i AS x, B.i AS y AFTER MATCH SKIP PAST LAST ROW PATTERN (A B?) DEFINE A AS A.q > 0, B AS B.q > 2",
        [(1, None), (4, None), (6, None), (7, None), (8, None), (9, None), (10, None)],
    ),
    (
        0,
        "ORDER BY ts MEASURES FIRST(A.i) AS x, LAST(A.i) AS z, C.i AS y AFTER MATCH SKIP TO NEXT ROW PATTERN (A{2,4}? C) DEFINE A AS A.q > 0",
        [(4, 6, 7), (6, 7, 8), (7, 8, 9), (8, 9, 10)],
    ),
    (
        0,
        "ORDER BY ts MEASURES i AS x, FIRST(i) AS y, COUNT(q) AS c, SUM(i) AS s AFTER MATCH SKIP PAST LAST ROW PATTERN (A B) DEFINE A AS q > 0, B AS SUM(q) > 5",
        [(6, 4, 2, 10), (9, 8, 2, 17)],
    ),
    (
        0,
        "ORDER BY ts MEASURES COUNT(*) AS c AFTER MATCH SKIP PAST LAST ROW PATTERN (A B) DEFINE A AS q > 0",
        [(2,), (2,), (2,), (2,)],
    ),
    (
        0,
        "ORDER BY ts MEASURES A.i AS x, C.i AS y AFTER MATCH SKIP PAST LAST ROW PATTERN (A B* C) WITHIN INTERVAL '2' SECOND DEFINE C AS C.q < 3",
        [],
    ),
    (
        0,
        "ORDER BY ts MEASURES A.i AS x, MATCH_ROWTIME() AS r, A.q + B.q AS s AFTER MATCH SKIP TO LAST B PATTERN (A B C?) DEFINE A AS A.q > 2, C AS C.q > 4",
        [
            (1, "2026-01-01 00:00:01", None),
            (4, "2026-01-01 00:00:05", 9),
            (8, "2026-01-01 00:00:09", 7),
            (9, "2026-01-01 00:00:11", 8),
        ],
    ),
    (
        0,
        "ORDER BY ts MEASURES A.i AS x PATTERN (A? B) DEFINE A AS A.q > 2",
        [(None,), (None,), (None,), (None,), (None,), (None,), (None,), (None,)],
    ),
    (
        1000,
        "ORDER BY ts MEASURES A.i AS x, LAST(B.i) AS y, C.i AS z AFTER MATCH SKIP PAST LAST ROW PATTERN (A B+ C) DEFINE A AS A.q > 2, B AS B.q < LAST(B.q, 1) OR LAST(B.q, 1) IS NULL, C AS C.q >= 2",
        [(1, 3, 4), (5, 6, 7), (8, 9, 10)],
    ),
    (
        1000,
        "ORDER BY ts MEASURES A.i AS x, LAST(B.i) AS y, C.i AS z AFTER MATCH SKIP TO NEXT ROW PATTERN (A B{1,3} C) DEFINE B AS B.q > AVG(A.q) OR B.q < 5, C AS C.q <= 4",
        [],
    ),
    (
        1000,
        "ORDER BY ts MEASURES A.i AS x, LAST(B.i) AS y, C.i AS z AFTER MATCH SKIP TO NEXT ROW PATTERN (A B*? C?) DEFINE B AS B.q > 1, C AS C.q > A.q - 4",
        [
            (1, None, None),
            (2, None, None),
            (3, None, None),
            (4, None, None),
            (5, None, None),
            (6, None, None),
            (7, None, None),
            (8, None, None),
            (9, None, None),
            (10, None, None),
        ],
    ),
    (
        1000,
        "ORDER BY ts MEASURES A.i AS x, LAST(B.i) AS y, C.i AS z AFTER MATCH SKIP TO NEXT ROW PATTERN (A B{2} C) WITHIN INTERVAL '4' SECOND DEFINE A AS TRUE",
        [(1, 3, 4), (2, 4, 5)],
    ),
    (
        1000,
        "ORDER BY ts MEASURES A.i AS x, LAST(B.i, 1) AS y, FIRST(B.q * 2) AS z, UPPER(A.k) AS u, COUNT(*) AS c, SUM(B.q) / COUNT(B.q) AS m AFTER MATCH SKIP TO FIRST B PATTERN (A B{2,3}? C) DEFINE B AS COALESCE(B.q, 0) + A.i > 3",
        [
            (2, 3, 14, "A", 4, 7),
            (3, 4, 16, "A", 4, 8),
            (4, 5, 18, "A", 4, 5),
            (5, 6, 2, "A", 4, 1),
            (6, 7, 4, "A", 4, 2),
            (7, 8, 6, "A", 4, 3),
        ],
    ),
    (
        1000,
        "ORDER BY ts MEASURES A.i AS x, B.i AS y AFTER MATCH SKIP PAST LAST ROW PATTERN (A B) SUBSET U = (A, B) DEFINE A AS TRUE",
        [(1, 2), (3, 4), (5, 6), (7, 8), (9, 10)],
    ),
    (
        1000,
        "ORDER BY ts MEASURES A.i AS x, LAST(B.i) AS y, C.i AS z AFTER MATCH SKIP TO NEXT ROW PATTERN (A B{1,3} C) DEFINE B AS B.q > 4, C AS C.q < 5",
        [(2, 5, 6), (3, 5, 6), (4, 5, 6)],
    ),
    (
        1000,
        "ORDER BY ts MEASURES A.i AS x, LAST(B.i) AS y, C.i AS z AFTER MATCH SKIP TO NEXT ROW PATTERN (A B{1,3} C) DEFINE B AS B.q > 4 OR B.q < 5, C AS C.q <= 4",
        [],
    ),
    (
        1000,
        "ORDER BY ts MEASURES A.i AS x, LAST(B.i) AS y, C.i AS z AFTER MATCH SKIP TO NEXT ROW PATTERN (A B{1,3} C) DEFINE B AS B.q > AVG(A.q), C AS C.q <= 4",
        [(3, 5, 6), (4, 5, 6)],
    ),
    (
        1000,
        "ORDER BY ts MEASURES A.i AS x, LAST(B.i) AS y, C.i AS z AFTER MATCH SKIP TO NEXT ROW PATTERN (A B C) DEFINE B AS B.q > AVG(A.q)",
        [(3, 4, 5), (4, 5, 6), (6, 7, 8), (7, 8, 9), (8, 9, 10)],
    ),
    (
        1000,
        "ORDER BY ts MEASURES A.i AS x, LAST(B.i) AS y, C.i AS z AFTER MATCH SKIP TO NEXT ROW PATTERN (A B C) DEFINE B AS B.q > MAX(A.q) OR B.q < 5",
        [(3, 4, 5), (4, 5, 6), (5, 6, 7), (6, 7, 8), (7, 8, 9), (8, 9, 10)],
    ),
    (
        1000,
        "ORDER BY ts MEASURES A.i AS x, LAST(B.i) AS y, C.i AS z AFTER MATCH SKIP TO NEXT ROW PATTERN (A B{1,3} C) DEFINE B AS B.q > A.q OR B.q < 5, C AS C.q <= 4",
        [],
    ),
    (
        1000,
        "ORDER BY ts MEASURES A.i AS x, LAST(B.i) AS y, C.i AS z AFTER MATCH SKIP TO NEXT ROW PATTERN (A B C) DEFINE B AS B.q > SUM(A.q), C AS C.q > COUNT(B.q)",
        [(3, 4, 5), (6, 7, 8), (7, 8, 9), (8, 9, 10)],
    ),
    (
        1000,
        "ORDER BY ts MEASURES A.i AS x, LAST(B.i) AS y, C.i AS z AFTER MATCH SKIP TO NEXT ROW PATTERN (A B{2,4} C) DEFINE B AS B.q > 0, C AS C.q > 0",
        [],
    ),
    (
        1000,
        "ORDER BY ts MEASURES A.i AS x, LAST(B.i) AS y, C.i AS z AFTER MATCH SKIP TO NEXT ROW PATTERN (A B{2,4} C) DEFINE C AS C.q > 2",
        [],
    ),
    (
        1000,
        "ORDER BY ts MEASURES A.i AS x, LAST(B.i) AS y, C.i AS z AFTER MATCH SKIP TO NEXT ROW PATTERN (A B* C) DEFINE B AS B.q > 3, C AS C.q > AVG(B.q) OR C.q < 3",
        [(2, 5, 6), (3, 5, 6), (4, 5, 6), (5, None, 6), (6, None, 7)],
    ),
    (
        1000,
        "ORDER BY ts MEASURES A.i AS x, LAST(B.i) AS y, C.i AS z AFTER MATCH SKIP TO NEXT ROW PATTERN (A B{0,2} C) DEFINE B AS B.q > 3, C AS C.q <= 3",
        [(3, 5, 6), (4, 5, 6), (5, None, 6), (6, None, 7), (7, None, 8)],
    ),
    (
        1000,
        "ORDER BY ts MEASURES A.i AS x, LAST(B.i) AS y, C.i AS z AFTER MATCH SKIP TO NEXT ROW PATTERN (A B{2,}? C) DEFINE B AS B.q > 1, C AS C.q <= 4",
        [(2, 5, 6), (3, 5, 6), (6, 8, 9), (7, 9, 10)],
    ),
    (
        1000,
        "ORDER BY ts MEASURES A.i AS x, LAST(B.i) AS y, C.i AS z AFTER MATCH SKIP TO NEXT ROW PATTERN (A B{2,} C) DEFINE B AS B.q > 4, C AS C.q <= 4",
        [(2, 5, 6), (3, 5, 6)],
    ),
    (
        1000,
        "ORDER BY ts MEASURES A.i AS x, LAST(B.i) AS y, C.i AS z AFTER MATCH SKIP TO NEXT ROW PATTERN (A B? C) DEFINE B AS B.q > 3, C AS C.q > 3",
        [(2, None, 3), (3, None, 4), (4, None, 5), (8, None, 9), (9, None, 10)],
    ),
    (
        1000,
        "ORDER BY ts MEASURES A.i AS x, LAST(B.i) AS y, C.i AS z AFTER MATCH SKIP PAST LAST ROW PATTERN (A B{2,4} C) DEFINE B AS B.q > 0, C AS C.q > 0",
        [],
    ),
    (
        1000,
        "ORDER BY ts MEASURES A.i AS x, LAST(B.i) AS y, C.i AS z AFTER MATCH SKIP PAST LAST ROW PATTERN (A B{2,4} C) DEFINE C AS C.q > 2",
        [],
    ),
    (
        1000,
        "ORDER BY ts MEASURES A.i AS x, LAST(B.i) AS y, C.i AS z AFTER MATCH SKIP PAST LAST ROW PATTERN (A B* C) DEFINE B AS B.q > 3, C AS C.q > AVG(B.q) OR C.q < 3",
        [(2, 5, 6)],
    ),
    (
        1000,
        "ORDER BY ts MEASURES A.i AS x, LAST(B.i) AS y, C.i AS z AFTER MATCH SKIP PAST LAST ROW PATTERN (A B{0,2} C) DEFINE B AS B.q > 3, C AS C.q <= 3",
        [(3, 5, 6), (7, None, 8)],
    ),
    (
        1000,
        "ORDER BY ts MEASURES A.i AS x, LAST(B.i) AS y, C.i AS z AFTER MATCH SKIP PAST LAST ROW PATTERN (A B{2,}? C) DEFINE B AS B.q > 1, C AS C.q <= 4",
        [(2, 5, 6), (7, 9, 10)],
    ),
    (
        1000,
        "ORDER BY ts MEASURES A.i AS x, LAST(B.i) AS y, C.i AS z AFTER MATCH SKIP PAST LAST ROW PATTERN (A B{2,} C) DEFINE B AS B.q > 4, C AS C.q <= 4",
        [(2, 5, 6)],
    ),
    (
        1000,
        "ORDER BY ts MEASURES A.i AS x, LAST(B.i) AS y, C.i AS z AFTER MATCH SKIP PAST LAST ROW PATTERN (A B? C) DEFINE B AS B.q > 3, C AS C.q > 3",
        [(2, None, 3), (4, None, 5), (8, None, 9)],
    ),
]
REFUSED = [
    "ORDER BY ts MEASURES FIRST(A.i) AS x, LAST(A.i) AS z, B.i AS y AFTER MATCH SKIP PAST LAST ROW PATTERN (A+ B?) DEFINE A AS A.q > 3, B AS B.q > 0",  # Optional pattern cannot be preceded by greedy pattern
    "ORDER BY ts MEASURES FIRST(A.i) AS x, LAST(A.i) AS z, C.i AS y AFTER MATCH SKIP TO NEXT ROW PATTERN (A{2,4} B* C) DEFINE A AS A.q > 0, B AS B.q > 3, C AS C.q < 4",  # Optional pattern cannot be preceded by greedy pattern
    "ORDER BY ts MEASURES A.i AS x, COUNT(DISTINCT B.q) AS d PATTERN (A B{2}) DEFINE A AS A.q > 2",  # DISTINCT/ALL not allowed with COUNT(DISTINCT `B`.`q`) function
    "ORDER BY ts MEASURES A.i AS x PATTERN (A B??) DEFINE A AS A.q > 2",  # Reluctant optional variables are not supported yet.
    "ORDER BY ts MEASURES A.i AS x, PREV(A.q) AS p PATTERN (A B) DEFINE A AS A.q > PREV(A.q)",  # Cannot use PREV/NEXT in MEASURE 'PREV(`A`.`q`, 1)'
    "ORDER BY ts MEASURES A.i AS x PATTERN (A*? B*?) DEFINE A AS A.q > 2",  # Patterns that can produce empty matches are not supported. There must
    "ORDER BY ts MEASURES A.i AS x, B.i AS y AFTER MATCH SKIP PAST LAST ROW PATTERN ((A B)+ C) DEFINE A AS TRUE",  # Expression not supported: (_UTF-16LE'A', _UTF-16LE'B') Group patterns
    "ORDER BY ts MEASURES A.i AS x, B.i AS y AFTER MATCH SKIP PAST LAST ROW PATTERN (A B A) DEFINE A AS TRUE",  # Pattern variables must be unique. That might change in the future.
    "ORDER BY ts MEASURES A.i AS x, CLASSIFIER() AS y PATTERN (A B) DEFINE A AS TRUE",  # Unsupported call: CLASSIFIER()
    "ORDER BY ts MEASURES A.i AS x, MATCH_NUMBER() AS y PATTERN (A B) DEFINE A AS TRUE",  # No match found for function signature MATCH_NUMBER().
    "ORDER BY i MEASURES A.i AS x PATTERN (A B) DEFINE A AS TRUE",  # You must specify either rowtime or proctime for order by as the first
    "ORDER BY ts DESC MEASURES A.i AS x PATTERN (A B) DEFINE A AS TRUE",  # Primary sort order of a streaming table must be ascending on time.
    "ORDER BY ts MEASURES A.i AS x PATTERN (A B) WITHIN INTERVAL '1' MONTH DEFINE A AS TRUE",  # Only constant intervals with millisecond resolution are supported as t
]


def session(folder: Path, delay_ms: int) -> Session:
    lines = [
        json.dumps(
            {"k": "a", "i": i, "q": q, "ts": (AT + datetime.timedelta(milliseconds=ms)).isoformat(" ", "milliseconds")}
        )
        for i, q, ms in ROWS
    ]
    (folder / "rows.json").write_text("\n".join(lines) + "\n", encoding="utf-8")
    made = Session()
    made.run(
        f"CREATE TABLE t (k STRING, i INT, q INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '{delay_ms // 1000}' "
        f"SECOND) WITH ('connector' = 'filesystem', 'path' = '{folder}/rows.json', 'format' = 'json')"
    )
    return made


def asked(folder: Path, delay_ms: int, text: str, rows_per_tick: int = 1000) -> list[tuple[Any, ...]]:
    """The rows of a pattern over ROWS, without the partition."""

    async def run() -> list[tuple[Any, ...]]:
        own = session(folder, delay_ms)
        script = own.run(f"SELECT * FROM t MATCH_RECOGNIZE (PARTITION BY k {text})")
        found: list[tuple[Any, ...]] = []
        async for emitted in run_bounded(own, script.outputs, rows_per_tick=rows_per_tick):
            found += zip(*(column.to_pylist() for column in emitted.rows.columns[1:]), strict=True)
        return found

    return asyncio.run(run())


@pytest.mark.parametrize(("delay_ms", "text", "answer"), ANSWERS)
def test_a_pattern_finds_what_flink_finds(
    delay_ms: int, text: str, answer: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    """Loops, skips, WITHIN, totals and rows before in the match are as in Flink, one row a tick or all in one."""
    rows = [
        tuple(datetime.datetime.fromisoformat(each) if str(each).startswith("2026-") else each for each in row)
        for row in answer
    ]
    for rows_per_tick in (1, 1000):
        assert asked(tmp_path, delay_ms, text, rows_per_tick) == rows


@pytest.mark.parametrize("text", REFUSED)
def test_what_flink_refuses_is_refused_while_planning(text: str, tmp_path: Path) -> None:
    """Groups, twice the same variable, empty matches and the like are never approximated."""
    with pytest.raises(SqlError):
        session(tmp_path, 0).run(f"SELECT * FROM t MATCH_RECOGNIZE (PARTITION BY k {text})")


def test_a_skip_to_the_first_row_of_the_match_fails_the_query(tmp_path: Path) -> None:
    """It would find the same match for ever."""
    with pytest.raises(ValueProblem, match="first row of the match"):
        asked(tmp_path, 0, "ORDER BY ts MEASURES B.i AS x AFTER MATCH SKIP TO LAST A PATTERN (A B) DEFINE A AS A.q > 2")


def test_a_skip_to_a_variable_without_rows_fails_the_query(tmp_path: Path) -> None:
    """Flink fails so, too."""
    text = "ORDER BY ts MEASURES A.i AS x AFTER MATCH SKIP TO LAST B PATTERN (A B? C) DEFINE B AS B.q < 0"
    with pytest.raises(ValueProblem, match="has no row of it"):
        asked(tmp_path, 0, text)


def test_alternation_and_all_rows_are_refused_by_name(tmp_path: Path) -> None:
    """As Flink's planner does."""
    for text, word in (("PATTERN (A | B)", "alternation"), ("ALL ROWS PER MATCH PATTERN (A B)", "ALL ROWS")):
        with pytest.raises(NotSupported, match=word):
            asked(tmp_path, 0, f"ORDER BY ts MEASURES A.i AS x {text} DEFINE A AS A.q > 2")


def test_a_heap_gives_the_earliest_and_loses_nothing_but_what_is_removed() -> None:
    """It is Java's, but for that it is a heap like any."""
    chance = random.Random(3)
    starts = [chance.randrange(20) for _ in range(200)]
    heap = Heap()
    for start in starts:
        heap.add(Partial(1, start=start))
    heap.remove(lambda each: each.start % 3 == 0)
    assert [heap.poll().start for _ in range(len(heap.items))] == sorted(each for each in starts if each % 3)


def test_a_loop_takes_its_least_rows_before_it_may_end() -> None:
    """`A{2,} B`: two states that only lead on, then one that leads to itself or to B."""
    states, start = machine([Variable("A", 2, None, False, None), Variable("B", 1, 1, False, None)])
    first = states[start]
    second = states[first.take]
    loop = states[second.take]
    assert (first.proceed, second.proceed) == (-1, -1)
    assert loop.take == second.take
    assert states[loop.proceed].take == FINAL


def test_whole_numbers_wrap_as_javas_do() -> None:
    """Of a sum of INTs nothing is left above 32 bits."""
    assert [wrapped(value, 32) for value in (2**31 - 1, 2**31, -(2**31) - 1)] == [2**31 - 1, -(2**31), 2**31 - 1]


# -- ticks and restarts ----------------------------------------------------------------------------------------------

PATTERN = (
    "ORDER BY ts MEASURES FIRST(A.i) AS x, LAST(B.i) AS y, SUM(B.q) AS s, C.i AS z AFTER MATCH SKIP TO NEXT ROW "
    "PATTERN (A B+ C) WITHIN INTERVAL '20' SECOND DEFINE B AS B.q >= LAST(B.q, 1) OR LAST(B.q, 1) IS NULL, C AS C.q < A.q"
)
Given = tuple[int, str, int, int]


def match_node(folder: Path) -> Match:
    node: Node = (
        session(folder, 2000).run(f"SELECT * FROM t MATCH_RECOGNIZE (PARTITION BY k {PATTERN})").outputs[0].query
    )
    while not isinstance(node, Match):
        node = node.input  # type: ignore[union-attr]
    return node


def results(
    node: Match, rows: Sequence[Given], cuts: Sequence[int], path: Path | None = None, restart: int = -1
) -> list[tuple[Any, ...]]:
    """Rows are (number, key, value, time); the watermark is two seconds behind the latest."""
    edge = Edge("given")
    names = ", ".join(f'"{column.name}"' for column in node.input.columns)
    input = Input(f'SELECT {names}, "$n", "$wm", "$at" FROM given', node.input.columns, node.input.changes, (edge,))
    marks = [NO_WATERMARK_MS]
    for row in rows:
        marks.append(max(marks[-1], row[3] - 2000))
    database = connect(path)
    operator = MatchOperator("match_0", node, input)
    operator.open(database)
    found: list[tuple[Any, ...]] = []
    bounds = [0, *sorted({place % (len(rows) + 1) for place in cuts}), len(rows), len(rows)]
    for number, (start, stop) in enumerate(pairwise(bounds)):
        if number == restart:
            assert path is not None
            database.close()
            database = connect(path)
            operator = MatchOperator("match_0", node, input)
            operator.open(database)
        own = rows[start:stop]
        at = pa.array([row[3] * 1000 for row in own], pa.int64()).cast(pa.timestamp("us"))
        edge.table = pa.table(
            {
                "i": pa.array([row[0] for row in own], pa.int32()),
                "k": pa.array([row[1] for row in own], pa.string()),
                "q": pa.array([row[2] for row in own], pa.int32()),
                "ts": at,
                "$n": pa.array(range(start, stop), pa.int64()),
                "$wm": pa.array(marks[start:stop], pa.int64()),
                "$at": at,
            }
        )
        database.register("given", edge.table)
        is_last = number == len(bounds) - 2
        out = operator.step(Tick(number + 1, END_MS if is_last else marks[stop], marks[start], 0, is_last))
        if out is not None:
            found += zip(*(column.to_pylist() for column in out.columns), strict=True)
    database.close()
    return found


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5), st.integers(0, 30)), max_size=20),
    cuts=st.lists(st.integers(0, 20), max_size=5),
)
def test_matches_do_not_depend_on_how_rows_are_cut_into_ticks(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int, int]], cuts: list[int]
) -> None:
    """Late rows are late by the watermark they came under."""
    node = match_node(tmp_path_factory.mktemp("match"))
    made = [(number, key, value, second * 1000) for number, (key, value, second) in enumerate(rows)]
    assert sorted(results(node, made, cuts)) == sorted(results(node, made, []))


def test_open_matches_are_found_again_after_a_restart(tmp_path: Path) -> None:
    """Partial matches and the rows they hold are in the database."""
    node = match_node(tmp_path)
    chance = random.Random(5)
    made = [(number, "ab"[number % 2], chance.randrange(6), number * 700) for number in range(60)]
    cuts = list(range(0, 60, 7))
    expected = results(node, made, cuts)
    assert len(expected) > 10
    for restart in (2, 5, 8):
        assert results(node, made, cuts, tmp_path / f"state_{restart}", restart) == expected
