"""Conversion of JSON records to columns: what its rules are, that the quick way keeps them, and what records cannot do.

`Exact` is one record at a time; converters read most records in another way. The laws compare the two over tables,
records and damage that are drawn from seeds; `CASES` says how many.
"""

from __future__ import annotations

import gc
import json
import os
import random
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.catalog import hive_types
from streamkit.catalog.hive_types import Array, HiveType, Map, Primitive, Struct
from streamkit.delivery.convert import converter as converter_module
from streamkit.delivery.convert import infer_columns, make_converter, make_converter_for, patterns
from streamkit.delivery.convert.exact import Bad, Exact
from streamkit.delivery.convert.shapes import root_of_columns, rules_of
from streamkit.delivery.plan import Conversion, FromDestination, InlineColumns
from streamkit.delivery.processor import Converted
from streamkit.model.errors import InvalidArgument
from streamkit.model.limits import CONVERSION_DOCUMENTS_MAX, RECORD_DEPTH_MAX

CASES: Final = int(os.environ.get("CONVERT_CASES", "300"))
PARSE_ERROR: Final = "DataFormatConversion.ParseError"
MALFORMED: Final = "DataFormatConversion.MalformedData"
MISMATCH: Final = "Data does not match the schema. "
NOT_NUMERIC: Final = "Current token (VALUE_STRING) not numeric, can not use numeric value accessors"
NOT_TEXT: Final = "One or more fields have incorrect format. Exception when validating field (root)"


def converted(records: Sequence[bytes | str], columns: dict[str, str], **settings: Any) -> Converted:
    conversion = Conversion(InlineColumns(tuple(columns.items())), **settings)
    data = [record.encode() if isinstance(record, str) else record for record in records]
    return make_converter(tuple(columns.items()), conversion).convert(pa.array(data, pa.binary()))


def value(text: str, type_: str, **settings: Any) -> Any:
    """What a column has for a value, which has to be good; whether it is read quickly or not."""
    alone = converted([f'{{"a":{text}}}'], {"a": type_}, **settings)
    assert not alone.bad, alone.bad
    among = converted(['{"a":null}'] * 40 + [f'{{"a":{text}}}'], {"a": type_}, **settings)
    assert not among.bad, among.bad
    found = alone.batch.to_pylist()[0]["a"]
    assert among.batch.to_pylist()[40]["a"] == found
    return found


def refusal(text: str, type_: str, **settings: Any) -> tuple[str, str]:
    """Code and message for a value that is bad, with its record alone."""
    found = converted(['{"a":null}', f'{{"a":{text}}}', '{"a":null}'], {"a": type_}, **settings)
    assert [each.row for each in found.bad] == [1]
    assert found.batch.num_rows == 2
    return found.bad[0].code, found.bad[0].message


# -- the law ----------------------------------------------------------------------------------------------------------

LEAVES: Final = [
    *("boolean", "tinyint", "smallint", "int", "bigint", "float", "double", "string", "char(3)", "varchar(5)"),
    *("binary", "date", "timestamp", "timestamp with local time zone", "decimal(6,2)", "decimal(38,0)"),
    *("decimal(10,10)", "decimal(38,18)"),
]
NAMES: Final = ["a", "b", "id", "user_id", "Kind", "k_1", "größe", "x.y", 'q"t', "n\\s"]
TEXTS: Final = [
    *("", "x", "hello world", "ü€😀", "true", "TRUE", "1", "-5", "+7", "1.5", "1e3", "0x1F", "9" * 19, "9" * 25, " 1"),
    *("NaN", "Infinity", "2026-01-02", "2026-1-2", "0000-01-01", "2026-02-30", "2026-01-02 03:04:05", "1518033528.5"),
    *("2026-01-02T03:04:05Z", "2026-01-02T03:04:05", "2026-01-02T03:04:05.123456789Z", "2026-1-2 3:4:5.5", "٣"),
    *("2026-01-02 03:04:05Z", "2026-01-02T03:04:05+01:00", "1518033528", "1518033528123", "9999-12-31 23:59:59.999999"),
    *("0000-01-01 00:00:00", "2026-01-02 24:00:00", "2026-01-02T03:04", 'a"b', "back\\slash", "line\nfeed", "nul\0"),
    *('{"a":1}', 'x":NaN', '"quoted":', "\u212a", "-0", "1.", ".5", "1e400", "1E-7", "12345.675", "}{", "} {"),
]
NUMBERS: Final = [
    *("0", "1", "-1", "127", "128", "-129", "32768", "2147483647", "2147483648", "9223372036854775807", "0.3333333333"),
    *("9223372036854775808", "-9223372036854775808", "-9223372036854775809", "1.5", "1.0", "1e3", "1E+2", "-0", "-0.0"),
    *("12345.67", "12345.678", "9999.995", "99.995", "3.4028235e38", "3.5e38", "1e308", "1e309", "1e-400", "1e30"),
    *("1234567890123456789012345678901234567890", "1518033528", "1518033528123", "1518033528.123", "999999999999"),
    *("1000000000000", "1e12", "-62135596801", "253402300800", "9007199254740993", "1e100000", "1234567890.1234567"),
]
NO_JSON: Final = ["01", "+1", "1.", ".5", "-", "NaN", "Infinity", "-Infinity", "Inf", "0x1", "1e", "tru", "'x'", "-NaN"]
NO_RECORDS: Final = [
    *(b"", b" ", b"null", b"[]", b"1", b'"x"', b"[{}]", b"{}", b"{}{}", b"\0", b"{", b"}", b"}{", b"{}}", b"{{}"),
    *(b"{}x", b"{}\0", b"\n{}\n\n{}", b'{"a":1} null', b'{"a":"}', b'{"}', b'{","b":1}', b"\xef\xbb\xbf{}"),
]


