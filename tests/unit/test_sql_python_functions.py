"""CREATE FUNCTION: Python functions of users in SQL, over rows, columns and groups."""

from __future__ import annotations

import asyncio
import datetime
import json
import sys
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit_sql import AggregateFunction, Row, ScalarFunction, udaf, udf
from streamkit_sql.application import Application
from streamkit_sql.errors import NotSupported, SqlError, TypeProblem, UnknownName, ValueProblem
from streamkit_sql.language.parser import parse_script
from streamkit_sql.language.printer import to_flink
from streamkit_sql.live import Queries
from streamkit_sql.queries import run_bounded
from streamkit_sql.runtime.results import to_arrow
from streamkit_sql.session import Session


def answer(session: Session, text: str, *, rows_per_tick: int = 20_000) -> list[tuple[Any, ...]]:
    """The rows that are left of a query's result, in no order that counts."""

    async def run() -> list[tuple[Any, ...]]:
        counted: Counter[str] = Counter()
        rows: dict[str, tuple[Any, ...]] = {}
        outputs = session.run(text).outputs
        async for emitted in run_bounded(session, outputs, rows_per_tick=rows_per_tick):
            width = len(emitted.output.columns)
            for values in zip(*to_arrow(emitted.rows, emitted.output.columns).to_pydict().values(), strict=True):
                row = values[:width]
                rows[repr(row)] = row
                counted[repr(row)] += values[width] if len(values) > width else 1
        assert all(count >= 0 for count in counted.values())
        return [rows[key] for key, count in counted.items() for _ in range(count)]

    return asyncio.run(run())


def one(session: Session, expression: str) -> Any:
    return answer(session, f"SELECT {expression}")[0][0]


class Spread(AggregateFunction):
    """The distance between the least and the greatest value; NULL of none."""

    def create_accumulator(self) -> list[float]:
        return []

    def accumulate(self, accumulator: list[float], *values: Any) -> None:
        if values[0] is not None:
            accumulator.append(values[0])

    def get_value(self, accumulator: list[float]) -> Any:
        return max(accumulator) - min(accumulator) if accumulator else None


class Joined(AggregateFunction):
    """Texts of values in the order in which they come."""

    def create_accumulator(self) -> list[str]:
        return []

    def accumulate(self, accumulator: list[str], *values: Any) -> None:
        accumulator.append(":".join(map(str, values)))

    def get_value(self, accumulator: list[str]) -> str:
        return ",".join(accumulator)


@udf(result_type="BIGINT")
def count_char(text: str | None, letter: str) -> int | None:
    return None if text is None else text.count(letter)


def readings(folder: Path, rows: list[dict[str, Any]]) -> str:
    """A table `r` (k, v, ts) of these rows."""
    (folder / "rows.json").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return (
        "CREATE TABLE r (k STRING, v DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH "
        f"('connector' = 'filesystem', 'path' = '{folder}/rows.json', 'format' = 'json')"
    )


MINUTES: list[dict[str, Any]] = [
    {"k": "ab"[i % 2], "v": (None if i % 7 == 3 else float(i * 5 % 11)), "ts": f"2024-01-01 00:{i:02d}:00"}
    for i in range(30)
]


# -- scalar functions ------------------------------------------------------------------------------------------------


def test_a_function_gets_a_rows_values_and_none_for_null() -> None:
    """As Flink calls it: it is asked for NULLs, too."""
    session = Session()
    session.register("count_char", count_char)
    text = "SELECT Count_Char(t, 'c') FROM (VALUES ('ccx'), (CAST(NULL AS STRING)), ('')) AS v (t)"
    assert answer(session, text) == [(2,), (None,), (0,)]


@pytest.mark.parametrize("func_type", ["pandas", "arrow"])
def test_a_function_over_columns_is_called_with_columns(func_type: Any) -> None:
    """A Series or an Array an argument, and one as long back, of its type or one that fits."""
    seen: list[str] = []

    def double(values: Any) -> Any:
        seen.append(type(values).__name__)
        return values * 2 if func_type == "pandas" else pc.multiply(values, 2)

    session = Session()
    session.register("doubled", double, result_type="BIGINT", func_type=func_type)
    rows = answer(session, "SELECT doubled(n), n FROM (VALUES (1), (2), (3)) AS v (n) WHERE doubled(n) > 2")
    assert rows == [(4, 2), (6, 3)]
    assert set(seen) == {"Series" if func_type == "pandas" else "Int32Array"}


