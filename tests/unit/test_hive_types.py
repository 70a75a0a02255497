"""Hive's types: read, written, and as types of Arrow."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.catalog import hive_types
from streamkit.catalog.hive_types import Array, Decimal, HiveType, Map, Primitive, Struct, Text
from streamkit.model.errors import InvalidArgument
from streamkit.model.limits import HIVE_TYPE_CHARACTERS_MAX, HIVE_TYPE_DEPTH_MAX

PRIMITIVES: list[HiveType] = [
    Primitive("boolean"),
    Primitive("tinyint"),
    Primitive("smallint"),
    Primitive("int"),
    Primitive("bigint"),
    Primitive("float"),
    Primitive("double"),
    Primitive("string"),
    Primitive("binary"),
    Primitive("date"),
    Primitive("timestamp"),
    Primitive("timestamp with local time zone"),
]

keys = st.one_of(
    st.sampled_from(PRIMITIVES),
    st.builds(
        lambda precision, scale: Decimal(precision, min(scale, precision)), st.integers(1, 38), st.integers(0, 38)
    ),
    st.builds(Text, st.just("char"), st.integers(1, 255)),
    st.builds(Text, st.just("varchar"), st.integers(1, 65_535)),
)


def nested(inner: st.SearchStrategy[HiveType]) -> st.SearchStrategy[HiveType]:
    names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
    members = st.lists(st.tuples(names, inner), min_size=1, max_size=4, unique_by=lambda member: member[0].lower())
    return st.one_of(
        st.builds(Array, inner), st.builds(Map, keys, inner), members.map(lambda found: Struct(tuple(found)))
    )


types: st.SearchStrategy[HiveType] = st.recursive(keys, nested, max_leaves=8)


@given(types)
def test_a_type_that_is_written_is_read_back(type_: HiveType) -> None:
    """Whatever its members are called."""
    assert hive_types.parse(hive_types.render(type_)) == type_


@given(types)
def test_a_type_of_arrow_is_the_hive_type_it_was_made_of(type_: HiveType) -> None:
    """But for the lengths of text, which Arrow does not have."""
    arrow = hive_types.to_arrow(type_)
    assert hive_types.to_arrow(hive_types.parse(hive_types.from_arrow(arrow))) == arrow


@given(types, st.data())
def test_text_that_is_cut_off_is_refused(type_: HiveType, data: st.DataObject) -> None:
    """A type in brackets, anywhere before its end."""
    text = hive_types.render(Array(type_))
    with pytest.raises(InvalidArgument):
        hive_types.parse(text[: data.draw(st.integers(0, len(text) - 1))])


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("BIGINT", "bigint"),
        (" integer ", "int"),
        ("double precision", "double"),
        ("decimal", "decimal(10,0)"),
        ("decimal( 10 , 2 )", "decimal(10,2)"),
        ("decimal(5)", "decimal(5,0)"),
        ("varchar( 255 )", "varchar(255)"),
        ("Timestamp  with local time zone", "timestamp with local time zone"),
        ("array < struct < A : int , b : map < string , double > > >", "array<struct<A:int,b:map<string,double>>>"),
        ("struct<`order`:int,`a``b`:string>", "struct<order:int,`a``b`:string>"),
        ("struct<user-id:string>", "struct<`user-id`:string>"),
    ],
)
def test_types_are_read_as_hive_writes_them(text: str, written: str) -> None:
    """Case and space do not matter, names of members keep theirs."""
    assert hive_types.render(hive_types.parse(text)) == written


@pytest.mark.parametrize(
    ("text", "place", "why"),
    [
        ("", 0, "a type is expected"),
        ("strin", 0, "'strin' is no type"),
        ("array<text>", 6, "'text' is no type"),
        ("array<int", 9, "'>' is expected"),
        ("array<int>>", 10, "there is more text"),
        ("uniontype<int,string>", 0, "'uniontype' is no type"),
        ("char", 4, "'(' is expected"),
        ("char(256)", 5, "it is 1 to 255"),
        ("varchar(0)", 8, "it is 1 to 65535"),
        ("varchar(6 5535)", 10, "')' is expected"),
        ("varchar(99999999999)", 8, "too large"),
        ("decimal(39,2)", 8, "not possible"),
        ("decimal(2,3)", 8, "not possible"),
        ("map<array<int>,int>", 4, "the key of a map is a primitive type"),
        ("map<string>", 10, "',' is expected"),
        ("struct<>", 7, "the name of a member is expected"),
        ("struct<``:int>", 7, "the name of a member is expected"),
        ("struct<`a:int>", 7, "never closed"),
        ("struct<a:int,A:int>", 13, "has a member 'A' already"),
        ("array<" * (HIVE_TYPE_DEPTH_MAX + 1) + "int", 6 * (HIVE_TYPE_DEPTH_MAX + 1), "nest deeper"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, place: int, why: str) -> None:
    """So that somebody who wrote a long type finds it."""
    with pytest.raises(InvalidArgument) as caught:
        hive_types.parse(text)
    assert f"at {place}, " in caught.value.message
    assert why in caught.value.message


def test_a_type_that_is_too_long_is_not_even_read() -> None:
    """AWS's bound on a column's type."""
    with pytest.raises(InvalidArgument, match="131,072"):
        hive_types.parse(" " * HIVE_TYPE_CHARACTERS_MAX + "int")


@pytest.mark.parametrize(
    ("arrow", "text"),
    [
        (pa.uint8(), "smallint"),
        (pa.uint16(), "int"),
        (pa.uint32(), "bigint"),
        (pa.uint64(), "decimal(20,0)"),
        (pa.float16(), "float"),
        (pa.large_string(), "string"),
        (pa.string_view(), "string"),
        (pa.null(), "string"),
        (pa.large_binary(), "binary"),
        (pa.binary(16), "binary"),
        (pa.date64(), "date"),
        (pa.timestamp("ns"), "timestamp"),
        (pa.timestamp("ms", "Europe/Berlin"), "timestamp with local time zone"),
        (pa.dictionary(pa.int8(), pa.string()), "string"),
        (pa.large_list(pa.int32()), "array<int>"),
        (pa.list_(pa.int32(), 3), "array<int>"),
    ],
)
def test_what_hive_does_not_have_becomes_the_next_wider_type(arrow: pa.DataType, text: str) -> None:
    """So that no value of the Arrow type is lost."""
    assert hive_types.from_arrow(arrow) == text


@pytest.mark.parametrize("arrow", [pa.time64("us"), pa.duration("s"), pa.decimal256(50, 2), pa.struct([])])
def test_what_hive_has_no_type_for_is_refused(arrow: pa.DataType) -> None:
    """Rather than made text of."""
    with pytest.raises(InvalidArgument, match="Hive has no"):
        hive_types.from_arrow(arrow)
