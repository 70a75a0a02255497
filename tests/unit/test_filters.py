"""The filters of a mapping: every operator as AWS documents it, and all of them against a slow and obvious matcher."""

from __future__ import annotations

import itertools
import json
import time
from array import array
from collections.abc import Sequence
from functools import cache
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamkit.mappings.filters import (
    EXTENSIONS,
    PATTERN_BRANCHES_MAX,
    PATTERN_CHARACTERS_MAX,
    PATTERN_DEPTH_MAX,
    FilterCriteria,
    InvalidFilter,
)
from streamkit.model.batch import RecordBatch
from streamkit.model.errors import UsageError
from streamkit.model.limits import MIB

CONTEXT = {"eventSourceARN": "arn:aws:kinesis:eu-west-1:000000000000:stream/s", "awsRegion": "eu-west-1"}
ARRIVED_AT_MS = 1_545_084_650_987


def column(values: Sequence[bytes]) -> tuple[memoryview, memoryview]:
    offsets = array("i", [5, *itertools.accumulate(map(len, values), initial=5)][1:])
    return memoryview(offsets), memoryview(b"#####" + b"".join(values))


def batch_of(*records: tuple[str, bytes]) -> RecordBatch:
    """The records in a window that has a neighbour on either side, over columns that do not begin at zero."""
    around = [("", b'{"a": 1, "note": "'), *records, ("neighbour", b"\\x")]
    keys = column([key.encode() for key, _ in around])
    data = column([value for _, value in around])
    return RecordBatch(3, 1_545_000_000, 40, 1, len(records) + 1, ARRIVED_AT_MS, *keys, *data)


def rows(patterns: Sequence[Any], *records: tuple[str, bytes]) -> list[int]:
    """The records that pass, with `None` for all of them written out."""
    criteria = FilterCriteria.parse([each if isinstance(each, str) else json.dumps(each) for each in patterns])
    batch = batch_of(*records)
    before = bytes(batch.keys), bytes(batch.data)
    found = criteria.matches_batch(batch, CONTEXT)
    assert (bytes(batch.keys), bytes(batch.data)) == before
    assert found is None or len(found) < len(records)
    return list(range(len(records))) if found is None else found


def holds(pattern: Any, event: Any) -> bool:
    """Whether a pattern for data matches: asked of a record, and of a document, which have to agree."""
    criteria = FilterCriteria.parse([json.dumps({"data": pattern})])
    as_record = rows([{"data": pattern}], ("key", json.dumps(event).encode())) == [0]
    assert criteria.matches({"data": event}) == as_record
    return as_record


# -- the reference ---------------------------------------------------------------------------------------------------
# An event is a list of (path, value, elements): `elements` tells, for each array on the way, which element was entered.
# A branch of a pattern is a list of (path, values allowed). It matches if for each path one occurrence can be chosen
# (or none, for `exists: false`, if the event has none that goes with the others) so that no two are in different
# elements of one array. This is what aws/event-ruler documents, tried out in all ways.

Occurrence = tuple[tuple[str, ...], Any, dict[int, int]]


def occurrences(value: Any) -> list[Occurrence]:
    found: list[Occurrence] = []
    arrays = itertools.count()

    def walk(value: Any, path: tuple[str, ...], elements: dict[int, int]) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, (*path, key), elements)
        elif isinstance(value, list):
            number = next(arrays)
            for index, inner in enumerate(value):
                nested = isinstance(inner, dict | list)
                walk(inner, path, elements | {number: index} if nested else elements)
        else:
            found.append((path, value, elements))

    walk(value, (), {})
    return found


def branches(pattern: dict[str, Any], path: tuple[str, ...] = ()) -> list[list[tuple[tuple[str, ...], list[Any]]]]:
    result: list[list[tuple[tuple[str, ...], list[Any]]]] = [[]]
    for key, inner in pattern.items():
        if key == "$or":
            choices = [branch for each in inner for branch in branches(each, path)]
        elif isinstance(inner, dict):
            choices = branches(inner, (*path, key))
        else:
            choices = [[((*path, key), inner)]]
        result = [a + b for a in result for b in choices]
    return result


def wildcard(pattern: str, text: str) -> bool:
    symbols: list[tuple[str, bool]] = []
    escaped = False
    for each in pattern:
        if escaped or each != "\\":
            symbols.append((each, each == "*" and not escaped))
            escaped = False
        else:
            escaped = True

    @cache
    def match(i: int, j: int) -> bool:
        if i == len(symbols):
            return j == len(text)
        symbol, star = symbols[i]
        if star:
            return match(i + 1, j) or (j < len(text) and match(i, j + 1))
        return j < len(text) and text[j] == symbol and match(i + 1, j + 1)

    return match(0, 0)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def string_holds(operator: str, operand: Any, value: Any) -> bool:
    if not isinstance(value, str):
        return False
    if isinstance(operand, dict):
        return string_holds(operator, operand["equals-ignore-case"].casefold(), value.casefold())
    match operator:
        case "prefix":
            return bool(value[: len(operand)] == operand)
        case "suffix":
            return bool(value[max(0, len(value) - len(operand)) :] == operand)
        case "equals-ignore-case":
            return bool(value.casefold() == operand.casefold())
        case "wildcard":
            return wildcard(operand, value)
        case _:
            assert operator == "cidr"
            try:
                return ip_address(value) in ip_network(operand, strict=False)
            except ValueError:
                return False


