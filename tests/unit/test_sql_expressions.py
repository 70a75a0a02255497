"""Expressions against Flink's own answers, and what must hold beside them."""

from __future__ import annotations

import json
import re
from decimal import Decimal

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit_sql.errors import NotSupported, SqlError, TypeProblem, UnknownName
from streamkit_sql.expressions import binder, exact
from streamkit_sql.expressions.bound import Bound, Column, Settings
from streamkit_sql.language.parser import parse_expression
from streamkit_sql.plan.scopes import Item, TableScope, reference
from streamkit_sql.runtime.duck import connect
from streamkit_sql.types import BIGINT, DOUBLE, INTEGER, STRING, SqlType, timestamp
from tests.sql import recorded

_COLUMNS = (
    Column("i", INTEGER),
    Column("n", INTEGER.with_null(False)),
    Column("b", BIGINT),
    Column("d", DOUBLE),
    Column("s", STRING),
    Column("ts", timestamp(3), "event"),
)
_SCOPE = TableScope((Item("t", tuple((column.name, reference(column)) for column in _COLUMNS)),))


_DATABASE = connect()


def bound(text: str) -> Bound:
    return binder.bind(parse_expression(text), _SCOPE, Settings(), {})


@pytest.mark.parametrize("answers", [each for each in recorded.recorded() if each.kind == "expressions"])
def test_types_and_values_are_those_that_flink_gave(answers: recorded.Answers) -> None:
    """Each expression over each row; where Flink refuses or fails, so do we."""
    database, scope = answers.database(), answers.scope
    wrong = []
    for answer in answers.answers:
        text = answer["expression"]
        try:
            of = binder.bind(parse_expression(text), scope, answers.settings, {})
            rows = database.sql(f'SELECT {of.sql} FROM t ORDER BY "$n"').fetchall()
        except (SqlError, duckdb.Error) as error:
            if "error" not in answer:
                wrong.append(f"{text}: {error}, but Flink gives {answer['values']}")
            continue
        if "error" in answer:
            wrong.append(f"{text}: Flink says {answer['error']}")
            continue
        if str(of.type) != recorded.flink_type(answer["type"]):
            wrong.append(f"{text} is {of.type}, Flink's is {answer['type']}")
        mine = [recorded.ours(value, of.type) for (value,) in rows]
        theirs = [recorded.theirs(value, of.type) for value in answer["values"]]
        if mine != theirs:
            wrong.append(f"{text}: {mine}, Flink's {theirs}")
    assert not wrong, "\n".join(wrong)


def test_flink_was_asked_a_lot() -> None:
    """The recorded answers are there."""
    assert sum(1 for _ in recorded.each_of("expressions")) > 1500


@pytest.mark.parametrize(
    "text",
    [
        "b = TRUE",
        "s = TRUE",
        "s IN (i, TRUE) AND s = (i > 0)",
        "i = '1'",
        "s + 1",
        "NULL + 1",
        "CAST(i AS TIMESTAMP(3))",
        "CAST(ts AS BIGINT)",
        "ts - ts",
        "INTERVAL '1' DAY + CAST(ts AS TIMESTAMP_LTZ(3))",
        "d % 2",
        "s SIMILAR TO s",
        "ARRAY[1][0]",
        "ARRAY[1, 'a']",
        "CASE WHEN i > 0 THEN 1 ELSE 'a' END",
        "COALESCE(i, 'a')",
        "NOT i",
        "i AND TRUE",
        "s LIKE 'a' ESCAPE 'ab'",
        "ROW(1, 2) = ROW(1, 2, 3)",
        "SUM(i)",
        "s || i",
        "DATE '2020-02-30'",
        "12345678901234567890",
        "TRY_CAST(ARRAY[s] AS ARRAY<INT>)",
    ],
)
def test_what_has_no_meaning_is_refused_with_its_place(text: str) -> None:
    """TypeProblem or NotSupported; Flink refuses these too, or gives what nobody wants, as for BOOLEAN = 'true'."""
    with pytest.raises((TypeProblem, NotSupported)) as caught:
        bound(text)
    assert caught.value.place.line == 1