def test_null_is_null_in_columns_both_ways() -> None:
    """pandas' NaN is NULL again."""
    session = Session()
    session.register("p", lambda v: v + 1, result_type="DOUBLE", func_type="pandas")
    session.register("a", lambda v: pc.add(v, 1), result_type="DOUBLE", func_type="arrow")
    values = "(VALUES (CAST(1 AS DOUBLE)), (CAST(NULL AS DOUBLE))) AS v (n)"
    assert answer(session, f"SELECT p(n), a(n) FROM {values}") == [(2.0, 2.0), (None, None)]


TYPED: list[tuple[str, str, Any]] = [
    ("CAST(7 AS TINYINT)", "TINYINT", 7),
    ("CAST(7 AS BIGINT)", "BIGINT", 7),
    ("CAST(1.5 AS DECIMAL(10, 2))", "DECIMAL(10, 2)", Decimal("1.50")),
    ("CAST(0.5 AS FLOAT)", "FLOAT", 0.5),
    ("TRUE", "BOOLEAN", True),
    ("'a'", "STRING", "a"),
    ("X'6162'", "BYTES", b"ab"),
    ("DATE '2024-02-29'", "DATE", datetime.date(2024, 2, 29)),
    ("TIME '10:20:30'", "TIME", datetime.time(10, 20, 30)),
    ("TIMESTAMP '2024-02-29 10:20:30.123'", "TIMESTAMP(3)", datetime.datetime.fromisoformat("2024-02-29 10:20:30.123")),
    (
        "TO_TIMESTAMP_LTZ(1000, 3)",
        "TIMESTAMP_LTZ(3)",
        datetime.datetime(1970, 1, 1, 0, 0, 1, tzinfo=datetime.UTC),
    ),
    ("ARRAY[1, 2]", "ARRAY<INT>", [1, 2]),
    ("MAP['a', 1]", "MAP<STRING, INT>", {"a": 1}),
    ("INTERVAL '2' SECOND", "INTERVAL DAY TO SECOND", datetime.timedelta(seconds=2)),
    ("ROW(1, 'x')", "ROW<a INT, b STRING>", Row(1, "x")),
    (
        "ARRAY[TO_TIMESTAMP_LTZ(1000, 3)]",
        "ARRAY<TIMESTAMP_LTZ(3)>",
        [datetime.datetime(1970, 1, 1, 0, 0, 1, tzinfo=datetime.UTC)],
    ),
]


@pytest.mark.parametrize(("expression", "of", "value"), TYPED, ids=[of for _, of, _ in TYPED])
def test_values_of_every_type_go_in_and_out(expression: str, of: str, value: Any) -> None:
    """As the Python values Flink gives, and back as what they were."""
    seen: list[Any] = []

    def same(given: Any) -> Any:
        seen.append(given)
        return given

    session = Session()
    session.register("same", same, result_type=of)
    outcome = one(session, f"same({expression})")
    assert seen
    assert all(each == value and type(each) is type(value) for each in seen)
    plain = one(session, expression)
    assert outcome == (list(plain.values()) if isinstance(plain, dict) else plain) or list(outcome.values()) == list(
        plain.values()
    )


def test_a_local_time_is_in_the_sessions_zone() -> None:
    """TIMESTAMP_LTZ comes as pyflink gives it: UTC's clock, with the zone of `table.local-time-zone` on it. What is
    given back is taken by its clock alone."""
    session = Session()
    session.run("SET 'table.local-time-zone' = 'Asia/Tokyo'")
    session.register("told", str, result_type="STRING")
    session.register("bare", lambda t: t.replace(tzinfo=None), result_type="TIMESTAMP_LTZ(3)")
    session.register("column_told", lambda t: t.astype(str), result_type="STRING", func_type="pandas")
    session.register("later", lambda t: t + datetime.timedelta(1), result_type="TIMESTAMP_LTZ(3)", func_type="pandas")
    session.register("same", lambda t: t, result_type="TIMESTAMP_LTZ(3)", func_type="arrow")
    values = "(VALUES (TO_TIMESTAMP_LTZ(0, 3))) AS v (t)"
    told = ("1970-01-01 00:00:00+09:00",) * 2
    assert answer(session, f"SELECT told(t), column_told(t), bare(t) = t, same(t) = t FROM {values}") == [
        (*told, True, True)
    ]
    assert answer(session, f"SELECT later(t) = TO_TIMESTAMP_LTZ(86400000, 3) FROM {values}") == [(True,)]


