"""Timestamps and dates in JSON.

OpenX reads, as AWS's guide lists them ("Choose the JSON deserializer"): `yyyy-MM-dd'T'HH:mm:ss[.S]'Z'` and
`yyyy-[M]M-[d]d HH:mm:ss[.S]` with fractions of up to 9 digits, and epochs as numbers or text. What floci observed of
AWS (its tests name the probes): hours, minutes and seconds of the second form may have one digit too, the first form is
strict but for the `Z`, which may be missing; a number below 1e12 is seconds, from there on milliseconds. Offsets such
as `+00:00` are refused (others' reports). In columns whose timestamps have a zone (tables of a destination, for which
AWS does not convert) offsets are read.

Hive reads what `java.sql.Timestamp.valueOf` reads, the second form, after the formats it was given: patterns of Joda's
DateTimeFormat, and `millis`. As in Hive's parser, a pattern has to match the whole text, keeps milliseconds and begins
at 1970-01-01T00:00:00 UTC.

All are microseconds since the epoch, UTC; digits after the sixth are cut.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Final

from streamkit.delivery.plan import Conversion
from streamkit.model.errors import InvalidArgument

MILLISECONDS_FROM: Final = 10**12  # numbers from here on are milliseconds
NO_TIMESTAMP: Final = "Timestamp format must be yyyy-mm-dd hh:mm:ss[.fffffffff]"  # of java.sql.Timestamp

_EPOCH: Final = date(1970, 1, 1).toordinal()
_DATE: Final = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})", re.ASCII)
_SPACED: Final = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2}) (\d{1,2}):(\d{1,2}):(\d{1,2})(?:\.(\d{1,9}))?", re.ASCII)
_ISO: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?Z?", re.ASCII)
_ZONED: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?([+-])(\d\d):?(\d\d)", re.ASCII
)
_NUMBER: Final = re.compile(r"[+-]?(?:\d{1,40}\.?\d{0,40}|\.\d{1,40})(?:[eE][+-]?\d{1,3})?", re.ASCII)
_INTEGER: Final = re.compile(r"-?\d{1,40}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Stamps:
    """How timestamps are written. `is_hive`: by `patterns` (None stands for `millis`) and `Timestamp.valueOf`."""

    is_hive: bool = False
    patterns: tuple[Callable[[str], int | None] | None, ...] = ()

    @property
    def are_plain(self) -> bool:
        """No formats were given."""
        return not self.patterns


def stamps_of(conversion: Conversion) -> Stamps:
    """Raises InvalidArgument for patterns that Joda does not have, or that are not known here."""
    if conversion.serde != "hive":
        return Stamps()
    patterns = tuple(None if text == "millis" else joda(text) for text in conversion.timestamp_formats)
    return Stamps(True, patterns)


def days(text: str) -> int | None:
    """Since the epoch: `yyyy-[M]M-[d]d`, as AWS reads it (observed by floci)."""
    found = _DATE.fullmatch(text)
    if found is None:
        return None
    try:
        return date(int(found[1]), int(found[2]), int(found[3])).toordinal() - _EPOCH
    except ValueError:
        return None


def stamp_of_text(text: str, stamps: Stamps, *, is_zoned: bool) -> int | None:
    """None: not a timestamp."""
    for pattern in stamps.patterns:
        if pattern is None:
            if _INTEGER.fullmatch(text):
                return int(text) * 1000
        elif (found_us := pattern(text)) is not None:
            return found_us
    found = _SPACED.fullmatch(text)
    if found is None and not stamps.is_hive:
        found = _ISO.fullmatch(text)
    if found is not None:
        return _microseconds(found)
    if is_zoned and (found := _ZONED.fullmatch(text)) is not None:
        local_us = _microseconds(found)
        offset_s = (int(found[9]) * 60 + int(found[10])) * 60
        return None if local_us is None else local_us - int(f"{found[8]}{offset_s}") * 1_000_000
    if stamps.is_hive or _NUMBER.fullmatch(text) is None:
        return None
    return stamp_of_integer(int(text)) if _INTEGER.fullmatch(text) else stamp_of_float(float(text))


def stamp_of_integer(value: int) -> int:
    return value * 1000 if value >= MILLISECONDS_FROM else value * 1_000_000


def stamp_of_float(value: float) -> int | None:
    """To the nearest microsecond."""
    try:
        return round(value * 1000.0) if value >= MILLISECONDS_FROM else round(value * 1_000_000.0)
    except (OverflowError, ValueError):
        return None


def _microseconds(found: re.Match[str]) -> int | None:
    year, month, day, hour, minute, second = (int(text) for text in found.groups()[:6])
    fraction = found[7]
    try:
        day_count = date(year, month, day).toordinal() - _EPOCH
    except ValueError:
        return None
    if hour > 23 or minute > 59 or second > 59:
        return None
    fraction_us = int((fraction + "00000")[:6]) if fraction else 0
    return ((day_count * 24 + hour) * 60 + minute) * 60_000_000 + second * 1_000_000 + fraction_us


# -- Joda's patterns ---------------------------------------------------------------------------------------------------

_MONTHS: Final = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
_DAYS: Final = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
_NAMES: Final = {"M": _MONTHS, "E": _DAYS}
_TOKEN: Final = re.compile(r"'((?:[^']|'')*)'|([a-zA-Z])\2*|[^a-zA-Z']")
_NUMERIC: Final = frozenset("yYMdDHkhKmsSe")
_FIELDS: Final = _NUMERIC | frozenset("EaZz")


def joda(pattern: str) -> Callable[[str], int | None]:
    """A reader of text that a pattern of Joda's DateTimeFormat describes: microseconds, or None. Names are English.
    Raises InvalidArgument for patterns with eras, centuries, weeks, or letters that Joda does not have."""
    parts: list[tuple[str, int] | str] = []
    at = 0
    while at < len(pattern):
        token = _TOKEN.match(pattern, at)
        if token is None:
            raise InvalidArgument(f"the timestamp format {pattern!r} has a quote at {at} that is never closed")
        at = token.end()
        letter = token[2]
        if letter is None:
            quoted = token[1]
            parts.append(token[0] if quoted is None else quoted.replace("''", "'") or "'")
        elif letter not in _FIELDS or letter == "e":
            raise InvalidArgument(
                f"the timestamp format {pattern!r} has {token[0]!r}, which is not read: "
                "years to milliseconds (y M d D E a H k h K m s S), zones (Z z), and text in quotes are"
            )
        else:
            parts.append((letter, len(token[0])))
    return _reader(parts)


def _reader(parts: list[tuple[str, int] | str]) -> Callable[[str], int | None]:
    expression, fields = "", []
    for place, part in enumerate(parts):
        if isinstance(part, str):
            expression += re.escape(part)
            continue
        follows = parts[place + 1] if place + 1 < len(parts) else ""
        is_run_on = not isinstance(follows, str) and _is_number(follows)
        expression += f"({_expression(part, is_run_on)})"
        fields.append(part)
    compiled = re.compile(expression, re.ASCII | re.IGNORECASE)

    def read(text: str) -> int | None:
        found = compiled.fullmatch(text)
        if found is None:
            return None
        try:
            return _assembled(fields, found.groups())
        except (ValueError, OverflowError):
            return None

    return read


def _is_number(part: tuple[str, int]) -> bool:
    return part[0] in _NUMERIC and not (part[0] == "M" and part[1] > 2)


def _expression(part: tuple[str, int], is_run_on: bool) -> str:
    letter, count = part
    if letter in _NAMES and not _is_number(part):
        names = _NAMES[letter]
        return "|".join([*names, *(name[:3] for name in names)])
    if letter == "a":
        return "am|pm"
    if letter == "z":
        return "UTC|GMT|Z"
    if letter == "Z":
        return r"Z|[+-]\d\d:?\d\d"
    if letter == "S":
        return rf"\d{{1,{max(count, 1)}}}" if not is_run_on else rf"\d{{{count}}}"
    if is_run_on:
        return rf"\d{{{count}}}"
    return r"[+-]?\d{1,9}" if letter in "yY" else r"\d{1,9}"


def _assembled(fields: list[tuple[str, int]], texts: tuple[str, ...]) -> int:
    """Raises ValueError where there is no such day or time."""
    year, month, day, day_of_year = 1970, 1, 1, None
    hour, half_hour, half, minute, second, milli, offset_s = 0, None, None, 0, 0, 0, 0
    for (letter, count), text in zip(fields, texts, strict=True):
        match letter:
            case "y" | "Y":
                year = int(text) if count != 2 or len(text) != 2 else _in_full(int(text))
            case "M":
                month = int(text) if text.isdigit() else [name[:3] for name in _MONTHS].index(text.lower()[:3]) + 1
            case "d":
                day = int(text)
            case "D":
                day_of_year = int(text)
            case "H":
                hour = _within(int(text), 0, 23)
            case "k":
                hour = _within(int(text), 1, 24) % 24
            case "h":
                half_hour = _within(int(text), 1, 12) % 12
            case "K":
                half_hour = _within(int(text), 0, 11)
            case "a":
                half = 12 * (text.lower() == "pm")
            case "m":
                minute = _within(int(text), 0, 59)
            case "s":
                second = _within(int(text), 0, 59)
            case "S":
                milli = int((text + "00")[:3])
            case "Z" if text not in "Zz":
                offset_s = int(text[0] + str((int(text[1:3]) * 60 + int(text[-2:])) * 60))
    if half_hour is not None or half is not None:
        hour = (half_hour if half_hour is not None else hour % 12) + (half or 0)
    if day_of_year is not None:
        day_count = date(year, 1, 1).toordinal() + _within(day_of_year, 1, 366) - 1
    else:
        day_count = date(year, month, day).toordinal()
    total_s = ((day_count - _EPOCH) * 24 + hour) * 3600 + minute * 60 + second - offset_s
    return total_s * 1_000_000 + milli * 1000


def _within(value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise ValueError
    return value


def _in_full(year: int) -> int:
    """Joda's pivot is 30 years before today, and 69 after; a fixed one is the same until 2050 for years that occur."""
    return 2000 + year if year < 70 else 1900 + year