class Drawn:
    """A table, how it is converted, and chunks of records for it."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        rng = self.rng
        self.is_open, self.damage = rng.random() < 0.4, rng.choice((0.0, 0.0, 0.02, 0.3))
        self.others = rng.choice((0.0, 0.01, 0.2))
        names = self.names(5)
        self.columns = tuple((name, self.type()) for name in names)
        self.conversion = Conversion(
            InlineColumns(self.columns),
            serde=rng.choice(("openx", "openx", "hive")),
            case_insensitive=rng.random() < 0.8,
            dots_to_underscores=rng.random() < 0.3,
            mappings={name: rng.choice(NAMES) for name in names if rng.random() < 0.1},
            timestamp_formats=rng.choice(((), ("millis",), ("yyyy-MM-dd'T'HH:mm:ss'Z'", "millis"))),
        )
        mappings = self.conversion.mappings
        self.members = [(mappings.get(name, name), hive_types.parse(text)) for name, text in self.columns]
        self.chunks = [self.chunk() for _ in range(rng.randrange(1, 4))]

    def names(self, most: int) -> list[str]:
        return self.rng.sample(NAMES, self.rng.randrange(1, most))

    def type(self, depth: int = 0) -> str:
        kind = self.rng.random() if depth < 3 else 1.0
        if kind < 0.15:
            return f"array<{self.type(depth + 1)}>"
        if kind < 0.3:
            members = [f"`{name}`:{self.type(depth + 1)}" for name in self.names(4)]
            return f"struct<{','.join(members)}>"
        if kind < 0.36:
            return f"map<{self.rng.choice(('string', 'int'))},{self.type(depth + 1)}>"
        return self.rng.choice(LEAVES)

    def chunk(self) -> list[bytes]:
        return [self.record() for _ in range(self.rng.choice((1, 3, 40, 120)))]

    def record(self) -> bytes:
        if self.rng.random() < self.others:
            text = self.object([(name, self.anything()) for name, _ in self.members])
        else:
            text = self.object(self.fitting_members(self.members))
        record = text.encode()
        return self.damaged(record) if self.rng.random() < self.damage else record

    def fitting(self, type_: HiveType) -> str:
        rng = self.rng
        if rng.random() < 0.08:
            return "null"
        if rng.random() < self.others / 10:
            return self.anything()
        match type_:
            case Array(item):
                return self.array([self.fitting(item) for _ in range(rng.randrange(4))])
            case Map(key, item):
                keys = ["a", "B", "c"] if key == Primitive("string") else ["1", "-2", "30"]
                return self.object([(rng.choice(keys), self.fitting(item)) for _ in range(rng.randrange(3))])
            case Struct(members):
                return self.object(self.fitting_members(members))
        name = hive_types.render(type_)
        if name in BOUNDS:
            return str(rng.randrange(-BOUNDS[name], BOUNDS[name]))
        if name in ("float", "double"):
            return rng.choice((repr(rng.uniform(-1e3, 1e3)), str(rng.randrange(1000))))
        if name.startswith("decimal"):
            return {"decimal(6,2)": f"{rng.randrange(9999)}.{rng.randrange(100):02d}", "decimal(10,10)": "0.125"}.get(
                name, str(rng.randrange(10**9))
            )
        if name == "boolean":
            return rng.choice(("true", "false"))
        if name == "date" or name.startswith("timestamp"):
            day = f"20{rng.randrange(100):02d}-{rng.randrange(1, 13):02d}-{rng.randrange(1, 29):02d}"
            times = (" 03:04:05", "T03:04:05Z", "T03:04:05.123Z", " 03:04:05.123456", " 03:04:05.1234567")
            return json.dumps(day if name == "date" else day + rng.choice(times))
        return self.text(rng.choice(TEXTS))

    def fitting_members(self, members: Sequence[tuple[str, HiveType]]) -> list[tuple[str, str]]:
        rng = self.rng
        found = [(name, self.fitting(type_)) for name, type_ in members if rng.random() > 0.08]
        if rng.random() < self.others / 5:  # one of them again
            name, type_ = rng.choice(members)
            found.append((name, self.fitting(type_)))
        if rng.random() < (0.3 if self.is_open else self.others / 5):
            found.append((rng.choice(("zz", "other", "NaN")), self.anything()))
        if rng.random() < 0.3:
            rng.shuffle(found)
        return found

    def anything(self, depth: int = 0) -> str:
        rng, kind = self.rng, self.rng.random()
        if kind < 0.1 or depth > 3:
            return "null"
        if kind < 0.2:
            return rng.choice(("true", "false"))
        if kind < 0.45:
            return rng.choice(NUMBERS)
        if kind < 0.75:
            return self.text(rng.choice(TEXTS))
        if kind < 0.76:
            return rng.choice(NO_JSON)
        if kind < 0.88:
            return self.array([self.anything(depth + 1) for _ in range(rng.randrange(4))])
        return self.object([(rng.choice([*NAMES, "zz"]), self.anything(depth + 1)) for _ in range(rng.randrange(4))])

    def array(self, items: list[str]) -> str:
        return f"[{self.comma().join(items)}]"

    def object(self, members: list[tuple[str, str]]) -> str:
        colon = self.rng.choice((":", ":", ": ", " : "))
        written = [f"{self.key(name)}{colon}{text}" for name, text in members]
        return f"{{{self.rng.choice(('', '', ' '))}{self.comma().join(written)}}}"

    def comma(self) -> str:
        return self.rng.choice((",", ",", ", ", ",\n"))

    def key(self, name: str) -> str:
        kind = self.rng.random()
        if kind < self.others / 2:
            name = "".join(self.rng.choice((each.upper(), each.lower())) for each in name)
        if kind < self.others / 6:
            name = name.replace("_", ".").replace("k", "\u212a")
        return self.text(name)

    def text(self, text: str) -> str:
        if self.rng.random() < self.others / 5:
            return '"' + "".join(f"\\u{ord(each):04x}" if ord(each) < 65_536 else each for each in text) + '"'
        return json.dumps(text, ensure_ascii=self.rng.random() < 0.3)

    def damaged(self, record: bytes) -> bytes:
        rng = self.rng
        place, other = sorted((rng.randrange(len(record) + 1), rng.randrange(len(record) + 1)))
        noise = rng.choice(
            (b"\xff", b"\xed\xa0\x80", b"\\ud800", b"\n", b"\\", b'"', b"\0", bytes([rng.randrange(256)]))
        )
        deep = rng.choice((10, RECORD_DEPTH_MAX - 1, RECORD_DEPTH_MAX, 4 * RECORD_DEPTH_MAX))
        ways: list[Callable[[], bytes]] = [
            lambda: record[:place],
            lambda: record[:place] + noise + record[place:],
            lambda: record[:place] + record[other:],
            lambda: record + rng.choice((b"", b" ", b"\n")) + record,
            lambda: b" " + record + b"\r\n",
            lambda: rng.choice(NO_RECORDS),
            lambda: record[:-1] + b',"deep":' + b"[" * deep + b"]" * deep + b"}",
            lambda: record.replace(b":", b": ").replace(b",", b" ,\n"),
        ]
        return rng.choice(ways)()


BOUNDS: Final = {"tinyint": 2**7, "smallint": 2**15, "int": 2**31, "bigint": 2**63}


def check(seed: int) -> None:
    drawn = Drawn(seed)
    rules = rules_of(drawn.conversion)
    exact = Exact(root_of_columns(drawn.columns, drawn.conversion, rules), rules)
    converter = make_converter(drawn.columns, drawn.conversion)
    for chunk in drawn.chunks:
        rows: list[dict[str, Any]] = []
        bad: list[tuple[int, str, str]] = []
        several: list[tuple[int, int]] = []
        for place, record in enumerate(chunk):
            try:
                made = exact.rows(record)
            except Bad as error:
                bad.append((place, error.code, error.message))
                continue
            rows += made
            if len(made) > 1:
                several.append((place, len(made)))
        found = converter.convert(pa.array([b"{}", *chunk], pa.binary()).slice(1))
        assert [tuple(each) for each in found.bad] == bad
        assert list(found.several) == several
        found.batch.validate(full=True)
        for field, column in zip(converter.schema, found.batch.columns, strict=True):
            wanted = pa.array([row[field.name] for row in rows], field.type)
            assert column.equals(wanted), (field, list(zip(column.to_pylist(), wanted.to_pylist(), strict=True)))


@settings(max_examples=CASES, deadline=None)
@given(st.integers(0, 1 << 32))
def test_records_in_chunks_become_what_each_becomes_alone(seed: int) -> None:
    """Values, bad records with their texts, and the order; over several chunks with one converter."""
    check(seed)


@settings(max_examples=CASES // 5, deadline=None)
@given(st.integers(0, 1 << 32))
def test_it_makes_no_difference_where_blocks_end_and_patterns_are_divided(seed: int) -> None:
    """With bounds so low that records come in many blocks, pieces and groups, and tables are wide from 3 keys on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(converter_module, "CONVERSION_BLOCK_BYTES", 700)
        patch.setattr(converter_module, "CONVERSION_ROWS_HELD_MAX", 2)
        patch.setattr(converter_module, "CONVERSION_READS_MAX", seed % 3)
        patch.setattr(converter_module, "CONVERSION_PIECE_RECORDS", 3)
        patch.setattr(patterns, "_KEYS_AT_ONCE", 2)
        check(seed)