def allowed_by(alternative: Any, value: Any) -> bool:
    if not isinstance(alternative, dict):
        if is_number(alternative) and is_number(value):
            return bool(alternative == value)
        return type(alternative) is type(value) and alternative == value
    [(operator, operand)] = alternative.items()
    if operator == "exists":
        return bool(operand)
    if operator == "numeric":
        signs = {"=": "==", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
        pairs = zip(operand[::2], operand[1::2], strict=True)
        in_range = is_number(value) and -5e9 <= value <= 5e9
        return in_range and all(eval(f"{value!r} {signs[sign]} {number!r}") for sign, number in pairs)
    if operator == "anything-but":
        if isinstance(operand, dict):
            [(inner, texts)] = operand.items()
            return not any(string_holds(inner, text, value) for text in (texts if isinstance(texts, list) else [texts]))
        return not any(allowed_by(each, value) for each in (operand if isinstance(operand, list) else [operand]))
    return string_holds(operator, operand, value)


def reference(pattern: dict[str, Any], event: Any) -> bool:
    values = occurrences(event)

    def together(*chosen: dict[int, int]) -> bool:
        return all(a.get(key, b[key]) == b[key] for a, b in itertools.combinations(chosen, 2) for key in b)

    def tried(branch: list[tuple[tuple[str, ...], list[Any]]]) -> bool:
        choices: list[list[Occurrence | None]] = []
        for path, allowed in branch:
            fitting: list[Occurrence | None] = [
                each for each in values if each[0] == path and any(allowed_by(one, each[1]) for one in allowed)
            ]
            choices.append(fitting + ([None] if {"exists": False} in allowed else []))
        for choice in itertools.product(*choices):
            chosen = [each[2] for each in choice if each is not None]
            absent = [path for (path, _), each in zip(branch, choice, strict=True) if each is None]
            if together(*chosen) and not any(
                path in absent and together(*chosen, elements) for path, _, elements in values
            ):
                return True
        return False

    return any(tried(branch) for branch in branches(pattern))


# -- random patterns and events --------------------------------------------------------------------------------------

STRINGS = ["", "a", "ab", "aB", "b", "ba", "aba", 'a"b', "a\\b", "é", "É", "10.0.0.7", "a*b", "\n", "1"]
NUMBERS = [0, 1, -1, 1.0, 1.5, 300, 300.0, 5e9, 6e9, 12345678901234567890123]
texts = st.sampled_from(STRINGS)
scalars = st.one_of(texts, st.sampled_from(NUMBERS), st.none(), st.booleans())
LEAVES, OBJECTS = ["a", "b", "é"], ["o", "p"]  # a pattern has values at the ones and objects at the others


def events() -> st.SearchStrategy[Any]:
    def deeper(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.sampled_from(LEAVES + OBJECTS), inner, max_size=4),
        )

    return st.recursive(scalars, deeper, max_leaves=10)


@st.composite
def fitting_events(draw: st.DrawFn, depth: int = 2) -> dict[str, Any]:
    """Events of the shape that patterns ask for, each field perhaps in an array: of the others, few match anything."""
    event: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from([*LEAVES, *OBJECTS]), min_size=1, max_size=5, unique=True)):
        if name in LEAVES:
            event[name] = draw(st.one_of(scalars, st.lists(scalars, max_size=3)))
        elif depth:
            event[name] = draw(st.one_of(fitting_events(depth - 1), st.lists(fitting_events(depth - 1), max_size=3)))
    return event


any_events = st.one_of(fitting_events(), fitting_events(), events())