def test_a_row_is_read_by_place_and_by_name() -> None:
    """As pyflink's Row."""
    row = Row(id=1, name="a")
    assert (row[0], row["name"], row.id, row.as_dict()) == (1, "a", 1, {"id": 1, "name": "a"})
    session = Session()
    session.register("name_of", lambda r: f"{r.a}{r['b']}{r[0]}", result_type="STRING")
    assert one(session, "name_of(CAST(ROW(1, 'x') AS ROW<a INT, b STRING>))") == "1x1"


def test_a_decimal_is_rounded_to_its_type_half_to_even() -> None:
    """As pyflink's coder does."""
    session = Session()
    session.register("given", lambda t: Decimal(t), result_type="DECIMAL(10, 1)")
    assert answer(session, "SELECT given(t) FROM (VALUES ('0.25'), ('0.35')) AS v (t)") == [
        (Decimal("0.2"),),
        (Decimal("0.4"),),
    ]


def test_a_function_may_be_an_object_that_is_opened_once() -> None:
    """A ScalarFunction: `open` before the first row."""

    class Shift(ScalarFunction):
        opened = 0

        def open(self, function_context: Any) -> None:
            self.opened += 1
            self.by = int(function_context.get_job_parameter("by", "10"))

        def eval(self, *values: Any) -> Any:
            return values[0] + self.by

    shift = Shift()
    session = Session()
    session.register("shift", udf(shift, result_type="INT"))
    assert answer(session, "SELECT shift(n) FROM (VALUES (1), (2)) AS v (n)") == [(11,), (12,)]
    assert shift.opened == 1


def test_what_is_annotated_need_not_be_said() -> None:
    """A result's type follows from the annotation where that is a plain one, or one or None."""
    session = Session()
    session.register("count_char", count_char.function)
    assert one(session, "count_char('cc', 'c')") == 2
    with pytest.raises(TypeProblem, match="does not say what it gives"):
        session.register("any", lambda v: v)


def test_parameters_are_cast_to_and_checked() -> None:
    """With `input_types` arguments are brought to them; what cannot be is refused, as is another number of them."""
    seen: list[Any] = []
    session = Session()
    session.register("f", lambda v: seen.append(v) or "", input_types=["DOUBLE"], result_type="STRING")  # type: ignore[func-returns-value]
    one(session, "f(1)")
    assert [type(each) for each in seen] == [float]
    with pytest.raises(TypeProblem, match="takes 1 arguments, not 2"):
        session.run("SELECT f(1, 2)")
    with pytest.raises(TypeProblem, match=r"It takes \(DOUBLE\)"):
        session.run("SELECT f('a')")
    session.register("g", lambda v: "", result_type="STRING")
    with pytest.raises(TypeProblem, match="NULL has no type here"):
        session.run("SELECT g(NULL)")


def test_a_function_of_nothing_that_differs_is_asked_for_each_row() -> None:
    """`deterministic=False`: not one value for all."""
    count = iter(range(100))
    session = Session()
    session.register("next_one", lambda: next(count), result_type="INT", deterministic=False)
    session.register("fixed", lambda: 5, result_type="INT")
    rows = answer(session, "SELECT next_one(), fixed() FROM (VALUES (1), (2), (3)) AS v (n)")
    assert sorted(rows) == [(0, 5), (1, 5), (2, 5)]


def test_a_function_inside_functions_and_conditions() -> None:
    """It stands wherever a function does; a CASE asks it only where it must."""
    session = Session()
    session.register("inverse", lambda v: 1 / v, result_type="DOUBLE")
    text = "SELECT COALESCE(UPPER(CAST(CASE WHEN n <> 0 THEN inverse(inverse(n)) END AS STRING)), 'none') FROM "
    assert answer(session, text + "(VALUES (2), (0)) AS v (n)") == [("2.0",), ("none",)]
    text = "SELECT CASE WHEN n = 0 THEN FALSE WHEN n > 1 THEN inverse(n) > 1 WHEN n > 0 THEN inverse(n) > 1 END FROM "
    assert answer(session, text + "(VALUES (2), (0), (1)) AS v (n)") == [(False,)] * 3