QUICK: Final[dict[str, list[str]]] = {
    "as the columns are": ['{"id":1,"userid":"x","at":"2026-01-02 03:04:05","s":{"n":1.5},"l":[1,2]}'],
    "pretty": ['{\n  "id": 1,\n  "s": {\n    "n": 1.5\n  }\n}'],
    "on lines": ['{"id":1}\n'],
    "with space before": ['  {"id":1}\n'],
    "with members that no column is for": ['{"id":1,"zz":{"a":[1,"x"]}}'],
    "with keys in other case": ['{"Id":1,"userId":"x"}'],
    "with timestamps in ISO": ['{"id":1,"at":"2026-01-02T03:04:05.123456789Z"}'],
    "with epochs": ['{"id":1,"at":1518033528}', '{"id":1,"at":1518033528.5}'],
    "with numbers as text": ['{"id":"1","s":{"n":"1.5"}}'],
    "with text as numbers": ['{"id":1,"userid":7}'],
    "with text as objects": ['{"id":1,"userid":{"a":1}}'],
    "several to one": ['{"id":1}{"id":2}', '{"id":3}'],
    "with a map": ['{"id":1,"m":{"a":1}}'],
}


@pytest.mark.parametrize("how", QUICK)
def test_records_that_are_written_alike_are_not_read_one_by_one(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However they are written: what is read exactly is what differs from the rest."""
    read_exactly: list[bytes] = []
    rows = Exact.rows

    def counted(exact: Exact, record: bytes) -> list[dict[str, Any]]:
        read_exactly.append(record)
        return rows(exact, record)

    monkeypatch.setattr(Exact, "rows", counted)
    columns = {"id": "int", "userid": "string", "at": "timestamp", "s": "struct<n:double>", "l": "array<int>"}
    if "map" in how:
        columns["m"] = "map<string,int>"
    odd = ['{"id":"odd"', '{"id":[]}', "", '{"id":1,"id":2}']
    records = QUICK[how] * 200
    found = converted([*records[:100], *odd, *records[100:]], columns)
    assert len(found.bad) == 3
    assert sorted(read_exactly) == sorted(each.encode() for each in odd)


def test_tables_that_nest_as_deep_as_hive_has_types_are_no_more_work() -> None:
    """Neither what is made of a table nor what is matched against records doubles with each level."""
    deep = {"a": "array<" * 32 + "int" + ">" * 32, "s": "struct<s:" * 32 + "int" + ">" * 32}
    records = [
        f'{{"a":{"[" * 32}1{"]" * 32},"s":{"{" + chr(34) + "s" + chr(34) + ":"}{{}}{"}"}}}',
        '{"a":"x"',
        '{"id":1}',
    ]
    found = converted(records, deep)
    assert [each.row for each in found.bad] == [1]
    assert found.batch.num_rows == 2


# -- documents --------------------------------------------------------------------------------------------------------


def test_a_record_with_several_documents_is_as_many_rows() -> None:
    """AWS takes `{..}{..}`, with or without space; the other records keep their places."""
    records = ['{"a":1}', '{"a":2}{"a":3}\n{"a":4}', '{"a":5}', '{"a":6}', '{"a":7} {"a":8}']
    found = converted(records, {"a": "int"})
    assert found.batch.column("a").to_pylist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert list(found.several) == [(1, 3), (4, 2)]


def test_one_bad_document_makes_its_whole_record_bad() -> None:
    """The others in it are in no file, for the error document has them all."""
    found = converted(['{"a":1}', '{"a":2}{"a":"x"}', '{"a":3}'], {"a": "int"})
    assert found.batch.column("a").to_pylist() == [1, 3]
    assert [(each.row, each.code) for each in found.bad] == [(1, MALFORMED)]


def test_braces_in_strings_do_not_divide_records() -> None:
    """Also where the stream has records with several documents."""
    records = ['{"a":"}{"}', '{"a":"x"}{"a":"} {"}', '{"a":"y"}'] * 30
    found = converted(records, {"a": "string"})
    assert found.batch.column("a").to_pylist() == ["}{", "x", "} {", "y"] * 30
    assert not found.bad


def test_records_cannot_borrow_from_each_other() -> None:
    """Two that would be one document together, and one that is two, are as many documents as records."""
    records = ['{"a":"}', '{","a":1}', '{"a":"x"}{"a":"y"}', '{"a":"z"}']
    found = converted(records, {"a": "string"})
    assert found.batch.column("a").to_pylist() == ["x", "y", "z"]
    assert [each.row for each in found.bad] == [0, 1]


TOO_DEEP: Final = f"Documents nest no deeper than {RECORD_DEPTH_MAX}"
HOSTILE: Final[dict[str, tuple[bytes, str]]] = {
    "nothing": (b"", "The record was empty or contained only whitespace."),
    "space": (b" \n\t", "The record was empty or contained only whitespace."),
    "null": (b"null", "The input JSON contained a primitive at the top level."),
    "a number": (b"12", "The input JSON contained a primitive at the top level."),
    "text": (b'"text"', "The input JSON contained a primitive at the top level."),
    "an array": (b'[{"id":1}]', "An array of JSON documents is not a valid input."),
    "cut off": (b'{"id":1,"na', "Encountered malformed JSON."),
    "more after it": (b'{"id":1} and more', "Encountered malformed JSON."),
    "a null after it": (b'{"id":1} null', "The input JSON contained a primitive at the top level."),
    "a byte order mark": (b'\xef\xbb\xbf{"id":1}', "Encountered malformed JSON."),
    "a NUL in a string": (b'{"name":"a\0b"}', "Encountered malformed JSON."),
    "a NUL between documents": (b'{"id":1}\0{"id":2}', "Encountered malformed JSON."),
    "no UTF-8": (b'{"name":"\xff"}', "Encountered malformed JSON."),
    "no UTF-8 in another member": (b'{"other":"\xff"}', "Encountered malformed JSON."),
    "half a surrogate": (b'{"name":"\\ud800"}', "Encountered malformed JSON."),
    "NaN": (b'{"price":NaN}', "Encountered malformed JSON."),
    "NaN in another member": (b'{"other":["x",{"y":1},-Infinity]}', "Encountered malformed JSON."),
    "a bomb of arrays": (b"[" * 100_000, TOO_DEEP),
    "a bomb of objects": (b'{"id":' * 100_000 + b"1" + b"}" * 100_000, TOO_DEEP),
    "a bomb in another member": (
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        TOO_DEEP,
    ),
    "a bomb in text": (b'{"name":' + b"[" * 100_000 + b"]" * 100_000 + b"}", TOO_DEEP),
    "many documents": (b"{}" * (CONVERSION_DOCUMENTS_MAX + 1), "more than 10,000 JSON documents"),
    "a string that never ends": (b'{"name":"' + b'\\"' * 500_000, "Encountered malformed JSON."),
    "a number without end": (b'{"price":' + b"9" * 100_000 + b"}", "Encountered malformed JSON."),
    "an exponent without end": (b'{"price":1e' + b"9" * 1_000 + b"}", "is out of range for column price"),
    "an overflow": (b'{"id":9223372036854775808}', "is out of range for column id of type bigint"),
    "an overflow deeper": (b'{"who":{"age":300}}', "Value 300 is out of range for column who.age of type tinyint."),
    "an infinite number": (b'{"price":1e309}', "Value 1e309 is out of range for column price of type double."),
    "a wrong value in a struct": (b'{"who":{"age":"old"}}', 'For input string: "old"'),
    "a wrong value in a list": (b'{"sizes":[1,2,"big"]}', 'For input string: "big"'),
    "a wrong value in a map": (b'{"counts":{"a":1,"b":[]}}', "Column counts{} of type int cannot hold an array."),
    "a day that is not": (b'{"at":"2026-02-30 00:00:00"}', "Timestamp format must be yyyy-mm-dd hh:mm:ss"),
    "a year that is not": (b'{"at":"0000-01-01 00:00:00"}', "Timestamp format must be yyyy-mm-dd hh:mm:ss"),
}
HOSTILE_COLUMNS: Final = {
    "id": "bigint",
    "name": "string",
    "price": "double",
    "at": "timestamp",
    "who": "struct<age:tinyint>",
    "sizes": "array<int>",
    "counts": "map<string,int>",
}


def good_record(number: int) -> bytes:
    return json.dumps(
        {"id": number, "name": f"n{number}", "who": {"age": 7}, "sizes": [1], "counts": {"a": 2}}
    ).encode()


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("has_map", [True, False])
def test_a_hostile_record_is_bad_alone(what: str, has_map: bool) -> None:
    """With its reason, at its place; all around it are rows, in order. Without the map, good records have a member that
    no column is for."""
    record, reason = HOSTILE[what]
    columns = {name: text for name, text in HOSTILE_COLUMNS.items() if has_map or name != "counts" or "map" in what}
    records = [good_record(number) for number in range(50)]
    records[20] = record
    found = converted(records, columns)
    assert found.batch.column("id").to_pylist() == [number for number in range(50) if number != 20]
    assert found.batch.column("who").to_pylist() == [{"age": 7}] * 49
    ((row, code, message),) = found.bad
    assert row == 20
    assert code == (PARSE_ERROR if message.startswith("Encountered") else MALFORMED)
    assert reason in message


def test_a_chunk_of_nothing_but_hostile_records_is_all_bad() -> None:
    """Arrow's reader ends the process where it sees only `null`."""
    for record, _ in HOSTILE.values():
        found = converted([record] * 3, HOSTILE_COLUMNS)
        assert found.batch.num_rows == 0
        assert [each.row for each in found.bad] == [0, 1, 2]


def test_a_large_string_is_a_value() -> None:
    """Of several MiB, among small records."""
    text = "x" * 5_000_000
    records = [b'{"id":1}', f'{{"id":2,"name":"{text}"}}'.encode(), b'{"id":3}']
    found = converted(records, HOSTILE_COLUMNS)
    assert found.batch.column("id").to_pylist() == [1, 2, 3]
    assert found.batch.column("name")[1].as_py() == text


def test_what_nests_as_deep_as_is_accepted_is_read() -> None:
    """In a member that no column is for, and as text."""
    deep = "[" * (RECORD_DEPTH_MAX - 1) + "]" * (RECORD_DEPTH_MAX - 1)
    found = converted([f'{{"a":1,"z":{deep}}}', f'{{"b":{deep}}}'], {"a": "int", "b": "string"})
    assert found.batch.to_pylist() == [{"a": 1, "b": None}, {"a": None, "b": deep}]


def test_a_chunk_without_records_is_a_batch_without_rows() -> None:
    """With the table's columns."""
    found = converted([], {"a": "int", "b": "array<string>"})
    assert found.batch.schema.names == ["a", "b"]
    assert (found.batch.num_rows, found.bad) == (0, [])


def test_nothing_of_a_chunk_stays_in_memory() -> None:
    """Neither of one that was read in several tries: the garbage collector, which comes seldom, is not needed."""
    columns = tuple(HOSTILE_COLUMNS.items())
    converter = make_converter(columns, Conversion(InlineColumns(columns)))
    chunk = pa.array([*(good_record(number) for number in range(2_000)), *(each for each, _ in HOSTILE.values())])
    converter.convert(chunk)
    gc.collect()
    gc.disable()
    try:
        before = pa.total_allocated_bytes()
        for _ in range(3):
            converter.convert(chunk)
        assert pa.total_allocated_bytes() == before
    finally:
        gc.enable()


# -- members ----------------------------------------------------------------------------------------------------------


def test_missing_members_are_null_and_others_are_ignored() -> None:
    """On every level."""
    found = converted(['{"a":1,"z":[{"a":"x"}]}', "{}", '{"s":{"z":1}}'], {"a": "int", "s": "struct<b:int>"})
    assert found.batch.to_pylist() == [{"a": 1, "s": None}, {"a": None, "s": None}, {"a": None, "s": {"b": None}}]


def test_the_case_of_keys_does_not_matter_to_openx_unless_it_is_told() -> None:
    """CaseInsensitive is AWS's default, also for members of structs; map keys become lower case."""
    columns = {"userid": "int", "s": "struct<name:string>", "m": "map<string,int>"}
    records = ['{"userId":1,"S":{"NAME":"x"},"M":{"Key":1}}', '{"userid":2,"s":{"name":"y"},"m":{"key":2}}']
    found = converted(records, columns)
    assert found.batch.to_pylist() == [
        {"userid": 1, "s": {"name": "x"}, "m": [("key", 1)]},
        {"userid": 2, "s": {"name": "y"}, "m": [("key", 2)]},
    ]
    exactly = converted(records[:1], columns, case_insensitive=False)
    assert exactly.batch.to_pylist() == [{"userid": None, "s": None, "m": None}]


def test_hive_ignores_the_case_of_names_and_keeps_that_of_map_keys() -> None:
    """As AWS does."""
    found = converted(['{"ATTRS":{"MixedKey":1},"P":{"NAME":"x"}}'], HIVE_NAMES, serde="hive")
    assert found.batch.to_pylist() == [{"attrs": [("MixedKey", 1)], "p": {"name": "x"}}]


HIVE_NAMES: Final = {"attrs": "map<string,int>", "p": "struct<name:string>"}


def test_the_last_of_members_with_one_name_counts() -> None:
    """Written the same way or in another case."""
    records = ['{"a":1,"a":2}', '{"a":1,"A":2}', '{"A":1,"a":2}', '{"a":1,"\\u0041":2}', '{"a":1,"a":null}', '{"a":3}']
    assert converted(records, {"a": "int"}).batch.column("a").to_pylist() == [2, 2, 2, 2, None, 3]


def test_dots_in_keys_become_underscores_where_it_is_asked_for() -> None:
    """ConvertDotsInJsonKeysToUnderscores."""
    records = ['{"a.b":1}', '{"a_b":2}', '{"A.B":3}']
    assert converted(records, {"a_b": "int"}).batch.column("a_b").to_pylist() == [None, 2, None]
    assert converted(records, {"a_b": "int"}, dots_to_underscores=True).batch.column("a_b").to_pylist() == [1, 2, 3]


def test_a_column_can_be_read_from_a_key_of_another_name() -> None:
    """ColumnToJsonKeyMappings; AWS's example. Two columns may come from one key."""
    found = converted(
        ['{"timestamp":1,"ts":2}', '{"TIMESTAMP":3}'], {"ts": "int", "again": "string"}, mappings=dict(MAPPED)
    )
    assert found.batch.to_pylist() == [{"ts": 1, "again": "1"}, {"ts": 3, "again": "3"}]


MAPPED: Final = {"ts": "timestamp", "again": "timestamp"}


# -- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "text", "expected"),
    [
        ("boolean", "true", True),
        ("boolean", '"FALSE"', False),
        ("int", '"20"', 20),
        ("bigint", '"-9223372036854775808"', -(2**63)),
        ("int", '"0x1F"', 31),
        ("double", '"2.25"', 2.25),
        ("double", "7", 7.0),
        ("decimal(4,2)", "12.345", Decimal("12.35")),
        ("decimal(4,2)", '"1e1"', Decimal("10.00")),
        ("decimal(22,2)", "12345678901234567890.12", Decimal("12345678901234567890.12")),
        ("decimal(22,2)", '"1e-1000000000"', Decimal("0.00")),
        ("decimal(22,2)", '"0e1000000000"', Decimal("0.00")),
        ("decimal(38,18)", "1.5", Decimal("1.5")),
        ("string", "12", "12"),
        ("string", "12345678901234567890123", "12345678901234567890123"),
        ("string", "true", "true"),
        ("string", "1.50", "1.5"),
        ("string", "1e3", "1000.0"),
        ("string", "12345678.9", "1.23456789E7"),
        ("string", "0.0001", "1.0E-4"),
        ("string", '{"Outer": {"Inner": 1.50}}', '{"outer":{"inner":1.50}}'),
        ("string", '[ "a", {"B": null} ]', '["a",{"b":null}]'),
        ("varchar(3)", '"größer"', "grö"),
        ("char(2)", "12345", "12"),
        ("binary", '"ü"', "ü".encode()),
        ("date", '"2026-09-07"', date(2026, 9, 7)),
        ("date", '"2026-9-7"', date(2026, 9, 7)),
        ("array<string>", '"solo"', ["solo"]),
        ("array<string>", "[1, 2, null]", ["1", "2", None]),
        ("array<struct<sku:string,qty:int>>", '{"sku":"x","qty":"3"}', [{"sku": "x", "qty": 3}]),
        ("struct<name:string,age:int>", '["Zoe", 9, "more"]', {"name": "Zoe", "age": 9}),
        ("struct<name:string,age:int>", '["Zoe"]', {"name": "Zoe", "age": None}),
        ("struct<name:string,age:int>", "{}", {"name": None, "age": None}),
        ("map<string,array<string>>", '{"k":null,"K2":"v"}', [("k", None), ("k2", ["v"])]),
        ("map<int,string>", '{"7":"seven"}', [(7, "seven")]),
    ],
)
def test_openx_coerces(type_: str, text: str, expected: object) -> None:
    """As AWS does where that was seen, and as its source says."""
    assert value(text, type_) == expected