def one(operator: str, operand: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return operand.map(lambda value: {operator: value})


def one_or_more(operand: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(operand, st.lists(operand, min_size=1, max_size=3))


wildcards = st.sampled_from(["", "*", "a*", "*a", "*b*", "a*b", "a*a", "a*b*a", r"a\*b", r"a\\b", "*a*a*"])
limits = st.sampled_from([-5e9, -1, 0, 1, 1.5, 300, 5e9])
alternatives = st.one_of(
    scalars,
    scalars,
    one("exists", st.booleans()),
    one("prefix", st.one_of(texts, one("equals-ignore-case", texts))),
    one("suffix", st.one_of(texts, one("equals-ignore-case", texts))),
    one("equals-ignore-case", texts),
    one("wildcard", wildcards),
    one("cidr", st.sampled_from(["10.0.0.0/24", "10.0.0.7/32", "0.0.0.0/0", "::/0"])),
    one("numeric", st.tuples(st.sampled_from(["=", "<", "<=", ">", ">="]), limits).map(list)),
    one("numeric", st.sampled_from([[">", 0, "<", 300], [">=", 0, "<=", 300], [">", -1, "<=", 1.0]])),
    one("anything-but", one_or_more(texts)),
    one("anything-but", one_or_more(st.sampled_from([0, 1, 300.0]))),
    one("anything-but", one("prefix", one_or_more(texts.filter(bool)))),
    one("anything-but", one("suffix", one_or_more(texts.filter(bool)))),
    one("anything-but", one("equals-ignore-case", one_or_more(texts))),
    one("anything-but", one("wildcard", one_or_more(wildcards))),
)
leaves = st.lists(alternatives, min_size=1, max_size=4)


@st.composite
def objects(draw: st.DrawFn, depth: int) -> dict[str, Any]:
    names = [*LEAVES, *OBJECTS, "$or"] if depth else LEAVES
    pattern: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True)):
        if name == "$or":
            pattern[name] = [draw(objects(depth - 1)) for _ in range(2)]
        else:
            pattern[name] = draw(leaves if name in LEAVES else objects(depth - 1))
    return pattern


patterns = objects(2)


@settings(max_examples=600, deadline=None)
@given(patterns, any_events)
@example({"o": {"a": ["a"], "b": [{"exists": False}]}}, {"o": [{"a": "a", "b": 1}, {"a": "a"}]})
@example({"o": {"b": [{"exists": False}]}}, {"o": [{"b": 1}, {}]})
@example({"o": {"a": ["a"]}, "$or": [{"o": {"b": [1]}}, {"a": [1]}]}, {"o": [{"a": "a"}, {"b": 1}]})
@example({"a": [{"exists": False}], "$or": [{"a": ["a"]}, {"b": [1]}]}, {"a": "a"})
def test_every_pattern_answers_as_the_slow_matcher_does(pattern: dict[str, Any], event: Any) -> None:
    """What the compiled pattern says of an event, trying all choices of array elements says, too."""
    assert holds(pattern, event) == reference(pattern, event)


def written(event: Any, escape: bool, indent: int | None) -> bytes:
    return json.dumps(event, ensure_ascii=escape, indent=indent).encode()


texts_written = st.builds(written, any_events, st.booleans(), st.sampled_from([None, 1]))
records = st.tuples(st.sampled_from(["", "a", "ab", "b", "é"]), st.one_of(texts_written, st.binary(max_size=4)))


def not_json(constant: str) -> None:
    raise ValueError(f"{constant} is Python's")


def parsed(data: bytes) -> list[Any]:
    """The value in a list, or an empty one."""
    try:
        return [json.loads(data.decode(), parse_constant=not_json)]
    except ValueError:
        return []


@settings(max_examples=400, deadline=None)
@given(st.lists(patterns, min_size=1, max_size=3), st.lists(leaves, max_size=2), st.lists(records, max_size=8))
def test_a_batch_is_filtered_as_its_records_are_one_by_one(
    datas: list[dict[str, Any]], keys: list[list[Any]], put: list[tuple[str, bytes]]
) -> None:
    """Columns, searches in many records' bytes and filters taken together change no answer, with any data put."""
    filters: list[dict[str, Any]] = [{"data": each} for each in datas]
    for filter_, key in zip(filters, keys, strict=False):
        filter_["partitionKey"] = key
    if len(keys) > 1:
        filters.append({"partitionKey": keys[1]})

    def passes(key: str, data: bytes) -> bool:
        for filter_ in filters:
            event: dict[str, Any] = {"partitionKey": key}
            if "data" in filter_:
                if not (values := parsed(data)):
                    continue
                [event["data"]] = values
            if reference(filter_, event):
                return True
        return False

    assert rows(filters, *put) == [row for row, (key, data) in enumerate(put) if passes(key, data)]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(texts, one("prefix", texts), one("suffix", texts)), min_size=1, max_size=3),
    st.lists(st.tuples(texts, st.booleans(), st.booleans()), max_size=8),
)
def test_the_search_in_bytes_never_changes_an_answer(allowed: list[Any], put: list[tuple[str, bool, bool]]) -> None:
    """Strings may be written with escapes or without, stand in another field, or end at a record's border."""
    data = [json.dumps({"a" if right else "b": text}, ensure_ascii=escape) for text, escape, right in put]
    expected = [
        row
        for row, (text, _, right) in enumerate(put)
        if right and any(allowed_by(alternative, text) for alternative in allowed)
    ]
    assert rows([{"data": {"a": allowed}}], *[("k", each.encode()) for each in data]) == expected


