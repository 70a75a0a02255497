"""Aggregates against Flink's own answers, computed at once and from accumulators."""

from __future__ import annotations

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit_sql.errors import NotSupported, SqlError, TypeProblem
from streamkit_sql.expressions import aggregates
from streamkit_sql.expressions.aggregates import bind_aggregate, is_aggregate
from streamkit_sql.expressions.bound import Aggregate, Column, Partial, Settings
from streamkit_sql.language import tree
from streamkit_sql.language.parser import parse_expression
from streamkit_sql.plan.scopes import Item, TableScope, reference
from streamkit_sql.runtime.duck import connect
from streamkit_sql.types import BIGINT, DOUBLE, INTEGER, STRING, SqlType, decimal
from tests.sql import recorded

_TYPES = {"k": INTEGER, "b": BIGINT, "d": DOUBLE, "c": decimal(10, 2), "s": STRING, "n": INTEGER.with_null(False)}
_SCOPE = TableScope((Item("t", tuple((name, reference(Column(name, of))) for name, of in _TYPES.items())),))
_COLUMNS = ", ".join(f'"{name}" {of.duckdb}' for name, of in _TYPES.items())


def bound(text: str, scope: TableScope = _SCOPE, has_keys: bool = True) -> Aggregate:
    call = parse_expression(text)
    assert isinstance(call, tree.Call)
    return bind_aggregate(call, scope, Settings(), {}, has_keys=has_keys)


def filled(template: str, values: list[str]) -> str:
    for place, value in enumerate(values):
        template = template.replace("{" + str(place) + "}", value)
    return template.replace("{}", values[0]) if values else template


def merged(database: duckdb.DuckDBPyConnection, of: Aggregate, sources: list[str], *, changes: bool) -> object:
    """The result over accumulators of several sources, kept in a table in between."""
    held = ", ".join(f"a{place} {part.type}" for place, part in enumerate(of.partials))
    database.execute(f"CREATE OR REPLACE TEMP TABLE kept ({held})")

    def text(part: Partial) -> str:
        found = part.of_changes if changes else part.of_rows
        assert found is not None
        return found

    for source in sources:
        database.execute(f"INSERT INTO kept SELECT {', '.join(map(text, of.partials))} FROM {source}")
    inner = ", ".join(f"{filled(part.merge, [f'a{place}'])} AS m{place}" for place, part in enumerate(of.partials))
    final = filled(of.final, [f"m{place}" for place in range(len(of.partials))])
    return database.sql(f"SELECT {final} FROM (SELECT {inner} FROM kept)").fetchall()[0][0]


def close(mine: object, theirs: object, of: SqlType) -> bool:
    """Equal; sums of floating numbers may be added in another order."""
    if mine is None or theirs is None or not of.is_approximate:
        return mine == theirs
    return float(str(mine)) == pytest.approx(float(str(theirs)), rel=1e-6)


@pytest.mark.parametrize("answers", [each for each in recorded.recorded() if each.kind == "aggregates"])
def test_types_and_values_are_those_that_flink_gave(answers: recorded.Answers) -> None:
    """At once, from accumulators of parts, and with rows that came twice and went once."""
    database = answers.database()
    wrong = []
    for answer in answers.answers:
        text = answer["expression"]
        try:
            of = bound(text, answers.scope, has_keys=False)
            found = {"at once": database.sql(f"SELECT {of.whole} FROM t").fetchall()[0][0]}
            if of.partials:
                parts = ['t WHERE "$n" < 2', 't WHERE "$n" >= 2', "t WHERE FALSE"]
                found["in parts"] = merged(database, of, parts, changes=False)
            if of.is_retractable:
                twice = '(SELECT *, 1 AS "$w" FROM t)'
                once = '(SELECT *, -1 AS "$w" FROM t)'
                found["with changes"] = merged(database, of, [twice, twice, once], changes=True)
        except (SqlError, duckdb.Error) as error:
            if "error" not in answer:
                wrong.append(f"{text}: {error}, but Flink gives {answer['values']}")
            continue
        if "error" in answer:
            if not of.foreign:  # DuckDB has it
                wrong.append(f"{text}: Flink says {answer['error']}")
            continue
        if str(of.type) != answer["type"]:
            wrong.append(f"{text} is {of.type}, Flink's is {answer['type']}")
        theirs = recorded.theirs(answer["values"][0], of.type)
        for way, value in found.items():
            if not close(recorded.ours(value, of.type), theirs, of.type):
                wrong.append(f"{text} {way}: {recorded.ours(value, of.type)}, Flink's {theirs}")
    assert not wrong, "\n".join(wrong)


_ROWS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
        st.one_of(st.none(), st.integers(-1000, 1000).map(float)),
        st.one_of(st.none(), st.decimals(-99999999, 99999999, places=2)),
        st.one_of(st.none(), st.sampled_from(["a", "b", "", "é"])),
        st.integers(-5, 5),
        st.booleans(),
    ),
    max_size=30,
)
_MERGEABLE = (
    "COUNT(*)", "COUNT(b)", "SUM(b)", "SUM(k)", "SUM(n)", "SUM(d)", "SUM(c)", "AVG(b)", "AVG(k)", "AVG(c)", "AVG(d)",
    "MIN(b)", "MAX(s)", "MIN(c)", "FIRST_VALUE(s)", "LAST_VALUE(b)", "VAR_POP(d)", "STDDEV_SAMP(k)", "$SUM0(b)",
    "SUM(b) FILTER (WHERE n > 0)", "COUNT(s) FILTER (WHERE b > 0)", "AVG(c) FILTER (WHERE s = 'a')",
)  # fmt: skip


