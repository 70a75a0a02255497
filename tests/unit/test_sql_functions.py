"""Promises of the SQL function library: each call gives the type and the values that Flink 2.3 gave when it was asked.

`sql_function_answers.json` has, by session zone and expression, Flink's type and its values over the two rows of ROWS
(one value where both are the same), "FAILS" where the query fails and "REFUSED" where Flink does not take the
expression.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit_sql.errors import NotSupported, SqlError, TypeProblem
from streamkit_sql.expressions.binder import bind
from streamkit_sql.expressions.bound import Bound, Settings
from streamkit_sql.expressions.functions import RULES, RULES_REFUSED, java_dates, java_regex, json_paths
from streamkit_sql.expressions.functions.java_format import double_text
from streamkit_sql.expressions.functions.python_functions import FUNCTIONS, install, used_in
from streamkit_sql.language import tree
from streamkit_sql.language.parser import parse_expression, parse_type
from streamkit_sql.runtime.duck import connect
from streamkit_sql.types import Kind, SqlType, quoted

ANSWERS: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "sql_function_answers.json").read_text(encoding="utf-8")
)
CHUNK = 60

COLUMNS = {
    "k": "STRING NOT NULL",
    "s": "STRING",
    "s2": "STRING",
    "p": "STRING NOT NULL",
    "c3": "CHAR(3)",
    "v5": "VARCHAR(5)",
    "ti": "TINYINT",
    "si": "SMALLINT",
    "i": "INT",
    "n": "INT NOT NULL",
    "b": "BIGINT",
    "f": "FLOAT",
    "d": "DOUBLE",
    "dn": "DOUBLE NOT NULL",
    "m": "DECIMAL(10, 3)",
    "m2": "DECIMAL(38, 10)",
    "bo": "BOOLEAN",
    "bon": "BOOLEAN NOT NULL",
    "dt": "DATE",
    "tm": "TIME(0)",
    "ts": "TIMESTAMP(3)",
    "ts6": "TIMESTAMP(6)",
    "ts9": "TIMESTAMP(9)",
    "ltz": "TIMESTAMP_LTZ(3)",
    "bin": "BYTES",
    "ai": "ARRAY<INT>",
    "an": "ARRAY<INT NOT NULL>",
    "ast": "ARRAY<STRING>",
    "mp": "MAP<STRING, INT>",
    "r": "ROW<a INT, b STRING>",
}
TYPES: dict[str, SqlType] = {name: parse_type(text) for name, text in COLUMNS.items()}
ROWS = (
    {"k": "'a'", "p": "''", "n": "0", "dn": "0", "bon": "true"},
    {
        "k": "'b'",
        "s": "'Héllo😀 wörld'",
        "s2": "'l'",
        "p": "'x'",
        "c3": "'ab'",
        "v5": "'abcde'",
        "ti": "-5",
        "si": "300",
        "i": "-7",
        "n": "3",
        "b": "9223372036854775807",
        "f": "1.5",
        "d": "-2.5",
        "dn": "2.5",
        "m": "-12.345",
        "m2": "1234567.1234567890",
        "bo": "true",
        "bon": "false",
        "dt": "DATE '2024-02-29'",
        "tm": "TIME '13:14:15'",
        "ts": "TIMESTAMP '2024-02-29 13:14:15.678'",
        "ts6": "TIMESTAMP '1969-12-31 23:59:59.123456'",
        "ts9": "'2024-12-31 23:59:59.123456789'::TIMESTAMP_NS",
        "ltz": "TIMESTAMP '2024-02-29 13:14:15.678'",
        "bin": "'hello'::BLOB",
        "ai": "[3, NULL, 1, 3]",
        "an": "[1, 2]",
        "ast": "['x', NULL, 'y']",
        "mp": "MAP {'a': 1, 'b': NULL}",
        "r": "{'a': 1, 'b': 'z'}",
    },
)


class Columns:
    """A scope with the columns above."""

    def resolve(self, name: tree.Name) -> Bound:
        column = name.parts[-1]
        return Bound(quoted(column), TYPES[column], frozenset((column,)))

    def replace(self, node: tree.Expression, bind: Callable[[tree.Expression], Bound]) -> Bound | None:
        return None


def bound(expression: str, zone: str = "UTC") -> Bound:
    return bind(parse_expression(expression), Columns(), Settings(zone=zone), {})


@pytest.fixture(scope="module")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    database = connect()
    install(database)
    install(database, ["flink_upper"])  # again, which is harmless
    names = ", ".join(f"{quoted(name)} {of.duckdb}" for name, of in TYPES.items())
    database.execute(f'CREATE TABLE t ({names}, "$at" TIMESTAMP, "$wm" BIGINT)')
    for row in ROWS:
        values = ", ".join(row.get(name, "NULL") for name in TYPES)
        database.execute(f"INSERT INTO t SELECT {values}, TIMESTAMP '2026-11-23 23:44:49.216789', 1000")
    yield database
    database.close()


# -- as Flink prints values ------------------------------------------------------------------------------------------


def shown(value: Any, of: SqlType) -> str | None:
    if value is None:
        return None
    if of.is_timestamp:
        return _iso(str(value), "Z" if of.kind is Kind.TIMESTAMP_LTZ else "")
    if of.is_bytes:
        return f"x'{value.hex()}'"
    match of.kind:
        case Kind.BOOLEAN:
            return "true" if value else "false"
        case Kind.DOUBLE:
            return double_text(value)
        case Kind.FLOAT:
            return double_text(_shortest(value))
        case Kind.DECIMAL:
            return format(value, "f") if isinstance(value, Decimal) else str(value)
        case Kind.TIME:
            return value.isoformat().removesuffix("000") if value.second or value.microsecond else f"{value:%H:%M}"
        case Kind.ARRAY:
            assert of.element is not None
            return f"[{', '.join(inside(each, of.element) for each in value)}]"
        case Kind.MAP:
            assert of.key is not None
            assert of.element is not None
            entries = [f"{inside(k, of.key)}={inside(v, of.element)}" for k, v in value]
            return _in_order("{" + ", ".join(entries) + "}")
        case Kind.ROW:
            return f"+I[{', '.join(inside(value[field.name], field.type) for field in of.fields)}]"
    return str(value)


def inside(value: Any, of: SqlType) -> str:
    text = shown(value, of)
    return "null" if text is None else text


def _shortest(value: float) -> float:
    for digits in range(1, 10):
        found = float(f"{value:.{digits}g}")
        if struct.pack("f", found) == struct.pack("f", value):
            return found
    return value


def _iso(text: str, zone: str) -> str:
    day, _, clock = text.replace(" ", "T").partition("T")
    whole, _, fraction = clock.partition(".")
    fraction = fraction.rstrip("0")
    if fraction:
        whole += "." + fraction.ljust((len(fraction) + 2) // 3 * 3, "0")
    elif not zone and whole.endswith(":00"):
        whole = whole[:-3]
    return f"{day}T{whole}{zone}"


def _in_order(text: str) -> str:
    """Java's maps print in the order of their hashes."""
    return "{" + ", ".join(sorted(text[1:-1].split(", "))) + "}" if text.startswith("{") and '"' not in text else text


