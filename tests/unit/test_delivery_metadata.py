"""Partition keys from queries: compiled ones, libjq's, and what neither may do."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import jq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.delivery.plan import MetadataExtraction
from streamkit.delivery.processor import Processed
from streamkit.delivery.processors.jq_library import JqLibrary
from streamkit.delivery.processors.jq_paths import check_query, parse
from streamkit.delivery.processors.jq_values import NOT_JSON, NULL_OR_EMPTY, Bad
from streamkit.delivery.processors.metadata import ExtractMetadata
from streamkit.model.errors import InvalidArgument
from tests.unit.test_delivery_processors import inline, rows_of


def extract(query: str, *records: bytes) -> Processed:
    async def process() -> Processed:
        return await ExtractMetadata(MetadataExtraction(query), offload=inline).process(rows_of(*records))

    return asyncio.run(process())


def one(query: str, document: Any) -> str | Bad | None:
    """What a compiled query with one key makes of a document."""
    compiled = parse(query)
    assert compiled is not None, query
    return compiled.columns([json.dumps(document).encode()])[0][0]


# -- queries of the developer guide, and what users write --------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "document", "value"),
    [
        ("{customer_id: .customer_id}", {"customer_id": "1234567890"}, "1234567890"),
        ("{device: .type.device}", {"type": {"device": "mobile"}}, "mobile"),
        ('{year: .event_timestamp| strftime("%Y")}', {"event_timestamp": 1565382027}, "2019"),
        ('{m: .event_timestamp | strftime("%m")}', {"event_timestamp": 1565382027}, "08"),
        ('{h: (.ts / 1000 | strftime("%Y-%m-%d-%H"))}', {"ts": 1565382027999}, "2019-08-09-20"),
        ("{id}", {"id": 7}, "7"),
        ('{"a b": ."c d"["e"][1]}', {"c d": {"e": [1, True]}}, "true"),
        ("{k: .a[-1]}", {"a": ["x", "y"]}, "y"),
        ('{day: (.time | split("T")[0])}', {"time": "2024-02-03T04:05:06Z"}, "2024-02-03"),
        ("{day: .time[0:10]}", {"time": "2024-02-03T04:05:06Z"}, "2024-02-03"),
        ('{t: (.time | fromdate | strftime("%j"))}', {"time": "2024-02-03T04:05:06Z"}, "034"),
        ('{k: (.a.b // "none")}', {"a": {"b": False}}, "none"),
        ('{k: "\\(.a)-\\(.b | tostring)"}', {"a": None, "b": 3}, "null-3"),
        ("{k: (.name | ascii_downcase)}", {"name": "\u00c4BC"}, "\u00c4bc"),
        ('{k: (if .owner == "" then "nobody" else .owner end)}', {"owner": ""}, "nobody"),
        ("{k: (.n | tonumber | floor)}", {"n": "12"}, "12"),
        ("{k: (.price * 2 - 1)}", {"price": 1.75}, "2.5"),
        ('{k: (.path | ltrimstr("/"))}', {"path": "/aws/lambda"}, "aws/lambda"),
        ('{k: (.n | ltrimstr("x"))}', {"n": 5}, "5"),
        ('{k: ."a\\"\\\\\\n".b}', {'a"\\\n': {"b": "x"}}, "x"),
        ("{k: .big}", {"big": 123456789012345678901234567890}, "123456789012345678901234567890"),
    ],
)
def test_common_queries_are_compiled(query: str, document: Any, value: str) -> None:
    """And give what the developer guide, or libjq, says."""
    assert one(query, document) == value


# -- the law -----------------------------------------------------------------------------------------------------------


def _path(text: str) -> str:
    return text if text.startswith(".") else "." + text


names = st.sampled_from(["a", "b", "c", "d e"])
documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.sampled_from([0.5, -2.25, 1700000000.75, 2024, 1700000000, 1565382027])
    | st.sampled_from(["", "x", "Ab\u00e9", "2024-02-03T04:05:06Z", "2024-13-03T04:05:06Z", "12", "-7", "07", "a-b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=10,
)
steps = st.one_of(
    names.map(lambda name: f'["{name}"]'),
    st.sampled_from([".a", ".b", ".c", "[0]", "[-1]", "[2]", "[0:2]", "[:-1]", "[1:]"]),
)
paths = st.tuples(st.sampled_from([".a", ".b", ".c", '."d e"', ""]), st.lists(steps, max_size=2)).map(
    lambda parts: _path("".join((parts[0], *parts[1])))
)
functions = st.sampled_from(
    [
        "tostring",
        "tonumber",
        "floor",
        "ascii_downcase",
        "ascii_upcase",
        "not",
        "todate",
        "fromdate",
        'strftime("%Y-%m-%d")',
        'strftime("%Y/%j %H:%M:%S %u %V%%")',
        'split("-")',
        'split("T")[0]',
        'tostring | ltrimstr("x")',
        'tostring | rtrimstr("c")',
        ".a",
        ".[0]",
        ".[0:1]",
    ]
)
literals = st.sampled_from(['"x"', "1", "2.5", "null", "true", "false", '"2024"', "1000"])
expressions = st.recursive(
    paths | literals,
    lambda inner: st.one_of(
        st.tuples(inner, functions).map(lambda parts: f"({parts[0]} | {parts[1]})"),
        st.tuples(inner, st.sampled_from(["//", "+", "-", "*", "/", "==", "!="]), inner).map(
            lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"
        ),
        st.tuples(inner, inner, inner).map(lambda parts: f"(if {parts[0]} then {parts[1]} else {parts[2]} end)"),
        st.tuples(inner, inner).map(lambda parts: f'"<\\({parts[0]})-\\({parts[1]})>"'),
        st.tuples(inner, inner).map(lambda parts: f"({parts[0]} | {parts[1]} // .b | tostring)"),
    ),
    max_leaves=5,
)


def by_libjq(query: str, document: bytes) -> Any:
    """The key's value, or None where libjq has no answer or not a simple one."""
    try:
        (found,) = jq.compile(query).input_text(document.decode()).all()
    except ValueError:
        return None
    value = found["k"]
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, float | int):
        return str(int(value)) if float(value).is_integer() else repr(value)
    return value if isinstance(value, str) and value else None