def _call(text: str) -> Aggregate:
    return bound(text) if not text.startswith("$") else _zero_sum()


def _zero_sum() -> Aggregate:
    call = tree.Call("$SUM0", (tree.Name(("b",)),))
    return bind_aggregate(call, _SCOPE, Settings(), {})


@settings(max_examples=6, deadline=None)
@given(_ROWS)
def test_accumulators_of_any_parts_give_what_all_rows_give(rows: list[tuple[object, ...]]) -> None:
    """Each row with a place of arrival and a part it is in; rows that go again leave nothing behind."""
    database = connect()
    database.execute(f'CREATE TABLE t ({_COLUMNS}, "$part" BOOLEAN, "$n" BIGINT)')
    for place, row in enumerate(rows):
        database.execute("INSERT INTO t VALUES ($1, $2, $3, $4, $5, $6, $7, $8)", [*row, place])
    for text in _MERGEABLE:
        of = _call(text)
        whole = database.sql(f"SELECT {of.whole} FROM t").fetchall()[0][0]
        parts = ['t WHERE "$part"', 't WHERE NOT "$part"']
        assert _equal(merged(database, of, parts, changes=False), whole), text
        if of.is_retractable:
            gone = '(SELECT *, 2 AS "$w" FROM t UNION ALL SELECT *, -2 AS "$w" FROM t)'
            assert _equal(merged(database, of, [gone, '(SELECT *, 1 AS "$w" FROM t)'], changes=True), whole), text


def _equal(a: object, b: object) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return a == pytest.approx(b, rel=1e-9, abs=1e-9)
    return a == b


def test_what_can_be_taken_back_is_told() -> None:
    """Sums and counts can; extremes merge only; lists do not even merge; DISTINCT names what is to be kept."""
    assert bound("SUM(b)").is_retractable
    assert bound("MIN(b)").is_mergeable
    assert not bound("MIN(b)").is_retractable
    assert not bound("LISTAGG(s)").is_mergeable
    counted = bound("COUNT(DISTINCT s) FILTER (WHERE b > 0)")
    assert (counted.is_mergeable, counted.columns) == (False, frozenset(["s", "b"]))
    assert counted.distinct_of is not None
    assert counted.distinct_of.sql == '"s"'
    assert bound("MAX(DISTINCT b)").is_mergeable


def test_results_are_not_null_only_where_there_is_always_a_value() -> None:
    """In a group by keys, of an argument that is never NULL, without FILTER."""
    assert not bound("SUM(n)").type.nullable
    assert bound("SUM(n)", has_keys=False).type.nullable
    assert bound("SUM(b)").type.nullable
    assert bound("SUM(n) FILTER (WHERE b > 0)").type.nullable
    assert not bound("COUNT(b)", has_keys=False).type.nullable


def test_lists_are_in_the_order_of_arrival() -> None:
    """However the rows lie; DISTINCT keeps the first, NULL is one value of ARRAY_AGG."""
    database = connect()
    rows = "(3, 'b'), (1, 'b'), (2, NULL), (0, 'a'), (4, 'a'), (5, NULL)"
    source = f'(VALUES {rows}) AS t("$n", s)'
    for text, wanted in (
        ("LISTAGG(s, '-')", "a-b-b-a"),
        ("LISTAGG(DISTINCT s)", "a,b"),
        ("ARRAY_AGG(s)", ["a", "b", None, "b", "a", None]),
        ("ARRAY_AGG(DISTINCT s)", ["a", "b", None]),
        ("FIRST_VALUE(s)", "a"),
        ("LAST_VALUE(s)", "a"),
        ("COLLECT(s)", {"a": 2, "b": 2}),
        ("JSON_ARRAYAGG(s)", '["a","b","b","a"]'),
    ):
        assert database.sql(f"SELECT {bound(text).whole} FROM {source}").fetchall() == [(wanted,)], text


def test_names_of_aggregates_are_flinks_and_duckdbs() -> None:
    """A function of both kinds is Flink's."""
    assert all(is_aggregate(name) for name in ("SUM", "LISTAGG", "GROUPING_ID", "MEDIAN"))
    assert not any(is_aggregate(name) for name in ("UPPER", "COALESCE", "GREATEST", "NOWHERE"))
    median = bound("MEDIAN(b)")
    assert (median.type, median.foreign) == (DOUBLE, frozenset(["MEDIAN"]))


@pytest.mark.parametrize(
    "text",
    ["SUM(s)", "SUM(*)", "AVG(s, s)", "COUNT(k, b)", "COUNT()", "LISTAGG(b)", "LISTAGG(s, s)", "MIN(ARRAY[1])",
     "SUM(NULL)", "SUM(b) FILTER (WHERE b)", "LISTAGG(s) WITHIN GROUP (ORDER BY s)", "SUM(SUM(b))"],
)  # fmt: skip
def test_what_no_aggregate_takes_is_refused(text: str) -> None:
    """With what it takes, at its place."""
    with pytest.raises((TypeProblem, NotSupported)):
        bound(text)


def test_every_rule_has_a_name_that_is_an_aggregate() -> None:
    """The list that planning asks is the list that binding has."""
    assert all(is_aggregate(name) for name in aggregates._RULES)