@settings(max_examples=15, deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(max_size=5)), min_size=1, max_size=20))
def test_a_function_gives_what_python_gives(texts: list[str | None]) -> None:
    """For any texts, all three kinds."""
    expected = [None if text is None else text[::-1] for text in texts]
    session = Session()
    session.register("g", lambda t: None if t is None else t[::-1], result_type="STRING")
    session.register(
        "a",
        lambda c: pa.array([None if t is None else t[::-1] for t in c.to_pylist()], pa.string()),
        result_type="STRING",
        func_type="arrow",
    )
    session.register("texts", lambda i: texts[i], result_type="STRING", deterministic=False)
    values = ", ".join(f"({i})" for i in range(len(texts)))
    rows = answer(session, f"SELECT i, g(texts(i)), a(texts(i)) FROM (VALUES {values}) AS v (i)")
    assert sorted(rows) == [(i, each, each) for i, each in enumerate(expected)]


# -- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "more", "text"),
    [
        (lambda v: 1 / v, {}, r"function <lambda> failed for \(0\): ZeroDivisionError: "),
        (lambda v: "x", {}, r"gave 'x' \(str\) for \(0\); its type is BIGINT"),
        (lambda v: pa.array([1, 2, 3]), {"func_type": "arrow"}, "gave 3 values for 1 rows"),
        (lambda v: pa.array(["x"]), {"func_type": "arrow"}, "gave a StringArray that is no BIGINT"),
        (lambda v: v.nothing, {"func_type": "pandas"}, r"failed for \(1 rows\): AttributeError"),
    ],
)  # fmt: skip
def test_what_a_function_does_wrong_ends_the_query_by_name(function: Any, more: Any, text: str) -> None:
    """A ValueProblem with the function, the values and what is wrong."""
    session = Session()
    session.register("f", function, result_type="BIGINT", **more)
    with pytest.raises(ValueProblem, match=text) as raised:
        answer(session, "SELECT f(n) FROM (VALUES (0)) AS v (n)")
    assert "UDF" not in str(raised.value)


# -- aggregate functions ---------------------------------------------------------------------------------------------


def spread_of(rows: list[Any]) -> float | None:
    values = [each for each in rows if each is not None]
    return max(values) - min(values) if values else None


SPREADS = {
    "general": udaf(Spread(), result_type="DOUBLE"),
    "pandas": udaf(lambda v: v.max() - v.min(), result_type="DOUBLE", func_type="pandas"),
    "arrow": udaf(
        lambda v: pc.subtract(pc.max(v), pc.min(v)), result_type="DOUBLE", func_type="arrow", name="spread"
    ),
}  # fmt: skip


@pytest.mark.parametrize("rows_per_tick", [1, 7, 20_000])
@pytest.mark.parametrize("kind", list(SPREADS))
def test_an_aggregate_of_a_group(kind: str, rows_per_tick: int, tmp_path: Path) -> None:
    """Over all that came, in windows of each kind, and OVER, whatever a tick is."""
    session = Session()
    session.register("spread", SPREADS[kind])
    session.run(readings(tmp_path, MINUTES))
    by_key = {k: spread_of([row["v"] for row in MINUTES if row["k"] == k]) for k in "ab"}

    def ask(text: str) -> list[tuple[Any, ...]]:
        return sorted(answer(session, text, rows_per_tick=rows_per_tick), key=lambda row: str(row[0]))

    assert ask("SELECT k, spread(v), COUNT(*) FROM r GROUP BY k") == [("a", by_key["a"], 15), ("b", by_key["b"], 15)]
    windows = (
        "SELECT window_start, spread(v) FROM TABLE({}(TABLE r, DESCRIPTOR(ts), {})) GROUP BY window_start, window_end"
    )
    minutes = "INTERVAL '{}' MINUTE"
    tumble = ask(windows.format("TUMBLE", minutes.format(10)))
    tens = [MINUTES[start : start + 10] for start in (0, 10, 20)]
    assert [value for _, value in tumble] == [spread_of([row["v"] for row in ten]) for ten in tens]
    hop = ask(windows.format("HOP", f"{minutes.format(5)}, {minutes.format(10)}"))
    starts = range(-5, 30, 5)
    hopped = [spread_of([row["v"] for row in MINUTES[max(0, start) : start + 10]]) for start in starts]
    assert [value for _, value in hop] == hopped
    cumulate = ask(
        "SELECT window_end, spread(v) FROM TABLE(CUMULATE(TABLE r, DESCRIPTOR(ts), INTERVAL '15' MINUTE,"
        " INTERVAL '30' MINUTE)) GROUP BY window_start, window_end"
    )
    assert [value for _, value in cumulate] == [spread_of([row["v"] for row in MINUTES[:stop]]) for stop in (15, 30)]
    session_text = (
        "SELECT k, spread(v) FROM TABLE(SESSION(TABLE r PARTITION BY k, DESCRIPTOR(ts), INTERVAL '5' MINUTE))"
        " GROUP BY k, window_start, window_end"
    )
    assert ask(session_text) == sorted(by_key.items())
    over = "SELECT ts, spread(v) OVER (ORDER BY ts {} BETWEEN {} PRECEDING AND CURRENT ROW) FROM r"
    rows = ask(over.format("ROWS", "2"))
    assert [value for _, value in rows] == [
        spread_of([row["v"] for row in MINUTES[max(0, i - 2) : i + 1]]) for i in range(30)
    ]
    rows = ask(over.format("RANGE", "UNBOUNDED"))
    assert [value for _, value in rows] == [spread_of([row["v"] for row in MINUTES[: i + 1]]) for i in range(30)]