@settings(max_examples=200, deadline=None)
@given(expressions, st.lists(documents, min_size=1, max_size=4))
def test_compiled_queries_say_what_libjq_says(expression: str, values: list[Any]) -> None:
    """Or that they are not sure."""
    query = "{k: " + expression + "}"
    compiled = parse(query)
    assert compiled is not None, query
    texts = [json.dumps(value).encode() for value in values]
    (column,) = compiled.columns(texts)
    for text, found in zip(texts, column, strict=True):
        if found is not None:
            assert by_libjq(query, text) == (found if isinstance(found, str) else None), (query, text, found)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*'{}[]()|,:."\\a1 $@/-+?#;\n', "if", "then", "as", "\\("]), max_size=30).map("".join))
def test_any_text_is_a_query_or_refused(text: str) -> None:
    """There is no other outcome."""
    for query in (text, "{" + text + "}", "{k: " + text + "}"):
        parse(query)
        try:
            found = check_query(query)
        except InvalidArgument:
            continue
        assert found


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ('{a: .x, "b c": .y, d}', ["a", "b c", "d"]),
        ('{a: (.x | gsub(",|}"; "{")), b: [.y, {c: 1}], d: (if .e then 1 else 2 end)}', ["a", "b", "d"]),
        ('. as $all | .x | {a: "\\(.y, ({"z": 1}))", $all}', ["a", "all"]),
        ("def f: {x: 1}; {a: f}", ["a"]),
        ("{a: .x # a comment, }\n}", ["a"]),
        ('{if: .a, end: "b"}', ["if", "end"]),
    ],
)
def test_the_names_of_any_query_are_found(query: str, found: list[str]) -> None:
    """Also of those that libjq has to run."""
    assert check_query(query) == found


@pytest.mark.parametrize(
    "query",
    [
        "",
        ".a",
        "{}",
        "[.a]",
        "{a: .b} | .a",
        "{a: .b}, {c: .d}",
        "{a: .b} + {c: .d}",
        "{(.a): .b}",
        '{"\\(.a)": .b}',
        "{a: .b",
        "{a: nosuch}",
        "{a: env}",
        "{a: $ENV.HOME}",
        '{a: "\\(input)"}',
        "{a: (debug | .b)}",
        'import "x" as x; {a: .b}',
        "{a: halt}",
        "{a: .b} " + " " * 5_120,
        "{a: " + '"\\(' * 70 + "1" + ')"' * 70 + "}",
    ],
)
def test_what_gives_no_fixed_keys_of_its_record_is_refused(query: str) -> None:
    """When it is given, not when the first record comes."""
    with pytest.raises(InvalidArgument):
        check_query(query)


def test_a_query_that_never_ends_is_not_run_when_it_is_given() -> None:
    """It is only compiled."""
    assert check_query("{a: repeat(.)}") == ["a"]


# -- records without keys ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["{k: .a.b}", "{k: .a.b | tojson | fromjson}"])
def test_records_without_a_value_fail_alone(query: str) -> None:
    """With AWS's code and texts, whether the query is compiled or libjq's; the others keep their order."""
    records = [b'{"a":{"b":"x"}}', b"no JSON", b"{}", b'{"a":{"b":""}}', b'{"a":{"b":null}}', b'{"a":{"b":"y"}} ', b""]
    records += [b'{"a":{"b":1}}{"a":{"b":2}}', b'{"a":{"b":[1]}}', b'{"a":7}', b"[1]"]
    rows, (failed,) = extract(query, *records)
    assert rows.keys["partitionKeyFromQuery:k"].to_pylist() == ["x", "y"]
    assert rows.offset.to_pylist() == [0, 5]
    assert failed.output_type == "metadata-extraction-failed"
    assert failed.rows.offset.to_pylist() == [1, 2, 3, 4, 6, 7, 8, 9, 10]
    assert {code for code, _ in failed.errors} == {"DynamicPartitioning.MetadataExtractionFailed"}
    texts = [text for _, text in failed.errors]
    assert texts[:7] == [NOT_JSON, NULL_OR_EMPTY, NULL_OR_EMPTY, NULL_OR_EMPTY, NOT_JSON, NOT_JSON, NULL_OR_EMPTY]
    assert all("Cannot index" in text for text in texts[7:])