def test_a_string_is_found_however_json_writes_it() -> None:
    r"""`\u0061` is an a: a record with a backslash is parsed whether its bytes hold the literal or not."""
    put = [rb'{"s": "active"}', rb'{"s": "\u0061ctive"}', rb'{"s": "act', rb'ive"}', rb'{"s": "x\\"}', b'"active"']
    assert rows([{"data": {"s": ["active"]}}], *[("k", each) for each in put]) == [0, 1]


# -- operators, as AWS documents them --------------------------------------------------------------------------------

DOCUMENTED = [
    # Lambda developer guide, "Filter rule syntax"
    ({"UserID": [None]}, {"UserID": None}, {"UserID": "null"}),
    ({"LastName": [""]}, {"LastName": ""}, {"LastName": None}),
    ({"Name": ["Alice"]}, {"Name": "Alice"}, {"Name": "alice"}),
    ({"Name": [{"equals-ignore-case": "alice"}]}, {"Name": "ALICE"}, {"Name": "alic"}),
    ({"Location": ["NY"], "Day": ["Mon"]}, {"Location": "NY", "Day": "Mon", "x": 1}, {"Location": "NY"}),
    ({"PaymentType": ["Credit", "Debit"]}, {"PaymentType": "Debit"}, {"PaymentType": "Cash"}),
    ({"$or": [{"Location": ["NY"]}, {"Day": ["Mon"]}]}, {"Location": "X", "Day": "Mon"}, {"Location": "X", "Day": "Y"}),
    ({"Weather": [{"anything-but": ["Raining"]}]}, {"Weather": "Sunny"}, {"Weather": "Raining"}),
    ({"Weather": [{"anything-but": ["Raining"]}]}, {"Weather": None}, {}),
    ({"Price": [{"numeric": ["=", 100]}]}, {"Price": 1e2}, {"Price": "100"}),
    ({"Price": [{"numeric": [">", 10, "<=", 20]}]}, {"Price": 20}, {"Price": 10}),
    ({"ProductName": [{"exists": True}]}, {"ProductName": None}, {"Product": 1}),
    ({"person": {"address": [{"exists": True}]}}, {"person": {"address": 1}}, {"person": {"address": {"street": "x"}}}),
    ({"ProductName": [{"exists": False}]}, {"Product": 1}, {"ProductName": None}),
    ({"Region": [{"prefix": "us-"}]}, {"Region": "us-east-1"}, {"Region": "eu-us-1"}),
    ({"FileName": [{"suffix": ".png"}]}, {"FileName": "a.png"}, {"FileName": "a.png.txt"}),
    # EventBridge user guide, "Comparison operators"
    ({"service": [{"prefix": {"equals-ignore-case": "EventB"}}]}, {"service": "EVENTbridge"}, {"service": "bridge"}),
    ({"service": [{"suffix": {"equals-ignore-case": "tBridge"}}]}, {"service": "EVENTBRIDGE"}, {"service": "bridges"}),
    ({"state": [{"anything-but": "initializing"}]}, {"state": 1}, {"state": "initializing"}),
    ({"x-limit": [{"anything-but": 123}]}, {"x-limit": "123"}, {"x-limit": 123.0}),
    ({"x-limit": [{"anything-but": [100, 200, 300]}]}, {"x-limit": 99}, {"x-limit": 300}),
    ({"x-limit": [{"anything-but": [100, 300]}]}, {"x-limit": [100, 50]}, {"x-limit": [100, 300]}),
    ({"Region": [{"anything-but": {"prefix": "us-"}}]}, {"Region": 12}, {"Region": "us-1"}),
    ({"File": [{"anything-but": {"suffix": [".png", ".gif"]}}]}, {"File": "a.txt"}, {"File": "a.gif"}),
    ({"s": [{"anything-but": {"equals-ignore-case": ["init", "stop"]}}]}, {"s": "run"}, {"s": "STOP"}),
    ({"p": [{"anything-but": {"wildcard": "*/lib/*"}}]}, {"p": "/bin/x"}, {"p": "/usr/lib/x"}),
    ({"p": [{"anything-but": {"wildcard": ""}}]}, {"p": "dir/init/file"}, {"p": ""}),
    ({"p": [{"wildcard": "dir/*.png"}]}, {"p": "dir/a/b.png"}, {"p": "dir/a.PNG"}),
    ({"p": [{"wildcard": r"a\*b\\*"}]}, {"p": "a*b\\c"}, {"p": "axb\\c"}),
    ({"source-ip": [{"cidr": "10.0.0.0/24"}]}, {"source-ip": "10.0.0.255"}, {"source-ip": "10.0.1.0"}),
    ({"source-ip": [{"cidr": "2001:db8::/32"}]}, {"source-ip": "2001:DB8::1"}, {"source-ip": "10.0.0.1"}),
    ({"source-ip": [{"cidr": "10.0.0.0/24"}]}, {"source-ip": "10.0.0.0"}, {"source-ip": 167772161}),
    # EventBridge user guide and aws/event-ruler, arrays
    ({"resources": ["i-1", "i-2"]}, {"resources": ["x", "i-2"]}, {"resources": ["x", "y"]}),
    ({"resources": [{"exists": True}]}, {"resources": [1]}, {"resources": []}),
    ({"resources": [None]}, {"resources": [None]}, {"resources": []}),
    (
        {"employees": {"firstName": ["Anna"], "lastName": ["Smith"]}},
        {"employees": [[{"firstName": "John", "lastName": "Doe"}], [{"firstName": "Anna", "lastName": "Smith"}]]},
        {"employees": [{"firstName": "Anna", "lastName": "Jones"}, {"firstName": "John", "lastName": "Smith"}]},
    ),
    # answers recorded from AWS (LocalStack's event_pattern_templates), against the text of the guide
    ({"number": [300]}, {"number": 300.0}, {"number": "300"}),
    # booleans are no numbers
    ({"b": [True]}, {"b": True}, {"b": 1}),
    ({"b": [1]}, {"b": 1}, {"b": True}),
    ({"b": [{"numeric": [">=", 0]}]}, {"b": 0}, {"b": False}),
    ({"b": [{"anything-but": 1}]}, {"b": True}, {"b": 1}),
    # numbers are compared within 5e9
    ({"n": [{"numeric": [">", 0]}]}, {"n": 5e9}, {"n": 5_000_000_001}),
    ({"n": [123456789012]}, {"n": 123456789012}, {"n": 123456789013}),
]


