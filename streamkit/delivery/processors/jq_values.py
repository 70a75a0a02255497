"""What jq's functions and operators make of values, where that is beyond doubt.

Values are as `msgspec` decodes JSON. Numbers are doubles, as in jq 1.6; integers stay Python integers as long as a
double can hold them.
"""

from __future__ import annotations

import calendar
import math
import re
import time
from collections.abc import Callable, Iterable
from types import NoneType
from typing import Any, Final, NamedTuple

from streamkit.model.limits import PARTITION_VALUE_BYTES_MAX, QUERY_CACHED_DATES_MAX

NOT_JSON: Final = "Non JSON record provided"
NULL_OR_EMPTY: Final = "partitionKeys values must not be null or empty"

EXACT: Final = 2**53  # beyond it a double skips integers

Function = Callable[[Any], Any]
Step = str | int | slice
"""Of a path: a member, an element, or a part of a string or an array."""


class Bad(NamedTuple):
    """Why a record has no such key."""

    message: str


class QueryError(Exception):
    """The query fails on this record, as in jq."""


class Unsure(Exception):
    """Only libjq knows."""


class Unsupported(Exception):
    """A query that is libjq's."""


def kind_of(value: Any) -> str:
    kind = type(value)
    if kind is int or kind is float:
        return "number"
    return {str: "string", NoneType: "null", bool: "boolean", list: "array"}.get(kind, "object")


def index(value: Any, step: Step) -> Any:
    if value is None:
        return None
    kind = type(value)
    if type(step) is str:
        if kind is dict:
            return value.get(step)
    elif type(step) is int:
        if kind is list:
            return value[step] if -len(value) <= step < len(value) else None
    elif kind is str or kind is list:
        return value[step]
    raise QueryError(f"Cannot index {kind_of(value)} with {step!r}")


def walk(value: Any, steps: Iterable[Step]) -> Any:
    for step in steps:
        value = index(value, step)
    return value


def as_text(value: Any) -> str:
    """jq's tostring, as jq 1.6 has it: numbers are doubles."""
    kind = type(value)
    if kind is str:
        return str(value)
    if value is None:
        return "null"
    if kind is bool:
        return "true" if value else "false"
    if kind is int:
        return str(value)
    if kind is float:
        if abs(value) >= EXACT or not math.isfinite(value) or 0 < abs(value) < 1e-5:
            raise Unsure
        return repr(int(value)) if value.is_integer() else repr(value)
    raise Unsure


def key_text(value: Any) -> str | Bad:
    """A partition key's value as it stands in an object's name. Null and empty values are errors of AWS; that arrays
    and objects are taken for empty is an assumption, and so is a bound on the length."""
    kind = type(value)
    if kind is str:
        text = value
    elif value is None or kind is dict or kind is list:
        return Bad(NULL_OR_EMPTY)
    else:
        text = as_text(value)
    if not text:
        return Bad(NULL_OR_EMPTY)
    if len(text) > PARTITION_VALUE_BYTES_MAX // 4 and len(text.encode()) > PARTITION_VALUE_BYTES_MAX:
        return Bad(f"partitionKeys values must not be longer than {PARTITION_VALUE_BYTES_MAX} bytes")
    return str(text)


def _double(value: Any) -> int | float:
    """A number as a double has it; integers stay integers where that is the same."""
    if type(value) is float:
        if not math.isfinite(value) or abs(value) >= EXACT:
            raise Unsure
        return int(value) if value.is_integer() else value
    if abs(value) > EXACT:
        raise Unsure
    return int(value)


def _add(left: Any, right: Any) -> Any:
    if left is None:
        return right
    if right is None:
        return left
    kinds = (kind_of(left), kind_of(right))
    if kinds == ("number", "number"):
        return _double(_double(left) + _double(right))
    if kinds == ("string", "string"):
        return left + right
    return _odd(kinds, "added")


def _subtract(left: Any, right: Any) -> Any:
    kinds = (kind_of(left), kind_of(right))
    if kinds == ("number", "number"):
        return _double(_double(left) - _double(right))
    return _odd(kinds, "subtracted")


def _multiply(left: Any, right: Any) -> Any:
    kinds = (kind_of(left), kind_of(right))
    if kinds == ("number", "number"):
        return _double(_double(left) * _double(right))
    if "number" in kinds:
        raise Unsure
    return _odd(kinds, "multiplied")


def _divide(left: Any, right: Any) -> Any:
    if type(left) is int and type(right) is int and right and abs(left) <= EXACT and abs(right) <= EXACT:
        quotient = left / right
        return int(quotient) if quotient.is_integer() else quotient
    kinds = (kind_of(left), kind_of(right))
    if kinds == ("number", "number"):
        divisor = _double(right)
        if not divisor:
            raise QueryError("numbers cannot be divided because the divisor is zero")
        return _double(_double(left) / divisor)
    if kinds == ("string", "string"):
        raise Unsure
    return _odd(kinds, "divided")


