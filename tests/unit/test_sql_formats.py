"""Formats: what Flink's own classes accept and write, columns against documents read one by one, files of any cut."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamkit_sql.errors import NotSupported
from streamkit_sql.runtime.duck import connect
from streamkit_sql.tables import java_text, json_format
from streamkit_sql.tables.csv_format import CsvDecoder, CsvOptions, parse_line
from streamkit_sql.tables.encode import CsvEncoder, JsonEncoder, JsonWriting, RawEncoder
from streamkit_sql.tables.json_exact import ExactJson, JsonReading
from streamkit_sql.tables.json_format import JsonDecoder
from streamkit_sql.tables.raw_format import RawDecoder
from streamkit_sql.tables.source import Decoded, Decoder, Wanted, storage
from streamkit_sql.types import (
    BIGINT,
    BOOLEAN,
    BYTES_TYPE,
    DATE,
    DOUBLE,
    FLOAT,
    INTEGER,
    SMALLINT,
    STRING,
    TIME,
    TINYINT,
    Field,
    Kind,
    SqlType,
    array,
    decimal,
    map_of,
    row,
    timestamp,
    timestamp_ltz,
)

ANSWERS = json.loads((Path(__file__).parents[1] / "sql" / "format_answers.json").read_text(encoding="utf-8"))
TYPES = {
    "BOOLEAN": BOOLEAN,
    "TINYINT": TINYINT,
    "SMALLINT": SMALLINT,
    "INT": INTEGER,
    "BIGINT": BIGINT,
    "FLOAT": FLOAT,
    "DOUBLE": DOUBLE,
    "DECIMAL(10, 2)": decimal(10, 2),
    "DECIMAL(38, 18)": decimal(38, 18),
    "STRING": STRING,
    "BYTES": BYTES_TYPE,
    "DATE": DATE,
    "TIME(0)": TIME,
    "TIME(3)": SqlType(Kind.TIME, precision=3),
    "TIMESTAMP(3)": timestamp(9),
    "TIMESTAMP(9)": timestamp(9),
    "TIMESTAMP_LTZ(3)": timestamp_ltz(9),
    "ARRAY<INT>": array(INTEGER),
    "ARRAY<STRING>": array(STRING),
    "MAP<STRING, INT>": map_of(STRING, INTEGER),
    "MULTISET<STRING>": SqlType(Kind.MULTISET, element=STRING),
    "ROW<b INT>": row(("b", INTEGER)),
    "ROW<b STRING, c STRING>": row(("b", STRING), ("c", STRING)),
    "ROW<x INT, y STRING>": row(("x", INTEGER), ("y", STRING)),
}
LET_PASS = ("NaN", "Infinity", "-Infinity")
"""Flink refuses a document with these words, bare, wherever they stand; here only where a number is read."""
BEYOND_NS = ("12020-", "0001-", "0000-")
"""Years that nanoseconds of 64 bits do not reach; Flink keeps milliseconds apart."""


@pytest.fixture(scope="module")
def database() -> Any:
    made = connect()
    yield made
    made.close()


def shown(value: Any, of: SqlType) -> str:
    """A stored value as `FormatAnswers.java` prints Flink's."""
    kind = of.kind
    if value is None:
        return "null"
    if kind is Kind.BOOLEAN:
        return "true" if value else "false"
    if kind is Kind.FLOAT:
        return java_text.double_text(float(np.float32(value)))
    if kind is Kind.DOUBLE:
        return java_text.double_text(value)
    if kind is Kind.DECIMAL:
        return format(value if value else abs(value), "f")
    if kind is Kind.VARBINARY:
        return f"x'{value.hex()}'"
    if kind is Kind.TIME:
        return str(value // 1000)
    if kind in (Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ):
        return _moment(value)
    if kind is Kind.ARRAY:
        assert of.element is not None
        return "[" + "".join(f"{shown(each, of.element)}, " for each in value) + "]"
    if kind in (Kind.MAP, Kind.MULTISET):
        return "{" + ", ".join(f"{key}={shown(each, INTEGER)}" for key, each in sorted(value)) + "}"
    if kind is Kind.ROW:
        return "(" + "".join(f"{shown(value[each.name], each.type)}, " for each in of.fields) + ")"
    return str(value)


def _moment(nanos: int) -> str:
    """As `LocalDateTime.toString`: no seconds where they are 0, fractions in threes."""
    text = java_text.timestamp_text(nanos, "T")
    head, _, fraction = text.partition(".")
    if fraction:
        return f"{head}.{fraction.ljust(-(-len(fraction) // 3) * 3, '0')}"
    return head.removesuffix(":00") if head.endswith(":00") else head


def stored(column: pa.ChunkedArray) -> list[Any]:
    """Values with times as the numbers they are stored as."""
    of = column.type
    if pa.types.is_timestamp(of) or pa.types.is_time(of):
        column = column.cast(pa.int64())
    elif pa.types.is_date(of):
        column = column.cast(pa.int32())
    values: list[Any] = column.to_pylist()
    return values


def close(left: str | None, right: str | None, of: SqlType) -> bool:
    """FLOATs are printed with more digits by older Javas: equal as numbers of 32 bits is equal."""
    if left is None or right is None or of.kind is not Kind.FLOAT or "null" in (left, right):
        return left == right
    a, b = np.float32(java_text.double(left)), np.float32(java_text.double(right))
    return bool(a == b or (a != a and b != b))


def answers_of(decoder: Decoder, payloads: list[bytes], of: SqlType) -> list[str | None]:
    decoded = decoder.decode(pa.array(payloads, pa.binary()))
    origins = range(len(payloads)) if decoded.origins is None else decoded.origins.tolist()
    found: list[str | None] = [None] * len(payloads)
    for origin, value in zip(origins, stored(decoded.table["a"]), strict=True):
        found[origin] = shown(value, of)
    assert [index for index, _ in decoded.bad] == [index for index, each in enumerate(found) if each is None]
    return found


def _is_comparable(text: str, of: SqlType) -> bool:
    """Not what is known to differ, such as -0, whose sign DuckDB drops."""
    is_signed = of.kind in (Kind.FLOAT, Kind.DOUBLE, Kind.VARCHAR)
    return text not in LET_PASS and not any(each in text for each in BEYOND_NS) and not (text == "-0" and is_signed)


@pytest.mark.parametrize("standard", ["SQL", "ISO-8601"])
@pytest.mark.parametrize("way", ["by columns", "one by one"])
def test_json_values_are_read_and_refused_as_flink_does(
    standard: str, way: str, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of a hundred odd values, read as each type, alone and among others."""
    asked = ANSWERS[f"json {standard}"]
    monkeypatch.setattr(json_format, "SMALL_BATCH_ROWS", 0 if way == "by columns" else 10**6)
    for name, accepted in asked["accepted"].items():
        of = TYPES[name]
        decoder = JsonDecoder([Wanted("a", ("a",), of)], [Field("a", of)], JsonReading(standard), database)
        texts = [each for each in asked["values"] if _is_comparable(each, of)]
        payloads = [f'{{"a":{each}}}'.encode() for each in texts]
        for each, got in zip(texts, answers_of(decoder, payloads, of), strict=True):
            assert close(got, accepted.get(each), of), (name, each)


def test_json_documents_of_all_shapes_are_read_as_flink_does(database: Any) -> None:
    """Roots that are no objects, text behind the root, names with escapes; of equal keys the first counts."""
    different = ('{"a":1,"a":2,"b":3}', '{"a":1,"b":2,}', '{"c":NaN,"a":1}', '{"a":null,"a":1,"b":2}', "[null]")
    exact = ExactJson([("a", INTEGER), ("b", INTEGER)])
    for document, answer in ANSWERS["json documents"].items():
        if document in different:
            continue
        try:
            rows = exact.rows(document.encode())
        except ValueError:
            assert answer is None, document
            continue
        got = " ; ".join(f"({'null' if a is None else a}, {'null' if b is None else b}, )" for a, b in rows)
        assert got == answer, document


# -- columns against one by one --------------------------------------------------------------------------------------

SCALARS = [
    *(BOOLEAN, TINYINT, SMALLINT, INTEGER, BIGINT, FLOAT, DOUBLE, decimal(10, 2), decimal(38, 18), STRING, BYTES_TYPE),
    *(DATE, TIME, timestamp(0), timestamp(3), timestamp(9), timestamp_ltz(3)),
]
NAMES = st.sampled_from(["a", "b", "key w", "é", 'q"x'])
ODD = [
    *("1", '"1"', '" 7 "', "1.5", "-1.5", "1e2", "1e30", "128", "32768", "9223372036854775808", '"+1"', '""', '"abc"'),
    *("true", '"TRUE"', "{}", "[]", '{"b":1}', '[1, "x"]', '{ "b" : 1.50 }', '"NaN"', '"0x1p3"', '"1d"', '"0x10"'),
    *("0.1000000000000000055", '"2020-02-31 00:00:00"', '"2020-01-02 24:00:00"', '"2020-01-02T03:04"', '"2020-02-30"'),
    *('"a\\u00e9\\n"', '"{"', '"1.50"', "1.50", '"03:04:05.1234567"', '"2020-01-02 03:04:05.1234567"', "null"),
]


def types(depth: int = 2) -> st.SearchStrategy[SqlType]:
    scalar = st.sampled_from(SCALARS)
    if not depth:
        return scalar
    inner = types(depth - 1)
    rows = st.lists(st.tuples(NAMES, inner), min_size=1, max_size=3, unique_by=lambda each: each[0])
    return st.one_of(
        scalar,
        scalar,
        scalar,
        rows.map(lambda fields: row(*fields)),
        inner.map(array),
        inner.map(lambda each: map_of(STRING, each)),
    )


def fitting(of: SqlType) -> st.SearchStrategy[str]:
    """Documents that the type takes, and now and then something else."""
    return st.integers(0, 29).flatmap(
        lambda n: st.sampled_from(ODD) if n == 0 else st.just("null") if n == 1 else _good(of)
    )


def _good(of: SqlType) -> st.SearchStrategy[str]:
    kind = of.kind
    if kind is Kind.ROW:
        parts = [st.one_of(st.just(""), *[fitting(each.type).map(_member(each.name))] * 4) for each in of.fields]
        return st.tuples(*parts).map(lambda found: "{" + ",".join(filter(None, found)) + "}")
    if kind is Kind.ARRAY:
        assert of.element is not None
        return st.lists(fitting(of.element), max_size=3).map(lambda found: "[" + ",".join(found) + "]")
    if kind is Kind.MAP:
        assert of.element is not None
        entries = st.lists(st.tuples(st.sampled_from("pqr"), fitting(of.element)), max_size=3)
        return entries.map(lambda found: "{" + ",".join(_member(key)(each) for key, each in found) + "}")
    texts: dict[Kind, list[str]] = {
        Kind.BOOLEAN: ["true", "false"],
        Kind.FLOAT: ["1.5", "-2", "1e10", "0.1"],
        Kind.DOUBLE: ["1.5", "-2", "1e10", "0.1"],
        Kind.DECIMAL: ["1.5", "-2", "1.25", "12345.67", "1.005"],
        Kind.VARCHAR: ['"x"', '"日本\\ud83c\\udf81"', '""', '"a\\"b"', '"2020"'],
        Kind.VARBINARY: ['"aGVsbG8="', '""'],
        Kind.DATE: ['"2020-01-02"'],
        Kind.TIME: ['"03:04:05"', '"03:04:05.5"'],
        Kind.TIMESTAMP: ['"2020-01-02 03:04:05"', '"1969-12-31 23:59:59.123"'],
        Kind.TIMESTAMP_LTZ: ['"2020-01-02 03:04:05Z"', '"1969-12-31 23:59:59.123Z"'],
    }
    return st.sampled_from(texts[kind]) if kind in texts else st.integers(-128, 127).map(str)


def _member(name: str) -> Any:
    key = json.dumps(name, ensure_ascii=False)
    return lambda text: f"{key}:{text}"


@st.composite
def batches(draw: Any) -> tuple[list[Field], list[Wanted], list[bytes | None]]:
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    fields = [Field(name, draw(types())) for name in names]
    whole = row(*((each.name, each.type) for each in fields))
    made: list[bytes | None] = [text.encode() for text in draw(st.lists(_good(whole), min_size=1, max_size=12))]
    for broken in draw(
        st.lists(st.sampled_from([b"", b"{", b"[]", b"1", b'{"a":\xff}', b"[{},{}]", b'{"a":1} x', None]), max_size=2)
    ):
        made.insert(draw(st.integers(0, len(made))), broken)
    paths = [path for each in fields for path in _paths((each.name,), each.type)]
    chosen = draw(st.lists(st.sampled_from(paths), min_size=1, max_size=4, unique_by=lambda each: each[0]))
    return fields, [Wanted(".".join(path), path, of) for path, of in chosen], made


def _paths(path: tuple[str, ...], of: SqlType) -> list[tuple[tuple[str, ...], SqlType]]:
    return [(path, of), *(found for each in of.fields for found in _paths((*path, each.name), each.type))]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=batches(), ignore=st.booleans(), missing=st.booleans())
def test_documents_by_columns_are_as_documents_one_by_one(
    batch: tuple[list[Field], list[Wanted], list[bytes | None]], ignore: bool, missing: bool, database: Any
) -> None:
    """Any documents, read as any types, of which any fields are asked for: the same rows, the same bad ones."""
    fields, wanted, documents = batch
    payload = pa.array(documents, pa.binary())
    decoder = JsonDecoder(wanted, fields, JsonReading(ignore_errors=ignore, fail_on_missing=missing), database)
    before, json_format.SMALL_BATCH_ROWS = json_format.SMALL_BATCH_ROWS, 0  # type: ignore[misc]
    try:
        fast = decoder.decode(payload)
    finally:
        json_format.SMALL_BATCH_ROWS = before  # type: ignore[misc]
    slow = JsonDecoder(wanted, fields, JsonReading(ignore_errors=ignore, fail_on_missing=missing), database).decode(
        payload
    )
    assert _origins(fast, payload) == _origins(slow, payload)
    assert fast.table.schema == slow.table.schema
    assert repr([stored_rows(each) for each in fast.table.columns]) == repr(
        [stored_rows(each) for each in slow.table.columns]
    )
    assert [index for index, _ in fast.bad] == [index for index, _ in slow.bad]
    assert fast.skipped == slow.skipped


def stored_rows(column: pa.ChunkedArray) -> list[Any]:
    values: list[Any] = column.to_pylist()
    return values


def _origins(decoded: Decoded, payload: pa.Array) -> list[int]:
    return list(range(len(payload))) if decoded.origins is None else decoded.origins.tolist()


def test_a_bad_document_leaves_the_other_rows_alone(database: Any) -> None:
    """Rows keep their order, a bad one is told with its place and reason, an array gives a row for each element."""
    fields = [Field("a", INTEGER)]
    documents = [f'{{"a":{number}}}'.encode() for number in range(1000)]
    documents[500] = b'{"a":"x"}'
    documents[700] = b'[{"a":-1},{"a":-2}]'
    documents[900] = b'{"a"'
    decoder = JsonDecoder([Wanted("a", ("a",), INTEGER)], fields, JsonReading(), database)
    for _ in range(3):  # the second and third in pieces, after the first had bad documents
        decoded = decoder.decode(pa.array(documents, pa.binary()))
        assert decoded.origins is not None
        values = decoded.table["a"].to_pylist()
        assert len(values) == len(decoded.origins) == 999
        assert values[499:501] == [499, 501]
        assert values[698:702] == [699, -1, -2, 701]
        assert [index for index, _ in decoded.bad] == [500, 900]
        assert "'x' is no INT" in decoded.bad[0][1]


def test_digits_beyond_a_double_are_kept_in_decimals(database: Any) -> None:
    """A number of 20 digits is not read as a double on its way."""
    of = decimal(38, 20)
    decoder = JsonDecoder([Wanted("a", ("a",), of)], [Field("a", of)], JsonReading(), database)
    texts = ["1.5", "0.10000000000000000555", "12345678901234567.25", "-0.00000000000000000001"] * 100
    decoded = decoder.decode(pa.array([f'{{"z":[1.25], "a":{each}}}'.encode() for each in texts], pa.binary()))
    assert decoded.table["a"].to_pylist() == [Decimal(each) for each in texts]


# -- CSV and raw -----------------------------------------------------------------------------------------------------


def test_csv_values_are_read_and_refused_as_flink_does() -> None:
    """Quotes, blanks, dates of February 30 and arrays, as each type."""
    asked = ANSWERS["csv"]
    for name, accepted in asked["accepted"].items():
        of = TYPES[name]
        decoder = CsvDecoder([Wanted("a", ("a",), of)], [Field("a", of)], CsvOptions())
        texts = asked["values"]
        for group in (texts, *([each] for each in texts)):
            payloads = [text.replace("\\n", "\n").encode() for text in group]
            for each, got in zip(group, answers_of(decoder, payloads, of), strict=True):
                expected = accepted.get(each)
                if of.kind is Kind.DATE and got is not None:
                    got = str(java_text.sql_date_days(each))
                assert close(got, expected, of), (name, each)


@pytest.mark.parametrize(("question", "ignore"), [("csv lines", False), ("csv lines ignoring errors", True)])
def test_csv_lines_of_too_few_and_too_many_values_are_as_in_flink(question: str, ignore: bool) -> None:
    """Alone and after a thousand good ones, which are read by columns."""
    fields = [Field("a", INTEGER), Field("b", STRING)]
    wanted = [Wanted("a", ("a",), INTEGER), Wanted("b", ("b",), STRING)]
    decoder = CsvDecoder(wanted, fields, CsvOptions(ignore_errors=ignore))
    for line, answer in ANSWERS[question].items():
        if ignore and line == "\\n1,2":
            continue  # Flink makes a row of NULLs of an empty line before another; a record has one line
        payload = line.replace("\\n", "\n").encode()
        for lines in ([payload], [b"1,x"] * 1000 + [payload]):
            decoded = decoder.decode(pa.array(lines, pa.binary()))
            found = decoded.table.slice(len(lines) - 1).to_pylist()
            got = None if not found else f"{_null(found[0]['a'])}, {_null(found[0]['b'])}"
            assert got == answer, line


def _null(value: object) -> str:
    return "null" if value is None else str(value)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(alphabet='ab,;" \né', max_size=6), min_size=1, max_size=4))
def test_csv_lines_come_back_as_they_were_written(cells: list[str]) -> None:
    """Whatever is in the cells."""
    fields = [Field(f"c{index}", STRING) for index in range(len(cells))]
    table = pa.table({each.name: [cell] for each, cell in zip(fields, cells, strict=True)})
    line = CsvEncoder(fields, CsvOptions()).encode(table)
    if line[0].as_py() == b"":
        return  # an empty line is no row
    decoder = CsvDecoder([Wanted(each.name, (each.name,), STRING) for each in fields], fields, CsvOptions())
    assert list(decoder.decode(line).table.to_pylist()[0].values()) == cells


def test_csv_options_change_what_a_line_means() -> None:
    """Each option of the format."""
    cases: list[tuple[CsvOptions, str, list[str | None]]] = [
        (CsvOptions(delimiter="|"), "a|b,c", ["a", "b,c"]),
        (CsvOptions(quote=None), '"a",b', ['"a"', "b"]),
        (CsvOptions(quote="'"), "'a,b',c", ["a,b", "c"]),
        (CsvOptions(escape="\\"), "a\\,b,c", ["a,b", "c"]),
        (CsvOptions(comments=True), "#x\na,b", ["a", "b"]),
        (CsvOptions(null_literal="n/a"), "n/a,b", [None, "b"]),
        (CsvOptions(trim=True), " a , b", ["a", "b"]),
        (CsvOptions(ignore_trailing=True), "a,b,c,d", ["a", "b"]),
        (CsvOptions(empty_as_null=True), ",b", [None, "b"]),
    ]
    for options, line, cells in cases:
        assert parse_line(line, options, 2) == cells, line
    with pytest.raises(ValueError, match="more than 2"):
        parse_line("a,b,", CsvOptions(trailing_comma=False), 2)


def test_raw_values_come_back_as_they_were_written() -> None:
    """Numbers in big endian, texts in their charset; a record of another length is bad."""
    cases: list[tuple[SqlType, dict[str, str], object, bytes]] = [
        (BIGINT, {}, 258, b"\0\0\0\0\0\0\1\2"),
        (INTEGER, {"endianness": "little-endian"}, 258, b"\2\1\0\0"),
        (DOUBLE, {}, 1.5, b"\x3f\xf8\0\0\0\0\0\0"),
        (STRING, {}, "é", "é".encode()),
        (STRING, {"charset": "ISO-8859-1"}, "é", b"\xe9"),
        (BYTES_TYPE, {}, b"\xff", b"\xff"),
        (BOOLEAN, {}, True, b"\1"),
    ]
    for of, options, value, data in cases:
        encoded = RawEncoder(Field("v", of), options).encode(pa.table({"v": pa.array([value], storage(of))}))
        assert encoded.to_pylist() == [data]
        decoder = RawDecoder([Wanted("v", ("v",), of)], Field("v", of), options)
        assert decoder.decode(encoded).table["v"].to_pylist() == [value]
    bad = RawDecoder([Wanted("v", ("v",), BIGINT)], Field("v", BIGINT), {}).decode(pa.array([b"\0" * 8, b"x", None]))
    assert bad.table["v"].to_pylist() == [0]
    assert bad.bad == [(1, "it is 1 bytes long; a BIGINT has 8")]


# -- writing ---------------------------------------------------------------------------------------------------------

WRITTEN: list[tuple[SqlType, Any, str, str]] = [
    (decimal(10, 2), Decimal("1.50"), "1.5", "1.50"),
    (decimal(10, 2), Decimal("100.00"), "1E+2", "100.00"),
    (decimal(10, 2), Decimal("0.00"), "0", "0.00"),
    (decimal(38, 18), Decimal("0.000000100000000000"), "1E-7", "0.000000100000000000"),
    (
        decimal(38, 18),
        Decimal("12345678901234567890"),
        "1.234567890123456789E+19",
        "12345678901234567890.000000000000000000",
    ),
    (DOUBLE, 1.0, "1.0", "1.0"),
    (DOUBLE, 1e7, "1.0E7", "1.0E7"),
    (DOUBLE, 0.001, "0.001", "0.001"),
    (DOUBLE, 1e-4, "1.0E-4", "1.0E-4"),
    (DOUBLE, 123456789.125, "1.23456789125E8", "1.23456789125E8"),
    (DOUBLE, float("nan"), '"NaN"', "NaN"),
    (DOUBLE, float("-inf"), '"-Infinity"', "-Infinity"),
    (FLOAT, 0.1, "0.1", "0.1"),
    (STRING, 'a"b', '"a\\"b"', '"a""b"'),
    (STRING, "é中🎁", '"é中\\uD83C\\uDF81"', "é中🎁"),
    (STRING, "\x01\n\t\x7f/\\", '"\\u0001\\n\\t\x7f/\\\\"', '"\x01\n\t\x7f/\\"'),
    (STRING, "'q", '"\'q"', '"\'q"'),
    (STRING, "", '""', ""),
    (BYTES_TYPE, b"\1\2\3\xff", '"AQID/w=="', "AQID/w=="),
    (BOOLEAN, True, "true", "true"),
    (DATE, 18263, '"2020-01-02"', "2020-01-02"),
    (DATE, -800000, '"-0221-09-04"', "-0221-09-04"),
    (DATE, 5000000, '"+15659-07-15"', '"+15659-07-15"'),
    (TIME, 11_045_000_000, '"03:04:05"', "03:04:05"),
    (TIME, 11_045_123_000, '"03:04:05.123"', "03:04:05.123"),
    (timestamp(6), 1_577_934_245_120_000, '"2020-01-02 03:04:05.12"', '"2020-01-02 03:04:05.12"'),
    (timestamp_ltz(6), 1_577_934_240_000_000, '"2020-01-02 03:04:00Z"', '"2020-01-02 03:04:00Z"'),
    (timestamp(6), -62_135_596_800_000_000, '"0001-01-01 00:00:00"', '"0001-01-01 00:00:00"'),
    (timestamp(6), 317_147_356_800_000_000, '"+12020-01-01 00:00:00"', '"+12020-01-01 00:00:00"'),
    (array(INTEGER), [1, None, 3], "[1,null,3]", "1;;3"),
    (map_of(STRING, INTEGER), [("k", 1), ("z", None)], '{"k":1,"z":null}', ""),
    (row(("x", INTEGER), ("y", STRING)), {"x": 1, "y": None}, '{"x":1,"y":null}', "1;"),
    (STRING, None, "null", ""),
]


@pytest.mark.parametrize(("of", "value", "document", "line"), WRITTEN)
def test_values_are_written_as_flink_writes_them(of: SqlType, value: Any, document: str, line: str) -> None:
    """The answers are Flink 2.3's, as FormatAnswers.java has them."""
    fields = [Field("a", of), Field("b", INTEGER)]
    rows = pa.table({"a": pa.array([value, None], storage(of)), "b": pa.array([None, 7], pa.int32())})
    documents = JsonEncoder(fields).encode(rows).to_pylist()
    assert documents == [f'{{"a":{document},"b":null}}'.encode(), b'{"a":null,"b":7}']
    if of.kind is not Kind.MAP:
        assert CsvEncoder(fields, CsvOptions()).encode(rows).to_pylist() == [f"{line},".encode(), b",7"]


def test_options_of_json_change_what_is_written() -> None:
    """Nulls left out, decimals in full, timestamps in ISO's form; keys of maps are texts."""
    fields = [Field("d", decimal(10, 2)), Field("t", timestamp(3)), Field("r", row(("x", INTEGER), ("y", STRING)))]
    rows = pa.table(
        {
            "d": pa.array([Decimal("100.00"), None]),
            "t": pa.array([datetime.datetime(2020, 1, 2, 3, 4, 5), None], pa.timestamp("us")),  # noqa: DTZ001
            "r": pa.array([{"x": 1, "y": None}, None]),
        }
    )
    writing = JsonWriting("ISO-8601", plain_decimals=True, ignore_nulls=True)
    assert JsonEncoder(fields, writing).encode(rows).to_pylist() == [
        b'{"d":100.00,"t":"2020-01-02T03:04:05","r":{"x":1}}',
        b"{}",
    ]
    with pytest.raises(NotSupported, match="keys of a map"):
        JsonEncoder([Field("m", map_of(INTEGER, INTEGER))])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(st.integers(-(2**63), 2**63 - 1), st.text(), st.floats(allow_nan=False, allow_infinity=False)),
        min_size=1,
    )
)
def test_json_documents_come_back_as_they_were_written(rows: list[tuple[int, str, float]], database: Any) -> None:
    """Whole numbers, texts of any characters, doubles."""
    fields = [Field("i", BIGINT), Field("s", STRING), Field("x", DOUBLE)]
    columns = zip(*rows, strict=True)
    table = pa.table(
        {each.name: pa.array(list(cells), storage(each.type)) for each, cells in zip(fields, columns, strict=True)}
    )
    decoder = JsonDecoder(
        [Wanted(each.name, (each.name,), each.type) for each in fields], fields, JsonReading(), database
    )
    assert decoder.decode(JsonEncoder(fields).encode(table)).table.to_pylist() == table.to_pylist()