def test_an_aggregate_sees_rows_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    """With DISTINCT each value once, with FILTER those of it."""
    session = Session()
    session.register("joined", Joined(), result_type="STRING")
    session.run(readings(tmp_path, [{"k": each, "v": 1.0, "ts": "2024-01-01 00:00:00"} for each in "bacab"]))
    for rows_per_tick in (1, 2, 100):
        text = "SELECT joined(k, v), joined(DISTINCT k), joined(k) FILTER (WHERE k <> 'a'), joined() FROM r"
        found = answer(session, text, rows_per_tick=rows_per_tick)
        assert found == [("b:1.0,a:1.0,c:1.0,a:1.0,b:1.0", "b,a,c", "b,c,b", ",,,,")]
    with pytest.raises(NotSupported, match=r"JOINED\(DISTINCT \.\.\) of 2 arguments"):
        session.run("SELECT joined(DISTINCT k, v) FROM r")


@pytest.mark.parametrize("kind", list(SPREADS))
def test_an_aggregate_over_rows_that_change_is_of_those_that_are_left(kind: str, tmp_path: Path) -> None:
    """Counts of keys that grow: the spread of the last ones."""
    session = Session()
    session.register("spread", SPREADS[kind])
    session.run(readings(tmp_path, MINUTES[:9]))
    text = "SELECT spread(c) FROM (SELECT CAST(COUNT(*) AS DOUBLE) AS c FROM r GROUP BY k)"
    for rows_per_tick in (1, 100):
        assert answer(session, text, rows_per_tick=rows_per_tick) == [(1.0,)]


def test_an_aggregate_that_fails_is_named(tmp_path: Path) -> None:
    """With the row it failed for."""
    session = Session()
    session.register("wrong", udaf(Spread, result_type="DOUBLE", name="wrong"))
    with pytest.raises(ValueProblem, match="function wrong failed for"):
        answer(session, "SELECT wrong(t) FROM (VALUES ('x'), ('y')) AS v (t)")


def test_an_aggregate_and_a_scalar_function_are_told_apart() -> None:
    """Each is refused where only the other can stand."""
    session = Session()
    session.register("spread", SPREADS["general"])
    session.register("count_char", count_char)
    values = "(VALUES (CAST(1 AS DOUBLE), 'c')) AS v (n, t)"
    for text in (
        f"SELECT n FROM {values} WHERE spread(n) > 1",
        f"SELECT count_char(DISTINCT t) FROM {values}",
        f"SELECT spread(*) FROM {values}",
    ):
        with pytest.raises(SqlError):
            session.run(text)
    with pytest.raises(TypeProblem, match="has no get_value"):
        udaf(type("Half", (), {"create_accumulator": 1, "accumulate": 2}), result_type="INT")


# -- statements ------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder of modules; none of them stays behind."""
    before = set(sys.modules)
    yield tmp_path
    assert {name for name in set(sys.modules) - before if name.startswith(("own_", "pyflink"))} == set()


MODULE = """
from streamkit_sql import udf, udaf
import own_helper

@udf(result_type='INT')
def add(a, b):
    return a + b + own_helper.MORE

@udaf(result_type='BIGINT', func_type='arrow')
def size(values):
    return len(values)

def plain(a):
    return a
"""