@pytest.mark.parametrize(("pattern", "matching", "other"), DOCUMENTED)
def test_an_operator_does_what_is_documented(pattern: Any, matching: Any, other: Any) -> None:
    """Each documented pattern matches its documented event and not the one beside it."""
    assert holds(pattern, matching)
    assert not holds(pattern, other)
    assert reference(pattern, matching)
    assert not reference(pattern, other)


def test_of_a_key_given_twice_the_last_one_stands() -> None:
    """In patterns as in data, as Lambda's guide says of patterns."""
    assert rows(['{"data": {"a": [1], "a": [2]}}'], ("k", b'{"a": 1}'), ("k", b'{"a": 2}')) == [1]
    assert rows(['{"data": {"a": [2]}}'], ("k", b'{"a": 2, "a": 1}'), ("k", b'{"a": 1, "a": 2}')) == [1]


def test_filters_are_alternatives() -> None:
    """A record passes if one filter matches, and is named once; without filters each one passes."""
    put = [("a", b'{"x": 1}'), ("b", b'{"x": 2}'), ("c", b"no json"), ("d", b'{"x": 1}')]
    assert rows([{"data": {"x": [1]}}, {"partitionKey": ["a", "c"]}], *put) == [0, 2, 3]
    assert rows([{"data": {"x": [1]}}, {"data": {"x": [2]}}], *put) == [0, 1, 3]
    assert rows([], *put) == [0, 1, 2, 3]
    assert FilterCriteria.parse([]).matches({})
    assert FilterCriteria.parse(['{"a": [1]}']).matches_batch(batch_of()) is None