@pytest.mark.parametrize(
    ("type_", "text", "message"),
    [
        ("int", '"oops"', 'For input string: "oops"'),
        ("double", '"NaN"', 'For input string: "NaN"'),
        ("int", "1.7", 'For input string: "1.7"'),
        ("int", "1e3", 'For input string: "1e3"'),
        ("boolean", '"maybe"', 'For input string: "maybe"'),
        ("boolean", "1", "Column a of type boolean cannot hold a number."),
        ("bigint", "true", "Column a of type bigint cannot hold true or false."),
        ("tinyint", "128", "Value 128 is out of range for column a of type tinyint."),
        ("float", "1e100", "Value 1e100 is out of range for column a of type float."),
        ("decimal(4,2)", "12345.67", "Value 12345.67 is out of range for column a of type decimal(4,2)."),
        ("decimal(4,2)", "99.995", "Value 99.995 is out of range for column a of type decimal(4,2)."),
        ("decimal(38,10)", "1e30", "Value 1e30 is out of range for column a of type decimal(38,10)."),
        ("decimal(10,10)", "-129", "Value -129 is out of range for column a of type decimal(10,10)."),
        ("decimal(22,2)", '"1e2147483647"', "Value 1e2147483647 is out of range for column a of type decimal(22,2)."),
        ("date", '"2026-02-30"', 'For input string: "2026-02-30"'),
        ("date", '"0000-01-01"', 'For input string: "0000-01-01"'),
        ("struct<b:int>", "42", "Data is not JSONObject  but java.lang.Long with value 42"),
        ("struct<b:int>", '"x"', "Data is not JSONObject  but java.lang.String with value x"),
        ("map<string,int>", "[1]", "Column a of type map cannot hold an array."),
        ("array<struct<qty:int>>", '[{"qty":"oops"}]', 'For input string: "oops"'),
    ],
)
def test_openx_refuses(type_: str, text: str, message: str) -> None:
    """With AWS's text where it is known."""
    assert refusal(text, type_) == (MALFORMED, MISMATCH + message)