def values_of(column: pa.ChunkedArray) -> list[Any]:
    is_nanos = pa.types.is_timestamp(column.type) and column.type.unit == "ns"
    values: list[Any] = (column.cast(pa.string()) if is_nanos else column).to_pylist()
    return values


def _chunks() -> Iterator[Any]:
    for zone, answers in ANSWERS.items():
        known = [(text, answer) for text, answer in answers.items() if answer != "REFUSED" and answer[1] != "FAILS"]
        for at in range(0, len(known), CHUNK):
            yield pytest.param(zone, known[at : at + CHUNK], id=f"{zone}-{at}")


@pytest.mark.parametrize(("zone", "answers"), list(_chunks()))
def test_calls_give_flinks_types_and_values(
    database: duckdb.DuckDBPyConnection, zone: str, answers: list[tuple[str, list[str | None]]]
) -> None:
    """Over a row of NULLs and one with odd values, in one statement; DuckDB's type is the one that Flink's maps to."""
    calls = [bound(text, zone) for text, _ in answers]
    selected = ", ".join(f"{call.sql} AS x{index}" for index, call in enumerate(calls))
    table = database.sql(f"SELECT {selected} FROM t ORDER BY k").to_arrow_table()
    types = database.sql(f"DESCRIBE SELECT {selected} FROM t").fetchall()
    for index, (text, (of, *values)) in enumerate(answers):
        given = [shown(value, calls[index].type) for value in values_of(table[index])]
        expected = [value and _in_order(value) for value in (values * 2)[:2]]
        assert (text, str(calls[index].type), given) == (text, of, expected)
        assert _bare(types[index][1]) == _bare(calls[index].type.duckdb), text


def _bare(of: str) -> str:
    return of.replace(" ", "").replace('"', "")


