"""JSON paths, and documents as Flink reads and writes them.

Flink reads with Jackson (what follows a document is ignored, of equal keys the last counts, numbers with a point are
exact decimals) and finds with Jayway JsonPath, in the modes `lax` and `strict`; without a word a path is strict.
Supported are members, indexes (from the end, too), wildcards; all else of the path language is refused by name.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, Literal

PATHS_KEPT_MAX: Final = 512
"""Compiled paths that are kept where paths come from rows."""

Step = str | int | None
"""A member's name, an index, or None for all of them."""

_MODE: Final = re.compile(r"(lax|strict)\s+", re.IGNORECASE)
_QUOTED: Final = re.compile(r"\[\s*(?:'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\")\s*\]")
_INDEX: Final = re.compile(r"\[\s*(-?[0-9]{1,9})\s*\]")
_ALL: Final = re.compile(r"\[\s*\*\s*\]|\.\*")
_MEMBER: Final = re.compile(r"\.([^.\[\]()*? ]+)")


class PathRefusedError(Exception):
    """The message says what of the path is not supported, or no path at all."""


@dataclass(frozen=True, slots=True)
class JsonPath:
    mode: Literal["lax", "strict"]
    steps: tuple[Step, ...]

    @property
    def is_definite(self) -> bool:
        """It finds one value or none; otherwise it always finds a list."""
        return None not in self.steps

    @property
    def duckdb(self) -> str:
        """Of a definite path."""
        found = "$"
        for step in self.steps:
            if isinstance(step, int):
                found += f"[{step if step >= 0 else f'#{step}'}]"
            else:
                assert step is not None
                found += f'."{step}"'
        return found

    @property
    def is_plain(self) -> bool:
        """DuckDB can write it."""
        return self.is_definite and not any(
            isinstance(step, str) and ('"' in step or "\\" in step) for step in self.steps
        )


@lru_cache(maxsize=PATHS_KEPT_MAX)
def compiled(path: str) -> JsonPath:
    """Raises PathRefusedError."""
    mode: Literal["lax", "strict"] = "strict"
    if found := _MODE.match(path):
        mode = "lax" if found[1].lower() == "lax" else "strict"
        path = path[found.end() :]
    path = path.rstrip()
    if not path.startswith("$"):
        path = f"$.{path}"
    steps: list[Step] = []
    at = 1
    while at < len(path):
        if found := _QUOTED.match(path, at) or _QUOTED.match(path, at + 1 if path[at] == "." else at):
            steps.append(re.sub(r"\\(.)", r"\1", next(each for each in found.groups() if each is not None)))
        elif found := _INDEX.match(path, at):
            steps.append(int(found[1]))
        elif found := _ALL.match(path, at):
            steps.append(None)
        elif (found := _MEMBER.match(path, at)) and not path.startswith("(", found.end()):
            steps.append(found[1])
        else:
            raise PathRefusedError(f"'{path[at:]}' in the JSON path '{path}'")
        at = found.end()
    return JsonPath(mode, tuple(steps))


def _no_constant(name: str) -> Any:
    raise ValueError(name)


_DECODER: Final = json.JSONDecoder(parse_float=Decimal, parse_constant=_no_constant)


class NoJsonError(ValueError):
    """A text that is no JSON document."""


def read(text: str) -> Any:
    """Raises NoJsonError."""
    try:
        return _DECODER.raw_decode(text.lstrip(" \t\n\r"))[0]
    except (ValueError, RecursionError):
        raise NoJsonError(text[:100]) from None


_MISSING: Final = object()


class NothingFoundError(Exception):
    """Strict mode: the path leads nowhere."""


def found(document: Any, path: JsonPath) -> Any:
    """The value, or the list of all of an indefinite path; None also where a lax path leads nowhere.
    Raises NothingFoundError in strict mode."""
    values = [document]
    is_list = False
    for step in path.steps:
        following = []
        for value in values:
            if step is None:
                following += (
                    list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
                )
            elif (one := _child(value, step)) is not _MISSING:
                following.append(one)
        is_list = is_list or step is None
        values = following
        if not values and not is_list:
            if path.mode == "strict":
                raise NothingFoundError(str(path.steps))
            return None
    return values if is_list else values[0]


def _child(value: Any, step: str | int) -> Any:
    if isinstance(step, str):
        return value.get(step, _MISSING) if isinstance(value, dict) else _MISSING
    if not isinstance(value, list) or not -len(value) <= step < len(value):
        return _MISSING
    return value[step]


_ESCAPES: Final = {code: f"\\u{code:04X}" for code in range(32)} | {
    ord('"'): '\\"',
    ord("\\"): "\\\\",
    8: "\\b",
    9: "\\t",
    10: "\\n",
    12: "\\f",
    13: "\\r",
}


def decimal_text(value: Decimal) -> str:
    """As BigDecimal prints itself; it has no negative zero."""
    return str(-value if value.is_zero() and value.is_signed() else value)


def written(value: Any) -> str:
    """A document as Flink writes it: keys in order, nothing between."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return decimal_text(value)
    if isinstance(value, str):
        return f'"{value.translate(_ESCAPES)}"'
    if isinstance(value, dict):
        return "{" + ",".join(f"{written(key)}:{written(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    return str(value)


def scalar_text(value: Any) -> str:
    """What JSON_VALUE gives for a scalar."""
    return value if isinstance(value, str) else written(value)