@pytest.mark.parametrize(
    ("type_", "text", "message"),
    [
        ("array<string>", '"solo"', MISMATCH + "java.io.IOException: Start of Array expected"),
        ("map<string,array<string>>", '{"k":"v"}', MISMATCH + "java.io.IOException: Start of Array expected"),
        ("struct<name:string>", '["Bob"]', MISMATCH + "java.io.IOException: Start of Object expected"),
        ("struct<name:string>", "42", MISMATCH + "java.io.IOException: Start of Object expected"),
        (
            "int",
            '"7"',
            MISMATCH + NOT_NUMERIC,
        ),
        (
            "decimal(5,2)",
            '"7"',
            MISMATCH + NOT_NUMERIC,
        ),
        ("boolean", '"true"', MISMATCH + "Current token (VALUE_STRING) not of boolean type"),
        (
            "string",
            '{"nested":1}',
            NOT_TEXT,
        ),
        (
            "array<string>",
            '[{"k":1}]',
            NOT_TEXT,
        ),
    ],
)
def test_hive_refuses_what_openx_coerces(type_: str, text: str, message: str) -> None:
    """With AWS's texts."""
    assert refusal(text, type_, serde="hive") == (MALFORMED, message)


@pytest.mark.parametrize(
    ("type_", "text", "expected"),
    [
        ("array<string>", "[1, 2, 3]", ["1", "2", "3"]),
        ("struct<name:string,age:int>", '{"name":"Dan","extra":1}', {"name": "Dan", "age": None}),
        ("decimal(5,2)", "1.25", Decimal("1.25")),
        ("map<int,string>", '{"7":"seven"}', [(7, "seven")]),
    ],
)
def test_hive_coerces_what_it_does(type_: str, text: str, expected: object) -> None:
    """Numbers to text; and the keys of JSON are always text."""
    assert value(text, type_, serde="hive") == expected