def _odd(kinds: tuple[str, str], done: str) -> Any:
    if kinds[0] == kinds[1] and kinds[0] in ("array", "object"):
        raise Unsure
    raise QueryError(f"{kinds[0]} and {kinds[1]} cannot be {done}")


def _equal(left: Any, right: Any) -> bool:
    kinds = (kind_of(left), kind_of(right))
    if kinds[0] != kinds[1]:
        return False
    if kinds[0] in ("array", "object"):
        raise Unsure
    return bool(_double(left) == _double(right) if kinds[0] == "number" else left == right)


BINARY: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "+": _add,
    "-": _subtract,
    "*": _multiply,
    "/": _divide,
    "==": _equal,
    "!=": lambda left, right: not _equal(left, right),
}


def negated(value: Any) -> bool:
    return value is None or value is False


def _of_string(name: str, change: Callable[[str], Any]) -> Function:
    def call(value: Any) -> Any:
        if type(value) is not str:
            raise QueryError(f"{name} cannot be applied to {kind_of(value)}")
        return change(value)

    return call


_LOWER: Final = {ord("A") + i: ord("a") + i for i in range(26)}
_UPPER: Final = {lower: upper for upper, lower in _LOWER.items()}
_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,14})", re.ASCII)
_ISO: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)Z", re.ASCII)


def _floor(value: Any) -> int:
    if kind_of(value) != "number":
        raise QueryError(f"{kind_of(value)} number required")
    return math.floor(_double(value))


def _to_number(value: Any) -> Any:
    if kind_of(value) == "number":
        return value
    if type(value) is not str:
        raise QueryError(f"{kind_of(value)} cannot be parsed as a number")
    if not _INTEGER.fullmatch(value) or value == "-0":
        raise Unsure
    return int(value)


def _split(separator: str) -> Function:
    if not separator:
        raise Unsupported
    return _of_string("split", lambda text: text.split(separator) if text else [])


def _trim(change: Callable[[str], str]) -> Function:
    """What is no string passes through, as in jq 1.6; in 1.8 it is an error."""
    return lambda value: change(value) if type(value) is str else value


def _from_date(text: str) -> int:
    match = _ISO.fullmatch(text)
    if match is None:
        raise Unsure
    year, month, day, hour, minute, second = map(int, match.groups())
    if not (year >= 1970 and 1 <= month <= 12 and 1 <= day <= 28 and hour < 24 and minute < 60 and second < 60):
        raise Unsure  # the last days of months too: what is no date is for jq to say
    return calendar.timegm((year, month, day, hour, minute, second))


_DATES: Final = "YmdyjeFDCuwaAbBhGgVU"
_TIMES: Final = {"H": 3_600, "I": 3_600, "p": 3_600, "M": 60, "R": 60, "S": 1, "T": 1}
_FORMAT: Final = re.compile(r"(?:[^%]|%([" + _DATES + "".join(_TIMES) + r"%]))*", re.DOTALL)
_SECONDS_MAX: Final = calendar.timegm((9999, 12, 31, 23, 59, 59))


def _strftime(pattern: str) -> Function:
    """In UTC. A day, or an hour, has one text as far as the pattern goes no finer, and it is made once."""
    if not _FORMAT.fullmatch(pattern) or not pattern.isascii():
        raise Unsupported
    grain = min((_TIMES[each] for each in re.findall(r"%(.)", pattern, re.DOTALL) if each in _TIMES), default=86_400)
    made: dict[int, str] = {}

    def call(value: Any) -> str:
        kind = type(value)
        if kind is list:
            raise Unsure  # a broken-down time
        if kind is not int and kind is not float:
            raise QueryError("strftime/1 requires parsed datetime inputs")
        if not 0 <= value <= _SECONDS_MAX:
            raise Unsure
        second = int(value)
        key = second // grain
        text = made.get(key)
        if text is None:
            if len(made) >= QUERY_CACHED_DATES_MAX:
                made.clear()
            text = made[key] = time.strftime(pattern, time.gmtime(second))
        return text

    return call


FUNCTIONS: Final[dict[tuple[str, int], Callable[..., Function]]] = {
    ("tostring", 0): lambda: as_text,
    ("tonumber", 0): lambda: _to_number,
    ("floor", 0): lambda: _floor,
    ("ascii_downcase", 0): lambda: _of_string("ascii_downcase", lambda text: text.translate(_LOWER)),
    ("ascii_upcase", 0): lambda: _of_string("ascii_upcase", lambda text: text.translate(_UPPER)),
    ("todate", 0): lambda: _strftime("%Y-%m-%dT%H:%M:%SZ"),
    ("todateiso8601", 0): lambda: _strftime("%Y-%m-%dT%H:%M:%SZ"),
    ("fromdate", 0): lambda: _of_string("fromdate", _from_date),
    ("fromdateiso8601", 0): lambda: _of_string("fromdate", _from_date),
    ("strftime", 1): _strftime,
    ("split", 1): _split,
    ("ltrimstr", 1): lambda prefix: _trim(lambda text: text.removeprefix(prefix)),
    ("rtrimstr", 1): lambda suffix: _trim(lambda text: text.removesuffix(suffix)),
}