# -- what a record of a stream looks like ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ({"partitionKey": ["b"]}, [1]),
        ({"partitionKey": [{"prefix": "b"}]}, [1, 2]),
        ({"partitionKey": [{"suffix": "c"}]}, [2]),
        ({"partitionKey": [{"anything-but": "b"}]}, [0, 2]),
        ({"partitionKey": [{"exists": True}]}, [0, 1, 2]),
        ({"partitionKey": [{"exists": False}]}, []),
        ({"partitionKey": {"x": ["b"]}}, []),
        ({"eventSource": ["aws:kinesis"], "eventName": ["aws:kinesis:record"]}, [0, 1, 2]),
        ({"eventVersion": ["1.0"], "kinesisSchemaVersion": ["1.0"], "partitionKey": ["a"]}, [0]),
        ({"awsRegion": ["eu-west-1"], "eventSourceARN": [{"suffix": "stream/s"}]}, [0, 1, 2]),
        ({"awsRegion": ["us-east-1"]}, []),
        ({"approximateArrivalTimestamp": [ARRIVED_AT_MS / 1000]}, [0, 1, 2]),
        ({"approximateArrivalTimestamp": [{"numeric": ["<", ARRIVED_AT_MS // 1000]}]}, []),
        ({"eventID": [{"prefix": "shardId-000000000003:"}]}, [0, 1, 2]),
        ({"invokeIdentityArn": [{"exists": False}]}, [0, 1, 2]),
        ({"unknown": ["x"]}, []),
        ({"partitionKey": [{"prefix": "b"}], "data": {"x": [1]}}, [2]),
        ({"partitionKey": [{"equals-ignore-case": "BC"}], "data": {"s": ["t"]}}, [2]),
        ({"$or": [{"partitionKey": ["b"]}, {"data": {"y": [{"exists": False}]}}]}, [0, 1, 2]),
        ({"data": {"y": [{"exists": False}]}}, [0, 2]),
    ],
)
def test_metadata_is_matched_by_its_name(pattern: Any, expected: list[int]) -> None:
    """Metadata stands at the top, data under `data`; data that is not JSON passes only what does not ask for data."""
    put = [("a", b'{"x": 1, "s": "t"}'), ("b", b"plain text"), ("bc", b'{"x": 1, "s": "t"}')]
    assert rows([pattern], *put) == expected


def test_sequence_numbers_are_those_of_the_batch() -> None:
    """A filter on a sequence number finds the record that is delivered with it."""
    put = [("a", b""), ("b", b""), ("c", b"")]
    number = batch_of(*put).sequence_number(2)
    assert rows([{"sequenceNumber": [str(number)]}], *put) == [2]
    assert rows([{"eventID": [f"shardId-000000000003:{number}"]}], *put) == [2]


def test_arrival_times_of_merged_records_are_their_own() -> None:
    """Where records that arrived apart were merged, each is matched by its own time."""
    merged = batch_of(("a", b""), ("b", b""))
    times = memoryview(array("q", [0, 1500, 2500, 0]))
    merged = RecordBatch(
        0, 1, 0, merged.start, merged.stop, 0, merged.key_offsets, merged.keys, merged.data_offsets, merged.data,
        arrivals_ms=times,
    )  # fmt: skip
    criteria = FilterCriteria.parse(['{"approximateArrivalTimestamp": [2.5]}'])
    assert criteria.matches_batch(merged) == [1]


def test_plain_text_is_filtered_where_the_source_says_so() -> None:
    """A pattern for a queue's body may be for plain text; Lambda refuses one for a stream's data."""
    plain = FilterCriteria.parse(['{"body": ["error"]}'], document_keys=())
    assert plain.matches({"body": "error"})
    assert not plain.matches({"body": {"error": "error"}})
    for pattern in ({"data": ["x"]}, {"$or": [{"data": ["x"]}, {"partitionKey": ["a"]}]}):
        with pytest.raises(InvalidFilter, match="JSON only"):
            FilterCriteria.parse([json.dumps(pattern)])


# -- patterns that are none ------------------------------------------------------------------------------------------

REFUSED = [
    ("", "line 1", "not JSON"),
    ("{'a': [1]}", "line 1 column 2", "not JSON"),
    ('{"a": [NaN]}', "line 1", "not JSON"),
    ('{"a": [1e999]}', "line 1", "not JSON"),
    ('{"a": ["\\ud800"]}', "line 1", "not JSON"),
    ("[1]", "$", "object"),
    ("{}", "$", "empty object"),
    ('{"a": {}}', "$.a", "empty object"),
    ('{"a": "x"}', "$.a", "not a string"),
    ('{"a": {"b": true}}', "$.a.b", "not a boolean"),
    ('{"a": []}', "$.a", "empty array"),
    ('{"a": [1, [2]]}', "$.a[1]", "not an array"),
    ('{"a": [{}]}', "$.a[0]", "one key"),
    ('{"a": [{"prefix": "x", "suffix": "y"}]}', "$.a[0]", "one key"),
    ('{"a": [{"Prefix": "x"}]}', "$.a[0].Prefix", "no such operator"),
    ('{"a": [{"prefix": 1}]}', "$.a[0].prefix", "not a number"),
    ('{"a": [{"prefix": {"equals-ignore-case": null}}]}', "$.a[0].prefix.equals-ignore-case", "not null"),
    ('{"a": [{"suffix": {"prefix": "x"}}]}', "$.a[0].suffix", "equals-ignore-case"),
    ('{"a": [{"equals-ignore-case": ["x"]}]}', "$.a[0].equals-ignore-case", "not an array"),
    ('{"a": [{"wildcard": "a**b"}]}', "$.a[0].wildcard", "two wildcards"),
    ('{"a": [{"wildcard": "a\\\\b"}]}', "$.a[0].wildcard", "backslash"),
    ('{"a": [{"wildcard": "a\\\\"}]}', "$.a[0].wildcard", "backslash"),
    ('{"a": [{"exists": "true"}]}', "$.a[0].exists", "true or false"),
    ('{"a": [{"exists": 1}]}', "$.a[0].exists", "true or false"),
    ('{"a": [{"numeric": ">"}]}', "$.a[0].numeric", "an array"),
    ('{"a": [{"numeric": [">"]}]}', "$.a[0].numeric", "an array"),
    ('{"a": [{"numeric": ["!", 1]}]}', "$.a[0].numeric[0]", "one of"),
    ('{"a": [{"numeric": [[], 1]}]}', "$.a[0].numeric[0]", "one of"),
    ('{"a": [{"numeric": [">", 0, ">", 0]}]}', "$.a[0].numeric[2]", "one of"),
    ('{"a": [{"numeric": ["=", 0, "<", 1]}]}', "$.a[0].numeric[0]", "one of"),
    ('{"a": [{"numeric": [">", "0"]}]}', "$.a[0].numeric[1]", "not a string"),
    ('{"a": [{"numeric": [">", true]}]}', "$.a[0].numeric[1]", "not a boolean"),
    ('{"a": [{"numeric": [">", 5, "<", 5]}]}', "$.a[0].numeric", "less than"),
    ('{"a": [{"numeric": ["<", 5e9, "<", 1]}]}', "$.a[0].numeric[0]", "one of"),
    ('{"a": [{"numeric": ["<", 5000000001]}]}', "$.a[0].numeric[1]", "5e9"),
    ('{"a": [{"anything-but": []}]}', "$.a[0].anything-but", "array"),
    ('{"a": [{"anything-but": null}]}', "$.a[0].anything-but", "takes"),
    ('{"a": [{"anything-but": [1, "x"]}]}', "$.a[0].anything-but", "only"),
    ('{"a": [{"anything-but": [true]}]}', "$.a[0].anything-but", "only"),
    ('{"a": [{"anything-but": 6e9}]}', "$.a[0].anything-but", "5e9"),
    ('{"a": [{"anything-but": {}}]}', "$.a[0].anything-but", "keys"),
    ('{"a": [{"anything-but": {"numeric": ["=", 1]}}]}', "$.a[0].anything-but", "keys"),
    ('{"a": [{"anything-but": {"prefix": ""}}]}', "$.a[0].anything-but.prefix", "empty"),
    ('{"a": [{"anything-but": {"suffix": [1]}}]}', "$.a[0].anything-but.suffix", "not a number"),
    ('{"a": [{"anything-but": {"wildcard": []}}]}', "$.a[0].anything-but.wildcard", "not empty"),
    ('{"a": [{"cidr": "10.0.0.0"}]}', "$.a[0].cidr", "10.0.0.0/24"),
    ('{"a": [{"cidr": "10.0.0/24"}]}', "$.a[0].cidr", "range"),
    ('{"a": [{"cidr": "10.0.0.0/33"}]}', "$.a[0].cidr", "range"),
    ('{"a": [{"cidr": "10.0.0.0/255.0.0.0"}]}', "$.a[0].cidr", "range"),
    ('{"$or": {"a": [1]}}', "$.$or", "two or more"),
    ('{"$or": [{"a": [1]}]}', "$.$or", "two or more"),
    ('{"$or": [{"a": [1]}, 2]}', "$.$or[1]", "not a number"),
    ('{"$or": [{"a": [1]}, {}]}', "$.$or[1]", "empty object"),
    ('{"$or": [{"a": [1]}, {"prefix": ["x"]}]}', "$.$or[1]", "operator"),
    ('{"a": [1]}' + " " * PATTERN_CHARACTERS_MAX, "$", "4096"),
    ('{"a":' * PATTERN_DEPTH_MAX + '{"a": [1]}' + "}" * PATTERN_DEPTH_MAX, "$.a", "nested"),
    ("[" * 2000, "line 1", "not JSON"),
]


@pytest.mark.parametrize(("pattern", "where", "why"), REFUSED)
def test_a_pattern_that_is_none_is_refused_with_its_place(pattern: str, where: str, why: str) -> None:
    """The error says which filter, where in it, and what was wrong there."""
    with pytest.raises(InvalidFilter) as caught:
        FilterCriteria.parse(['{"a": [1]}', pattern])
    error = caught.value
    assert error.where.startswith(where)
    assert why in error.why
    assert str(error) == f"filter 2, at {error.where}: {error.why}"
    assert isinstance(error, UsageError)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=40), st.recursive(scalars, lambda inner: st.one_of(
    st.lists(inner, max_size=3),
    st.dictionaries(st.sampled_from(["$or", "a", "numeric", "prefix", "anything-but", "cidr", "exists"]), inner),
)).map(json.dumps)))  # fmt: skip
def test_any_text_is_a_pattern_or_refused(text: str) -> None:
    """Nothing that can be sent as a pattern ends in an error of another kind."""
    try:
        criteria = FilterCriteria.parse([text])
    except InvalidFilter:
        return
    assert criteria.patterns == (text,)
    criteria.matches({"a": 1})