def test_an_unknown_function_is_told_what_is_near() -> None:
    """Among Flink's and DuckDB's."""
    with pytest.raises(UnknownName, match=r"no function LEVENSTEIN.*LEVENSHTEIN"):
        bound("LEVENSTEIN(s, s)")


def test_a_function_of_duckdbs_is_taken_and_marked() -> None:
    """With DuckDB's type; what does not repeat itself is refused."""
    found = bound("levenshtein(s, 'abc') + 1")
    assert (found.type, found.foreign) == (BIGINT, frozenset(["LEVENSHTEIN"]))
    assert connect().sql(f"SELECT {found.sql} FROM (SELECT 'abd' AS s)").fetchall() == [(2,)]
    with pytest.raises(NotSupported, match="does not give the same again"):
        bound("setseed(d)")


def test_a_time_attribute_ends_where_something_is_computed() -> None:
    """A plain reference keeps it."""
    assert bound("ts").time == "event"
    assert bound("ts + INTERVAL '1' SECOND").time is None
    assert bound("CAST(ts AS TIMESTAMP(3))").time is None
    assert bound("PROCTIME()").time == "processing"


def test_literals_stay_known() -> None:
    """For whoever needs a constant: windows, limits, patterns."""
    for text, value in (
        ("1 + 2 * 3", 7),
        ("-5", -5),
        ("2147483647 + 1", -2147483648),
        ("INTERVAL '1' HOUR * 2", 7_200_000),
        ("'a' || 'b'", "ab"),
        ("CAST('a' AS STRING)", "a"),
        ("1.50", Decimal("1.50")),
        ("TRUE", True),
    ):
        found = bound(text)
        assert (found.is_constant, found.value) == (True, value), text
    assert not bound("i + 1").is_constant


def test_texts_stay_cheap_where_types_prove_what_cannot_be() -> None:
    """No CASE without need, no test of what is NOT NULL."""
    for text, sql in (
        ("n IS NULL", "FALSE"),
        ("COALESCE(n, 7)", '"n"'),
        ("i / 7", 'CAST("i" // 7 AS INTEGER)'),
        ("i % 7", 'CAST("i" % 7 AS INTEGER)'),
        ("b = 7", '("b" = 7)'),
        ("d < 7e0", '("d" < (7.0::DOUBLE))'),
        ("i IN (1, 2)", '("i" IN (1, 2))'),
        ("s LIKE 'a%'", "(\"s\" LIKE 'a%')"),
        ("CAST(n AS BIGINT)", 'CAST("n" AS BIGINT)'),
    ):
        assert bound(text).sql == sql


def test_nested_divisions_and_casts_do_not_double_their_text() -> None:
    """What is used twice is computed once when it is long."""
    deep = "b"
    for _ in range(12):
        deep = f"({deep} / (b + 1))"
    assert len(bound(deep).sql) < 20_000
    text = "d"
    for _ in range(6):
        text = f"CAST(CAST({text} AS STRING) AS DOUBLE)"
    found = bound(text)
    assert len(found.sql) < 60_000
    assert connect().sql(f"SELECT {found.sql} FROM (SELECT 1.5e9 AS d)").fetchall() == [(1.5e9,)]


def test_a_long_chain_is_no_deep_one_and_a_deep_one_is_refused() -> None:
    """Thousands of ANDs are bound; what nests without end is an error with a place."""
    assert bound(" AND ".join(["i > 0"] * 1000)).type.kind.value == "BOOLEAN"
    with pytest.raises(SqlError):
        bound("NOT " * 2000 + "(i > 0)")


def test_a_failing_cast_says_what_it_was_given() -> None:
    """As Flink's message begins."""
    for text, message in (
        ("CAST(s AS INT)", "For input string: 'x1'. Invalid character found."),
        ("CAST(s AS TIMESTAMP(3))", "For input string: 'x1'."),
        ("CAST(s AS BOOLEAN)", "For input string: 'x1'."),
        ("1 / n", "/ by zero"),
    ):
        with pytest.raises(duckdb.Error, match=re.escape(message)):
            connect().sql(f"SELECT {bound(text).sql} FROM (SELECT 'x1' AS s, 0 AS n)").fetchall()


