"""The scalar functions of Flink 2.x, by name: how a call of them becomes DuckDB's text.

RULES_REFUSED has those that Flink has and this subset does not, each with why; RULES has all the others, and for these
a rule that raises NotSupported. What is a part of the language rather than a function (operators, CAST, CASE, COALESCE
and its like) is the binder's.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from streamkit_sql.errors import NotSupported
from streamkit_sql.expressions.bound import Bound, FunctionCall, FunctionRule
from streamkit_sql.expressions.functions import (
    collections,
    conditions,
    dates,
    hashes,
    json,
    numbers,
    regexes,
    strings,
)

_BITMAPS: Final = "the type BITMAP is not supported"
_VARIANTS: Final = "the type VARIANT is not supported"
_OBJECTS: Final = "structured types are not supported"
_TABLES: Final = "table functions over changelogs and models are not supported"

RULES_REFUSED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "BITMAP_AND": _BITMAPS,
        "BITMAP_ANDNOT": _BITMAPS,
        "BITMAP_BUILD": _BITMAPS,
        "BITMAP_CARDINALITY": _BITMAPS,
        "BITMAP_FROM_BYTES": _BITMAPS,
        "BITMAP_OR": _BITMAPS,
        "BITMAP_TO_ARRAY": _BITMAPS,
        "BITMAP_TO_BYTES": _BITMAPS,
        "BITMAP_TO_STRING": _BITMAPS,
        "BITMAP_XOR": _BITMAPS,
        "PARSE_JSON": _VARIANTS,
        "TRY_PARSE_JSON": _VARIANTS,
        "OBJECT_OF": _OBJECTS,
        "OBJECT_UPDATE": _OBJECTS,
        "FROM_CHANGELOG": _TABLES,
        "TO_CHANGELOG": _TABLES,
        "ML_PREDICT": _TABLES,
        "SOURCE_WATERMARK": "no source makes its own watermarks",
        "CURRENT_DATABASE": "there are no databases",
        "CURRENT_CATALOG": "there are no catalogs",
    }
)


def _refused(call: FunctionCall) -> Bound:
    raise NotSupported(f"{call.name}: {RULES_REFUSED[call.name]}", call.place)


RULES: Final[Mapping[str, FunctionRule]] = MappingProxyType(
    {
        name: rule
        for module in (strings, regexes, numbers, dates, conditions, hashes, json, collections)
        for name, rule in module.RULES.items()
    }
    | dict.fromkeys(RULES_REFUSED, _refused)
)