def test_the_combinations_of_or_are_bounded() -> None:
    """A pattern whose `$or`s multiply past the bound is refused at once; the largest allowed one is compiled soon."""

    def nested(levels: int) -> str:
        inner: dict[str, Any] = {"z": [1]}
        for level in range(levels):
            inner = {f"k{level}": inner, "$or": [{"a": [1]}, {"b": [1]}]}
        return json.dumps(inner)

    start = time.perf_counter()
    with pytest.raises(InvalidFilter, match="combinations"):
        FilterCriteria.parse([nested(60)])
    criteria = FilterCriteria.parse([nested(PATTERN_BRANCHES_MAX.bit_length() - 1)])
    assert not criteria.matches({"a": 1})
    assert time.perf_counter() - start < 5


def test_operators_beyond_lambdas_table_are_listed() -> None:
    """`EXTENSIONS` names what AWS Lambda may refuse; nothing of Lambda's table is among it."""
    assert {"wildcard", "cidr"} <= EXTENSIONS
    assert not {"prefix", "suffix", "numeric", "exists", "equals-ignore-case", "anything-but", "$or"} & EXTENSIONS


# -- hostile records -------------------------------------------------------------------------------------------------

HOSTILE = [
    b"",
    b"\xff\xfe",
    b'{"a": "\xff"}',
    b'{"a": NaN}',
    b'{"a": 1e999}',
    b'{"a": "\\ud800"}',
    b'{"a": "x"',
    b'\xef\xbb\xbf{"a": "x"}',
    b"[" * MIB,
    b'{"a":' * 100_000,
    b'{"a": ' + b"[" * 1100 + b'"x"' + b"]" * 1100 + b"}",
    b"\x00" * MIB,
]