_INTEGERS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.sampled_from([-(2**63), 2**63 - 1, -1, 0, 1]))


def _java(operator: str, a: int, b: int) -> int:
    if operator in "/%":
        quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
        exactly = quotient if operator == "/" else a - quotient * b
    else:
        exactly = {"+": a + b, "-": a - b, "*": a * b}[operator]
    return (exactly + 2**63) % 2**64 - 2**63


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(_INTEGERS, _INTEGERS.filter(bool)), min_size=1, max_size=40))
def test_whole_numbers_compute_as_javas_do(pairs: list[tuple[int, int]]) -> None:
    """They wrap, truncate and take the dividend's sign."""
    scope = TableScope((Item("t", tuple((name, reference(Column(name, BIGINT))) for name in ("x", "y"))),))
    bounds = [binder.bind(parse_expression(f"x {op} y"), scope, Settings(), {}) for op in "+-*/%"]
    rows = ", ".join(f"(CAST({x} AS BIGINT), CAST({y} AS BIGINT))" for x, y in pairs)
    found = connect().sql(f"SELECT {', '.join(each.sql for each in bounds)} FROM (VALUES {rows}) AS t(x, y)").fetchall()
    assert found == [tuple(_java(op, x, y) for op in "+-*/%") for x, y in pairs]


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from("+-*/%"),
    st.tuples(st.integers(1, 38), st.integers(0, 38)).filter(lambda ps: ps[1] <= ps[0]),
    st.tuples(st.integers(1, 38), st.integers(0, 38)).filter(lambda ps: ps[1] <= ps[0]),
    st.data(),
)
def test_decimals_compute_exactly(
    operator: str, left: tuple[int, int], right: tuple[int, int], data: st.DataObject
) -> None:
    """Whatever their digits: rounded half up once, NULL where there is no room."""
    numbers = [
        Decimal(data.draw(st.integers(-(10**p) + 1, 10**p - 1))).scaleb(-s, exact._EXACT) for p, s in (left, right)
    ]
    if operator in "/%" and not numbers[1]:
        return
    types = [f"DECIMAL({p},{s})" for p, s in (left, right)]
    scope = TableScope(
        (Item("t", tuple((n, reference(Column(n, _decimal(*ps)))) for n, ps in (("x", left), ("y", right)))),)
    )
    of = binder.bind(parse_expression(f"x {operator} y"), scope, Settings(), {})
    database = connect()
    exact.install(database)
    cells = ", ".join(
        f"CAST('{number:f}' AS {type_}) AS {name}" for number, type_, name in zip(numbers, types, "xy", strict=True)
    )
    found = database.sql(f"SELECT CAST({of.sql} AS VARCHAR) FROM (SELECT {cells})").fetchall()[0][0]
    wanted = exact.arithmetic(operator, f"{numbers[0]:f}", f"{numbers[1]:f}", of.type.precision, of.type.scale)
    assert (None if found is None else Decimal(found)) == (None if wanted is None else Decimal(wanted))


def _decimal(precision: int, scale: int) -> SqlType:
    from streamkit_sql.types import decimal

    return decimal(precision, scale)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=12))
def test_no_text_breaks_a_try_cast(text: str) -> None:
    """It is a value or NULL, never an error."""
    if "\0" in text or any("\ud800" <= each <= "\udfff" for each in text):
        return
    for of in ("INT", "DOUBLE", "DECIMAL(10, 2)", "BOOLEAN", "DATE", "TIME(3)", "TIMESTAMP(3)", "TIMESTAMP_LTZ(3)"):
        sql = bound(f"TRY_CAST(s AS {of})").sql
        _DATABASE.execute(f"SELECT {sql} FROM (SELECT $1::VARCHAR AS s)", [text]).fetchall()


def test_recorded_answers_are_one_a_line() -> None:
    """So that a new Flink's differences can be read."""
    lines = recorded.PATH.read_text(encoding="utf-8").splitlines()
    assert len(lines) >= sum(len(each.answers) for each in recorded.recorded())
    assert json.loads(recorded.PATH.read_text(encoding="utf-8"))["flink"].startswith("2.")
