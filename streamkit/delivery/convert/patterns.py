"""Regular expressions of RE2 over whole records: a look at JSON that costs a fraction of reading it.

They decide nothing. What they take for right is read strictly, and what they take for wrong is read exactly; only
`Suspicion` has to find all that it is for.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import Final

import pyarrow as pa

_SPACE: Final = r"[ \t\n\r]*"
_STRING: Final = r'"(?:[^"\\\x00-\x1f]|\\.)*"'
_INTEGER: Final = r"-?(?:0|[1-9][0-9]{0,17}|[1-8][0-9]{18})"
_NUMBER: Final = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{1,2})?"
_ANY: Final = rf'(?:{_STRING}|[-0-9tfn][-+.0-9a-zE]*|[\[{{](?:[^"]|{_STRING})*[\]}}])'


# An automaton for more keys than this outgrows the memory that RE2 gives it, and takes a hundred times as long.
_KEYS_AT_ONCE: Final = 100


def whole(schema: pa.Schema, *, is_open: bool) -> str:
    """Of records that are one object whose members are of the types that `schema` reads, and no others unless
    `is_open`. Of a wide table, any object."""
    if is_wide(schema):
        schema, is_open = pa.schema([]), True
    return f"^{_SPACE}{_object(schema, is_open, 0)}{_SPACE}$"


def _object(members: Iterable[pa.Field], is_open: bool, depth: int) -> str:
    alternatives = [
        f'"{_quoted(each.name)}"{_SPACE}:{_SPACE}{_or_null(each.type, is_open, depth + 1)}' for each in members
    ]
    if is_open:
        alternatives.append(f"{_STRING}{_SPACE}:{_SPACE}{_ANY}")
    return rf"\{{{_SPACE}{_sequence('|'.join(alternatives), depth)}{_SPACE}\}}"


def _or_null(type_: pa.DataType, is_open: bool, depth: int) -> str:
    return f"(?:{_value(type_, is_open, depth)}|null)"


def _value(type_: pa.DataType, is_open: bool, depth: int) -> str:
    types = pa.types
    if types.is_struct(type_):
        return _object([type_.field(place) for place in range(type_.num_fields)], is_open, depth)
    if types.is_list(type_):
        item = _or_null(type_.value_type, is_open, depth + 1)
        return rf"\[{_SPACE}{_sequence(item, depth)}{_SPACE}\]"
    if types.is_boolean(type_):
        return "(?:true|false)"
    if types.is_integer(type_):
        return _INTEGER
    if types.is_floating(type_):
        return _NUMBER
    return _STRING


def _sequence(item: str, depth: int) -> str:
    """Twice the item: so only near the top are commas looked at."""
    if depth > 1:
        return f"(?:(?:{item}){_SPACE},?{_SPACE})*"
    return f"(?:(?:{item})(?:{_SPACE},{_SPACE}(?:{item}))*)?"


def misfits(schema: pa.Schema) -> list[str]:
    """Of records in which a key of `schema` is followed by what its type does not begin with: what `whole` overlooks
    where it is open, or the table is wide. Keys that stand for several types are left out."""
    by_start: dict[str, list[str]] = {}
    for name, found in _starts(schema).items():
        if len(found) == 1:
            by_start.setdefault(min(found), []).append(_quoted(name))
    parts = [
        f'"(?:{"|".join(names)})"{_SPACE}:{_SPACE}{start}'
        for start, all_names in by_start.items()
        for names in _groups(all_names)
    ]
    return parts if sum(map(len, by_start.values())) > _KEYS_AT_ONCE else ["|".join(parts)] if parts else []


def is_wide(schema: pa.Schema) -> bool:
    """Whether `whole` is any object."""
    return len(_starts(schema)) > _KEYS_AT_ONCE


def _starts(schema: pa.Schema) -> dict[str, set[str]]:
    starts: dict[str, set[str]] = {}
    _gather(schema, starts)
    return starts


def _groups(names: list[str]) -> list[list[str]]:
    return [names[start : start + _KEYS_AT_ONCE] for start in range(0, len(names), _KEYS_AT_ONCE)]


def _gather(members: Iterable[pa.Field], starts: dict[str, set[str]]) -> None:
    types = pa.types
    for member in members:
        type_ = member.type
        start = _wrong_start(type_)
        if types.is_list(type_) and (types.is_primitive(type_.value_type) or types.is_string(type_.value_type)):
            items = rf"(?:{_or_null(type_.value_type, False, 0)}{_SPACE},{_SPACE})*"
            start = rf"(?:{start}|\[{_SPACE}{items}{_wrong_start(type_.value_type, more=']')})"
        starts.setdefault(member.name, set()).add(start)
        while types.is_list(type_):
            type_ = type_.value_type
        if types.is_struct(type_):
            _gather([type_.field(place) for place in range(type_.num_fields)], starts)


def _wrong_start(type_: pa.DataType, more: str = "") -> str:
    types = pa.types
    more = f"{re.escape(more)}n \\t\\n\\r"
    if types.is_struct(type_):
        return f"[^{{{more}]"
    if types.is_list(type_):
        return rf"[^\[{more}]"
    if types.is_boolean(type_):
        return f"[^tf{more}]"
    if types.is_integer(type_):
        return f"(?:[^-0-9{more}]|-?[0-9]+[.eE]|-?[0-9]{{20,}})"
    if types.is_floating(type_):
        return f"[^-0-9{more}]"
    return f'[^"{more}]'


# -- suspicion --------------------------------------------------------------------------------------------------------

# RapidJSON takes these for numbers, also in members that nobody asks for. Outside of strings they come after a string
# that ended, with no other between. That it begins with a quote, as keys do, lets RE2 leap from quote to quote.
_NO_JSON: Final = rf'{_SPACE}[:,\]}}][^"]*(?:NaN|Inf)'


def escaped_key(keys: Iterable[str]) -> str:
    """Of records in which a letter that `keys` could be written with is escaped, in a key. Those have a backslash."""
    letters = "(?:00[2-7]|212[aA])" if all(key.isascii() for key in keys) else ""
    return rf'\\u{letters}(?:[^"\\]|\\.)*"{_SPACE}:'


def suspicion(spellings: Mapping[str, str], *, ignores_case: bool, dots: bool) -> list[str]:
    """Of records in which a strict reader that ignores members it does not know could overlook something: a key that
    stands for one of `spellings` (after folding: as it is read) and is written otherwise, or what is no JSON.

    They may match where nothing is wrong, and overlook keys in which a letter is escaped."""
    keys = [_otherwise(key, spelling, ignores_case, dots) for key, spelling in spellings.items()]
    groups = _groups([key for key in keys if key]) or [[]]
    patterns = [f'"(?:{"|".join(names)})"{_SPACE}:' for names in groups if names]
    if len(groups) == 1:
        return [f'"(?:{"|".join([_NO_JSON, *(pattern[1:] for pattern in patterns)])})']
    return [f'"{_NO_JSON}', *patterns]


def unusual_key(spellings: Mapping[str, str]) -> str | None:
    """Of records that have a key with a character which none of the spellings has and folding could change. None where
    the spellings have such characters themselves."""
    if any(
        not spelling.isascii() or "." in spelling or spelling.lower() != spelling for spelling in spellings.values()
    ):
        return None
    character = r'(?:[^"\\]|\\.)'
    return rf'"{character}*[A-Z.\x{{212a}}]{character}*"{_SPACE}:'


def _otherwise(key: str, spelling: str, ignores_case: bool, dots: bool) -> str:
    """Ways to write `key` that differ from `spelling`, told by the first character that does."""
    ways = [_ways(character, ignores_case, dots) for character in key]
    found = []
    for place, written in enumerate(spelling):
        others = ways[place] - {written}
        if others:
            rest = "".join(_one_of(each) for each in ways[place + 1 :])
            found.append(_quoted(spelling[:place]) + _one_of(others) + rest)
    return "|".join(found)


def _ways(character: str, ignores_case: bool, dots: bool) -> set[str]:
    ways = {character}
    if ignores_case:
        ways |= _cases(character)
    if dots and character == "_":
        ways.add(".")
    return ways


@cache
def _cases(character: str) -> frozenset[str]:
    """All characters that are this one in lower case."""
    if character.isascii():
        found = {character.lower(), character.upper()} | ({"\u212a"} if character.lower() == "k" else set())
    else:
        found = {chr(code) for code in range(128, sys.maxunicode + 1) if chr(code).lower() == character}
    return frozenset(found | {character})


def _one_of(characters: Collection[str]) -> str:
    if len(characters) == 1:
        return _quoted(min(characters))
    return f"[{''.join(re.escape(character) for character in sorted(characters))}]"


def _quoted(key: str) -> str:
    """As it stands in JSON. RE2 knows the escapes of `re.escape`."""
    return re.escape(key.replace("\\", "\\\\").replace('"', '\\"'))