@pytest.mark.parametrize("zone", ANSWERS)
def test_what_flink_refuses_is_refused(zone: str) -> None:
    """With an error of the script that names a place."""
    refused = [text for text, answer in ANSWERS[zone].items() if answer == "REFUSED"]
    assert refused
    for text in refused:
        with pytest.raises(SqlError):
            bound(text, zone)


@pytest.mark.parametrize("zone", ANSWERS)
def test_values_that_stop_flink_stop_the_query(database: duckdb.DuckDBPyConnection, zone: str) -> None:
    """Nothing is approximated where Flink's query fails."""
    failing = [text for text, answer in ANSWERS[zone].items() if answer != "REFUSED" and answer[1] == "FAILS"]
    assert failing
    for text in failing:
        with pytest.raises(duckdb.Error):
            database.sql(f"SELECT {bound(text, zone).sql} FROM t").fetchall()


# -- clocks and what is not repeatable -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "of", "value"),
    [
        ("CURRENT_TIMESTAMP", "TIMESTAMP_LTZ(3) NOT NULL", "2026-11-23T23:44:49.216Z"),
        ("NOW()", "TIMESTAMP_LTZ(3) NOT NULL", "2026-11-23T23:44:49.216Z"),
        ("CURRENT_ROW_TIMESTAMP()", "TIMESTAMP_LTZ(3) NOT NULL", "2026-11-23T23:44:49.216Z"),
        ("LOCALTIMESTAMP", "TIMESTAMP(3) NOT NULL", "2026-11-23T18:44:49.216"),
        ("CURRENT_DATE", "DATE NOT NULL", "2026-11-23"),
        ("LOCALTIME", "TIME(0) NOT NULL", "18:44:49.216"),
        ("CURRENT_TIME", "TIME(0) NOT NULL", "18:44:49.216"),
        ("UNIX_TIMESTAMP()", "BIGINT NOT NULL", "1795477489"),
    ],
)
def test_clocks_read_the_rows_arrival(
    database: duckdb.DuckDBPyConnection, expression: str, of: str, value: str
) -> None:
    """So that a replay repeats itself; in the session's zone where they are no instants."""
    call = bound(expression, "America/New_York")
    table = database.sql(f"SELECT {call.sql} FROM t").to_arrow_table()
    assert str(call.type) == of
    assert call.columns == {"$at"}
    assert {shown(each, call.type) for each in table[0].to_pylist()} == {value}


def test_current_watermark_is_that_before_the_row(database: duckdb.DuckDBPyConnection) -> None:
    """It takes a rowtime attribute only, and is NULL while there is no watermark."""
    rule = RULES["CURRENT_WATERMARK"]
    from streamkit_sql.expressions.bound import FunctionCall

    time = Bound('"ts"', TYPES["ts"], frozenset(("ts",)), time="event")
    call = rule(FunctionCall("CURRENT_WATERMARK", (time,), (), {}, Settings()))
    assert str(call.type) == "TIMESTAMP(3)"
    assert database.sql(f"SELECT epoch_ms({call.sql}) FROM t").fetchall() == [(1000,), (1000,)]
    none = call.sql.replace('"$wm"', str(-(2**62)))
    assert database.sql(f"SELECT {none}").fetchall() == [(None,)]
    with pytest.raises(TypeProblem, match="rowtime"):
        rule(FunctionCall("CURRENT_WATERMARK", (time.materialized(),), (), {}, Settings()))


def test_an_argument_that_is_random_is_asked_once(database: duckdb.DuckDBPyConnection) -> None:
    """However often a function's text has it."""
    call = bound("ABS(RAND_INTEGER(100000) - 50000)")
    assert call.sql.count("random()") == 1
    assert database.sql(f"SELECT min({call.sql}) FROM range(1000)").fetchall()[0][0] >= 0


def test_random_calls_say_that_they_are_not_repeatable(database: duckdb.DuckDBPyConnection) -> None:
    """Those with a seed, whose numbers Java makes, are refused."""
    for text, of in (("RAND()", "DOUBLE"), ("RAND_INTEGER(5)", "INT"), ("UUID()", "CHAR(36)")):
        call = bound(text)
        assert (str(call.type), call.is_deterministic) == (f"{of} NOT NULL", False)
        assert len(database.sql(f"SELECT {call.sql} FROM t").fetchall()) == 2
    for text in ("RAND(1)", "RAND_INTEGER(1, 2)"):
        with pytest.raises(NotSupported, match="seed"):
            bound(text)


def test_refused_functions_are_refused_by_name() -> None:
    """Each with its reason, at its place."""
    for name, reason in RULES_REFUSED.items():
        with pytest.raises(NotSupported, match=name) as problem:
            bound(f"{name}(s)" if name != "CURRENT_CATALOG" else name)
        assert reason in problem.value.message