def test_a_constant_does_not_make_a_record_json() -> None:
    """A query may look at nothing; the record has to be JSON all the same."""
    rows, (failed,) = extract('{a: "x", b: (.c // "d")}', b"{}", b"nope")
    assert [column.to_pylist() for column in rows.keys.values()] == [["x"], ["d"]]
    assert failed.errors == [("DynamicPartitioning.MetadataExtractionFailed", NOT_JSON)]


def test_values_that_only_look_alike_are_told_apart() -> None:
    """1, 1.0 and true are the same key of a Python dictionary."""
    records = [b'{"a":1}', b'{"a":true}', b'{"a":1.0}', b'{"a":"1"}', b'{"a":false}', b'{"a":0}']
    rows, failed = extract("{k: (.a | tostring)}", *records)
    assert not failed
    assert rows.keys["partitionKeyFromQuery:k"].to_pylist() == ["1", "true", "1", "1", "false", "0"]


def test_a_record_on_which_a_compiled_query_is_not_sure_goes_to_libjq() -> None:
    """And comes back to its place."""
    rows, failed = extract("{k: (.a | tostring)}", b'{"a":"x"}', b'{"a":[1,2]}', b'{"a":"y"}')
    assert not failed
    assert rows.keys["partitionKeyFromQuery:k"].to_pylist() == ["x", "[1,2]", "y"]


def test_a_value_that_no_object_name_can_hold_fails() -> None:
    """A name has 1,024 bytes."""
    rows, (failed,) = extract(
        "{k: .a}", json.dumps({"a": "\u00e9" * 513}).encode(), json.dumps({"a": "x" * 1024}).encode()
    )
    assert rows.offset.to_pylist() == [1]
    assert "1024" in failed.errors[0][1]


@pytest.mark.parametrize("query", ["{k: .a}", "{k: (.a | tojson)}"])
def test_deep_documents_do_no_harm(query: str) -> None:
    """They are refused, or looked into, but nothing breaks."""
    deep = b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    rows, failed = extract(query, deep, b'{"a":"x"}')
    assert len(rows) == 1
    assert len(failed) == 1


# -- libjq's bounds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    ["{k: (if .a then last(repeat(.)) else .b end)}", "{k: (if .a then ([range(1e9)] | tostring) else .b end)}"],
)
def test_a_record_that_takes_too_much_fails_and_the_next_ones_do_not(query: str) -> None:
    """Endless loops and endless memory end the process, not this one; the record is named."""
    library = JqLibrary(query, record_cpu_ms=100)
    answers = library.keys([b'{"b":"x"}', b'{"a":1}', b'{"b":"y"}', b'{"a":1}', b'{"b":"z"}'])
    library.close()
    assert answers[0::2] == [{"k": "x"}, {"k": "y"}, {"k": "z"}]
    assert all(isinstance(answer, Bad) and "too long" in answer.message for answer in answers[1::2])


def test_a_query_that_never_ends_costs_a_chunk_only_so_much() -> None:
    """After some processes, the rest of the chunk fails unseen."""
    library = JqLibrary("{k: last(repeat(1))}", record_cpu_ms=20)
    started = time.monotonic()
    answers = library.keys([b"{}"] * 1_000)
    library.close()
    assert len(answers) == 1_000
    assert all(isinstance(answer, Bad) for answer in answers)
    assert time.monotonic() - started < 30


def test_libjq_knows_nothing_of_the_process_around_it() -> None:
    """No variables, and not two keys from two outputs."""
    library = JqLibrary('{k: ("a", .b)}')
    (answer,) = library.keys([b'{"b":1}'])
    library.close()
    assert answer == Bad("the query gives no object, or more than one")


def test_the_process_ends_with_its_owner() -> None:
    """Nothing is left when a delivery stream goes."""
    library = JqLibrary("{k: .a}")
    assert library.keys([b'{"a":1}']) == [{"k": "1"}]
    process = library._process
    assert process is not None
    assert process.poll() is None
    del library
    assert process.poll() is not None


def test_without_jq_only_common_queries_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are refused when they are given; a record that only libjq understands fails."""
    monkeypatch.setitem(sys.modules, "jq", None)
    with pytest.raises(InvalidArgument, match="jq"):
        check_query("{k: (.a | tojson)}")
    rows, (failed,) = extract("{k: (.a | tostring)}", b'{"a":1}', b'{"a":[1]}')
    assert rows.offset.to_pylist() == [0]
    assert "not installed" in failed.errors[0][1]