def test_create_function_finds_a_module_of_the_scripts_folder(folder: Path) -> None:
    """The module and what it imports are the folder's own; another folder's of the same name is another."""
    for name, more in (("one", 0), ("two", 100)):
        (folder / name).mkdir()
        (folder / name / "own_functions.py").write_text(MODULE, encoding="utf-8")
        (folder / name / "own_helper.py").write_text(f"MORE = {more}\n", encoding="utf-8")
    for name, expected in (("one", 3), ("two", 103)):
        session = Session(folder=folder / name)
        session.run("CREATE FUNCTION plus AS 'own_functions.add' LANGUAGE PYTHON")
        session.run("CREATE TEMPORARY SYSTEM FUNCTION IF NOT EXISTS size AS 'own_functions.size' LANGUAGE PYTHON")
        assert one(session, "PLUS(1, 2)") == expected
        assert answer(session, "SELECT size(n) FROM (VALUES (1), (2)) AS v (n)") == [(2,)]


def test_functions_are_shown_and_dropped(folder: Path) -> None:
    """Also one that hides Flink's own, which is there again."""
    (folder / "own_functions.py").write_text(
        "from streamkit_sql import udf\n@udf(result_type='STRING')\ndef reverse(t):\n    return 'mine'\n",
        encoding="utf-8",
    )
    session = Session(folder=folder)
    create = "CREATE {} FUNCTION {} AS 'own_functions.reverse' LANGUAGE PYTHON"
    with pytest.raises(NotSupported, match="REVERSE is Flink's own function"):
        session.run(create.format("", "reverse"))
    session.run(create.format("TEMPORARY SYSTEM", "reverse"))
    session.run(create.format("TEMPORARY", "Own"))
    with pytest.raises(UnknownName, match="there is a function 'OWN' already"):
        session.run(create.format("", "OWN"))
    session.run("CREATE FUNCTION IF NOT EXISTS own AS 'nothing.at_all' LANGUAGE PYTHON")
    assert session.run("SHOW USER FUNCTIONS").answers[0].rows == [("own",), ("reverse",)]
    assert {("own",), ("reverse",), ("LOWER",)} <= set(session.run("SHOW FUNCTIONS").answers[0].rows)
    assert one(session, "reverse('a')") == "mine"
    session.run("DROP TEMPORARY SYSTEM FUNCTION reverse; DROP FUNCTION own; DROP FUNCTION IF EXISTS own")
    assert one(session, "reverse('ab')") == "ba"
    assert session.run("SHOW USER FUNCTIONS").answers[0].rows == []
    for text in ("DROP FUNCTION own", "DROP FUNCTION `lower`", "SELECT own('a')"):
        with pytest.raises(UnknownName):
            session.run(text)


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("own_nothing.f", "there is no module 'own_nothing'"),
        ("own_functions.nothing", "module 'own_functions' has no 'nothing'"),
        ("own_functions.plain", "a function is no declared function"),
        ("own_needs.f", "imports 'own_missing', which is not there"),
        ("own_broken.f", "cannot be imported: ValueError: no"),
        ("own_wrong.f", "module 'own_wrong': .* type"),
        ("own_functions", "names no function"),
    ],
)
def test_what_cannot_be_loaded_is_named(target: str, text: str, folder: Path) -> None:
    """With the place of the statement, and nothing is created."""
    (folder / "own_functions.py").write_text(MODULE, encoding="utf-8")
    (folder / "own_helper.py").write_text("MORE = 0\n", encoding="utf-8")
    (folder / "own_needs.py").write_text("import own_missing\n", encoding="utf-8")
    (folder / "own_broken.py").write_text("raise ValueError('no')\n", encoding="utf-8")
    (folder / "own_wrong.py").write_text(
        "from streamkit_sql import udf\nf = udf(len, result_type='NO TYPE')\n", "utf-8"
    )
    session = Session(folder=folder)
    with pytest.raises(SqlError, match=text) as raised:
        session.run(f"SHOW TABLES;\nCREATE FUNCTION f AS '{target}' LANGUAGE PYTHON")
    assert raised.value.place.line == 2
    assert session.run("SHOW USER FUNCTIONS").answers[0].rows == []