def test_wrong_arguments_are_answered_with_the_signatures() -> None:
    """The message lists what there is."""
    with pytest.raises(TypeProblem, match=r"CHAR_LENGTH\(INT\).*CHAR_LENGTH\(<CHARACTER>\)"):
        bound("CHAR_LENGTH(i)")
    with pytest.raises(TypeProblem, match="CAST") as problem:
        bound("LPAD(s, 3, NULL)")
    assert "CAST(NULL AS" in problem.value.hint


# -- the two ways of computing agree ---------------------------------------------------------------------------------

_TEXTS = st.text(alphabet="abX1é \n\r\u2028😀_-", max_size=8)
_ATOMS = st.sampled_from(
    ["a", "b", "X", r"\d", r"\w", r"\s", ".", "[ab]", "[^a]", "é", r"\b", "(a)", "(b|X)", "(?:ab)"]
)
_PATTERNS = st.lists(st.tuples(_ATOMS, st.sampled_from(["", "", "?", "*", "+", "{1,2}", "*?"])), min_size=1, max_size=4)


@settings(max_examples=150, deadline=None)
@given(
    pattern=_PATTERNS.map(lambda parts: "".join(a if a == r"\b" else a + q for a, q in parts)),
    suffix=st.sampled_from(["", "$", "|a", r"\z"]),
    texts=st.lists(_TEXTS, min_size=1, max_size=6),
)
def test_regular_expressions_mean_the_same_in_duckdb_and_in_python(pattern: str, suffix: str, texts: list[str]) -> None:
    """For each function, text and group: what is fast gives what is exact."""
    database = _shared()
    literal = (pattern + suffix).replace("'", "''")
    view = pa.table({"s": texts})
    database.register("texts", view)
    for call, exact in (
        (f"REGEXP(s, '{literal}')", "flink_regexp(s, {p})"),
        (f"REGEXP_EXTRACT(s, '{literal}')", "flink_regexp_extract(s, {p}, 0)"),
        (f"REGEXP_EXTRACT(s, '{literal}', 1)", "flink_regexp_extract(s, {p}, 1)"),
        (f"REGEXP_EXTRACT_ALL(s, '{literal}', 0)", "flink_regexp_extract_all(s, {p}, 0)"),
        (f"REGEXP_COUNT(s, '{literal}')", "flink_regexp_count(s, {p})"),
        (f"REGEXP_REPLACE(s, '{literal}', '\\1')", "flink_regexp_replace(s, {p}, '\\1')"),
    ):
        sql = f"SELECT s, {bound(call).sql} AS x, {exact.replace('{p}', chr(39) + literal + chr(39))} AS y FROM texts"
        assert [row for row in database.sql(sql).fetchall() if row[1] != row[2]] == [], call


_SHARED: list[duckdb.DuckDBPyConnection] = []


def _shared() -> duckdb.DuckDBPyConnection:
    """One connection for all examples of a property."""
    if not _SHARED:
        _SHARED.append(connect())
        install(_SHARED[0])
    return _SHARED[0]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c d"]), inner, max_size=3),
    max_leaves=6,
)
_PATHS = st.sampled_from(["$", "$.a", "lax $.a.b", "strict $.a[0]", "$[0]", "lax $[-1].a", "$.a[*]", '$["c d"]'])


@settings(max_examples=150, deadline=None)
@given(documents=st.lists(_JSON.map(json.dumps) | _TEXTS, min_size=1, max_size=5), path=_PATHS)
def test_json_is_found_alike_in_duckdb_and_in_python(documents: list[str], path: str) -> None:
    """Whatever a document is, or if it is none."""
    database = _shared()
    database.register("documents", pa.table({"s": documents}))
    for call, exact in (
        (f"JSON_VALUE(s, '{path}')", f"flink_json_value(s, '{path}', 'VARCHAR', 'NN', NULL, NULL)"),
        (
            f"JSON_VALUE(s, '{path}' DEFAULT 'e' ON EMPTY DEFAULT 'r' ON ERROR)",
            f"flink_json_value(s, '{path}', 'VARCHAR', 'DD', 'e', 'r')",
        ),
        (f"JSON_EXISTS(s, '{path}')", f"flink_json_exists(s, '{path}', 'F')"),
        (f"JSON_EXISTS(s, '{path}' TRUE ON ERROR)", f"flink_json_exists(s, '{path}', 'T')"),
    ):
        sql = f"SELECT s, {bound(call).sql} AS x, {exact} AS y FROM documents"
        assert [row for row in database.sql(sql).fetchall() if row[1] != row[2]] == [], call