def test_values_keep_their_digits_however_many_columns_disagree() -> None:
    """A stream whose numbers are text, or half of them, or whose text is objects, has the same columns in the end."""
    records = [f'{{"n":"{number}","d":{number}.5,"t":{{"N":{number}}}}}' for number in range(100)]
    mixed = [*records, *(f'{{"n":{number},"d":"{number}.5","t":"{{}}"}}' for number in range(100, 150))]
    found = converted(mixed, {"n": "bigint", "d": "decimal(10,2)", "t": "string"})
    assert not found.bad
    assert found.batch.column("n").to_pylist() == list(range(150))
    assert found.batch.column("d").to_pylist() == [Decimal(number) + Decimal("0.50") for number in range(150)]
    assert found.batch.column("t").to_pylist() == [f'{{"n":{number}}}' for number in range(100)] + ["{}"] * 50


# -- times ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1518033528", "2018-02-07T19:58:48"),
        ("1518033528123", "2018-02-07T19:58:48.123"),
        ("1000000000000", "2001-09-09T01:46:40"),
        ("1518033528.123", "2018-02-07T19:58:48.123"),
        ("0", "1970-01-01T00:00:00"),
        ("-1000", "1969-12-31T23:43:20"),
        ('"1518033528"', "2018-02-07T19:58:48"),
        ('"1518033528123"', "2018-02-07T19:58:48.123"),
        ('"2026-09-07 12:00:02"', "2026-09-07T12:00:02"),
        ('"2026-9-7 12:00:02"', "2026-09-07T12:00:02"),
        ('"2026-09-07 1:2:3"', "2026-09-07T01:02:03"),
        ('"2026-9-7 12:00:02.5"', "2026-09-07T12:00:02.500"),
        ('"2018-02-07T20:38:48Z"', "2018-02-07T20:38:48"),
        ('"2026-09-07T12:00:02"', "2026-09-07T12:00:02"),
        ('"2017-02-07T15:13:01.392569999Z"', "2017-02-07T15:13:01.392569"),
        ('"9999-12-31 23:59:59.999999"', "9999-12-31T23:59:59.999999"),
    ],
)
def test_openx_reads_timestamps_as_aws_does(text: str, expected: str) -> None:
    """AWS's list, and what others saw: seconds below 1e12, milliseconds from there on."""
    assert value(text, "timestamp") == datetime.fromisoformat(expected)


