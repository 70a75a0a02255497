"""Java's date patterns: taken apart, as texts of DuckDB, and read by them.

Two classes of Java stand behind Flink's functions: DateTimeFormatter (DATE_FORMAT, TO_TIMESTAMP), which counts a
letter's repetitions as a width, and SimpleDateFormat (UNIX_TIMESTAMP, FROM_UNIXTIME, CONVERT_TZ, TO_DATE with a
pattern), which is lenient: it takes 30 February for 1 March and does not mind what follows. Before 1582 the latter
counts days by Julius's calendar; that is not done here.
"""

from __future__ import annotations

import calendar
import datetime
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

DEFAULT: Final = "yyyy-MM-dd HH:mm:ss"
PATTERNS_KEPT_MAX: Final = 512
"""Patterns that are kept taken apart where they come from rows."""

MONTHS: Final = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

_WIDTHS_MAX: Final = {
    "d": 2,
    "H": 2,
    "h": 2,
    "K": 2,
    "k": 2,
    "m": 2,
    "s": 2,
    "D": 3,
    "S": 9,
    "M": 5,
    "L": 5,
    "E": 5,
    "a": 1,
    "e": 5,
    "w": 2,
    "G": 5,
}
_READABLE: Final = frozenset("yuMLdDHkhKmsSEa")


class UnknownPatternError(Exception):
    """The message names the letter or sign."""


@dataclass(frozen=True, slots=True)
class Part:
    """A letter with its repetitions, or (`letter` empty) a text."""

    letter: str
    count: int = 0
    text: str = ""


@lru_cache(maxsize=PATTERNS_KEPT_MAX)
def parts_of(pattern: str) -> tuple[Part, ...]:
    """Raises UnknownPatternError."""
    found: list[Part] = []
    at = 0
    while at < len(pattern):
        character = pattern[at]
        if character == "'":
            quoted = re.compile(r"'((?:[^']|'')*)'").match(pattern, at)
            if quoted is None:
                raise UnknownPatternError("a ' that is not closed")
            found.append(Part("", text=quoted[1].replace("''", "'") or "'"))
            at = quoted.end()
            continue
        if character.isascii() and character.isalpha():
            count = len(pattern) - at - len(pattern[at:].lstrip(character))
            if character not in "yudMLHhKkmsSaEDQqAeYwGnN":
                raise UnknownPatternError(f"the letter {character}")
            if count > _WIDTHS_MAX.get(character, 19):
                raise UnknownPatternError(f"too many letters {character}")
            found.append(Part(character, count))
            at += count
            continue
        if character in "{}#[]":
            raise UnknownPatternError(f"the sign {character}")
        found.append(Part("", text=character))
        at += 1
    return tuple(found)


def check_readable(parts: tuple[Part, ...]) -> None:
    """Raises UnknownPatternError for a letter that can only be written."""
    for part in parts:
        if part.letter and part.letter not in _READABLE:
            raise UnknownPatternError(f"reading the letter {part.letter}")


# -- writing ---------------------------------------------------------------------------------------------------------

_STRFTIME: Final = {
    "yyyy": "%Y",
    "yy": "%y",
    "MM": "%m",
    "M": "%-m",
    "LL": "%m",
    "L": "%-m",
    "MMM": "%b",
    "MMMM": "%B",
    "LLL": "%b",
    "LLLL": "%B",
    "dd": "%d",
    "d": "%-d",
    "HH": "%H",
    "H": "%-H",
    "hh": "%I",
    "h": "%-I",
    "mm": "%M",
    "m": "%-M",
    "ss": "%S",
    "s": "%-S",
    "SSS": "%g",
    "SSSSSS": "%f",
    "SSSSSSSSS": "%n",
    "a": "%p",
    "E": "%a",
    "EE": "%a",
    "EEE": "%a",
    "EEEE": "%A",
    "D": "%-j",
    "DDD": "%j",
}


def duckdb_text(pattern: str, timestamp: str) -> list[tuple[bool, str]]:
    """Pieces to be joined: (True, a strftime format) or (False, a text of DuckDB over `timestamp`).
    Raises UnknownPatternError."""
    pieces: list[tuple[bool, str]] = []

    def add(is_format: bool, text: str) -> None:
        if is_format and pieces and pieces[-1][0]:
            pieces[-1] = (True, pieces[-1][1] + text)
        else:
            pieces.append((is_format, text))

    for part in parts_of(pattern):
        if not part.letter:
            add(True, part.text.replace("%", "%%"))
        elif (form := _STRFTIME.get(part.letter * part.count)) is not None:
            add(True, form)
        else:
            add(False, _other(part, timestamp))
    return pieces