@settings(max_examples=150, deadline=None)
@given(numbers=st.lists(st.floats(-1e17, 1e17) | st.decimals(-999, 999, places=3).map(float), min_size=1, max_size=20))
def test_doubles_are_rounded_alike_in_duckdb_and_in_python(numbers: list[float]) -> None:
    """By their shortest digits, half up."""
    database = _shared()
    database.register("numbers", pa.table({"d": numbers}))
    for call in ("ROUND(d, {n})", "TRUNCATE(d, {n})"):
        for places in (0, 2, 5):
            text = bound(call.replace("{n}", str(places))).sql
            exact = f"flink_{call.split('(')[0].lower()}(d, {places})"
            rows = database.sql(f"SELECT d, {text} + 0, {exact} + 0 FROM numbers").fetchall()
            assert [row for row in rows if row[1] != row[2]] == [], (call, places)


@settings(max_examples=100, deadline=None)
@given(
    texts=st.lists(
        st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-5][0-9](\.[0-9]{1,4})?", fullmatch=True),
        min_size=1,
        max_size=10,
    )
)
def test_timestamps_are_read_alike_in_duckdb_and_in_python(texts: list[str]) -> None:
    """The forms that are read fast are read right."""
    database = _shared()
    database.register("texts", pa.table({"s": texts}))
    for call, exact in (
        ("TO_TIMESTAMP(s)", "flink_to_timestamp(s)"),
        ("TO_TIMESTAMP(s, 'yyyy-MM-dd HH:mm:ss.SSS')", "flink_read(s, 'yyyy-MM-dd HH:mm:ss.SSS')"),
        (
            "DATE_FORMAT(s, 'yyyy-MM-dd HH:mm:ss')",
            "strftime(flink_read_leniently(s, 'yyyy-MM-dd HH:mm:ss'), '%Y-%m-%d %H:%M:%S')",
        ),
    ):
        rows = database.sql(f"SELECT s, {bound(call).sql}, {exact} FROM texts").fetchall()
        assert [row for row in rows if row[1] != row[2]] == [], call


# -- what is taken apart ---------------------------------------------------------------------------------------------


@given(st.text(alphabet=r"ab0(){}[]\^$.|?*+-,&:<>=!PQEdswpb{Lk", max_size=12))
def test_any_pattern_is_taken_or_refused_by_name(pattern: str) -> None:
    """No other error than the two that say whose refusal it is."""
    try:
        regex = java_regex.compiled(pattern)
    except (java_regex.InvalidPatternError, java_regex.UntranslatableError):
        return
    assert all(0 < group <= regex.groups for group in regex.certain)


@given(st.text(alphabet="yMdHhmsSaEDkK'-: /Tzq{[", max_size=12), st.text(alphabet="0123456789-: /TAPMJan", max_size=20))
def test_any_date_pattern_is_taken_or_refused_by_name(pattern: str, text: str) -> None:
    """And any text is read or not."""
    try:
        java_dates.read(pattern, text, lenient=len(text) % 2 == 0)
    except java_dates.UnknownPatternError:
        return


@given(st.text(alphabet="$.[]'\"*ab0-9lax stric@?()", max_size=12))
def test_any_json_path_is_taken_or_refused_by_name(path: str) -> None:
    """A compiled path finds in any document without other errors."""
    try:
        compiled = json_paths.compiled(path)
    except json_paths.PathRefusedError:
        return
    try:
        json_paths.found({"a": [1, {"b": None}]}, compiled)
    except json_paths.NothingFoundError:
        assert compiled.mode == "strict"


def test_what_a_text_calls_in_python_is_known() -> None:
    """So that only what a script uses is registered."""
    assert used_in(bound("REVERSE(URL_DECODE(s)) || UPPER(p)").sql) == {"flink_url_decode", "flink_upper"}
    assert used_in(bound("SUBSTRING(s, 2)").sql) == frozenset()
    called = used_in(" ".join(bound(text).sql for text, answer in ANSWERS["UTC"].items() if answer != "REFUSED"))
    assert called <= FUNCTIONS.keys()


def test_long_arguments_are_not_repeated() -> None:
    """Calls inside calls stay of a length that grows by steps, not by factors."""
    text = "s"
    lengths = []
    for _ in range(8):
        text = f"SUBSTRING(UPPER({text}), -3)"
        lengths.append(len(bound(text).sql))
    assert lengths[-1] < 40 * lengths[0]