@pytest.mark.parametrize(
    "text",
    ['"2026-9-7T12:00:02Z"', '"2026-09-07 12:00:02Z"', '"2026-09-07T12:00:02+00:00"', '"2026-09-07"', '"x"', '"1:2"'],
)
def test_openx_refuses_other_timestamps(text: str) -> None:
    """The form with `T` is strict, and offsets are not read."""
    message = MISMATCH + "Timestamp format must be yyyy-mm-dd hh:mm:ss[.fffffffff]"
    assert refusal(text, "timestamp") == (MALFORMED, message)


@pytest.mark.parametrize("text", ["18446744073709551616", "253402300800", "-62135596801", "1e300", '"999999999999"'])
def test_timestamps_outside_of_the_years_1_to_9999_are_refused(text: str) -> None:
    """Most readers could not show them; AWS writes another time instead."""
    assert "is out of range for column a of type timestamp" in refusal(text, "timestamp")[1]


@pytest.mark.parametrize(
    ("formats", "text", "expected"),
    [
        ((), '"2026-09-07 12:00:02.25"', "2026-09-07T12:00:02.25"),
        (("millis",), "1518033528123", "2018-02-07T19:58:48.123"),
        (("millis",), '"1518033528123"', "2018-02-07T19:58:48.123"),
        (("millis",), '"2026-09-07 12:00:02"', "2026-09-07T12:00:02"),
        (("yyyy-MM-dd'T'HH:mm:ss.SSS'Z'",), '"2026-09-07T12:00:02.125Z"', "2026-09-07T12:00:02.125"),
        (("yyyy-MM-dd'T'HH:mm:ssZ",), '"2026-09-07T12:00:02+02:00"', "2026-09-07T10:00:02"),
        (("yyyyMMddHHmmss",), '"20260907120002"', "2026-09-07T12:00:02"),
        (("dd/MMM/yyyy:HH:mm:ss Z",), '"07/Sep/2026:12:00:02 -0130"', "2026-09-07T13:30:02"),
        (("EEE, d MMMM yy hh:mm a",), '"Mon, 7 September 26 12:05 am"', "2026-09-07T00:05:00"),
        (("yyyy-DDD KK'h' a", "yyyy"), '"2026-250 11h PM"', "2026-09-07T23:00:00"),
        (("yyyy-DDD", "yyyy"), '"2026"', "2026-01-01T00:00:00"),
        (("HH 'o''clock'",), '"07 o\'clock"', "1970-01-01T07:00:00"),
    ],
)
def test_hive_reads_timestamps_by_its_formats(formats: tuple[str, ...], text: str, expected: str) -> None:
    """Joda's patterns in order, `millis`, and in the end always what java.sql.Timestamp reads."""
    found = value(text, "timestamp", serde="hive", timestamp_formats=formats)
    assert found == datetime.fromisoformat(expected)


@pytest.mark.parametrize("text", ['"2026-09-07T12:00:02Z"', "1518033528", '"2026-13-07 12:00:02"'])
def test_hive_without_formats_reads_only_what_java_does(text: str) -> None:
    """No `T`, and no epochs."""
    assert refusal(text, "timestamp", serde="hive")[1].startswith(MISMATCH + "Timestamp format must be")


@pytest.mark.parametrize("pattern", ["yyyy-ww", "G yyyy", "yyyy 'open", "yyyy-MM-dd QQ", "x"])
def test_formats_that_are_not_read_are_refused_when_the_converter_is_made(pattern: str) -> None:
    """Not at the first record."""
    with pytest.raises(InvalidArgument, match="the timestamp format"):
        converted([], {"a": "timestamp"}, serde="hive", timestamp_formats=(pattern,))


# -- tables of destinations -------------------------------------------------------------------------------------------


def for_table(schema: pa.Schema, *records: str) -> Converted:
    converter = make_converter_for(schema, Conversion(FromDestination()))
    assert converter.schema is schema
    return converter.convert(pa.array([record.encode() for record in records], pa.binary()))


def test_batches_for_a_destination_have_the_schema_of_its_table() -> None:
    """With its own types for text and lists, its units of time, and the metadata of its fields."""
    schema = pa.schema(
        [
            pa.field("Id", pa.int64(), metadata={"PARQUET:field_id": "1"}),
            pa.field("name", pa.large_string()),
            pa.field("at", pa.timestamp("ns")),
            pa.field("seen", pa.timestamp("us", "UTC")),
            pa.field("tags", pa.large_list(pa.large_string())),
            pa.field("place", pa.struct([pa.field("lat", pa.float32())])),
            pa.field("key", pa.binary(3)),
        ]
    )
    found = for_table(
        schema,
        '{"id":1,"name":"x","at":"2026-01-02 03:04:05","seen":"2026-01-02T03:04:05+01:00","tags":["a"],"key":"abc"}',
        '{"ID":2,"seen":"2026-01-02 03:04:05","place":{"lat":0.5}}',
    )
    assert found.batch.schema.equals(schema, check_metadata=True)
    assert found.batch.to_pylist() == [
        {
            "Id": 1,
            "name": "x",
            "at": datetime(2026, 1, 2, 3, 4, 5),  # noqa: DTZ001 - the column has no zone
            "seen": datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC),
            "tags": ["a"],
            "place": None,
            "key": b"abc",
        },
        {
            "Id": 2,
            "name": None,
            "at": None,
            "seen": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            "tags": None,
            "place": {"lat": 0.5},
            "key": None,
        },
    ]