@pytest.mark.parametrize(
    "text",
    [
        "CREATE FUNCTION f AS 'com.example.F'",
        "CREATE FUNCTION f AS 'com.example.F' LANGUAGE JAVA",
        "CREATE FUNCTION f AS 'com.example.F' LANGUAGE SCALA",
        "CREATE FUNCTION f AS 'm.f' LANGUAGE PYTHON USING JAR 'a.jar'",
    ],
)
def test_functions_in_other_languages_are_refused(text: str) -> None:
    """By name, before anything is looked for."""
    with pytest.raises(NotSupported):
        Session().run(text)


def test_the_statements_print_as_they_are_read() -> None:
    """CREATE TEMPORARY SYSTEM FUNCTION and SHOW USER FUNCTIONS."""
    for text in ("CREATE TEMPORARY SYSTEM FUNCTION f AS 'm.f' LANGUAGE PYTHON", "SHOW USER FUNCTIONS"):
        statement = parse_script(text)[0]
        assert parse_script(to_flink(statement))[0] == statement


FLINKS = """
from pyflink.common import Row
from pyflink.table import AggregateFunction, DataTypes, ScalarFunction
from pyflink.table.udf import udaf, udf, udtf

@udf(input_types=[DataTypes.STRING(), DataTypes.STRING()], result_type=DataTypes.BIGINT())
def count_char(text, letter):
    return text.count(letter)

class Length(ScalarFunction):
    def eval(self, text):
        return len(text)

length = udf(Length(), result_type='INT')
pair = udf(lambda a: Row(a, a), result_type=DataTypes.ROW([DataTypes.FIELD('x', DataTypes.INT()),
                                                          DataTypes.FIELD('y', DataTypes.INT())]))

class Mean(AggregateFunction):
    def create_accumulator(self):
        return [0, 0]
    def accumulate(self, accumulator, value):
        accumulator[0] += value
        accumulator[1] += 1
    def get_value(self, accumulator):
        return accumulator[0] / accumulator[1]
    def get_result_type(self):
        return DataTypes.DOUBLE(False)
    def get_accumulator_type(self):
        return DataTypes.ARRAY(DataTypes.BIGINT())

mean = udaf(Mean())
"""


def test_a_module_for_flink_is_taken_without_pyflink(folder: Path) -> None:
    """Its declarations stand in while the module is imported, and nothing of them stays."""
    (folder / "own_flink.py").write_text(FLINKS, encoding="utf-8")
    session = Session(folder=folder)
    for name in ("count_char", "length", "mean", "pair"):
        session.run(f"CREATE TEMPORARY FUNCTION {name}_of AS 'own_flink.{name}' LANGUAGE PYTHON")
    text = "SELECT count_char_of(t, 'c'), length_of(t), pair_of(1).y FROM (VALUES ('ccx')) AS v (t)"
    assert answer(session, text) == [(2, 3, 1)]
    assert answer(session, "SELECT mean_of(n) FROM (VALUES (1), (2)) AS v (n)") == [(1.5,)]
    (folder / "own_table.py").write_text(
        "from pyflink.table.udf import udtf\n@udtf(result_types=[])\ndef f(t):\n    yield t\n", encoding="utf-8"
    )
    with pytest.raises(NotSupported, match="table functions in Python"):
        session.run("CREATE FUNCTION f AS 'own_table.f' LANGUAGE PYTHON")


class BigIntType:
    """As pyflink's, which is known by its name."""

    _nullable = True


class FlinksOwn:
    """What pyflink's `udf` gives."""

    _func = staticmethod(len)
    _func_type = "general"
    _input_types = None
    _result_type = BigIntType()
    _deterministic = True
    _name = "length"


def test_functions_that_pyflink_itself_declared_are_taken() -> None:
    """Where pyflink is installed its own objects come from the module."""
    session = Session()
    session.register("length_of", FlinksOwn())
    assert one(session, "length_of('abc')") == 3


# -- runs ------------------------------------------------------------------------------------------------------------