def _other(part: Part, timestamp: str) -> str:
    def number(sql: str) -> str:
        text = f"CAST({sql} AS VARCHAR)"
        return (
            text if part.count == 1 else f"lpad({text}, CAST(greatest({part.count}, length({text})) AS INTEGER), '0')"
        )

    # Weeks are those of the USA: they begin on Sunday, and the first has 1 January in it. So is a week's year that of
    # its Saturday.
    saturday = f"(CAST({timestamp} AS DATE) + 6 - CAST(dayofweek({timestamp}) AS INTEGER))"
    match part.letter:
        case "e" if part.count <= 2:
            return number(f"(dayofweek({timestamp}) + 1)")
        case "e":
            return {3: f"strftime({timestamp}, '%a')", 4: f"strftime({timestamp}, '%A')"}.get(
                part.count, f"left(strftime({timestamp}, '%A'), 1)"
            )
        case "w":
            return number(f"((dayofyear({saturday}) + 6) // 7)")
        case "Y":
            return f"strftime({saturday}, '%y')" if part.count == 2 else number(f"year({saturday})")
        case "G" if part.count == 4:
            return _era(timestamp, "Anno Domini", "Before Christ")
        case "G":
            return _era(timestamp, *("A", "B") if part.count == 5 else ("AD", "BC"))
        case "n":
            return number(f"(((epoch_ns({timestamp}) % 1000000000) + 1000000000) % 1000000000)")
        case "N":
            return number(f"(epoch_ns({timestamp}) - epoch_ns(date_trunc('day', {timestamp})))")
        case "y" | "u":
            return f"strftime({timestamp}, '%y')" if part.count == 2 else number(f"year({timestamp})")
        case "S":
            return f"left(strftime({timestamp}, '%n'), {part.count})"
        case "D":
            return number(f"dayofyear({timestamp})")
        case "K":
            return number(f"(hour({timestamp}) % 12)")
        case "k":
            return number(f"((hour({timestamp}) + 23) % 24 + 1)")
        case "E":
            return f"left(strftime({timestamp}, '%A'), 1)"
        case "M" | "L":
            return f"left(strftime({timestamp}, '%B'), 1)"
        case "Q" | "q" if part.count <= 2:
            return number(f"quarter({timestamp})")
        case "Q" if part.count == 3:
            return f"('Q' || quarter({timestamp}))"
        case "A":
            return number(f"(epoch_ms({timestamp}) - epoch_ms(date_trunc('day', {timestamp})))")
    raise UnknownPatternError(f"{part.letter * part.count}")


def _era(timestamp: str, ours: str, before: str) -> str:
    return f"CASE WHEN year({timestamp}) > 0 THEN '{ours}' WHEN year({timestamp}) <= 0 THEN '{before}' END"


# -- reading ---------------------------------------------------------------------------------------------------------

_FIXED: Final = {"yyyy": "%Y", "MM": "%m", "dd": "%d", "HH": "%H", "mm": "%M", "ss": "%S", "SSS": "%g", "SSSSSS": "%f"}


def fixed_form(pattern: str) -> tuple[str, str] | None:
    """For patterns of fields with fixed widths that make up a whole date: the regular expression of texts that have
    those widths, and the format by which DuckDB reads them. None for all others."""
    expression, form, letters = "", "", []
    for part in parts_of(pattern):
        if not part.letter:
            expression += re.escape(part.text) if part.text != " " else " "
            form += part.text.replace("%", "%%")
            continue
        word = part.letter * part.count
        if word not in _FIXED:
            return None
        expression += f"[0-9]{{{part.count}}}"
        form += _FIXED[word]
        letters.append(word)
    if len(set(letters)) != len(letters) or not {"yyyy", "MM", "dd"} <= set(letters):
        return None
    return expression, form


@dataclass(slots=True)
class _Fields:
    year: int = 1970
    month: int = 1
    day: int = 1
    hour: int = 0
    minute: int = 0
    second: int = 0
    nanosecond: int = 0
    half_hour: int | None = None  # of `h` and `K`, which only count together with `a`
    half: int | None = None
    day_of_year: int | None = None
    weekday: int | None = None


_DIGITS: Final = re.compile(r"[0-9]+")
_CENTURY_FROM: Final = 1946
"""SimpleDateFormat takes two digits for a year from 80 years before today; so it is, in 2026."""