def test_a_record_without_a_value_that_the_table_requires_is_bad() -> None:
    """On every level; a struct that is not there requires nothing."""
    place = pa.struct([pa.field("lat", pa.float64(), nullable=False)])
    sizes = pa.list_(pa.field("element", pa.int64(), nullable=False))
    counts = pa.map_(pa.string(), pa.field("value", pa.int32(), nullable=False))
    schema = pa.schema(
        [pa.field("id", pa.int32(), nullable=False), ("place", place), ("sizes", sizes), ("counts", counts)]
    )
    found = for_table(
        schema,
        '{"id":1}',
        '{"place":{"lat":1}}',
        '{"id":2,"place":{"lat":2},"sizes":[1],"counts":{"a":1}}',
        '{"id":3,"place":{}}',
        '{"id":4,"sizes":[1,null]}',
        '{"id":5,"counts":{"a":null}}',
    )
    assert found.batch.to_pylist() == [
        {"id": 1, "place": None, "sizes": None, "counts": None},
        {"id": 2, "place": {"lat": 2.0}, "sizes": [1], "counts": [("a", 1)]},
    ]
    assert [(each.row, each.message) for each in found.bad] == [
        (row, MISMATCH + f"Column {column} has no value, and the table requires one.")
        for row, column in ((1, "id"), (3, "place.lat"), (4, "sizes[]"), (5, "counts{}"))
    ]
    found.batch.validate(full=True)


def test_times_that_nanoseconds_do_not_reach_are_refused_for_columns_of_them() -> None:
    """They would come out as other times."""
    found = for_table(pa.schema([("at", pa.timestamp("ns"))]), '{"at":"2300-01-01 00:00:00"}', '{"at":0}')
    assert [each.row for each in found.bad] == [0]
    assert found.batch.num_rows == 1


@pytest.mark.parametrize("type_", [pa.uint8(), pa.time64("us"), pa.decimal256(50, 2), pa.null(), pa.duration("s")])
def test_tables_with_types_that_json_is_not_converted_to_are_refused(type_: pa.DataType) -> None:
    """With the name of the column."""
    with pytest.raises(InvalidArgument, match=r"column 'odd\[\]': records are not converted to"):
        for_table(pa.schema([("odd", pa.list_(type_))]))


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ((), "at least one column"),
        ((("a", "int"), ("a", "int")), "'a' is there twice"),
        ((("a", "array<number>"),), "column 'a': .* at 6, 'number' is no type"),
    ],
)
def test_columns_that_cannot_be_are_refused(columns: tuple[tuple[str, str], ...], why: str) -> None:
    """When the converter is made."""
    with pytest.raises(InvalidArgument, match=why):
        make_converter(columns, Conversion(InlineColumns(columns)))


# -- inferred ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        (["1", "2"], "bigint"),
        (["1", "2.5"], "double"),
        (["9223372036854775808"], "double"),
        (["true", "null"], "boolean"),
        (["1", "true"], "string"),
        (["1", '"1"'], "string"),
        (["null"], "string"),
        (['"2026-01-02T03:04:05Z"', '"2026-01-02T03:04:05.125Z"'], "timestamp"),
        (['"2026-01-02T03:04:05Z"', '"2026-01-02 03:04:05"'], "string"),
        (['"2026-01-02T03:04:05+01:00"'], "string"),
        (["[]"], "array<string>"),
        (["[1]", "[null,2.5]"], "array<double>"),
        (["[1]", "1"], "string"),
        (["{}"], "string"),
        (['{"a":1}', '{"B":[true]}'], "struct<a:bigint,B:array<boolean>>"),
        (['{"a":1}', '{"A":"x"}'], "struct<a:string>"),
        (['{"a b":1,"":2}'], "struct<`a b`:bigint>"),
        (["{" + ",".join(f'"k{number}":1' for number in range(1_001)) + "}"], "string"),
        (['{"d":' * 40 + "1" + "}" * 40], "struct<d:" * 31 + "string" + ">" * 31),
    ],
)
def test_types_are_found_in_the_first_records(values: list[str], type_: str) -> None:
    """And a converter for them takes these records."""
    records = [f'{{"v":{text}}}'.encode() for text in values]
    columns = infer_columns(pa.array(records, pa.binary()), records_max=100)
    assert columns == (("v", type_),)
    found = make_converter(columns, Conversion(InlineColumns(columns))).convert(pa.array(records, pa.binary()))
    assert not found.bad


def test_columns_are_in_the_order_in_which_their_keys_appear() -> None:
    """Bad records do not count, nor those that come later; one spelling of a key stands for all."""
    records = [b'{"b":1}', b"nonsense", b'{"userId":1,"b":2}{"a":1}', b'{"USERID":2.5}', b'{"late":1}']
    columns = infer_columns(pa.array(records, pa.binary()), records_max=4)
    assert columns == (("b", "bigint"), ("userId", "double"), ("a", "bigint"))


def test_records_that_are_no_objects_have_no_columns() -> None:
    """What becomes of them is for the caller to say."""
    assert infer_columns(pa.array([b"null", b"[]", b"x"], pa.binary()), records_max=10) == ()


@settings(max_examples=CASES // 6, deadline=None)
@given(st.integers(0, 1 << 32))
def test_inferred_columns_take_every_record_they_were_inferred_from(seed: int) -> None:
    """Unless it is no JSON object: nothing else is bad."""
    drawn = Drawn(seed)
    for chunk in drawn.chunks:
        data = pa.array(chunk, pa.binary())
        columns = infer_columns(data, records_max=len(chunk))
        if columns:
            found = make_converter(columns, Conversion(InlineColumns(columns))).convert(data)
            assert not [each for each in found.bad if each.message.startswith(MISMATCH + "For input")]