def test_a_script_that_writes_finds_its_functions_and_goes_on_in_another_run(folder: Path) -> None:
    """The plan is known again after a restart: names are the same in every run."""
    (folder / "own_functions.py").write_text(MODULE, encoding="utf-8")
    (folder / "own_helper.py").write_text("MORE = 10\n", encoding="utf-8")
    script = (
        "CREATE FUNCTION plus AS 'own_functions.add' LANGUAGE PYTHON;\n"
        "CREATE FUNCTION size_of AS 'own_functions.size' LANGUAGE PYTHON;\n"
        + readings(folder, MINUTES)
        + f""";
        CREATE TABLE o (w TIMESTAMP(3), n BIGINT, s INT) WITH ('connector' = 'filesystem', 'path' = '{folder}/out',
            'format' = 'json');
        INSERT INTO o SELECT window_end, size_of(v), plus(CAST(COUNT(*) AS INT), 1)
            FROM TABLE(TUMBLE(TABLE r, DESCRIPTOR(ts), INTERVAL '10' MINUTE)) GROUP BY window_start, window_end"""
    )
    for _ in range(2):
        asyncio.run(Application(None, script, folder / "state", modules=folder).run())
    lines = [line for path in (folder / "out").rglob("*") if path.is_file() for line in path.read_text().splitlines()]
    assert [(each["n"], each["s"]) for each in map(json.loads, lines)] == [(10, 21)] * 3


def test_a_function_of_a_notebook_is_registered_with_the_queries() -> None:
    """`kit.queries().register`; a new one of a name takes the old one's place."""

    async def ask(queries: Queries) -> list[dict[str, Any]]:
        result = await queries.query("SELECT twice(3) AS n", follow=False)
        rows: list[dict[str, Any]] = (await result.to_arrow()).to_pylist()
        return rows

    queries = Queries(None)
    queries.register("twice", lambda v: v * 2, result_type="INT")
    assert asyncio.run(ask(queries)) == [{"n": 6}]
    queries.register("twice", lambda v: v + v + 1, result_type="INT")
    assert asyncio.run(ask(queries)) == [{"n": 7}]


def test_a_function_over_columns_is_called_once_for_many_rows(tmp_path: Path) -> None:
    """For each 2,048 rows or so, DuckDB's vector, not for each row."""
    calls: list[int] = []
    session = Session()
    session.register("a", lambda v: calls.append(len(v)) or pc.add(v, 1.0), result_type="DOUBLE", func_type="arrow")  # type: ignore[func-returns-value]
    session.run(readings(tmp_path, [{"k": "a", "v": float(i), "ts": "2024-01-01 00:00:00"} for i in range(5_000)]))
    assert answer(session, "SELECT COUNT(*) FROM r WHERE a(v) > 5") == [(4_995,)]
    assert sum(calls) == 5_000
    assert len(calls) <= 5


def test_a_function_is_asked_once_for_a_row_whatever_reads_it(tmp_path: Path) -> None:
    """Windows look at their rows more than once, conversions at their values; a row has one value all the same."""
    numbers = iter(range(10_000))
    session = Session()
    session.register("numbered", lambda _: next(numbers), result_type="BIGINT", deterministic=False)
    session.run(readings(tmp_path, MINUTES))
    session.run("CREATE VIEW n AS SELECT ts, k, numbered(k) AS n FROM r")
    text = """SELECT COUNT(DISTINCT n), COUNT(*), MAX(n) - MIN(n) FROM TABLE(TUMBLE(TABLE n, DESCRIPTOR(ts),
        INTERVAL '30' MINUTE)) GROUP BY window_start, window_end"""
    for rows_per_tick in (1, 7, 100):
        assert answer(session, text, rows_per_tick=rows_per_tick) == [(30, 30, 29)]
    assert next(numbers) == 90
    text = "SELECT CAST(CAST(numbered(k) AS DOUBLE) AS INT) + 0, numbered(k) BETWEEN 100 AND 200, numbered(k) FROM r"
    rows = answer(session, text)
    assert len({value for first, _, last in rows for value in (first, last)}) == 60
    assert next(numbers) == 91 + 3 * 30


def test_functions_stand_inside_duckdbs_own_and_in_patterns(tmp_path: Path) -> None:
    """A function of DuckDB's over one in Python; conditions and measures of MATCH_RECOGNIZE."""
    session = Session()
    session.register("doubled", lambda v: None if v is None else v * 2, result_type="DOUBLE")
    session.run(readings(tmp_path, [row for row in MINUTES if row["v"] is not None]))
    found = answer(session, "SELECT median(doubled(v)), doubled(MAX(v)) FROM r")
    assert found == [(9.0, 20.0)]
    text = """SELECT high FROM r MATCH_RECOGNIZE (ORDER BY ts MEASURES doubled(h.v) AS high
        AFTER MATCH SKIP PAST LAST ROW PATTERN (h) DEFINE h AS doubled(h.v) > 19)"""
    count = sum(1 for row in MINUTES if row["v"] is not None and row["v"] * 2 > 19)
    assert answer(session, text) == [(20.0,)] * count