def read(pattern: str, text: str, *, lenient: bool) -> datetime.datetime | None:
    """The text as the pattern has it, to a microsecond; None where it is not.

    `lenient` is SimpleDateFormat. The other one wants fields as wide as their letters and names as they are written; in
    its smart mode the 29th to 31st of a shorter month is its last day, and 24:00:00 the next day's begin.
    Raises UnknownPatternError.
    """
    fields = _Fields()
    parts = parts_of(pattern)
    at = 0
    for index, part in enumerate(parts):
        if not part.letter:
            if text[at : at + len(part.text)] != part.text:
                return None
            at += len(part.text)
            continue
        following = parts[index + 1] if index + 1 < len(parts) else None
        is_adjacent = following is not None and following.letter != "" and following.letter not in "aE"
        next_at = _read_field(fields, part, text, at, is_adjacent=is_adjacent, lenient=lenient)
        if next_at is None:
            return None
        at = next_at
    if at != len(text) and not lenient:
        return None
    return _resolved(fields, lenient)


def _read_field(fields: _Fields, part: Part, text: str, at: int, *, is_adjacent: bool, lenient: bool) -> int | None:
    if lenient:
        at += len(text[at:]) - len(text[at:].lstrip(" \t"))
    if part.letter in "MLE" and (part.count >= 3 or part.letter == "E"):
        return _read_name(fields, part, text, at, lenient)
    if part.letter == "a":
        half = text[at : at + 2]
        if half not in ("AM", "PM") and not (lenient and half.upper() in ("AM", "PM")):
            return None
        fields.half = half.upper() == "PM"
        return at + 2
    found = _DIGITS.match(text, at)
    if found is None:
        return None
    digits = found[0]
    if is_adjacent or (part.letter == "S" and not lenient):
        digits = digits[: part.count]
    if not lenient and not _is_wide(part, digits, found[0], is_adjacent):
        return None
    if len(digits) > 9:
        return None
    _take(fields, part, digits, lenient)
    return at + len(digits)


def _is_wide(part: Part, digits: str, all_digits: str, is_adjacent: bool) -> bool:
    if part.count == 1:
        return True
    is_year = part.letter in "yu" and part.count != 2
    return len(digits) == part.count if is_year or is_adjacent else len(all_digits) == part.count


def _read_name(fields: _Fields, part: Part, text: str, at: int, lenient: bool) -> int | None:
    is_long = part.count == 4
    for number, name in enumerate(DAYS if part.letter == "E" else MONTHS, 1):
        for word in (name, name[:3]) if lenient else (name,) if is_long else (name[:3],):
            given = text[at : at + len(word)]
            if given == word or (lenient and given.lower() == word.lower()):
                if part.letter == "E":
                    fields.weekday = number
                else:
                    fields.month = number
                return at + len(word)
    return None


def _take(fields: _Fields, part: Part, digits: str, lenient: bool) -> None:
    number = int(digits)
    match part.letter:
        case "y" | "u":
            if part.count == 2 and len(digits) == 2:
                number += 1900 if lenient and 1900 + number >= _CENTURY_FROM else 2000
            fields.year = number
        case "M" | "L":
            fields.month = number
        case "d":
            fields.day = number
        case "D":
            fields.day_of_year = number
        case "H":
            fields.hour = number
        case "k":
            fields.hour = number % 24
        case "h" | "K":
            fields.half_hour = number
        case "m":
            fields.minute = number
        case "s":
            fields.second = number
        case "S":
            fields.nanosecond = number * 1_000_000 if lenient else int(digits.ljust(9, "0")[:9])
        case _:
            raise UnknownPatternError(f"reading the letter {part.letter}")


def _resolved(fields: _Fields, lenient: bool) -> datetime.datetime | None:
    hour = fields.hour
    if fields.half_hour is not None and (lenient or fields.half is not None):
        if not lenient and fields.half_hour > 12:
            return None
        hour = fields.half_hour % 12 + (12 if fields.half else 0)
    clock = datetime.timedelta(
        hours=hour, minutes=fields.minute, seconds=fields.second, microseconds=fields.nanosecond // 1000
    )
    try:
        if fields.day_of_year is not None:
            date = datetime.datetime(fields.year, 1, 1) + datetime.timedelta(days=fields.day_of_year - 1)  # noqa: DTZ001
        elif lenient:
            months = fields.year * 12 + fields.month - 1
            date = datetime.datetime(months // 12, months % 12 + 1, 1) + datetime.timedelta(days=fields.day - 1)  # noqa: DTZ001
        else:
            is_end = clock == datetime.timedelta(days=1) and fields.hour == 24
            if (hour > 23 and not is_end) or fields.minute > 59 or fields.second > 59 or not 1 <= fields.day <= 31:
                return None
            last = calendar.monthrange(fields.year, fields.month)[1]
            date = datetime.datetime(fields.year, fields.month, min(fields.day, last))  # noqa: DTZ001
        if not lenient and fields.weekday not in (None, date.isoweekday()):
            return None
        return date + clock
    except (ValueError, OverflowError):
        return None