HOSTILE_LEAVES: list[Any] = [["x"], [{"exists": False}], [{"exists": True}], [1], [{"wildcard": "*x*"}]]


@pytest.mark.parametrize("pattern", [each for leaf in HOSTILE_LEAVES for each in ({"a": leaf}, {"b": {"c": leaf}})])
def test_data_that_is_no_json_is_dropped(pattern: dict[str, Any]) -> None:
    """Whatever the bytes are, a pattern that asks for data drops them, and the records beside them are unharmed."""
    put = [("k", data) for data in HOSTILE]
    good = ("k", b'{"a": "x", "b": {"c": "x"}}')
    expected = [len(put)] if reference(pattern, json.loads(good[1])) else []
    assert rows([{"data": pattern}], *put, good) == expected
    assert rows([{"data": pattern}, {"data": {"a": ["y"]}}], *put, good) == expected


def test_deep_data_is_searched_without_recursion() -> None:
    """Arrays as deep as the parser takes them, far beyond Python's stack, are looked into to their end."""
    deep = b'{"a": ' + b"[" * 1000 + b'{"b": "x", "c": "y"}' + b"]" * 1000 + b"}"
    put = [("k", deep), ("k", deep.replace(b"x", b"z"))]
    assert rows([{"data": {"a": {"b": ["x"], "c": [{"prefix": "y"}]}}}], *put) == [0]
    assert rows([{"data": {"a": {"b": ["x"], "d": [{"exists": False}]}}}], *put) == [0]
    pattern: dict[str, Any] = {"a": ["x"]}
    data: Any = {"a": "x"}
    for _ in range(PATTERN_DEPTH_MAX - 2):
        pattern, data = {"o": pattern, "z": [{"exists": False}]}, [{"o": data}]
    assert rows([{"data": pattern}], ("k", json.dumps(data).encode())) == [0]


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("*" + "a*" * 1900 + "b", "a" * MIB),
        ("*" + "ab*" * 1300 + "c", "ab" * (MIB // 2)),
        ("*" + "a" * 1000 + "b*", "a" * (MIB - 100)),
    ],
)
def test_wildcards_do_not_go_back(pattern: str, text: str) -> None:
    """Patterns of nothing but stars over a record of 1 MiB take a moment, not for ever."""
    start = time.perf_counter()
    assert rows([{"data": {"a": [{"wildcard": pattern}]}}], ("k", json.dumps({"a": text}).encode())) == []
    assert time.perf_counter() - start < 5


def test_a_big_record_full_of_near_matches_takes_a_moment() -> None:
    """A record of 1 MiB made of what is looked for, and of backslashes, is searched once."""
    put = [("k", b'"x"' * (MIB // 3)), ("k", b"\\" * MIB), ("k", json.dumps({"a": ["x"] * 200_000}).encode())]
    start = time.perf_counter()
    assert rows([{"data": {"a": ["x"]}}], *put) == [2]
    assert time.perf_counter() - start < 5


def test_huge_numbers_are_compared_as_doubles() -> None:
    """Integers past 64 bits lose digits on both sides alike, so that equal text stays equal."""
    number = 123456789012345678901234567890
    assert rows([f'{{"data": {{"n": [{number}]}}}}'], ("k", f'{{"n": {number}}}'.encode())) == [0]
    assert rows([{"data": {"n": [2**63 + 1]}}], ("k", b'{"n": %d}' % (2**63))) == []
